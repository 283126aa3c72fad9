"""docs/FAILBACK.md, played from its first command to its last: each ends well, and no rule is overridden."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from pages import DOCS, sections, typed
from small_desk import VERIFY

pytestmark = pytest.mark.slow

PAGE = "FAILBACK.md"


def loses_its_disk(desk) -> None:
    shutil.rmtree(desk.vault("eu"))


def comes_back_old(desk) -> None:
    shutil.copytree(desk.vault("eu"), desk.root / "old")
    desk.ask("protect")
    desk.ask("protect")
    shutil.rmtree(desk.vault("eu"))
    shutil.move(desk.root / "old", desk.vault("eu"))


def misses_a_point(desk) -> None:
    shutil.move(desk.vault("eu"), desk.root / "away")
    desk.ask("protect", exits=1)
    shutil.move(desk.root / "away", desk.vault("eu"))


def is_gone_for_good(desk) -> None:
    shutil.rmtree(desk.vault("us"))


HAPPENS: dict[str, Callable[..., None]] = {
    "A region that lost its disk": loses_its_disk,
    "A region that came back with an old state": comes_back_old,
    "A region that only missed some points": misses_a_point,
    "Replacing a region": is_gone_for_good,
}
"""What has happened before a section is needed."""


@pytest.fixture
def desk(unprotected, endpoint):
    """A pipeline that is verified, without the group whose invariants take a process each time."""
    question = {"id": "q1", "request": {"question": "word"}, "expected": {"topic": "WORD"}}
    (unprotected.root / "golden.jsonl").write_text(json.dumps(question) + "\n")
    unprotected.write_manifest(VERIFY, url=endpoint.url)
    return unprotected


@pytest.mark.timeout(600)  # thirty commands, on a machine that may be busy
def test_every_command_of_the_page_does_what_it_says(desk) -> None:
    said, ran = "", 0
    for title, commands in sections(PAGE).items():
        HAPPENS.get(title, lambda desk: None)(desk)
        for line in commands:
            words = typed(desk, line)
            if words[0] == "refloat":
                said += "" if "rejoin" in words else desk.said
                ran += 1
        if title in HAPPENS:
            found = desk.answer("check")[1]["problems"]
            assert not [problem for problem in found if problem["where"].startswith("regions.")], title
    assert HAPPENS.keys() <= sections(PAGE).keys() and ran > 20
    assert "rolled back" not in said and "--override" not in (DOCS / PAGE).read_text()
    assert desk.ask("status")["runs_in"] == "eu"
