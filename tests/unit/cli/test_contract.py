"""What scripts rely on: the keys of every document and their types, the exit codes, where key and vault come from.

The shapes lie in ``contract/``. A change of one is a change for everybody's scripts: it takes a line in the
changelog, and ``REFLOAT_PIN=1`` with these tests writes the new shape. Commands that only look have their own
file, ``test_contract_of_looking.py``.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contract_pins import ERROR_KEYS, PINNED, failed, pinned, printed, require_pinned, shape
from refloat import errors
from refloat.cli.system import SystemClock
from refloat.connectors.files import Files
from refloat.contracts import Observed
from refloat.vault.keyfile import KeyFile
from small_desk import GROUP, VERIFY


def test_a_shape_tells_every_key_and_type() -> None:
    document = {
        "a": {"b": 1},
        "o": {"packs/ab/cd01": "a name that is another each time"},
        "l": [{"x": 1.5, "t": "2026-11-01T12:00:00.1Z"}, {"x": None}],
        "e": [],
        "n": {},
    }
    told = {
        "a.b": "integer",
        "o.OBJECT": "string",
        "l[].x": "null|number",
        "l[].t": "time",
        "e": "[]",
        "n": "{}",
    }
    assert shape(document) == told


# -------------------------------------------------------------------------------- what was promised of each


PROMISED = {
    "protect": """
        point string, grade string, created_at time, copies_required integer, regions.NAME.complete boolean,
        regions.NAME.error null, groups.NAME.grade string, groups.NAME.invariants[].must string,
        groups.NAME.invariants[].holds boolean|null, groups.NAME.invariants[].values.NAME integer,
        components.NAME.snapshot string, components.NAME.as_of time, components.NAME.carried boolean,
        components.NAME.bytes integer, components.NAME.new_bytes integer, components.NAME.stored_bytes integer,
        components.NAME.seconds number, components.NAME.error null""",
    "status": """
        pipeline string, regions.NAME.reachable boolean, regions.NAME.head.point string,
        exposure.NAME.seconds number, exposure.NAME.reason string, components.NAME.tier string,
        components.NAME.rpo_objective_s number, components.NAME.as_of time,
        components.NAME.exposure.NAME.seconds number, components.NAME.exposure.NAME.reason string,
        components.NAME.state string""",
    "plan": """
        hash string, point string, to string, phases[].name string, phases[].steps[].id string,
        phases[].steps[].component null|string, phases[].steps[].layer null|string,
        phases[].steps[].action string, phases[].steps[].needs[] string,
        phases[].steps[].estimate.p50_s number, phases[].steps[].estimate.p95_s number,
        phases[].steps[].estimate.basis string, rto.pipeline.p50_s number, rto.pipeline.p95_s number,
        rto.pipeline.objective_s number, rto.components.NAME.p50_s number""",
    "recover": """
        run string, state string, flags[] string, point string, to string, rto.seconds number,
        rto.objective_s number, rto.from string, rpo.NAME.seconds number, rpo.NAME.basis string,
        verified boolean|null, checks[].name string, checks[].baseline null|number, checks[].recovered number,
        checks[].bound string, checks[].samples integer, checks[].verdict string, invariants[].must string,
        skipped [], overrides [], evidence.NAME.record string""",
    "vault check": """
        ok boolean, packs integer, chunks integer, bytes_read integer, damaged[].object string,
        damaged[].region string, damaged[].affects[] string""",
}
"""The document of each verb as it was first agreed: keys may be added, and none of these may go."""


@pytest.mark.parametrize("verb", PROMISED)
def test_what_was_first_agreed_is_still_there(verb: str) -> None:
    found = [pair for case in pinned(verb).values() for pair in case.items()]
    for line in PROMISED[verb].split(","):
        path, kinds = line.split()
        pattern = re.escape(path).replace("NAME", r"[a-z_.]+")
        told = {kind for key, types in found if re.fullmatch(pattern, key) for kind in types.split("|")}
        assert set(kinds.split("|")) <= told, path


def test_every_pinned_shape_belongs_to_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parents[2].rglob("test_*.py"))
    found = re.findall(r'require_pinned\(\s*"([a-z -]+)", "([^"]+)"', tests)
    asked = {(verb.replace("-", " "), case) for verb, case in found}
    known = {
        (file.stem.replace("-", " "), case)
        for file in PINNED.glob("*.json")
        for case in json.loads(file.read_text())
    }
    assert known == asked


# -------------------------------------------------------------------------------------------------- protect


def test_protect_of_an_exact_point(unprotected) -> None:
    require_pinned("protect", "exact", printed(unprotected, "protect"))


def test_protect_of_a_broken_group_names_the_point_and_exits_1(desk) -> None:
    desk.release(2, pages=7)
    made = printed(desk, "protect", exits=1)
    assert (made["grade"], len(made["point"])) == ("broken", 64)
    require_pinned("protect", "broken group", made)


def test_protect_whose_invariant_cannot_be_told_says_null_and_exits_1(desk) -> None:
    group = GROUP.replace("pages.current.version", "pages.current.forgotten")
    desk.write_manifest(group)
    made = printed(desk, "protect", exits=1)
    assert made["groups"]["serving"]["invariants"][0]["holds"] is None
    require_pinned("protect", "invariant unknown", made)


def test_protect_with_too_few_copies_names_the_point_and_exits_1(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    made = printed(desk, "protect", exits=1)
    assert (made["grade"], made["copies_required"]) == ("exact", 2)
    assert made["point"] == printed(desk, "points", "list")["points"][0]["point"]
    require_pinned("protect", "too few copies", made)


@pytest.fixture
def restless(desk, monkeypatch: pytest.MonkeyPatch):
    """A pipeline whose pages are others each time they are looked at."""
    inspect, page = Files.inspect, desk.root / "eu" / "pages" / "1.txt"

    def moving(self, place):
        page.write_text(page.read_text() + "and more\n")
        return inspect(self, place)

    monkeypatch.setattr(Files, "inspect", moving)
    return desk


def test_protect_of_a_fuzzy_point_warns_and_exits_0(restless) -> None:
    made = printed(restless, "protect")
    assert made["grade"] == "fuzzy"
    assert "warning: the point is fuzzy" in restless.said
    require_pinned("protect", "fuzzy", made)


def test_protect_that_requires_an_exact_point_exits_1_for_a_fuzzy_one(restless) -> None:
    made = printed(restless, "protect", "--require", "exact", exits=1)
    require_pinned("protect", "fuzzy", made)


def test_protect_that_cannot_capture_a_component_tells_its_age_and_exits_1(desk) -> None:
    (desk.root / "eu" / "answers.jsonl").unlink()
    require_pinned("protect", "carried over", printed(desk, "protect", exits=1))


# --------------------------------------------------------------------------------------------------- status


def test_status_of_two_regions(desk) -> None:
    printed(desk, "protect")
    require_pinned("status", "two regions", printed(desk, "status"))


def test_status_with_a_region_that_does_not_answer(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    require_pinned("status", "unreachable region", printed(desk, "status", exits=1))


def test_status_before_the_first_point(unprotected) -> None:
    require_pinned("status", "no point", printed(unprotected, "status", exits=1))


def test_a_newest_point_that_lacks_something_and_could_not_be_verified(verified, endpoint) -> None:
    verified.release(2)
    (verified.root / "eu" / "answers.jsonl").unlink()
    verified.write_manifest(GROUP, VERIFY + "    with_points: always\n", url=endpoint.url)
    endpoint.shutdown()
    endpoint.socket.close()
    made = printed(verified, "protect", exits=1)
    assert made["measured"].keys() == made["unverifiable"].keys() == {"pages"}
    require_pinned("protect", "not verifiable", made)
    require_pinned("status", "not well", printed(verified, "status", exits=1))
    require_pinned("points why", "not verifiable", printed(verified, "points", "why", made["point"]))
    require_pinned("plan", "not verifiable", printed(verified, "plan", "--to", "us"))


# ------------------------------------------------------------------------------------------ plan and recover


def test_a_plan(desk) -> None:
    kept = ("plan", "--to", "us", "--save", str(desk.root / "us.plan"))
    require_pinned("plan", "assumed", printed(desk, *kept))
    other = ("plan", "--to", "us", "--only", "pages", "--diff", str(desk.root / "us.plan"))
    require_pinned("plan", "another than the one kept", printed(desk, *other, exits=1))


def test_a_plan_learns_from_runs_and_keeps_its_hash(desk) -> None:
    before = printed(desk, "plan", "--to", "us")
    printed(desk, "recover", "--to", "us")
    after = printed(desk, "plan", "--to", "us", "--point", before["point"])
    steps = [step for phase in after["phases"] for step in phase["steps"]]
    assert "learnt" in {step["estimate"]["basis"] for step in steps}
    assert after["hash"] == before["hash"]


def test_a_recovery_that_is_asked_for_no_verification_warns_and_exits_0(desk) -> None:
    done = printed(desk, "recover", "--to", "us")
    assert (done["verified"], done["rto"]["from"]) == (None, "run_start")
    assert "warning: nothing was verified" in desk.said
    require_pinned("recover", "not verified", done)


def test_a_recovery_that_is_verified(verified) -> None:
    done = printed(verified, "recover", "--to", "us", "--lost-at", "2025-11-01T12:00:00Z")
    assert (done["verified"], done["rto"]["from"]) == (True, "declared")
    require_pinned("recover", "verified", done)
    require_pinned("evidence show", "verified", printed(verified, "evidence", "show", done["run"]))


def test_a_recovery_that_answers_worse_is_rolled_back_and_exits_1(verified, endpoint) -> None:  # fault 46
    endpoint.topic_of = str.title
    done = printed(verified, "recover", "--to", "us", exits=1)
    assert (done["state"], done["verified"]) == ("rolled_back", False)
    assert done["error"].keys() == {*ERROR_KEYS, "rule"}
    require_pinned("recover", "rolled back", done)


def test_a_recovery_whose_quality_is_unknown_waits_with_exit_5_and_ends_with_1_where_a_person_goes_on(
    verified,
) -> None:
    """The point's identity is another than the one that the baseline was measured for."""
    verified.release(2)
    printed(verified, "protect")
    assert failed(verified, "recover", "--to", "us", exits=5)["code"] == "waiting"
    run = printed(verified, "run", "list", "--to", "us")["runs"][0]["run"]
    on = ("--resume", run, "--override", "quality_unverified")
    wanted = printed(verified, "recover", "--to", "us", *on, exits=1)
    assert (wanted["state"], wanted["verified"], wanted["flags"]) == ("done", None, ["unverified"])
    require_pinned("recover", "overridden", wanted)


def test_a_recovery_that_a_person_puts_back(verified) -> None:
    verified.release(2)
    printed(verified, "protect")
    failed(verified, "recover", "--to", "us", exits=5)
    run = printed(verified, "run", "list", "--to", "us")["runs"][0]["run"]
    back = printed(verified, "run", "abort", run, "--to", "us")
    assert back["state"] == "rolled_back"
    require_pinned("run abort", "put back", back)


def test_a_recovery_that_a_rule_stops_exits_3_and_touches_nothing(desk) -> None:
    before = desk.pages("eu")
    done = printed(desk, "recover", "--to", "eu", exits=3)
    assert done["state"] == "blocked"
    assert desk.pages("eu") == before
    require_pinned("recover", "blocked", done)


def test_a_recovery_whose_evidence_a_region_cannot_keep_says_why(desk) -> None:
    (desk.vault("eu") / "log" / "evidence").write_text("a file where a folder must be")
    done = printed(desk, "recover", "--to", "us")
    assert done["evidence"]["us"]["record"] and not done["evidence"]["eu"]["record"]
    require_pinned("recover", "evidence not kept", done)


def test_a_recovery_where_somebody_else_had_put_something(desk) -> None:
    (desk.root / "us" / "answers.jsonl").write_text("somebody else's")
    done = printed(desk, "recover", "--to", "us", "--override", "target_foreign")
    require_pinned("recover", "set aside", done)
    require_pinned("evidence show", "set aside", printed(desk, "evidence", "show", done["run"]))


def test_a_recovery_of_the_bytes_alone(desk) -> None:
    require_pinned("recover into", "whole", printed(desk, "recover", "--into", "out"))


# ----------------------------------------------------------------------------------------- points and vault


def test_the_list_of_points(desk) -> None:
    require_pinned("points list", "one point", printed(desk, "points", "list"))


def test_the_list_of_no_points(unprotected) -> None:
    require_pinned("points list", "no point", printed(unprotected, "points", "list"))


def test_one_point(desk) -> None:
    point = printed(desk, "points", "list")["points"][0]["point"]
    require_pinned("points show", "one point", printed(desk, "points", "show", point[:12]))


def test_a_sound_vault(desk) -> None:
    require_pinned("vault check", "sound", printed(desk, "vault", "check", "--read-data"))


def test_a_check_that_goes_on(desk) -> None:
    desk.ask("vault", "check", "--read-data")
    for read in (desk.root / "home").glob("**/read/*"):  # as it is left by one that is stopped then
        first = read.read_text().splitlines()[0]
        read.write_text(f"{first.split()[0]} began\n{first}\n")
    require_pinned("vault check", "gone on with", printed(desk, "vault", "check", "--read-data"))


def test_a_damaged_vault_exits_4(desk) -> None:
    pack = max(desk.vault("us").glob("packs/*/*"), key=lambda path: path.stat().st_size)
    pack.unlink()
    require_pinned("vault check", "damaged", printed(desk, "vault", "check", exits=4))


def test_a_vault_with_a_region_that_does_not_answer_exits_1(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    require_pinned("vault check", "unreachable region", printed(desk, "vault", "check", exits=1))


# ------------------------------------------------------------------------------------- exit codes and errors


def test_exit_code_0_is_done(desk) -> None:
    assert len(printed(desk, "points", "list")["points"]) == 1


def test_exit_code_1_is_what_did_not_succeed(unprotected) -> None:
    shutil.rmtree(unprotected.root / "eu" / "pages")
    error = failed(unprotected, "protect", exits=1)
    assert (error["code"], error["component"]) == ("connector", "pages")


def test_exit_code_2_is_a_wrong_command_line(desk) -> None:
    assert failed(desk, "protect", "--region", "asia", exits=2)["code"] == "usage"
    assert failed(desk, "protct", exits=2)["code"] == "usage"


def test_exit_code_2_is_a_wrong_manifest_too_and_its_place_is_named(desk) -> None:
    desk.manifest.write_text(desk.manifest.read_text().replace("primary:", "primry:"))
    error = failed(desk, "status", exits=2)
    assert error["code"] == "manifest"
    assert re.fullmatch(rf"{re.escape(str(desk.manifest))}:\d+:\d+", error["file"])


def test_exit_code_3_is_a_refusal_with_its_rule(desk) -> None:
    desk.release(2, pages=7)
    broken = printed(desk, "protect", exits=1)["point"]
    assert failed(desk, "recover", "--to", "us", "--point", broken, exits=3)["rule"] == "group_broken"


def test_exit_code_4_is_a_key_or_a_vault_that_is_not_what_it_must_be(desk, monkeypatch) -> None:
    assert failed(desk, "points", "list", "--vault", "nowhere", exits=4)["code"] == "vault_missing"
    KeyFile.create("0" * 32, "small").save(desk.root / "other.key")
    monkeypatch.setenv("REFLOAT_KEY_FILE", "other.key")
    assert failed(desk, "status", exits=4)["code"] == "vault_wrong_key"


CUT = """
import os, signal, sys
from refloat.__main__ import main
from refloat.connectors.files import Files
from refloat.errors import ConnectorError

number = signal.Signals[sys.argv.pop()]

def activate(self, op):
    os.kill(os.getpid(), number)
    op.cancelled.wait(30)
    raise ConnectorError("cut short")

Files.activate = activate
main()
"""
"""A process in the middle of whose switch a signal arrives, so that what became of it is not recorded."""


def interrupted(desk, by: str, exits: int) -> str:
    """A recovery that a signal ends, and the name of its run."""
    asked = ["-f", str(desk.manifest), "--json", "recover", "--to", "us"]
    command = [sys.executable, "-c", CUT, *asked, by]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == exits, ran.stderr
    error = json.loads(ran.stdout)["error"]
    assert error["code"] == "interrupted"
    name: str = printed(desk, "run", "list", "--to", "us")["runs"][0]["run"]
    assert f"--resume {name}" in error["next"]
    return name


def test_exit_codes_130_and_5_an_interrupted_run_waits_where_nobody_can_tell_and_goes_on_after(
    desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = interrupted(desk, "SIGINT", exits=130)
    with monkeypatch.context() as unclear:
        unclear.setattr(Files, "observe", lambda self, op: Observed.UNKNOWN)
        error = failed(desk, "recover", "--to", "us", "--resume", name, exits=5)
    assert (error["code"], error["component"]) == ("waiting", "pages")
    assert printed(desk, "recover", "--to", "us", "--resume", name)["state"] == "done"


def test_exit_code_143_is_a_termination_that_can_be_resumed(desk) -> None:
    name = interrupted(desk, "SIGTERM", exits=143)
    assert printed(desk, "recover", "--to", "us", "--resume", name)["state"] == "done"


def test_the_exit_codes_of_errors_are_these_and_no_others() -> None:
    def below(kind: type[errors.RefloatError]) -> Iterator[type[errors.RefloatError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    assert {kind.exit_code for kind in below(errors.RefloatError)} == {1, 2, 3, 4, 5, 130}


# -------------------------------------------------------------------------- where key and vault come from


def test_a_key_file_and_a_passphrase_together_are_a_usage_error(desk, monkeypatch) -> None:
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "open sesame")
    assert "both set" in failed(desk, "status", exits=2)["message"]


def test_no_key_and_no_terminal_is_a_usage_error(desk, monkeypatch) -> None:
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    monkeypatch.setattr("sys.stdin", None)
    assert failed(desk, "status", exits=2)["code"] == "usage"


SMALLEST = """\
version: 1
pipeline: notes
regions:
  here: {{vault: "{vault}"}}
primary: here
components:
  pages:
    kind: files
    with: {{path: pages}}
"""


@pytest.fixture
def bare(unprotected, monkeypatch: pytest.MonkeyPatch):
    """A folder with three pages, and no manifest yet."""
    desk = unprotected
    desk.manifest.unlink()
    (desk.root / "pages" / "deep").mkdir(parents=True)
    for name in ("one.txt", "two.txt", "deep/three.txt"):
        (desk.root / "pages" / name).write_text(name)
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(desk.root / "notes.key"))
    return desk


@pytest.mark.parametrize("address", ["vault", "{root}/vault", "file://{root}/vault"])
def test_the_smallest_manifest_protects_and_brings_back_a_folder(bare, monkeypatch, address: str) -> None:
    vault = address.format(root=bare.root)
    bare.manifest.write_text(SMALLEST.format(vault=vault))
    assert Path(printed(bare, "vault", "init")["key"]) == bare.root / "notes.key"
    assert printed(bare, "check")["ok"] is True
    made = printed(bare, "protect")
    assert (made["copies_required"], made["grade"]) == (1, "exact")
    require_pinned("protect", "no group", made)
    with monkeypatch.context() as pinned:
        made_at = datetime.fromisoformat(made["components"]["pages"]["as_of"])
        pinned.setattr(SystemClock, "now", lambda self: made_at + timedelta(seconds=12))
        seen = printed(bare, "status")
    assert seen["components"]["pages"]["state"] == "unprotected"
    assert seen["exposure"]["here"]["seconds"] == pytest.approx(12, abs=0.002)
    require_pinned("status", "one region", seen)
    shutil.rmtree(bare.root / "pages")
    bare.manifest.unlink()
    assert printed(bare, "recover", "--vault", vault, "--to", "here")["state"] == "done"
    found = {path.name: path.read_text() for path in (bare.root / "pages").rglob("*.txt")}
    assert found == {"one.txt": "one.txt", "two.txt": "two.txt", "three.txt": "deep/three.txt"}


ON_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from refloat.cli.main import main
main()
"""


def test_on_a_terminal_the_passphrase_is_asked_for_and_not_shown(bare, monkeypatch) -> None:
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    bare.manifest.write_text(SMALLEST.format(vault="vault"))
    with monkeypatch.context() as kept:
        kept.setenv("REFLOAT_PASSPHRASE", "open sesame")
        printed(bare, "vault", "init")
    keyboard, terminal = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, "--json", "points", "list"]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    try:
        seen = b""
        while b"Passphrase: " not in seen:  # the blank comes when nothing is echoed any more
            seen += os.read(keyboard, 1000)
        os.write(keyboard, b"open sesame\n")
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
        seen += os.read(keyboard, 10_000)
    finally:
        process.kill()
        process.communicate()
        os.close(keyboard)
    assert json.loads(out)["points"] == []
    assert b"sesame" not in seen + out


# ----------------------------------------------------------------------------------------------------- help


def commands(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb, and every verb below one, with the words that call it."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*name, word))


def test_every_verb_shows_examples_of_itself() -> None:
    from typer.main import get_command

    from refloat.cli.main import whole

    found = dict(commands(get_command(whole())))
    assert ("vault", "check") in found and len(found) > 20
    for name, command in found.items():
        shown = textwrap.dedent(command.epilog or "").partition("Examples")[2]
        assert f"refloat {' '.join(name)}".rstrip() in shown, name
