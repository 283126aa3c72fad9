"""The parts of the example that need no region: passages, words, features, questions, the experiment."""

from __future__ import annotations

import ast
from collections import Counter
from string import Template

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pydocs_assistant import features, golden, passages
from pydocs_assistant.embedding import plain_words
from pydocs_assistant.passages import Passage
from pydocs_assistant.prompts import Experiment, Variant
from pydocs_assistant.topics import LANGUAGE, topic_of
from pydocs_region import EXAMPLE

HEADINGS = st.text(st.characters(categories=["L", "N"]), min_size=3, max_size=30)
LINES = st.text(
    st.characters(categories=["L", "N", "P"], exclude_characters='*=-~^"'), min_size=1, max_size=40
)


@pytest.fixture(scope="module")
def documents() -> list[Passage]:
    return passages.collect()


def test_the_program_does_not_import_refloat() -> None:
    for file in (EXAMPLE / "pydocs_assistant").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "refloat" for name in names), file


@given(st.lists(st.tuples(HEADINGS, st.lists(LINES, max_size=4)), max_size=5), st.sampled_from("*=-~^"))
def test_sections_are_found_under_their_headings(pages: list[tuple[str, list[str]]], mark: str) -> None:
    page = "\n".join(line for title, body in pages for line in (title, mark * len(title), "", *body, ""))

    assert list(passages.sections(page)) == [(title, "\n".join(body).strip()) for title, body in pages]


def test_a_ruled_line_in_the_text_is_no_heading() -> None:
    page = "Title\n*****\n\n   example\n   =======\n\na -- b\n--\n"

    assert [title for title, _ in passages.sections(page)] == ["Title"]


def test_there_are_thousands_of_passages_of_many_topics_each_with_its_own_id(
    documents: list[Passage],
) -> None:
    assert 2_000 <= len(documents) <= passages.PASSAGES_MAX
    assert len({passage.id for passage in documents}) == len(documents)
    assert max(len(passage.text) for passage in documents) <= passages.TEXT_CHARS_MAX
    counted = Counter(passage.topic for passage in documents)
    assert 10 <= len(counted) <= 20
    assert min(counted.values()) >= 20
    assert counted[LANGUAGE] > 100


def test_tests_and_oddities_of_the_library_are_left_out(documents: list[Passage]) -> None:
    parts = {part for passage in documents for part in passage.source.split(".")}

    assert not parts & {"test", "tests", "idlelib", "antigravity", "this"}


def test_passages_are_always_the_same(documents: list[Passage]) -> None:
    assert passages.collect() == documents


def test_a_module_has_the_topic_of_its_package() -> None:
    assert topic_of("urllib.parse") == topic_of("http") == "networking"
    assert topic_of("antigravity") is None


def test_names_become_words() -> None:
    assert (
        plain_words("asyncio.StreamReader.read_until(HTTPError)")
        == "asyncio stream reader read until http error"
    )


@given(st.text())
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert plain_words(plain_words(text)) == plain_words(text)


def test_features_count_code_depth_and_mentions() -> None:
    documents = [
        Passage(
            "queue.Queue.get", "concurrency", "queue.Queue.get", "Remove an item.\n>>> q.get()\n", "queue"
        ),
        Passage("queue.Queue", "concurrency", "queue.Queue", "A queue: see get and get_nowait.", "queue"),
        Passage("reference/if/the-if-statement", "language", "The if statement", "Plain text.", "reference"),
    ]

    method, of_class, section = features.compute(documents)

    assert (method.depth, of_class.depth, section.depth) == (3, 2, 3)
    assert method.code_share == round(len(">>> q.get()") / len(documents[0].text), 4)
    assert of_class.code_share == section.code_share == 0
    assert method.popularity == 2
    assert section.popularity == 0


def test_half_of_the_golden_questions_are_held_out_and_none_is_asked_twice(documents: list[Passage]) -> None:
    questions = golden.choose(documents)
    held_out = golden.held_out_passages(questions)
    known = {each["expected"]["passages"][0] for each in questions if not each["held_out"]}

    assert len(questions) == len({each["request"]["question"] for each in questions}) == 200
    assert len(held_out) == len(known) == 100
    assert not held_out & known
    topics = {passage.id: passage.topic for passage in documents}
    assert all(each["expected"]["topic"] == topics[each["expected"]["passages"][0]] for each in questions)


def test_one_passage_less_changes_at_most_one_golden_question(documents: list[Passage]) -> None:
    questions = golden.choose(documents)
    gone = questions[0]["expected"]["passages"][0]
    fewer = golden.choose([passage for passage in documents if passage.id != gone])

    asked = {each["request"]["question"] for each in questions}
    assert len(asked - {each["request"]["question"] for each in fewer}) == 1


def _experiment(*weights: float, seed: str = "seed") -> Experiment:
    return Experiment(seed, tuple(Variant(f"v{i}", weight, Template("")) for i, weight in enumerate(weights)))


@given(st.text(), st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
def test_a_user_always_gets_the_same_variant(user: str, weights: list[float]) -> None:
    assert _experiment(*weights).variant_of(user).name == _experiment(*weights).variant_of(user).name


def test_users_are_shared_out_by_weight_and_seed() -> None:
    users = [f"user-{number}" for number in range(4_000)]
    first = [_experiment(0.2, 0.5, 0.3).variant_of(user).name for user in users]
    other = [_experiment(0.2, 0.5, 0.3, seed="other").variant_of(user).name for user in users]

    shares = {name: count / len(users) for name, count in Counter(first).items()}
    for name, share in zip(("v0", "v1", "v2"), (0.2, 0.5, 0.3), strict=True):
        assert abs(shares[name] - share) < 0.03
    assert first != other


def test_a_variant_without_weight_gets_nobody() -> None:
    experiment = _experiment(0.0, 1.0, 0.0)

    assert {experiment.variant_of(f"user-{number}").name for number in range(200)} == {"v1"}
