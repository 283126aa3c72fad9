"""``refloat recover``: the document, and every way in which it may end."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from refloat.errors import UsageError
from refloat.flows.request import moment
from small_desk import GROUP, VERIFY, set_clock

KEYS = {
    "run",
    "state",
    "flags",
    "point",
    "to",
    "rto",
    "foreseen",
    "rpo",
    "components",
    "verified",
    "checks",
    "invariants",
    "skipped",
    "overrides",
    "lost_points",
    "evidence",
    "page",
    "remarks",
    "started_at",
    "finished_at",
}
CHECK_KEYS = {"name", "component", "baseline", "recovered", "bound", "samples", "verdict", "reason", "unit"}


def bare(desk) -> tuple[str, ...]:
    """Lose the primary; what is left is one address and the key."""
    desk.lose("eu")
    return ("recover", "--vault", str(desk.vault("us")), "--to", "us")


def test_the_document_has_exactly_these_keys(desk) -> None:
    document = desk.ask(*bare(desk))
    assert document.keys() == KEYS
    assert document["rto"].keys() == {"seconds", "objective_s", "from"}
    assert document["rpo"].keys() == {"pages", "ledger", "answers"}
    assert all(rpo.keys() == {"seconds", "basis"} for rpo in document["rpo"].values())
    for component in document["components"].values():
        assert component.keys() == {"kind", "layer", "tier", "rto", "rpo", "bytes", "files", "set_aside"}
    assert [invariant.keys() for invariant in document["invariants"]] == [
        {"group", "must", "holds", "values", "reason"}
    ]
    assert document["evidence"] == {"us": {"record": "log/evidence/0000000000000000", "error": None}}


def test_without_verification_it_exits_0_and_says_that_it_is_not_known(desk) -> None:
    document = desk.ask(*bare(desk))
    assert (document["state"], document["verified"], document["checks"]) == ("done", None, [])
    assert "unverified" in document["flags"]
    assert "warning: nothing was verified" in desk.said


def test_everything_comes_back_from_one_address_and_the_key(desk) -> None:
    before = desk.pages("eu")
    desk.ask(*bare(desk))
    assert desk.pages("us") == before


def test_the_page_lies_in_this_machines_state_folder(desk) -> None:
    page = Path(desk.ask(*bare(desk))["page"])
    assert page.is_relative_to(desk.root / "home" / ".local" / "state" / "refloat")
    assert "small is back in us" in page.read_text()


def test_a_declared_disaster_is_what_rto_and_rpo_count_from(desk) -> None:
    document = desk.ask(*bare(desk), "--lost-at", "2020-01-01T00:00:00Z")
    assert document["rto"]["from"] == "declared"
    assert document["rto"]["seconds"] > 365 * 24 * 3600
    assert document["rpo"]["pages"]["seconds"] == 0  # captured after what is said to be the loss


def test_only_some_components_can_be_recovered(desk) -> None:
    document = desk.ask(*bare(desk), "--only", "pages")
    assert document["rpo"].keys() == {"pages"}
    assert not (desk.root / "us" / "answers.jsonl").exists()


@pytest.mark.parametrize("text", ["yesterday", "2026-11-01", "2026-11-01T12:00:00"])
def test_a_time_without_its_zone_is_not_guessed(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, "--lost-at")


# ------------------------------------------------------------------------------------------------- refused


def test_a_broken_point_is_refused_unless_the_rule_is_named(desk) -> None:
    desk.release(2, pages=7)
    broken = desk.ask("protect", exits=1)["point"]
    error = desk.error("recover", "--to", "us", "--point", broken, exits=3)
    assert (error["code"], error["rule"]) == ("refused", "group_broken")
    assert not (desk.root / "us" / "pages").exists()
    done = desk.ask("recover", "--to", "us", "--point", broken, "--override", "group_broken")
    assert (done["state"], done["overrides"]) == ("done", ["group_broken"])


def test_a_target_that_holds_something_else_is_refused_and_left_alone(desk) -> None:  # fault 43
    (desk.root / "us" / "pages").mkdir()
    (desk.root / "us" / "pages" / "mine.txt").write_text("not refloat's")
    document = desk.ask(*bare(desk), exits=3)
    assert document["state"] == "blocked"
    assert (document["error"]["code"], document["error"]["rule"]) == ("refused", "target_foreign")
    assert document["error"]["component"] == "pages"
    assert document["rto"]["seconds"] is None
    assert desk.pages("us") == {"mine.txt": "not refloat's"}
    assert not (desk.root / "us" / "answers.jsonl").exists()


def test_a_log_that_was_rolled_back_is_refused_unless_the_rule_is_named(desk) -> None:  # fault 54
    old = desk.root / "old"
    shutil.copytree(desk.vault("us"), old)
    desk.ask("protect")
    desk.ask("protect")
    shutil.rmtree(desk.vault("us"))
    shutil.move(old, desk.vault("us"))
    error = desk.error("recover", "--to", "us", exits=3)
    assert (error["rule"], error["region"]) == ("log_rolled_back", "us")
    assert not (desk.root / "us" / "pages").exists()
    done = desk.ask("recover", "--to", "us", "--override", "log_rolled_back")
    assert done["state"] == "done"


def roll_back(desk, region: str) -> None:
    """A region has lost what was made since: two points, which the other one has."""
    old = desk.root / "old"
    shutil.copytree(desk.vault(region), old)
    desk.release(2)
    desk.ask("protect")
    desk.ask("protect")
    shutil.rmtree(desk.vault(region))
    shutil.move(old, desk.vault(region))


@pytest.mark.parametrize("bare", [False, True])
def test_another_region_that_was_rolled_back_is_named_and_stops_nobody(desk, bare: bool) -> None:  # fault 54
    roll_back(desk, "eu")
    newest = desk.ask("points", "list")["points"][0]["point"]
    where = ("--vault", str(desk.vault("us"))) if bare else ()
    done = desk.ask("recover", *where, "--to", "us")
    assert (done["state"], done["point"], done["overrides"]) == ("done", newest, [])
    assert "the log of points in eu was rolled back" in desk.said
    brought = desk.ask("recover", "--into", "out", "--vault", str(desk.vault("us")))
    assert brought["overrides"] == [] and "the log of points in eu was rolled back" in desk.said


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("theirs", [None, "another one", "correct horse"])
def test_a_foreign_vault_at_another_region_s_address_stops_nobody(
    desk, monkeypatch: pytest.MonkeyPatch, theirs: str | None, bare: bool
) -> None:
    """By key file, or by a passphrase, of which the stranger may have thought as well."""
    if theirs is not None:
        monkeypatch.delenv("REFLOAT_KEY_FILE")
        monkeypatch.setenv("REFLOAT_PASSPHRASE", "correct horse")
        for region in ("eu", "us"):
            shutil.rmtree(desk.vault(region))
        desk.ask("vault", "init", "--key", "again.key")
        desk.ask("protect")
    shutil.rmtree(desk.vault("eu"))
    foreign = desk.root / "foreign.yaml"
    foreign.write_text(
        desk.manifest.read_text().replace('us: {vault: "us/vault"}', 'us: {vault: "us/other"}')
    )
    with monkeypatch.context() as patch:
        if theirs is not None:
            patch.setenv("REFLOAT_PASSPHRASE", theirs)
        desk.ask("-f", str(foreign), "vault", "init", "--key", "foreign.key")
    before = sorted(desk.vault("eu").rglob("*"))
    where = ("--vault", str(desk.vault("us"))) if bare else ()
    if theirs == "correct horse" and not bare:  # which of the two is meant nobody can tell
        assert "--vault" in desk.error("recover", "--to", "us", exits=4)["next"]
        return
    done = desk.ask("recover", *where, "--to", "us")
    assert (done["state"], sorted(done["evidence"])) == ("done", ["us"])
    assert "eu is passed over" in desk.said
    assert sorted(desk.vault("eu").rglob("*")) == before, "nothing is written to a stranger"


# ----------------------------------------------------------------------------------------- usage and the vault


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "asia"), "'asia'"),
        ((), "--to"),
        (("--to", "us", "--lost-at", "noon"), "--lost-at"),
        (("--to", "us", "--resume", "nothing"), "no run 'nothing' was begun"),
        (("--to", "us", "--override", "group_brken"), "no safety rule is called 'group_brken'"),
        (("--to", "us", "--lost-at", "2999-01-01T00:00:00Z"), "--lost-at is in the future"),
        (("--to", "us", "--resume", "r", "--only", "pages"), "keeps its point, its components"),
    ],
)
def test_bad_usage_exits_2_and_touches_nothing(desk, arguments: tuple[str, ...], words: str) -> None:
    error = desk.error("recover", *arguments, exits=2)
    assert words in error["message"]
    assert sorted(path.name for path in (desk.root / "us").iterdir()) == ["vault"]


def test_a_vault_that_is_not_there_exits_4_and_names_it(desk) -> None:
    nowhere = str(desk.root / "nowhere")
    error = desk.error("recover", "--vault", nowhere, "--to", "us", exits=4)
    assert error["code"] == "vault_missing"
    assert nowhere in error["message"]


def test_a_damaged_pack_exits_4_before_anything_is_touched(desk) -> None:
    for pack in desk.vault("us").glob("packs/*/*"):
        content = bytearray(pack.read_bytes())
        content[len(content) // 3] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(content)
    error = desk.error(*bare(desk), exits=4)
    assert error["code"] == "vault_damaged"
    assert error["next"]
    assert not (desk.root / "us" / "pages").exists()


def test_points_that_only_the_lost_region_had_are_reported_as_lost(desk) -> None:
    aside = desk.root / "aside"
    shutil.move(desk.vault("us"), aside)
    desk.release(2)
    newer = desk.ask("protect", exits=1)["point"]
    shutil.move(aside, desk.vault("us"))
    older = desk.ask("points", "list", "--vault", str(desk.vault("us")))["points"][0]["point"]
    document = desk.ask(*bare(desk))
    assert document["point"] == older != newer
    assert "2.txt" not in desk.pages("us")


# -------------------------------------------------------------------------------------------- verification


def test_a_recovery_that_answers_as_before_is_verified(verified) -> None:
    document = verified.ask(*bare(verified))
    assert (document["state"], document["verified"]) == ("done", True)
    assert [(check["name"], check["verdict"]) for check in document["checks"]] == [
        ("accuracy", "pass"),
        ("exact_match", "pass"),
        ("errors", "pass"),
    ]
    assert all(check.keys() == CHECK_KEYS for check in document["checks"])
    assert "unverified" not in document["flags"]


@pytest.mark.parametrize("brings", [("vault", "repair"), ("protect",)], ids=["repair", "protect"])
def test_a_region_that_missed_the_baseline_gets_it(unprotected, endpoint, brings: tuple[str, ...]) -> None:
    desk = unprotected
    golden = [
        {"id": f"q{n}", "request": {"question": f"w{n}"}, "expected": {"topic": f"W{n}"}} for n in range(9)
    ]
    (desk.root / "golden.jsonl").write_text("".join(json.dumps(question) + "\n" for question in golden))
    desk.write_manifest(GROUP, VERIFY, url=endpoint.url)
    desk.ask("protect")
    desk.vault("us").rename(desk.root / "away")
    desk.ask("verify", "--save-baseline", exits=1)
    (desk.root / "away").rename(desk.vault("us"))
    desk.ask(*brings)
    document = desk.ask(*bare(desk))
    assert (document["state"], document["verified"]) == ("done", True)


def test_a_recovery_that_answers_otherwise_is_put_back_and_exits_1(verified, endpoint) -> None:
    endpoint.topic_of = str.title
    document = verified.ask(*bare(verified), exits=1)
    assert (document["state"], document["verified"]) == ("rolled_back", False)
    assert document["error"]["rule"] == "quality_unverified"
    assert document["error"]["message"].startswith("pages does not answer as well as before: ")
    assert {check["name"] for check in document["checks"] if check["verdict"] == "fail"} == {
        "accuracy",
        "exact_match",
    }
    assert verified.pages("us") == {}
    assert document["evidence"].keys() == {"us"}


def test_a_recovery_without_a_baseline_waits_for_a_person_with_exit_5_and_keeps_what_it_brought(
    unprotected, endpoint
) -> None:
    desk = unprotected
    (desk.root / "golden.jsonl").write_text(
        '{"id": "q", "request": {"question": "a"}, "expected": {"topic": "A"}}\n'
    )
    desk.write_manifest(
        "verify:\n  pages:\n    probe: {{http: '{url}'}}\n    golden: golden.jsonl\n    samples: 20\n"
        "    metrics: {{exact_match: {{same: [topic]}}}}\n    bounds: {{exact_match: {{drop_at_most: 0}}}}\n",
        url=endpoint.url,
    )
    desk.ask("protect")
    error = desk.error(*bare(desk), exits=5)
    assert (error["code"], error["component"]) == ("waiting", "pages")
    assert "exact_match there is no baseline to compare with" in error["message"]
    said_first = desk.said.index("could not be verified if it were recovered now: pages: exact_match")
    assert said_first < desk.said.index("\nstage "), "before anything is staged"
    assert desk.pages("us"), "nothing is put back"


def test_a_person_may_go_on_unverified_by_name(verified, endpoint) -> None:
    endpoint.topic_of = str.title
    document = verified.ask(*bare(verified), "--override", "quality_unverified", exits=1)
    assert (document["state"], document["verified"]) == ("done", False)
    assert document["overrides"] == ["quality_unverified"]
    assert verified.pages("us")


def unknown(desk) -> str:
    """A recovery waits, since another identity came back than the baseline was measured for; the run's name."""
    desk.release(2)
    desk.ask("protect")
    error = desk.error("recover", "--to", "us", exits=5)
    assert desk.pages("us")
    (run,) = desk.ask("run", "list", "--to", "us")["runs"]
    assert run["state"] == "waiting" and run["run"] in error["next"]
    return run["run"]


def test_where_it_waits_a_person_sees_every_check_and_not_only_what_is_unknown(verified) -> None:
    verified.release(2)
    verified.ask("protect")
    shown = verified.read("recover", "--to", "us")
    verdicts = {
        row.split()[0]: row.split()[-1] for row in shown.splitlines() if row.endswith(("pass", "unknown"))
    }
    assert verdicts == {"accuracy": "unknown", "exact_match": "unknown", "errors": "pass"}


def test_a_person_takes_into_service_what_waits(verified) -> None:
    run = unknown(verified)
    go_on = ("recover", "--to", "us", "--resume", run)
    document = verified.ask(*go_on, "--override", "quality_unverified", exits=1)
    assert (document["state"], document["verified"]) == ("done", None)
    assert document["overrides"] == ["quality_unverified"]
    assert "2.txt" in verified.pages("us")


@pytest.mark.parametrize("called", ["its name", "how it begins", "latest"])
def test_a_person_puts_back_what_waits(verified, called: str) -> None:
    run = unknown(verified)
    name = {"its name": run, "how it begins": run[:5]}.get(called, called)
    document = verified.ask("run", "abort", name, "--to", "us")
    assert document["run"] == run
    assert (document["run"], document["state"]) == (run, "rolled_back")
    assert verified.pages("us") == {}
    assert verified.ask("run", "show", run, "--to", "us")["state"] == "rolled_back"


def test_what_waits_is_verified_once_there_is_a_baseline(verified) -> None:
    run = unknown(verified)
    verified.ask("verify", "--save-baseline")
    document = verified.ask("recover", "--to", "us", "--resume", run)
    assert (document["state"], document["verified"]) == ("done", True)
    error = verified.error("run", "abort", run, "--to", "us", exits=2)
    assert "nothing of it is put back any more" in error["message"]


def test_a_baseline_that_only_another_region_keeps_counts(verified) -> None:
    shutil.rmtree(verified.vault("us") / "log" / "baselines")
    assert verified.ask("recover", "--to", "us")["verified"] is True


def test_a_person_may_go_on_where_it_is_unknown_and_is_told_so_with_exit_code_1(verified) -> None:
    verified.release(2)  # another identity than the baseline was measured for
    verified.ask("protect")
    document = verified.ask(*bare(verified), "--override", "quality_unverified", exits=1)
    assert (document["state"], document["verified"]) == ("done", None)
    assert document["overrides"] == ["quality_unverified"]
    assert "unverified" in document["flags"]
    assert "not every bound could be told" in verified.said
    assert verified.pages("us")


def test_what_is_not_recovered_is_not_asked_to_be_verified(verified) -> None:
    document = verified.ask(*bare(verified), "--only", "answers")
    assert (document["state"], document["verified"]) == ("done", None)
    assert set(document["flags"]) >= {"partial", "unverified"}


def test_people_read_objectives_beside_results(verified) -> None:
    out = verified.read(*bare(verified))
    assert "RTO" in out and "data lost" in out
    assert "small is back in us, and answers as well as before" in out
    assert "at least" in out or "drop at most 0.01" in out
    assert "warning: the recovered pipeline is in fewer regions" in verified.said


def test_the_closing_sentence_names_each_objective_that_was_missed(verified, monkeypatch) -> None:
    set_clock(verified, monkeypatch, 6 * 3600)
    begun = verified.ask("points", "list")["points"][0]["created_at"]
    out = verified.read(*bare(verified), "--lost-at", begun)
    said = " ".join(out.split()).partition("small is back in us")[2].partition(" run ")[0]
    assert "and answers as well as before, after 6h" in said
    for name, objective in (("pages", "5m"), ("ledger", "4h"), ("answers", "4h")):
        assert re.search(rf"the RTO of {name} \(6h[^()]*, objective {objective}\)", said), said
    assert "the RPO of" not in said, "nothing was lost"
