"""What scripts rely on, of the commands that only look, and of those that make or mend a vault."""

from __future__ import annotations

import errno
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract_pins import printed, require_pinned
from refloat.cli.system import SystemClock
from refloat.connectors.files import Files
from refloat.connectors.sqlite import SQLite
from refloat.errors import ConnectorError
from small_desk import GROUP, VERIFY

NEW = ("--pipeline", "new", "--region", "a=a/vault", "--component", "pages=files:pages")


def newest(desk) -> str:
    name: str = printed(desk, "points", "list")["points"][0]["point"]
    return name


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


# ------------------------------------------------------------------------------------------- what is made


def test_a_manifest_that_is_begun(unprotected) -> None:
    unprotected.manifest.unlink()
    require_pinned("init", "written", printed(unprotected, "init", *NEW))


def test_a_vault_that_is_made(unprotected) -> None:
    for region in ("eu", "us"):
        shutil.rmtree(unprotected.vault(region))
    require_pinned("vault init", "made", printed(unprotected, "vault", "init", "--key", "new.key"))


# --------------------------------------------------------------------------------------------------- check


def test_check_of_what_is_ready(desk) -> None:
    checked = printed(desk, "check")
    assert checked["ok"] is True
    require_pinned("check", "ready", checked)


def test_check_with_the_facts_of_a_component(desk) -> None:
    require_pinned("check", "facts", printed(desk, "check", "--facts", "ledger"))


def test_check_of_what_is_not_ready_exits_1(desk) -> None:
    shutil.rmtree(desk.root / "eu" / "pages")
    shutil.rmtree(desk.vault("us"))
    checked = printed(desk, "check", exits=1)
    assert checked["ok"] is False
    require_pinned("check", "not ready", checked)


def test_check_without_a_key_looks_at_what_it_can(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFLOAT_KEY_FILE")
    require_pinned("check", "no key", printed(desk, "check"))


# -------------------------------------------------------------------------------------------------- points


def test_the_difference_of_two_points(desk) -> None:
    first = newest(desk)
    desk.release(2)
    (desk.root / "eu" / "pages" / "1.txt").unlink()
    second = printed(desk, "protect")["point"]
    require_pinned("points diff", "changed", printed(desk, "points", "diff", first, second))


def test_a_point_that_does_not_differ_from_itself(desk) -> None:
    name = newest(desk)
    require_pinned("points diff", "the same", printed(desk, "points", "diff", name, name))


def test_why_each_point_would_be_taken_or_not(desk) -> None:
    require_pinned("points why", "every point", printed(desk, "points", "why"))


def test_why_a_point_is_broken(desk) -> None:
    desk.release(2, pages=7)
    broken = printed(desk, "protect", exits=1)["point"]
    require_pinned("points why", "broken", printed(desk, "points", "why", broken))


def test_the_manifest_of_a_point(desk) -> None:
    require_pinned("points show", "manifest", printed(desk, "points", "show", newest(desk), "--manifest"))


def test_the_points_with_those_that_are_forgotten(desk) -> None:
    require_pinned("points list", "all", printed(desk, "points", "list", "--all"))


def test_what_is_forgotten_and_why_the_rest_stays(desk) -> None:
    desk.write_manifest(GROUP, "keep: {{last: 1, daily: 0, monthly: 0}}\n")
    require_pinned("points forget", "nothing", printed(desk, "points", "forget"))
    printed(desk, "protect")
    require_pinned("points forget", "forgotten", printed(desk, "points", "forget"))


def test_what_would_be_forgotten_were_it_not_for_a_rule(desk) -> None:
    desk.write_manifest(GROUP, "keep: {{last: 1, daily: 0, monthly: 0}}\n")
    (desk.root / "eu" / "pages" / "1.txt").unlink()
    printed(desk, "protect")
    shutil.rmtree(desk.vault("us"))
    held = printed(desk, "points", "forget", "--dry-run", exits=1)
    assert [objection["rule"] for objection in held["objections"]] == ["source_shrank"]
    require_pinned("points forget", "held", held)


def test_a_suspect_point_that_a_person_accepts(desk) -> None:
    (desk.root / "eu" / "pages" / "big.txt").write_text("a line of a page\n" * 10_000)
    printed(desk, "protect")
    (desk.root / "eu" / "pages" / "big.txt").unlink()
    hit = printed(desk, "protect", exits=1)["point"]
    require_pinned("points list", "suspect", printed(desk, "points", "list"))
    require_pinned("points show", "suspect", printed(desk, "points", "show", hit))
    require_pinned("status", "suspect", printed(desk, "status", exits=1))
    because = ("--because", "we deleted it")
    require_pinned("points accept", "accepted", printed(desk, "points", "accept", hit, *because))
    require_pinned("points accept", "again", printed(desk, "points", "accept", hit, *because))


def test_what_is_exported(desk) -> None:
    require_pinned("vault export", "all", printed(desk, "vault", "export", newest(desk), "--into", "out"))


def test_what_may_not_be_set_of_what_is_brought(desk, monkeypatch) -> None:
    """Pinned together, since an export and a recovery say it in one way."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    try:
        os.setxattr(desk.root / "eu" / "pages" / "current.json", "user.note", b"kept")
    except OSError as error:
        pytest.skip(f"EXTENDED ATTRIBUTES NOT TRIED: the file system of {desk.root} takes none: {error}")
    printed(desk, "protect")
    monkeypatch.setattr("refloat.attributes.os.setxattr", refuse)
    exported = printed(desk, "vault", "export", newest(desk), "--into", "out")
    require_pinned("vault export", "what could not be set", exported)
    brought = printed(desk, "recover", "--into", "bytes")
    require_pinned("recover into", "what could not be set", brought)
    recovered = printed(desk, "recover", "--to", "us")
    require_pinned("recover", "what could not be set", recovered)
    for document in (exported, brought, recovered):
        assert "came back without extended attributes" in document["remarks"][0]


# ----------------------------------------------------------------------------------------- runs and evidence


def test_runs_and_the_steps_of_one_that_is_done(desk) -> None:
    require_pinned("run list", "none", printed(desk, "run", "list", "--to", "us"))
    run = printed(desk, "recover", "--to", "us")["run"]
    require_pinned("run list", "one", printed(desk, "run", "list", "--to", "us"))
    require_pinned("run show", "done", printed(desk, "run", "show", run, "--to", "us"))


def test_the_steps_of_a_run_that_was_blocked(desk) -> None:
    run = printed(desk, "recover", "--to", "eu", exits=3)["run"]
    require_pinned("run show", "blocked", printed(desk, "run", "show", run, "--to", "eu"))


def test_a_run_that_could_not_be_put_back_says_what_is_where(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self, op):
        raise ConnectorError("no", next="nothing")

    monkeypatch.setattr(SQLite, "activate", refuse)
    monkeypatch.setattr(Files, "revert", refuse)
    done = printed(desk, "recover", "--to", "us", exits=1)
    assert done["state"] == "dirty"
    shown = printed(desk, "run", "show", done["run"], "--to", "us")
    assert shown["standing"]["pages"] == "activated (unclear)"
    require_pinned("run show", "dirty", shown)


def test_the_evidence_of_a_run_that_was_not_verified(desk) -> None:
    require_pinned("evidence list", "none", printed(desk, "evidence", "list"))
    run = printed(desk, "recover", "--to", "us")["run"]
    require_pinned("evidence list", "one", printed(desk, "evidence", "list"))
    require_pinned("evidence show", "not verified", printed(desk, "evidence", "show", run))


# -------------------------------------------------------------------------------------------------- verify


def test_what_is_measured_is_kept_or_judged_and_exits_1_where_it_is_unknown(verified) -> None:
    require_pinned("verify", "baseline", printed(verified, "verify", "--save-baseline"))
    require_pinned("verify", "verified", printed(verified, "verify"))
    verified.release(2)
    judged = printed(verified, "verify", exits=1)
    assert judged["verified"] is None
    require_pinned("verify", "unknown", judged)
    kept = verified.vault("us") / "log" / "baselines"
    shutil.rmtree(kept)
    kept.write_text("a file where a folder must be")
    require_pinned("verify", "not kept", printed(verified, "verify", "--save-baseline", exits=1))


def test_a_baseline_beside_which_a_bound_can_never_be_verified(verified, endpoint) -> None:
    few = VERIFY.replace("errors:", "latency_p95: {{at_most: 500x}}, errors:")
    verified.write_manifest(GROUP, few, url=endpoint.url)
    require_pinned("verify", "baseline too small", printed(verified, "verify", "--save-baseline"))


# --------------------------------------------------------------------------------------------------- vault


def test_a_vault_with_nothing_to_mend(desk) -> None:
    require_pinned("vault repair", "sound", printed(desk, "vault", "repair"))


def test_a_vault_that_is_mended(desk) -> None:
    damage(max(desk.vault("us").glob("packs/*/*"), key=lambda path: path.stat().st_size))
    mended = printed(desk, "vault", "repair", "--read-data")
    assert len(mended["regions"]["us"]["mended"]) == 1
    require_pinned("vault repair", "mended", mended)


def test_a_vault_that_cannot_be_mended_exits_4(desk) -> None:
    pack = max(desk.vault("us").glob("packs/*/*"), key=lambda path: path.stat().st_size)
    for region in ("eu", "us"):
        damage(desk.vault(region) / pack.relative_to(desk.vault("us")))
    require_pinned("vault repair", "left", printed(desk, "vault", "repair", "--read-data", exits=4))


def test_a_region_that_does_not_answer_while_others_are_mended_exits_1(desk) -> None:
    shutil.rmtree(desk.vault("us"))
    require_pinned("vault repair", "unreachable region", printed(desk, "vault", "repair", exits=1))


def test_what_is_left_over_in_a_vault(desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for region in ("eu", "us"):
        (desk.vault(region) / "points" / ("c" * 64)).write_bytes(b"left by a crash")
    require_pinned("vault prune", "marked", printed(desk, "vault", "prune"))
    require_pinned("vault prune", "waiting", printed(desk, "vault", "prune"))
    later = datetime.now(UTC) + timedelta(days=3)
    monkeypatch.setattr(SystemClock, "now", lambda self: later)
    require_pinned("vault prune", "removed", printed(desk, "vault", "prune"))


def test_what_a_point_holds(desk) -> None:
    pages = desk.root / "eu" / "pages"
    (pages / "away").symlink_to("1.txt")
    (pages / "odd").symlink_to(os.fsdecode(b"caf\xe9"))
    (pages / os.fsdecode(b"caf\xe9")).write_text("latin")
    (pages / "deep").mkdir()
    printed(desk, "protect")
    point = newest(desk)
    require_pinned("vault ls", "components", printed(desk, "vault", "ls", point))
    require_pinned("vault ls", "paths", printed(desk, "vault", "ls", point, "pages"))
