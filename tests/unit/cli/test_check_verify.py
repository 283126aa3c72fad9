"""``refloat check`` judges how components are verified before anything is measured, and shows all facts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from small_desk import GROUP, VERIFY, Desk

URL = "http://127.0.0.1:8101/answer"
QUESTION = {"id": "q1", "request": {"question": "word"}, "expected": {"topic": "WORD"}}


def asks(desk: Desk, url: str = URL, *, more: tuple[str, str] = ("", ""), golden: str | None = None) -> None:
    """A manifest that verifies the pages, with one thing changed, and golden questions."""
    desk.write_manifest(GROUP, VERIFY, url=url)
    desk.manifest.write_text(desk.manifest.read_text().replace(*more))
    (desk.root / "golden.jsonl").write_text(json.dumps(QUESTION) + "\n" if golden is None else golden)


def place_of(desk: Desk, text: str) -> str:
    """``FILE:LINE:COLUMN`` of what stands once in the manifest."""
    before, found, _ = desk.manifest.read_text().partition(text)
    assert found
    return f"{desk.manifest}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def problems(document: dict[str, Any], where: str) -> list[dict[str, Any]]:
    return [problem for problem in document["problems"] if problem["where"] == where]


# ----------------------------------------------------------------------------------------- the manifest itself


@pytest.mark.parametrize(
    ("right", "wrong", "at", "message", "advice"),
    [
        ("{equal: {expected: topic", "{equals: {expected: topic", "equals", "accuracy.equals: unknown key", "'equal'"),
        ("{expected: topic, found", "{expectd: topic, found", "expectd", "equal.expectd: unknown key", "'expected'"),
        ("exact_match: {same", "sameness: {same", "sameness: {same", "metrics.sameness: `same` and", None),
        ("bounds: {accuracy", "bounds: {acuracy", "acuracy", "nothing measures 'acuracy'", "'accuracy'"),
        ("errors: {at_most: 0.5", "errors: {at_most: 300ms", "errors: {at_most", "not measured in seconds", "a number"),
        ("errors: {at_most", "latency_p59: {at_most", "latency_p59", "nothing measures", "'latency_p9"),
    ],
)  # fmt: skip
def test_metrics_and_bounds_that_mean_nothing_are_refused_where_they_stand(
    unprotected: Desk, right: str, wrong: str, at: str, message: str, advice: str | None
) -> None:
    asks(unprotected, more=(right, wrong))
    error = unprotected.error("check", exits=2)
    assert message in error["message"]
    spot = place_of(unprotected, at).removeprefix(f"{unprotected.manifest}:")
    assert error["file"].endswith(f":{spot}") or f"  {spot}  " in error["message"]
    assert advice is None or advice in error["message"] + error["next"]


def test_every_verb_that_reads_the_manifest_refuses_such_a_bound(unprotected: Desk) -> None:
    asks(unprotected, more=("bounds: {accuracy", "bounds: {acuracy"))
    assert "acuracy" in unprotected.error("protect", exits=2)["message"]


def test_a_point_that_carries_such_a_bound_is_recovered_all_the_same(unprotected: Desk) -> None:
    from refloat.manifest.parse import parse

    asks(unprotected, more=("bounds: {accuracy", "bounds: {acuracy"))
    assert "acuracy" in parse(unprotected.manifest.read_bytes()).verify["pages"].bounds


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("htp://127.0.0.1/answer", "verify.pages.probe.http.url: is no address of HTTP (in eu)"),
        ("http://127.0.0.1:99999/", "verify.pages.probe.http.url: is no address of HTTP (in eu)"),
        ("http://127.0.0.1:${region.prot}/", "probe.http: eu has no variable or address called 'prot'"),
    ],
)
def test_an_address_that_is_none_is_told_with_its_place(unprotected: Desk, url: str, message: str) -> None:
    asks(unprotected, url)
    error = unprotected.error("check", exits=2)
    assert message in error["message"]
    assert error["file"] == place_of(unprotected, f'"{url}"')


def test_an_address_that_is_none_in_another_region_alone_is_told(unprotected: Desk) -> None:
    asks(unprotected, "${region.address}")
    text = unprotected.manifest.read_text()
    for region, address in (("eu", URL), ("us", "us.example.com/answer")):
        vault = f'{region}: {{vault: "{region}/vault"'
        text = text.replace(vault, f'{vault}, vars: {{address: "{address}"}}')
    unprotected.manifest.write_text(text)
    assert "is no address of HTTP (in us)" in unprotected.error("check", exits=2)["message"]


def test_a_setting_that_no_probe_has_is_told_with_the_nearest(unprotected: Desk) -> None:
    asks(unprotected, more=(f'{{http: "{URL}"}}', f'{{http: {{url: "{URL}", metod: PUT}}}}'))
    error = unprotected.error("check", exits=2)
    assert (error["message"], error["next"]) == (
        "verify.pages.probe.http.metod: is not known (in eu)",
        "did you mean 'method'?",
    )


def test_an_address_from_the_environment_stays_out_of_what_is_said(
    unprotected: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT", "ftp://user:hunter2222@host/")
    asks(unprotected, "${env:ASSISTANT}")
    error = unprotected.error("check", exits=2)
    assert "is no address of HTTP" in error["message"]
    assert "hunter2222" not in json.dumps(error) + unprotected.said


# ------------------------------------------------------------------------------------------- golden questions


@pytest.mark.parametrize(
    ("golden", "key", "message"),
    [
        ('{"id": "q1", "request": {}}\n\nnonsense\n', "golden", "line 3: not JSON"),
        ("", "golden", "holds no question"),
        (json.dumps({**QUESTION, "expected": {}}), "metrics", "golden question 'q1' expects no 'topic'"),
    ],
)
def test_golden_questions_that_are_none_are_told_with_their_own_line(
    unprotected: Desk, golden: str, key: str, message: str
) -> None:
    asks(unprotected, golden=golden)
    (problem,) = problems(unprotected.ask("check", exits=1), f"verify.pages.{key}")
    assert message in problem["message"]
    line = ":3" if "line 3" in message else ""
    assert f"({unprotected.root}/golden.jsonl{line})" in problem["message"]
    value = place_of(unprotected, "golden.jsonl" if key == "golden" else "{accuracy: {equal")
    assert f"{unprotected.manifest}:{problem['line']}:{problem['column']}" == value


def test_golden_questions_that_are_not_there_are_told(unprotected: Desk) -> None:
    asks(unprotected)
    (unprotected.root / "golden.jsonl").unlink()
    (problem,) = problems(unprotected.ask("check", exits=1), "verify.pages.golden")
    assert "cannot be read: No such file" in problem["message"]
    assert "put the questions there" in problem["next"]


@pytest.mark.parametrize(
    ("bound", "samples", "why"),
    [
        (
            "latency_p95: {at_most: 2x}",
            40,
            "the baseline's 40 samples are too few to tell: `samples` must be 72 or more",
        ),
        ("latency_p95: {at_most: 2s}", 40, ""),
        ("latency_p99: {at_most: 2s}", 40, "160 samples are too few to tell: `samples` must be 92 or more"),
        ("latency_p99: {at_most: 2x}", 368, ""),
    ],
)
def test_too_few_samples_for_a_bound_are_told_where_they_stand(
    unprotected: Desk, bound: str, samples: int, why: str
) -> None:
    asks(unprotected, more=("bounds: {", f"bounds: {{{bound}, "))
    unprotected.manifest.write_text(
        unprotected.manifest.read_text().replace("samples: 40", f"samples: {samples}")
    )
    found = problems(unprotected.ask("check"), "verify.pages.samples")
    assert [problem["message"] for problem in found] == (
        [f"{bound[:11]} can never be verified: {why}"] if why else []
    )
    for problem in found:
        assert problem["level"] == "warning"
        assert f"{unprotected.manifest}:{problem['line']}:{problem['column']}" == place_of(
            unprotected, f"{samples}\n"
        )


# ------------------------------------------------------------------------------------------------ who listens


def test_an_endpoint_that_answers_is_no_problem(verified: Desk) -> None:
    assert verified.ask("check")["problems"] == []


def test_an_endpoint_with_nothing_behind_its_port_says_so(unprotected: Desk, closed: int) -> None:
    asks(unprotected, f"http://127.0.0.1:{closed}/answer")
    (problem,) = problems(unprotected.ask("check"), "verify.pages.probe")
    assert problem["message"] == f"connection refused at 127.0.0.1:{closed}"
    assert problem["level"] == "warning"


def test_a_process_with_nothing_behind_its_port_says_so(unprotected: Desk, closed: int) -> None:
    unprotected.write_manifest()
    health = f"http://127.0.0.1:{closed}/health"
    serve = f'  web: {{kind: process, with: {{command: [python, -m, web], cwd: ".", health: "{health}"}}}}\n'
    unprotected.manifest.write_text(
        unprotected.manifest.read_text().replace("  answers:\n", f"{serve}  answers:\n")
    )
    (problem,) = problems(unprotected.ask("check", exits=1), "components.web")
    assert problem["message"] == f"connection refused at 127.0.0.1:{closed}"


def test_a_measurement_that_passes_for_users_in_the_log_is_told(verified: Desk, endpoint: Any) -> None:
    endpoint.log = verified.root / "eu/answers.jsonl"
    verified.ask("verify")
    (problem,) = verified.ask("check")["problems"]
    assert (problem["level"], problem["where"]) == ("warning", "components.answers")
    assert "questions of a verification, and nothing says how they are marked" in problem["message"]
    assert "X-Refloat-Probe" in problem["next"]


def test_a_measurement_that_the_log_keeps_apart_is_no_problem(verified: Desk, endpoint: Any) -> None:
    endpoint.log = verified.root / "eu/answers.jsonl"
    endpoint.source_of = lambda headers: "probe" if headers.get("X-Refloat-Probe") else "user"
    path = 'path: "${region}/answers.jsonl"'
    text = verified.manifest.read_text()
    verified.manifest.write_text(text.replace(path, f"{path}, probes: {{source: probe}}"))
    verified.ask("verify")
    assert '"source": "probe"' in endpoint.log.read_text()
    assert verified.ask("check")["problems"] == []


# -------------------------------------------------------------------------------------------------- the facts


def test_facts_are_shown_by_the_names_that_an_expression_takes(unprotected: Desk) -> None:
    unprotected.write_manifest()
    document = unprotected.ask("check", "--facts")
    assert document["components"]["pages"]["facts"]["pages.current.version"] == 1
    assert document["components"]["answers"]["facts"]["answers.position.last_id"] == "a1"
    printed = unprotected.read("check", "--facts", "answers")
    assert 'answers.position.last_id == "a1"\n' in printed
    assert "ledger.version" not in printed


def test_each_line_of_facts_is_an_expression_that_holds(unprotected: Desk) -> None:
    unprotected.write_manifest("")
    expose = "expose: {current: current.json"
    text = unprotected.manifest.read_text().replace(expose, f"{expose}, of: odd.json")
    (unprotected.root / "eu/pages/odd.json").write_text('{"in": {"a-b \\" c": 1.5}, "list": [1, "é"]}')
    unprotected.manifest.write_text(text)
    lines = [line for line in unprotected.read("check", "--facts").splitlines() if " == " in line]
    assert 'pages.of["in"]["a-b \\" c"] == 1.5' in lines
    members = "members: [pages, ledger, answers]"
    must = json.dumps(lines, ensure_ascii=False)
    unprotected.manifest.write_text(f"{text}\ngroups: {{all: {{{members}, must: {must}}}}}\n")
    assert problems(unprotected.ask("check"), "groups.all.must") == []


def test_facts_of_a_component_that_is_not_there(unprotected: Desk) -> None:
    unprotected.write_manifest()
    (unprotected.root / "eu/ledger.db").unlink()
    document = unprotected.ask("check", "--facts", "ledger", exits=1)
    assert document["components"]["ledger"]["facts"] is None
    assert "facts" not in document["components"]["pages"]
    assert "the facts of ledger could not be read" in unprotected.read("check", "--facts", "ledger")


def test_a_component_that_nobody_knows_is_refused_with_the_nearest(unprotected: Desk) -> None:
    unprotected.write_manifest()
    assert "'ledger'" in unprotected.error("check", "--facts", "leger", exits=2)["next"]
    assert "--facts" in unprotected.error("check", "ledger", exits=2)["next"]
