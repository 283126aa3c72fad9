"""The golden vault with a point that lacks something, and a baseline by component, is read by both readers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.system import SystemClock
from refloat.flows import baselines, points
from refloat.vault.check import check
from refloat.vault.keys import KeyFile
from refloat.vault.missed_records import BASELINES
from refloat.vault.replica import Replica
from refloat.vault.stores.local import LocalStore

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS / "format"))

from objects import Key  # noqa: E402 - the second reader is no package
from reader import Replica as SecondReader  # noqa: E402

GOLDEN = TESTS / "golden" / "vault-1-gaps"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture(scope="module")
def replica() -> Replica:
    return Replica.open("eu", LocalStore(GOLDEN / "eu"), KeyFile.load(GOLDEN / "key"), SystemClock())


@pytest.mark.parametrize("name", EXPECTED["points"])
def test_a_point_says_what_could_not_be_captured(replica: Replica, name: str) -> None:
    point = points.read(replica, name)
    assert dict(point.not_captured) == EXPECTED["points"][name]
    assert point.format == (2 if point.not_captured else 1)


def test_the_baseline_counts_for_what_the_answers_depend_on_and_for_both_points(replica: Replica) -> None:
    (kept,) = baselines.kept([replica])
    assert isinstance(kept, baselines.Baseline)
    assert (kept.component, kept.identities) == ("pages", EXPECTED["identities"])
    for name in EXPECTED["points"]:
        assert baselines.doubts_of(replica, points.read(replica, name), [replica]) == {}


def test_the_vault_is_sound_to_the_last_byte(replica: Replica) -> None:
    assert check(replica, read_data=True).ok


def test_the_second_reader_says_the_same() -> None:
    other = SecondReader(GOLDEN / "eu", Key.load(GOLDEN / "key"))
    assert {name: body.get("not_captured", {}) for name, body in other.points.items()} == EXPECTED["points"]
    assert other.check()["points"] == 2
    (kept,) = other.log(BASELINES)
    assert kept.body["identities"] == EXPECTED["identities"]
