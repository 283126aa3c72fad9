"""A manifest is read whole or refused with every mistake, its place, and the nearest right word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refloat.errors import ManifestError
from refloat.manifest.document import Spot
from refloat.manifest.model import TierName
from refloat.manifest.parse import MISTAKES_MAX, dotted, parse, spots
from refloat.point.evaluate import syntax_error

SMALLEST = """\
version: 1
pipeline: notes
regions:
  here: {vault: /srv/vault}
primary: here
components:
  docs: {kind: files, with: {path: /srv/docs}}
"""

WHOLE = """\
version: 1
pipeline: support_assistant
people:
  oncall: {name: "On call", contact: "oncall@example.com", may: [approve, break_glass], deputy: lead}
  lead: {name: "Lead", contact: "lead@example.com"}
regions:
  eu: {vault: "s3://eu/support", domain: {site: fra}, vars: {port: "8101"}, addresses: {models: "s3://models-eu/"}}
  us: {vault: "s3://us/support", domain: {site: iad}, vars: {port: "8102"}, addresses: {models: "s3://models-us/"}}
primary: eu
witness: "s3://witness/support"
tiers: {critical: {rto: 5m, rpo: 1m}}
keep: {last: 24, daily: 7, monthly: 12}
components:
  registry:
    kind: mlflow
    with: {tracking_uri: "${env:MLFLOW_DB}", artifacts: "${region.models}"}
    at: {us: {tracking_uri: "${file:/run/secrets/mlflow_us}"}}
  answers:
    kind: lancedb
    tier: critical
    protect: {every: 1m, when: change}
    with: {path: "/srv/${region}/answers"}
  assistant:
    kind: process
    tier: critical
    needs: [registry, answers]
    hold: 7y
    profiles: {gpu: {needs: {gpu: 1, memory: 40GiB}}, cpu: {with: {command: [serve, --int8]}}}
    with: {command: [uvicorn, "app:app", --port, "${region.port}"]}
groups:
  serving:
    members: [registry, answers]
    skew: 5s
    must:
      - registry.models.embedder.champion.dimension == answers.tables.articles.dimension
verify:
  assistant:
    probe: {http: "http://127.0.0.1:${region.port}/answer"}
    golden: golden/answers.jsonl
    bounds: {latency_p95: {at_most: 1.25x}, throughput: {at_least: 0.8x}, exact_match: {drop_at_most: 0.01}}
drills: {component: daily, region: monthly, full: quarterly}
notify: {webhook: "${env:ALERTS_URL}"}
"""


def refused(text: str) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        parse(text.encode(), file="m.yaml", syntax=syntax_error)
    return caught.value


def test_the_smallest_manifest_is_enough():
    manifest = parse(SMALLEST.encode())
    assert manifest.components["docs"].kind == "files"
    assert manifest.components["docs"].tier is TierName.OPERATIONAL


def test_the_whole_manifest_is_read():
    manifest = parse(WHOLE.encode(), syntax=syntax_error)
    assert manifest.components["assistant"].hold == 7 * 365 * 86400
    assert manifest.groups["serving"].skew == 5.0
    assert manifest.tier("answers").rpo == 60
    assert manifest.verify["assistant"].bounds["latency_p95"].at_most.of_baseline == 1.25
    assert manifest.components["registry"].with_["tracking_uri"] == "${env:MLFLOW_DB}"


BOUND = "primary: here\nverify: {docs: {probe: {http: x}, golden: g, bounds: {p: %s}}}"

# What is changed in SMALLEST, and what is said of it: (old, new, line, column, message, next)
WRONG = {
    "misspelt_key_at_the_top": (
        "pipeline: notes",
        "pipline: notes\npipeline: notes",
        2,
        1,
        "unknown key 'pipline'",
        "'pipeline'",
    ),
    "misspelt_key_in_a_component": (
        "kind: files",
        "kind: files, teir: critical",
        7,
        23,
        "unknown key 'teir'",
        "'tier'",
    ),
    "unknown_key_with_nothing_near": (
        "kind: files",
        "kind: files, zzz: 1",
        7,
        23,
        "unknown key 'zzz'",
        "known: kind, tier",
    ),
    "the_name_that_python_uses": ("with: {", "with_: {", 7, 23, "unknown key 'with_'", "'with'"),
    "missing_key": ("kind: files, ", "", 7, 3, "components.docs: `kind` is missing", None),
    "missing_primary": ("primary: here\n", "", 1, 1, "`primary` is missing", None),
    "another_version": (
        "version: 1",
        "version: 2",
        1,
        10,
        "2 is of a newer refloat; this one reads version 1",
        "newer refloat",
    ),
    "unknown_tier": (
        "kind: files",
        "kind: files, tier: critcal",
        7,
        29,
        "'critcal' is none of",
        "'critical'",
    ),
    "unknown_tier_changed": (
        "primary: here",
        "primary: here\ntiers: {critcal: {rto: 5m}}",
        6,
        9,
        "'critcal' is none",
        "'critical'",
    ),
    "duration_without_unit": ("kind: files", "kind: files, deadline: 5", 7, 33, "with its unit", None),
    "duration_in_words": (
        "kind: files",
        "kind: files, deadline: 5 minutes",
        7,
        33,
        "'5 minutes' is not a duration",
        None,
    ),
    "negative_duration": (
        "kind: files",
        "kind: files, deadline: -5s",
        7,
        33,
        "'-5s' is not a duration",
        None,
    ),
    "duration_of_nothing": ("kind: files", "kind: files, deadline: 0s", 7, 33, "longer than nothing", None),
    "duration_without_end": (
        "kind: files",
        f"kind: files, deadline: {'9' * 400}y",
        7,
        33,
        "a thousand years",
        None,
    ),
    "a_name_that_is_none": ("  docs:", "  Docs:", 7, 3, "'Docs' is not a name", "lower-case"),
    "a_name_that_is_too_long": (
        "pipeline: notes",
        f"pipeline: {'a' * 65}",
        2,
        11,
        "at most 64 characters",
        None,
    ),
    "a_name_reserved_in_expressions": ("  docs:", "  for:", 7, 3, "'for' means something else", None),
    "a_list_that_is_text": (
        "kind: files",
        "kind: files, needs: docs",
        7,
        30,
        "must be a list, not 'docs'",
        "write [docs]",
    ),
    "a_text_that_is_a_number": (
        "{vault: /srv/vault}",
        "{vault: /v, vars: {port: 8101}}",
        4,
        34,
        "must be text, not 8101",
        '"8101"',
    ),
    "a_mapping_that_is_a_number": (
        "with: {path: /srv/docs}",
        "with: 3",
        7,
        29,
        "must be a mapping of keys to values, not 3",
        None,
    ),
    "a_component_that_is_empty": (
        "docs: {kind: files, with: {path: /srv/docs}}",
        "docs:",
        7,
        3,
        "not empty",
        None,
    ),
    "a_count_that_is_none": (
        "primary: here",
        "primary: here\nkeep: {last: 0}",
        6,
        14,
        "greater than or equal to 1",
        None,
    ),
    "no_components": (
        "  docs: {kind: files, with: {path: /srv/docs}}",
        "  {}",
        7,
        3,
        "at least 1 entry",
        None,
    ),
    "primary_is_no_region": (
        "primary: here",
        "primary: heer",
        5,
        10,
        "primary: no region is called 'heer'",
        "'here'",
    ),
    "at_an_unknown_region": (
        "kind: files",
        "kind: files, at: {there: {}}",
        7,
        28,
        "no region is called 'there'",
        "'here'",
    ),
    "a_sandbox_that_is_a_region": (
        "primary: here",
        "sandboxes: {here: {}}\nprimary: here",
        5,
        13,
        "sandboxes.here: a region is called 'here' too, and a sandbox is none",
        "otherwise",
    ),
    "a_sandbox_with_an_unknown_component": (
        "primary: here",
        "sandboxes: {bench: {at: {dcos: {}}}}\nprimary: here",
        5,
        26,
        "no component is called 'dcos'",
        "'docs'",
    ),
    "a_sandbox_that_reads_nowhere": (
        "primary: here",
        "sandboxes: {bench: {replica: heer}}\nprimary: here",
        5,
        30,
        "sandboxes.bench.replica: no region is called 'heer'",
        "'here'",
    ),
    "a_sandbox_with_a_vault": (
        "primary: here",
        "sandboxes: {bench: {vault: /srv/v}}\nprimary: here",
        5,
        21,
        "unknown key 'vault'",
        None,
    ),
    "needs_nobody": (
        "kind: files",
        "kind: files, needs: [dcos]",
        7,
        31,
        "no component is called 'dcos'",
        "'docs'",
    ),
    "needs_itself": ("kind: files", "kind: files, needs: [docs]", 7, 30, "circle: docs needs docs", None),
    "refers_to_itself": (
        "kind: files",
        "kind: files, refers_to: [docs]",
        7,
        34,
        "circle: docs refers to docs",
        None,
    ),
    "group_of_nobody": (
        "primary: here",
        "primary: here\ngroups: {g: {members: []}}",
        6,
        23,
        "at least 1 entry",
        None,
    ),
    "group_of_a_stranger": (
        "primary: here",
        "primary: here\ngroups: {g: {members: [doc]}}",
        6,
        24,
        "no component is called 'doc'",
        "'docs'",
    ),
    "group_with_one_twice": (
        "primary: here",
        "primary: here\ngroups: {g: {members: [docs, docs]}}",
        6,
        30,
        "stands twice",
        None,
    ),
    "expression_that_is_none": (
        "primary: here",
        "primary: here\ngroups: {g: {members: [docs], must: [docs.a = 1]}}",
        6,
        38,
        "is not an expression",
        None,
    ),
    "expression_that_yaml_took_apart": (
        "primary: here",
        "primary: here\ngroups:\n  g:\n    members: [docs]\n    must:\n      - a ? b : c",
        10,
        9,
        "must be text, not a mapping",
        "quotes",
    ),
    "verifying_a_stranger": (
        "primary: here",
        (BOUND % "{at_most: 1}").replace("docs", "doc"),
        6,
        10,
        "no component is called 'doc'",
        "'docs'",
    ),
    "two_probes": (
        "primary: here",
        (BOUND % "{at_most: 1}").replace("http: x", "http: x, b: y"),
        6,
        24,
        "at most 1 entry",
        None,
    ),
    "bound_without_a_side": ("primary: here", BOUND % "{}", 6, 58, "exactly one of", None),
    "bound_of_another_kind": (
        "primary: here",
        BOUND % "{at_most: fast}",
        6,
        68,
        "'fast' is no limit; write 1.25x, 0.9 or 300ms",
        None,
    ),
    "unknown_deputy": (
        "primary: here",
        "primary: here\npeople: {a: {name: A, contact: a, deputy: b}}",
        6,
        43,
        "no person is called 'b'",
        "known: a",
    ),
    "not_a_mapping": (SMALLEST, "- version: 1\n", 1, 1, "must be a mapping", "version: 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_refused_with_its_place_and_the_right_word(name: str):
    old, new, line, column, message, hint = WRONG[name]
    assert old in SMALLEST
    error = refused(SMALLEST.replace(old, new))
    assert message in error.message
    assert (error.line, error.column) == (line, column), error.message
    assert hint is None or hint in f"{error.next} {error.message}"
    assert error.exit_code == 2
    assert error.document()["file"] == f"m.yaml:{line}:{column}"


def test_a_circle_is_named_by_its_members():
    components = "\n".join(f"  {a}: {{kind: files, needs: [{b}]}}" for a, b in ("ab", "bc", "ca"))
    error = refused(SMALLEST.replace("  docs: {kind: files, with: {path: /srv/docs}}", components))
    assert "needs" in error.message
    assert {"a needs b", "b needs c", "c needs a"} & {
        error.message[i : i + 9] for i in range(len(error.message))
    }


def test_a_duplicate_component_is_refused():
    assert "'docs' stands twice" in refused(SMALLEST + "  docs: {kind: sqlite}\n").message


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = SMALLEST.replace("version: 1", "version: x").replace(
        "kind: files", "kind: files, teir: x, deadline: 5"
    )
    lines = refused(text).message.splitlines()
    assert lines[0] == "3 mistakes"
    assert [line.split()[0] for line in lines[1:]] == ["1:10", "7:23", "7:42"]


def test_everything_that_is_missing_in_one_place_is_told():
    message = refused(SMALLEST + "verify: {docs: {}}\n").message
    assert [word for word in ("probe", "golden", "bounds") if f"`{word}` is missing" in message] == [
        "probe",
        "golden",
        "bounds",
    ]


def test_a_value_that_could_be_of_several_types_is_one_mistake():
    error = refused(SMALLEST.replace("primary: here", BOUND % "{at_most: [1]}"))
    assert error.message == "verify.docs.bounds.p.at_most: must be a number, not a list"


def test_more_mistakes_than_one_reads_are_counted():
    many = "".join(f"  c{i}: {{kind: files, deadline: 5}}\n" for i in range(MISTAKES_MAX + 5))
    message = refused(SMALLEST + many).message
    assert message.count("with its unit") == MISTAKES_MAX
    assert "… and 5 more" in message


def test_without_a_judge_expressions_are_taken_as_they_are():
    text = SMALLEST + "groups: {g: {members: [docs], must: [docs.a = 1]}}\n"
    assert parse(text.encode()).groups["g"].must == ("docs.a = 1",)


TWO = SMALLEST + "  more:\n    kind: files\n    with: {path: /more}\n"


def test_an_invariant_may_not_speak_of_a_component_outside_its_group():
    text = TWO + "groups: {g: {members: [docs], must: [docs.bytes == more.bytes]}}\n"
    with pytest.raises(ManifestError, match="'more', which is no member of group 'g'") as wrong:
        parse(text.encode())
    assert "add more to `members`" in str(wrong.value.next) + wrong.value.message


@pytest.mark.parametrize(
    "must", ["docs.more == 1", "docs.all(more, more.x == 1)", 'docs.a == "more.b"', "docs.a == 1"]
)
def test_a_field_a_macro_or_a_text_of_that_name_is_no_component(must: str):
    text = TWO + f"groups: {{g: {{members: [docs], must: ['{must}']}}}}\n"
    assert parse(text.encode()).groups["g"].must == (must,)


def test_spots_finds_what_a_manifest_says():
    assert spots(SMALLEST.encode())(("components", "docs", "with")) == Spot(7, 29)


def test_a_path_is_written_as_people_do():
    assert dotted(("components", "index", "needs", 0)) == "components.index.needs[0]"


# ------------------------------------------------------------------------------------------------ anything


PIECES = [b"", b" ", b"\n", b"- ", b"{", b"}", b"[", b": ", b"null", b"-1", b"1.5", b"&a ", b"*a", b"!!x "]


def parsed_or_refused(content: bytes) -> None:
    try:
        parse(content, syntax=syntax_error)
    except ManifestError as error:
        assert error.message


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(content: bytes):
    parsed_or_refused(content)


@settings(max_examples=150)
@given(st.data())
def test_any_damage_to_a_manifest_is_parsed_or_refused(data: st.DataObject):
    content = WHOLE.encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = min(len(content), start + data.draw(st.integers(0, 30)))
        piece = st.sampled_from(
            [b"", b" ", b"\n", b"- ", b"{", b"}", b"[", b": ", b"null", b"-1", b"1.5", b"&a ", b"*a", b"!!x "]
        )
        content = content[:start] + data.draw(piece | st.binary(max_size=4)) + content[end:]
    parsed_or_refused(content)


NAMES = st.sampled_from(["kind", "with", "needs", "docs", "here", "vault", "members", "x"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**6)
    | st.sampled_from(["5s", "docs", "here", "", "a b", "1.5x"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=8,
)
KEYS = [
    "people",
    "regions",
    "primary",
    "witness",
    "tiers",
    "keep",
    "components",
    "groups",
    "verify",
    "drills",
    "notify",
]


@settings(max_examples=150)
@given(st.sampled_from(KEYS), JSON)
def test_any_value_under_any_key_is_parsed_or_refused(key: str, value: object):
    import json

    document = {
        "version": 1,
        "pipeline": "notes",
        "regions": {"here": {"vault": "/v"}},
        "primary": "here",
        "components": {"docs": {"kind": "files"}},
    }
    parsed_or_refused(json.dumps({**document, key: value}).encode())


# ------------------------------------------------------------------------------------- how a bucket is reached

STORE = "here: {vault: 's3://b/v', store: {%s}}"


@pytest.mark.parametrize(
    ("store", "column", "message", "next"),
    [
        (
            "access_key_id: a, secret_access_key: s3cret99",
            74,
            "is a secret, and the manifest is stored",
            "${env:NAME}",
        ),
        ("access_key_id: a", 36, "secret_access_key belong together", None),
        ("endpoint: 'minio:9000'", 47, "is no address without credentials", "https://HOST:PORT"),
        (
            "endpoint: 'https://me:s3cret99@minio'",
            47,
            "is no address without credentials",
            "https://HOST:PORT",
        ),
        ("proxy: 'http://me:s3cret99@proxy:3128'", 44, "is no address without credentials", None),
        ("endpiont: 'https://minio'", 37, "unknown key 'endpiont'", "'endpoint'"),
        ("path_style: 'no'", 49, "boolean", None),
    ],
)
def test_how_a_bucket_is_reached_is_judged_and_no_secret_stands_in_it(
    store: str, column: int, message: str, next: str | None
) -> None:
    error = refused(SMALLEST.replace("here: {vault: /srv/vault}", STORE % store))
    assert (error.line, error.column) == (4, column)
    assert message in error.message
    assert next is None or next in (error.next or "")
    assert "s3cret99" not in error.told
