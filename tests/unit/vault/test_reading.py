"""A share a day reads every byte in its turn, and what was read is known after an interruption."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from refloat.vault.check import CheckReport, check
from refloat.vault.reading import GOES_ON_FOR, Reading, due, parse_share
from refloat.vault.stores.faulty import Crash, FaultyStore

VaultWorld = Any  # the fixture ``world`` of conftest.py
DAYS = 4


def filled(world: VaultWorld) -> None:
    for number in range(6):
        world.capture({"a": bytes([number]) * 5000}, replicas=[world.open("eu")])


def reading(world: VaultWorld, folder: Path, share: Fraction | None = Fraction(1, DAYS)) -> Reading:
    return Reading(folder, world.open("eu").descriptor, world.clock, share)


def test_every_byte_has_its_turn(world: VaultWorld, tmp_path: Path) -> None:  # fault 2
    filled(world)
    unread = []
    for _ in range(DAYS):
        far = check(world.open("eu"), read_data=True, reading=reading(world, tmp_path)).so_far
        assert far is not None
        unread.append(far.unread_bytes)
    assert unread == sorted(unread, reverse=True) and unread[0] > 0 == unread[-1]
    before = far.since
    far = check(world.open("eu"), read_data=True, reading=reading(world, tmp_path)).so_far
    assert far is not None and before is not None and far.since is not None and far.since > before


def test_rot_is_found_when_its_turn_comes_and_is_never_counted_as_read(
    world: VaultWorld, tmp_path: Path
) -> None:  # fault 2
    filled(world)
    pack = world.names("packs/")[3]
    world.flip(pack, 40)
    reports = [check(world.open("eu"), read_data=True, reading=reading(world, tmp_path)) for _ in range(DAYS)]
    assert any(pack in [found.object for found in report.damaged] for report in reports)
    assert all(report.so_far is not None and report.so_far.unread_bytes > 0 for report in reports)


class At:
    """A clock that stands."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def now(self) -> datetime:
        return self._moment

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        """It passes at once."""


def stopped(world: VaultWorld, folder: Path) -> None:
    """Check everything, and be stopped in the midst of it."""
    seen = 0

    def dying(operation: Any) -> None:
        nonlocal seen
        seen += operation.op == "get" and operation.name.startswith("packs/")
        if seen == 12:
            store.crash(operation.number)

    store = FaultyStore(world.stores["eu"], at_each=dying)
    with pytest.raises(Crash):
        check(world.open("eu", store=store), read_data=True, reading=reading(world, folder, None))


def test_what_was_read_before_it_died_is_known(world: VaultWorld, tmp_path: Path) -> None:
    filled(world)
    stopped(world, tmp_path)
    packs = world.open("eu").index.packs
    (file,) = (tmp_path / "read").iterdir()
    read = len(file.read_text().splitlines())
    assert 0 < read < len(packs)
    file.write_text(file.read_text()[:-9])  # and the last line was cut
    assert len(reading(world, tmp_path).due(packs)) > 0
    assert reading(world, tmp_path).so_far(packs).unread_bytes > 0


def whole_check(world: VaultWorld, folder: Path, share: Fraction | None = None) -> CheckReport:
    return check(world.open("eu"), read_data=True, reading=reading(world, folder, share))


def test_a_check_that_was_stopped_goes_on_and_the_next_one_begins_anew(
    world: VaultWorld, tmp_path: Path
) -> None:  # fault 2
    filled(world)
    everything = whole_check(world, tmp_path / "other").bytes_read
    assert whole_check(world, tmp_path).bytes_read == everything
    stopped_at = world.clock.now()
    stopped(world, tmp_path)
    report = whole_check(world, tmp_path)
    far = report.so_far
    assert far is not None and far.began_at is not None and far.since is not None
    assert 0 < far.before_bytes == everything - report.bytes_read
    assert stopped_at < far.began_at < far.since < world.clock.now(), "what counts was read since then"
    again = whole_check(world, tmp_path)
    assert again.bytes_read == everything and again.so_far is not None and again.so_far.began_at is None


def test_a_check_goes_on_for_a_day_and_not_where_all_is_to_be_read_anew(
    world: VaultWorld, tmp_path: Path
) -> None:  # fault 2
    filled(world)
    everything = whole_check(world, tmp_path).bytes_read
    stopped(world, tmp_path)
    assert whole_check(world, tmp_path, Fraction(1)).bytes_read == everything
    stopped(world, tmp_path)
    whole_check(world, tmp_path, Fraction(1, 10**9))  # a share in between changes nothing
    packs = world.open("eu").index.packs
    left = [
        len(Reading(tmp_path, world.open("eu").descriptor, At(world.clock.now() + after)).due(packs))
        for after in (GOES_ON_FOR - timedelta(minutes=1), GOES_ON_FOR)
    ]
    assert 0 < left[0] < left[1] == len(packs)
    early = Reading(tmp_path, world.open("eu").descriptor, At(world.clock.now() - GOES_ON_FOR))
    assert len(early.due(packs)) == len(packs), "what is said to have begun in times to come says nothing"


def test_rot_that_was_found_before_it_was_stopped_is_told_afterwards(
    world: VaultWorld, tmp_path: Path
) -> None:  # fault 2
    filled(world)
    pack = reading(world, tmp_path).due(world.open("eu").index.packs)[0].name
    rotten = next(name for name in world.names("packs/") if name.endswith(pack))
    world.flip(rotten, 40)
    stopped(world, tmp_path)
    assert [found.object for found in whole_check(world, tmp_path).damaged] == [rotten]


def test_a_share_is_a_fraction_and_takes_at_least_one_pack(world: VaultWorld) -> None:
    filled(world)
    packs = world.open("eu").index.packs
    assert len(due(packs, {}, Fraction(1, 10**9))) == 1
    assert due(packs, {}, Fraction(1)) == sorted(packs, key=lambda pack: pack.name)
    assert parse_share("1/30") == Fraction(1, 30)
    for wrong in ("0/1", "3/2", "-1/2", "1/0", "0.5", "a", ""):
        with pytest.raises(ValueError, match="1/30"):
            parse_share(wrong)
