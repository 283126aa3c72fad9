"""Options of a recovery that would make it lie, or that would be passed over in silence."""

from __future__ import annotations

import json
import os
import socket

import pytest

from refloat.cli.system import local_state_dir
from refloat.vault.keys import KeyFile


def test_a_disaster_that_has_not_happened_yet_is_a_usage_error(desk) -> None:
    error = desk.error("recover", "--to", "us", "--lost-at", "2999-01-01T00:00:00Z", exits=2)
    assert "in the future" in error["message"]
    assert not (desk.root / "us" / "pages").exists()


def test_a_point_from_after_the_disaster_is_used_with_a_warning(desk) -> None:
    desk.ask("recover", "--to", "us", "--lost-at", "2020-01-01T00:00:00Z")
    assert "captured after the disaster that was declared" in desk.said


@pytest.mark.parametrize("verb", ["recover", "plan"])
def test_a_rule_that_does_not_exist_cannot_be_overridden(desk, verb: str) -> None:
    error = desk.error(verb, "--to", "us", "--override", "group_brokn", exits=2)
    assert error["message"] == "no safety rule is called 'group_brokn'"
    assert "'group_broken'" in error["next"]


@pytest.mark.parametrize(
    "more",
    [
        ("--point", "abc"),
        ("--only", "pages"),
        ("--at", "2026-01-01T00:00:00Z"),
        ("--lost-at", "2026-01-01T00:00:00Z"),
    ],
)
def test_a_run_that_was_begun_takes_no_other_wishes(desk, more: tuple[str, str]) -> None:
    run = desk.ask("recover", "--to", "us")["run"]
    assert (
        "keeps its point" in desk.error("recover", "--to", "us", "--resume", run, *more, exits=2)["message"]
    )


def test_resuming_a_run_that_is_over_tells_the_same_and_leaves_no_second_record(desk) -> None:
    done = desk.ask("recover", "--to", "us")
    assert desk.ask("recover", "--to", "us", "--resume", done["run"]) == done
    records = desk.ask("evidence", "list")["evidence"]
    assert [record["run"] for record in records] == [done["run"]]
    assert len(list((desk.vault("us") / "log" / "evidence").iterdir())) == 1


def test_a_recovery_that_did_not_happen_claims_no_small_loss(desk) -> None:
    (desk.root / "us" / "pages").mkdir()
    (desk.root / "us" / "pages" / "mine").write_text("mine")
    done = desk.ask("recover", "--to", "us", exits=3)
    assert done["state"] == "blocked"
    assert {rpo["seconds"] for rpo in done["rpo"].values()} == {None}
    assert "nothing was verified" not in desk.said
    assert "--override target_foreign" in desk.said


ASSISTANT = """\
  assistant:
    kind: process
    with:
      command: [python3, -c, pass]
      cwd: "${{region}}"
      packages: [pytest]
      health: "http://127.0.0.1:${{region.port}}/"
regions:
  eu: {{vault: "eu/vault", vars: {{port: "1"}}}}
  us: {{vault: "us/vault", vars: {{port: "PORT"}}}}
"""


def test_a_port_that_is_taken_is_named_with_the_process_that_holds_it(unprotected) -> None:
    desk = unprotected
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        desk.write_manifest(regions=ASSISTANT.replace("PORT", str(port)))
        desk.ask("protect")
        for more in ((), ("--override", "target_foreign")):  # which would not free it
            error = desk.ask("recover", "--to", "us", *more, exits=3)["error"]
            assert (error["rule"], error["component"]) == ("target_foreign", "assistant")
            assert f"port {port} is taken by process {os.getpid()} (" in error["message"]
            assert "stop what listens there" in error["next"] and "`vars`" in error["next"]
            assert "--override" not in error["next"]
    assert not (desk.root / "us" / "pages").exists()


def test_a_page_that_cannot_be_written_does_not_undo_a_recovery(desk, monkeypatch) -> None:
    (local_state_dir() / "evidence").write_text("a file where a folder must be")
    done = desk.ask("recover", "--to", "us")
    assert (done["state"], done["page"]) == ("done", None)
    assert "the page could not be written" in desk.said


def test_the_key_of_another_pipeline_is_refused_before_anything_is_written(desk) -> None:
    text = desk.manifest.read_text().replace("pipeline: small", "pipeline: other")
    desk.manifest.write_text(text)
    for verb in (("protect",), ("status",), ("points", "list"), ("recover", "--to", "us")):
        error = desk.error(*verb, exits=2)
        assert "'small'" in error["message"] and "'other'" in error["message"]
    assert json.loads(desk.key.read_text())["pipeline"] == KeyFile.load(desk.key).pipeline == "small"


def test_a_run_is_not_resumed_into_another_region(desk) -> None:
    run = desk.ask("recover", "--to", "us")["run"]
    where = ("--vault", str(desk.vault("us")), "--to", "eu")
    error = desk.error("recover", *where, "--resume", run, exits=2)
    assert error["message"] == f"run {run} recovers into us"
