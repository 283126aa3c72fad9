"""The page of a run: needs nothing else to be read, runs nothing, and shows all of the record."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from refloat.contracts import Layer
from refloat.evidence.model import ComponentResult, Evidence, Foreseen, Rpo, Rto, StepResult
from refloat.evidence.render import figure, foretold, headline, page
from refloat.point.model import Grade, GroupRecord, Verdict
from refloat.verification.model import Check

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
INJECTED = "<script>alert(1)</script>\"'&"


def shown(evidence: Evidence) -> str:
    """The page, as somebody reads it."""
    return page(evidence).decode("utf-8")


def component(**changed: object) -> ComponentResult:
    given: dict[str, object] = {
        "kind": "files",
        "layer": Layer.DATA,
        "tier": "critical",
        "rto": Rto(seconds=12.5, objective_s=300, since="declared"),
        "rpo": Rpo(seconds=4.5, objective_s=60, basis="from the start of its capture"),
        "bytes": 2048,
        "files": 3,
    }
    return ComponentResult.model_validate({**given, **changed})


def check(name: str = "latency_p95", verdict: str = "pass", **changed: object) -> Check:
    given: dict[str, object] = {
        "name": name,
        "component": "assistant",
        "baseline": 0.0125,
        "recovered": 0.0131,
        "bound": "at most 1.25x",
        "samples": 400,
        "verdict": verdict,
        "unit": "s",
    }
    return Check.model_validate({**given, **changed})


def step(id: str = "stage.stage:pages", **changed: object) -> StepResult:
    given: dict[str, object] = {
        "id": id,
        "phase": "stage",
        "component": "pages",
        "result": "done",
        "started_s": 1.0,
        "seconds": 2.0,
        "attempts": 1,
    }
    return StepResult.model_validate({**given, **changed})


def record(**changed: object) -> Evidence:
    given: dict[str, object] = {
        "kind": "recovery",
        "pipeline": "small",
        "run": "3f2a9c01d4e5",
        "state": "done",
        "point": "ab" * 32,
        "point_created_at": START - timedelta(minutes=1),
        "source": "eu",
        "to": "us",
        "profile": "default",
        "started_at": START,
        "finished_at": START + timedelta(seconds=20),
        "declared_at": None,
        "rto": Rto(seconds=12.5, objective_s=300, since="run_start"),
        "components": {"pages": component(), "ledger": component(kind="sqlite", tier="operational")},
        "groups": {
            "serving": GroupRecord(
                members=("pages", "ledger"),
                grade=Grade.EXACT,
                reason="",
                skew_s=0.0,
                invariants=(Verdict(must="pages.version == ledger.version", holds=True),),
            )
        },
        "verified": True,
        "checks": (check(), check("accuracy", recovered=0.9, baseline=0.9, unit="")),
        "steps": (step(), step("activate.activate:pages", phase="activate", started_s=3.0, seconds=0.001)),
        "versions": {"refloat": "0.1.0"},
        "digests": {"plan": "cd" * 32, "vault": "ef" * 16},
    }
    return Evidence.model_validate({**given, **changed})


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, text: str) -> None:
        if self.elements[-1:] and self.elements[-1][0] != "style":
            self.texts.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


# ---------------------------------------------------------------------------------- safe, and on its own


def test_a_page_asks_for_nothing_and_runs_nothing() -> None:
    text = shown(record())
    seen = Page(text)
    assert not seen.tags() & {"script", "link", "iframe", "img", "object", "embed", "form", "base", "a"}
    attributes = {name for _, given in seen.elements for name in given}
    assert not attributes & {"href", "src", "srcset", "action", "data", "xlink:href"}
    assert not any(name.startswith("on") for name in attributes)
    assert "http://" not in text and "https://" not in text
    assert "url(" not in text and "@import" not in text


def test_a_policy_forbids_what_is_not_there() -> None:
    policies = [
        given["content"]
        for tag, given in Page(shown(record())).elements
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy"
    ]
    (policy,) = policies
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy and "unsafe-eval" not in policy


def injected() -> Evidence:
    """A record in which every text that a stranger could have chosen is markup."""
    group = GroupRecord(
        members=(INJECTED,),
        grade=Grade.BROKEN,
        reason=INJECTED,
        skew_s=0.0,
        invariants=(Verdict(must=INJECTED, holds=False, reason=INJECTED),),
    )
    rpo = Rpo(seconds=1, objective_s=2, basis=INJECTED)
    return record(
        pipeline=INJECTED,
        run=INJECTED,
        flags=(INJECTED,),
        source=INJECTED,
        to=INJECTED,
        components={INJECTED: component(kind=INJECTED, tier=INJECTED, rpo=rpo)},
        groups={INJECTED: group},
        checks=(check(INJECTED, "fail", component=INJECTED, bound=INJECTED, reason=INJECTED, unit=INJECTED),),
        baseline_region=INJECTED,
        skipped=(INJECTED,),
        overrides=(INJECTED,),
        lost_points=(INJECTED,),
        steps=(step(f"stage.{INJECTED}", error=INJECTED),),
        versions={INJECTED: INJECTED},
        digests={INJECTED: INJECTED},
    )


def test_whatever_stands_in_the_record_is_text() -> None:  # fault 64
    clean, seen = Page(shown(record())), Page(shown(injected()))
    assert "<script" not in shown(injected())
    assert seen.tags() - clean.tags() <= {"dl", "dt", "dd"}
    assert seen.text.count("<script>alert(1)</script>") >= 20
    names = {name for _, given in seen.elements for name in given}
    assert names == {name for _, given in clean.elements for name in given}


# ------------------------------------------------------------------------------------------- all of it


def test_every_component_stands_beside_its_objectives() -> None:
    text = Page(shown(record())).text
    for words in (
        "pages",
        "ledger",
        "sqlite",
        "critical",
        "operational",
        "12.5s",
        "5m",
        "4.5s",
        "1m",
        "2.0 KiB",
    ):
        assert words in text, words


def test_every_check_stands_beside_its_bound() -> None:
    text = Page(shown(record(baseline_region="eu"))).text
    for words in (
        "latency_p95",
        "12.5 ms",
        "13.1 ms",
        "at most 1.25x",
        "400",
        "2 of 2 checks pass",
        "measured in eu",
    ):
        assert words in text, words


def test_every_step_has_a_bar_within_the_picture() -> None:
    bars = [given for tag, given in Page(shown(record())).elements if tag == "rect"]
    assert len(bars) == 2
    for bar in bars:
        assert float(bar["x"] or "nan") >= 0
        assert float(bar["x"] or "nan") + float(bar["width"] or "nan") <= 1002
        assert float(bar["width"] or "nan") >= 2


def test_a_run_without_any_step_has_a_page() -> None:
    assert "not recovered" in shown(record(state="blocked", steps=(), verified=None, checks=()))


def test_what_is_not_as_it_should_be_is_named() -> None:
    text = Page(
        shown(record(skipped=("verify.verify:a",), overrides=("group_broken",), lost_points=("99" * 32,)))
    ).text
    for words in ("Not as it should be", "verify.verify:a", "group_broken", "99" * 32):
        assert words in text, words
    assert "Not as it should be" not in Page(shown(record())).text


def test_a_check_that_is_not_known_says_why_and_is_not_green() -> None:
    unknown = check(verdict="unknown", baseline=None, reason="too few samples to tell")
    text = shown(record(verified=None, checks=(unknown,)))
    assert "too few samples to tell" in text
    assert "0 of 1 checks pass" in Page(text).text
    classes = [given.get("class") for _, given in Page(text).elements]
    assert "wrap doubt" in classes and "wrap good" not in classes


def test_without_verification_the_page_says_that_it_is_not_known() -> None:
    text = Page(shown(record(verified=None, checks=()))).text
    assert "it is not known whether the pipeline answers as before" in text


@pytest.mark.parametrize(
    ("seconds", "colour"), [(12.5, "good"), (300.0, "good"), (300.1, "bad"), (None, "doubt")]
)
def test_an_objective_is_green_when_met_red_when_missed_and_neither_when_unknown(
    seconds: float | None, colour: str
) -> None:
    text = shown(record(rto=Rto(seconds=seconds, objective_s=300, since="declared")))
    (found,) = re.findall(r'Time to recover</span>\s*<b class="(\w+)">', text)
    assert found == colour


# ------------------------------------------------------------------------------------------ in a sentence


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "small is back in us, and answers as well as before, after 12.5s"),
        ({"verified": None}, "small is back in us; whether it answers as before is not known"),
        ({"verified": False}, "small is back in us, and does not answer as well as before"),
        ({"state": "rolled_back", "verified": False}, "small was not recovered in us: rolled back"),
        ({"state": "blocked", "verified": None}, "small was not recovered in us: blocked"),
        ({"state": "dirty", "verified": True}, "small was not recovered in us: dirty"),
    ],
)
def test_the_headline_never_says_more_than_was_found(changed: dict[str, object], words: str) -> None:
    assert headline(record(**changed)) == words


def test_the_headline_names_each_objective_that_was_missed_and_no_other() -> None:
    late = component(
        rto=Rto(seconds=301, objective_s=300, since="declared"),
        rpo=Rpo(seconds=61, objective_s=60, basis="-"),
    )
    changed = {
        "rto": Rto(seconds=301, objective_s=300, since="declared"),
        "components": {"pages": late, "ledger": component(kind="sqlite")},
        "checks": (
            check(verdict="fail", recovered=0.04),
            check("throughput", "fail", baseline=81.0, recovered=20.0, bound="at least 0.8x", unit="1/s"),
            check("accuracy", "unknown", unit=""),
            check("errors", unit=""),
        ),
    }
    worse = (
        "latency_p95 of assistant (40.0 ms, before 12.5 ms, bound at most 1.25x), "
        "throughput of assistant (20.0 /s, before 81.0 /s, bound at least 0.8x)"
    )
    late_ones = (
        "the RTO of the pipeline (5m 01s, objective 5m), the RTO of pages (5m 01s, objective 5m), "
        "the RPO of pages (1m 01s, objective 1m)"
    )
    said = headline(record(verified=False, **changed))
    assert said == (
        f"small is back in us, and does not answer as well as before; missed objectives: {late_ones}, {worse}"
    )
    back = headline(record(state="rolled_back", verified=False, **changed))
    assert back == f"small was not recovered in us: rolled back; missed objectives: {worse}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (45.0, "took 45s, 1.50 times the 30s expected; 95 of 100 within 50s"),
        (50.0, "took 50s, 1.67 times the 30s expected; 95 of 100 within 50s"),
        (50.4, "took 50.4s, 1.68 times the 30s expected; 95 of 100 within 50s: longer than foreseen"),
    ],
)
def test_how_far_off_the_estimate_was_is_said_in_one_line(seconds: float, words: str) -> None:
    foreseen = Foreseen(p50_s=30, p95_s=50, rests_on={"measured": 30}).against(seconds)
    assert foretold(record(foreseen=foreseen)) == words
    assert words in Page(shown(record(foreseen=foreseen))).text


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "s", "-"),
        (0.0125, "s", "12.5 ms"),
        (2.5, "s", "2.50 s"),
        (81.26, "1/s", "81.3 /s"),
        (0.9, "", "0.900"),
        (0.0, "s", "0.0 ms"),
    ],
)
def test_a_figure_has_the_unit_that_suits_it(value: float | None, unit: str, words: str) -> None:
    assert figure(value, unit) == words


def test_what_is_not_utf_8_is_shown_with_backslashes() -> None:
    assert "cut \\ud800" in shown(record(checks=(check(reason="cut \ud800"),)))
