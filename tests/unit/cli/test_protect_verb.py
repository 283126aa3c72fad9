"""``refloat protect``: the document that scripts read, and the exit codes they branch on."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from small_desk import GROUP, VERIFY, make_slow

KEYS = {
    "point",
    "grade",
    "created_at",
    "copies_required",
    "regions",
    "groups",
    "components",
    "measured",
    "unverifiable",
}
COMPONENT_KEYS = {
    "snapshot",
    "as_of",
    "carried",
    "bytes",
    "new_bytes",
    "stored_bytes",
    "suspect",
    "seconds",
    "error",
}


def test_the_document_has_exactly_these_keys(unprotected) -> None:
    document = unprotected.ask("protect")
    assert document.keys() == KEYS
    assert document["regions"] == {region: {"complete": True, "error": None} for region in ("eu", "us")}
    assert document["components"].keys() == {"pages", "ledger", "answers"}
    for component in document["components"].values():
        assert component.keys() == COMPONENT_KEYS
    group = document["groups"]["serving"]
    assert group.keys() == {"grade", "reason", "invariants"}
    (invariant,) = group["invariants"]
    assert invariant.keys() == {"must", "holds", "values", "reason"}
    assert (invariant["must"], invariant["holds"]) == ("pages.current.version == ledger.version", True)


def test_times_are_rfc_3339_in_utc_and_of_now(unprotected) -> None:
    before = datetime.now(UTC)
    document = unprotected.ask("protect")
    after = datetime.now(UTC)
    times = [document["created_at"], *(part["as_of"] for part in document["components"].values())]
    assert all(time.endswith("Z") for time in times)
    for time in times:
        assert before - timedelta(milliseconds=1) < datetime.fromisoformat(time) <= after


def test_sizes_are_those_of_the_files(unprotected) -> None:
    answers = unprotected.ask("protect")["components"]["answers"]
    size = (unprotected.root / "eu" / "answers.jsonl").stat().st_size
    assert answers["bytes"] == size
    assert answers["stored_bytes"] > 0 and not answers["carried"]


ENDPOINT = '  endpoint: {kind: process, with: {command: [serve], cwd: ".", health: "http://localhost:1"}}'


@pytest.mark.parametrize("runs", [False, True])
def test_half_of_the_cores_are_left_where_something_runs(unprotected, monkeypatch, runs: bool) -> None:
    left: list[bool] = []
    monkeypatch.setattr("refloat.cli.protect.leave_cores", lambda: left.append(True))
    if runs:
        kept = unprotected.manifest.read_text()
        unprotected.manifest.write_text(kept.replace("components:", f"components:\n{ENDPOINT}"))
    unprotected.answer("protect")
    assert left == [True] * runs


def test_what_did_not_change_is_carried_and_costs_nothing(desk) -> None:
    desk.ask("protect")
    components = desk.ask("protect")["components"]
    assert all(part["carried"] for part in components.values())
    assert [part["stored_bytes"] for part in components.values()] == [0, 0, 0]


def test_a_broken_group_exits_1_and_the_point_is_still_named(desk) -> None:
    desk.release(2, pages=7)
    document = desk.ask("protect", exits=1)
    assert document["grade"] == "broken"
    (invariant,) = document["groups"]["serving"]["invariants"]
    assert invariant["holds"] is False
    assert invariant["values"] == {"pages.current.version": 7, "ledger.version": 2}
    assert desk.ask("points", "list")["points"][0]["point"] == document["point"]


def test_a_group_that_cannot_be_told_is_broken_too(desk) -> None:
    (desk.root / "eu" / "pages" / "current.json").write_text('{"edition": 1}')
    document = desk.ask("protect", exits=1)
    (invariant,) = document["groups"]["serving"]["invariants"]
    assert (document["grade"], invariant["holds"]) == ("broken", None)


def test_a_group_that_nobody_came_to_evaluate_exits_1_as_unknown_and_says_why(desk, monkeypatch) -> None:
    from refloat.flows import protect
    from refloat.point.evaluate import Evaluator

    monkeypatch.setattr(protect, "Evaluator", lambda: Evaluator(command=("/nowhere/python",)))
    document = desk.ask("protect", exits=1)
    assert document["grade"] == "unknown"
    assert "was not evaluated: its process did not get ready" in document["groups"]["serving"]["reason"]
    assert "warning: whether the point's parts belong together is unknown" in desk.said
    (listed, *_) = desk.ask("points", "list")["points"]
    assert (listed["point"], listed["grade"]) == (document["point"], "unknown")
    why = desk.ask("points", "why", document["point"])
    assert (why["grade"], why["groups"]["serving"]["grade"]) == ("unknown", "unknown")
    assert why["reason"] == "the newest consistent point; graded fuzzy", "its invariants hold, asked now"
    assert desk.ask("plan", "--to", "us")["point"] == document["point"]


def test_a_fuzzy_point_is_accepted_with_a_warning_unless_exact_is_required(desk, monkeypatch) -> None:
    _keep_members_apart(desk, monkeypatch)
    document = desk.ask("protect")
    assert document["grade"] == "fuzzy"
    assert "warning: the point is fuzzy" in desk.said
    assert desk.ask("protect", "--require", "exact", exits=1)["grade"] == "fuzzy"


def _keep_members_apart(desk, monkeypatch) -> None:
    """The pages never stand still: each look at them finds another identity."""
    from refloat.connectors.files import Files

    inspect, page = Files.inspect, desk.root / "eu" / "pages" / "1.txt"

    def moving(self, place):
        page.write_text(page.read_text() + "and more\n")
        return inspect(self, place)

    monkeypatch.setattr(Files, "inspect", moving)


def test_exact_is_satisfied_by_an_exact_point(desk) -> None:
    assert desk.ask("protect", "--require", "exact")["grade"] == "exact"


def test_an_unreachable_region_exits_1_and_the_others_have_the_point(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    document = desk.ask("protect", exits=1)
    assert document["copies_required"] == 2
    assert document["regions"]["eu"] == {"complete": True, "error": None}
    assert document["regions"]["us"]["complete"] is False
    assert document["regions"]["us"]["error"]
    assert "warning: the point is in 1 " in desk.said


def test_no_region_at_all_is_an_error(desk) -> None:
    for region in ("eu", "us"):
        shutil.rmtree(desk.vault(region))
    error = desk.error("protect", exits=4)
    assert error["code"] == "vault"
    assert "eu" in error["message"] and "us" in error["message"]


def test_a_component_that_is_gone_is_told_and_keeps_its_age(desk) -> None:  # fault 39
    before = desk.ask("points", "list")["points"][0]["point"]
    as_of = desk.ask("points", "show", before)["components"]["answers"]["as_of"]
    (desk.root / "eu" / "answers.jsonl").unlink()
    answers = desk.ask("protect", exits=1)["components"]["answers"]
    assert answers["error"] and not answers["carried"]
    assert datetime.fromisoformat(answers["as_of"]) == datetime.fromisoformat(as_of)
    assert "warning: answers could not be captured" in desk.said
    assert [
        line.split()[2] for line in desk.read("protect").splitlines() if line.split()[:1] == ["answers"]
    ] == ["failed"]


def test_what_is_captured_together_with_what_failed_is_told_too(desk) -> None:
    (desk.root / "eu" / "ledger.db").unlink()
    told = desk.ask("protect", exits=1)["components"]
    assert told["pages"]["error"] == "it is captured together with ledger, which could not be"
    assert told["ledger"]["error"] and told["answers"]["error"] is None


def test_no_secret_is_written_into_the_point_that_says_why_something_is_missing(desk, monkeypatch) -> None:
    monkeypatch.setenv("PLACE", "a-name-that-nobody-may-see")
    text = desk.manifest.read_text().replace('"${region}/answers.jsonl"', '"${region}/${env:PLACE}.jsonl"')
    assert "env:PLACE" in text
    desk.manifest.write_text(text)
    made = desk.ask("protect", exits=1)
    shown = desk.ask("points", "why", made["point"])["not_captured"]["answers"]
    assert "No such file" in shown and "nobody-may-see" not in shown


# --------------------------------------------------------------------------------------- measured with points


def measuring(desk, endpoint, when: str) -> None:
    """From now on `protect` measures too."""
    desk.write_manifest(GROUP, VERIFY + f"    with_points: {when}\n", url=endpoint.url)


def test_a_point_of_another_identity_is_measured_with_it_and_can_then_be_verified(verified, endpoint) -> None:
    measuring(verified, endpoint, "when_identity_moved")
    assert verified.ask("protect")["measured"] == {}, "its baseline is there"
    verified.release(2)
    made = verified.ask("protect")
    assert (made["measured"], made["unverifiable"]) == ({"pages": None}, {})
    assert verified.ask("protect")["measured"] == {}


def test_a_baseline_of_fewer_samples_than_are_wanted_is_measured_anew_though_nothing_moved(
    verified, endpoint
) -> None:
    """As vaults keep it in which an earlier refloat kept what time had cut off."""
    more = VERIFY.replace("samples: 40", "samples: 60")
    verified.write_manifest(GROUP, more + "    with_points: when_identity_moved\n", url=endpoint.url)
    assert verified.ask("protect")["measured"] == {"pages": None}
    assert verified.ask("protect")["measured"] == {}


def test_a_point_is_not_measured_unless_the_manifest_says_so_and_warns_that_it_could_not_be_verified(
    verified,
) -> None:
    verified.release(2)
    made = verified.ask("protect")
    assert made["measured"] == {}
    assert made["unverifiable"]["pages"].keys() == {"accuracy", "exact_match"}
    assert "warning: it could not be verified if it were recovered now: pages: accuracy" in verified.said


def test_worse_answers_do_not_become_the_baseline_unseen(verified, endpoint) -> None:
    """A model that was poisoned would be what a recovery has to match."""
    measuring(verified, endpoint, "always")
    verified.release(2)
    endpoint.topic_of = str.title
    made = verified.ask("protect")
    assert "accuracy was 1 and is 0" in made["measured"]["pages"]
    assert made["unverifiable"]["pages"].keys() == {"accuracy", "exact_match"}
    assert "warning: pages was measured, and that is not its baseline" in verified.said


def test_what_does_not_answer_is_measured_to_no_baseline_and_the_point_stands(verified, endpoint) -> None:
    measuring(verified, endpoint, "always")
    endpoint.shutdown()
    endpoint.socket.close()
    made = verified.ask("protect")
    assert "100% of" in made["measured"]["pages"]
    assert made["unverifiable"] == {}, "the good baseline is still there"


def test_what_time_cut_off_does_not_become_the_baseline(verified, endpoint, monkeypatch) -> None:
    measuring(verified, endpoint, "always")
    kept = verified.vault("us") / "log" / "baselines"
    before = sorted(kept.iterdir())
    make_slow(monkeypatch)
    made = verified.ask("protect")
    assert "time was up when pages had been asked " in made["measured"]["pages"]
    assert "give `within` more time" in made["measured"]["pages"]
    assert "warning: pages was measured, and that is not its baseline: time was up" in verified.said
    assert sorted(kept.iterdir()) == before
    assert made["unverifiable"] == {}, "the good baseline is still the newest"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--require", "fuzzy"), "require takes exact, not 'fuzzy'"),
        (("--region", "asia"), "the manifest knows no region 'asia'"),
        (("--regoin", "us"), "no such option"),
        (("now",), "unexpected extra argument"),
    ],
)
def test_bad_usage_exits_2_and_makes_no_point(unprotected, arguments: tuple[str, ...], words: str) -> None:
    error = unprotected.error("protect", *arguments, exits=2)
    assert error["code"] == "usage"
    assert words in error["message"].lower() or words in error["message"]
    assert unprotected.ask("points", "list")["points"] == []


@pytest.mark.parametrize("stdin", [None, io.StringIO()], ids=["closed", "not a terminal"])
def test_it_takes_a_key(desk, monkeypatch, stdin) -> None:
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setattr("sys.stdin", stdin)
    error = desk.error("protect", exits=2)
    assert "REFLOAT_KEY_FILE" in error["next"] and "REFLOAT_PASSPHRASE" in error["next"]


def test_two_keys_at_once_are_a_usage_error(desk, monkeypatch) -> None:
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "correct horse battery staple")
    error = desk.error("protect", exits=2)
    assert error["code"] == "usage"
    assert "correct horse" not in str(error)


def test_people_read_the_sizes_and_where_the_point_is(unprotected) -> None:
    out = unprotected.read("protect")
    assert "region eu: complete" in out and "region us: complete" in out
    assert "group serving: exact" in out
    assert "ledger" in out and "sqlite" in out
