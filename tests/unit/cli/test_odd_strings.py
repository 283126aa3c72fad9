"""No string that JSON or a file name can hold keeps a pipeline from being protected, looked at and recovered."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from refloat.connectors.predictions import Predictions
from refloat.contracts import Op, Source
from refloat.errors import ConnectorError

ODD = os.fsdecode(b"name \xff")  # a file name that is not UTF-8
HALF = "cut \ud800"  # what is left of a character that a program cut in the middle
MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {vault: "eu/vault"}
  us: {vault: "us/vault"}
components:
  pages:
    kind: files
    with: {path: "${region}/pages", expose: {current: current.json, front: front.yaml}}
  answers:
    kind: predictions
    with: {path: "${region}/answers.jsonl"}
groups:
  serving:
    members: [pages, answers]
    must: ["pages.current.version == 1"]
"""


@pytest.fixture
def odd(unprotected: Any) -> Any:
    """A pipeline whose files, links, documents and records hold strings that have no UTF-8."""
    desk = unprotected
    desk.manifest.write_text(MANIFEST)
    pages = desk.root / "eu" / "pages"
    (pages / ODD).write_text("a page")
    (pages / f"link to {ODD}").symlink_to(ODD)
    (pages / f"folder {ODD}").mkdir()
    (pages / "current.json").write_text(
        json.dumps({"version": 1, HALF: {HALF: [HALF, "\udcff"], "\ud801": 2}})
    )
    (pages / "front.yaml").write_text('title: "cut \\udbff"\n')
    with (desk.root / "eu" / "answers.jsonl").open("a") as log:
        log.write(json.dumps({"id": HALF, "time": HALF}) + "\n")
    return desk


DOCUMENT = {"version": 1, HALF: {HALF: [HALF, "\udcff"], "\ud801": 2}}


def test_such_a_pipeline_is_protected_looked_at_and_recovered(odd: Any) -> None:
    made = odd.ask("protect")
    assert made["grade"] == "exact"
    assert odd.ask("protect")["components"]["pages"]["carried"]

    facts = odd.ask("points", "show", made["point"])["components"]
    assert facts["pages"]["identity"]["current"] == DOCUMENT
    assert facts["answers"]["position"]["last_id"] == facts["answers"]["position"]["last"] == HALF
    for verb in ("status", "check", "vault check --read-data", "points list", "points why", "plan --to us"):
        odd.ask(*verb.split())
    listed = odd.ask("vault", "ls", made["point"], "pages")["entries"]
    assert base64.b64encode(os.fsencode(f"content/{ODD}")).decode() in {
        entry["path_bytes"] for entry in listed
    }

    done = odd.ask("recover", "--to", "us")
    assert done["state"] == "done"
    pages = odd.root / "us" / "pages"
    assert (pages / f"link to {ODD}").readlink() == Path(ODD)
    assert (pages / ODD).read_text() == "a page"
    assert json.loads((pages / "current.json").read_text()) == DOCUMENT
    odd.ask("evidence", "show", done["run"], "--html", "run.html")
    odd.ask("run", "show", done["run"], "--to", "us")
    odd.ask("recover", "--into", "out")
    assert (odd.root / "out" / "pages" / "content" / ODD).read_text() == "a page"


def test_a_run_that_failed_over_such_a_string_is_told_and_resumed(
    odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd.ask("protect")

    def fail(connector: Predictions, source: Source, op: Op) -> None:
        raise ConnectorError(f"it says {HALF}", file=ODD, next=f"look at {HALF}")

    with monkeypatch.context() as patch:
        patch.setattr(Predictions, "stage", fail)
        failed = odd.ask("recover", "--to", "us", exits=1)
    assert failed["error"]["message"] == f"it says {HALF}" and failed["error"]["file"] == ODD
    shown = odd.ask("run", "show", failed["run"], "--to", "us")
    assert HALF in json.dumps(shown, ensure_ascii=False)
    assert odd.ask("recover", "--to", "us", "--resume", failed["run"], exits=1)["run"] == failed["run"]
    assert odd.ask("recover", "--to", "us")["state"] == "done"


def test_what_is_said_of_it_to_people_is_text(odd: Any) -> None:
    odd.ask("protect")
    point = odd.ask("protect")["point"]
    odd.ask("recover", "--to", "us")

    for verb in ("points list", f"points show {point} --facts", f"vault ls {point} pages", "status", "check"):
        odd.read(*verb.split()).encode()
    assert "cut \\ud800" in odd.read("points", "show", point, "--facts")
