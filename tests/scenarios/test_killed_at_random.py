"""Two hundred random SIGKILLs: no acknowledged point is lost, no half one is left, and the next command goes on.

``# fault 18`` and ``# fault 23`` of the fault matrix. Each trial has a seed, which chooses the story and how far into
it the kill is placed, counted in what the command does (``placed.py``); a failure names it. Of real processes with all
their threads and children, forked from one that has imported everything (``quickserver.py``).

    REFLOAT_KILLS=10000     that many
    REFLOAT_KILLS_FROM=200  with this seed and those after it, so that a long soak can be had in parts
    REFLOAT_KILL_SEED=81    this one trial again
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from placed import Place

from refloat.cli.system import SystemClock
from refloat.testing.disk import folder_in_memory
from refloat.vault.check import check as inspect
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica
from refloat.vault.stores.local import LocalStore
from refloat.vault.witness import rolled_back

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("REFLOAT_KILLS", "200"))
FIRST_SEED = int(os.environ.get("REFLOAT_KILLS_FROM", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + KILLS)
PARTS = 4  # tests that share their worlds, so that none of them takes long
ONE_SEED = os.environ.get("REFLOAT_KILL_SEED")
LANES = 2  # at a time, each with a world and a server of its own: as many as there are cores
REACHED = (
    0.97  # of all that an undisturbed command does: threads wait for each other now more often and now less
)
ANEW_MAX = 20  # times that a kill is placed earlier, where the command was done before
STORIES = {
    "protect": 6,
    "grouped": 1,
    "behind": 3,
    "recover": 6,
    "recover_grouped": 1,
    "repair": 2,
    "init": 2,
}
"""How often each is drawn; the invariants of a group take a process of their own, and time."""


@dataclass
class Lane:
    """One world, an operator in it, and who runs their commands."""

    operator: Any
    commands: Any
    states: Path
    events: dict[str, int]
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def grouped(self) -> Path:
        """The manifest with its group; the one on the desk has none."""
        path: Path = self.operator.manifest.with_name("grouped.yaml")
        return path

    @property
    def root(self) -> Path:
        root: Path = self.operator.root
        return root

    def run(self, *argv: str, place: Place | None = None, home: str = "home") -> Any:
        """One command, in a home that is made for it."""
        self.operator.home = self.root / home
        return self.commands.run(self.operator, "--json", "--quiet", *argv, place=place)

    def done(self, *argv: str, home: str = "home", exits: int = 0) -> dict[str, Any]:
        """The document of a command that ends as it must."""
        ended = self.run(*argv, home=home)
        assert ended.code == exits, ended
        document: dict[str, Any] = ended.document
        return document

    def here(self, *argv: str, **more: Any) -> dict[str, Any]:
        """The same, by the manifest on the desk."""
        return self.done("-f", str(self.operator.manifest), *argv, **more)

    def keep(self, state: str) -> None:
        """Remember the world as it is now."""
        shutil.copytree(self.root, self.states / state, symlinks=True)

    def put_back(self, state: str) -> None:
        """Make the world as it was."""
        shutil.rmtree(self.root)
        shutil.copytree(self.states / state, self.root, symlinks=True)


# ------------------------------------------------------------------------------------------------ the stories


def prepare(lane: Lane) -> None:
    """The world in which each story begins."""
    lane.operator.manifest.rename(lane.grouped)
    lane.operator.manifest.write_text(lane.grouped.read_text().partition("groups:")[0])
    lane.keep("init")
    lane.here("vault", "init", "--key", str(lane.operator.key))
    first = lane.here("protect")["point"]
    lane.operator.release(2, pages=8)
    lane.known["acknowledged"] = {first}
    lane.keep("protect")
    lane.keep("grouped")
    away = lane.root / "away"
    (lane.root / "us" / "vault").rename(away)
    lane.here("protect", exits=1)
    away.rename(lane.root / "us" / "vault")
    lane.operator.release(3, pages=8)
    lane.keep("behind")
    second = lane.here("protect")["point"]
    lane.known["both"] = {first, second}
    lane.known["live"] = lane.operator.live("eu")
    spoil(lane.root / "us" / "vault")
    lane.keep("repair")
    mend(lane)
    shutil.move(lane.root / "eu", lane.root / "lost")
    lane.keep("recover")
    shutil.move(lane.root / "lost", lane.root / "eu")
    lane.done("-f", str(lane.grouped), "protect")
    shutil.rmtree(lane.root / "eu")
    lane.keep("recover_grouped")


def spoil(vault: Path) -> None:
    """A pack with a flipped bit, and a point and an index object that are gone."""
    pack = max(vault.glob("packs/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    for folder in ("points", "index"):
        min(vault.glob(f"{folder}/*")).unlink()


def mend(lane: Lane) -> None:
    """Repair, and once more where the first says that it could not look at everything yet."""
    repairing = ("-f", str(lane.operator.manifest), "vault", "repair", "--read-data")
    first = lane.run(*repairing)
    assert first.code == 0 or any(region["again"] for region in first.document["regions"].values()), first
    if first.code:
        lane.done(*repairing)


def check(lane: Lane) -> set[str]:
    """The vault is whole, every byte of it, as this very process sees it; the points that both regions have."""
    key = KeyFile.load(lane.operator.key)
    places = {region: LocalStore(Path(lane.operator.vault(region))) for region in ("eu", "us")}
    replicas = [Replica.open(region, store, key, SystemClock()) for region, store in places.items()]
    shorter = rolled_back(replicas)
    for replica in replicas:
        others = [one for one in replicas if one is not replica]
        report = inspect(replica, read_data=True, others=others, shorter=shorter)
        assert (report.ok, report.damaged) == (True, ())
    here, there = ({point.name for point in replica.points()} for replica in replicas)
    return here & there


def protect(lane: Lane, kill: Callable[..., Any]) -> Any:
    """Killed in the course of a protect."""
    return protected(lane, kill("-f", str(lane.operator.manifest), "protect"))


def grouped(lane: Lane, kill: Callable[..., Any]) -> Any:
    """The same with a group, whose invariants a process evaluates."""
    return protected(lane, kill("-f", str(lane.grouped), "protect"))


def protected(lane: Lane, ended: Any) -> Any:
    """The vault is whole, what was acknowledged is there, and the next protect succeeds everywhere."""
    acknowledged = set(lane.known["acknowledged"])
    acknowledged |= {ended.document["point"]} if ended.out.endswith("\n") else set()
    assert acknowledged <= check(lane)
    again = lane.here("protect")
    assert again["grade"] == "exact"
    assert again["regions"] == {region: {"complete": True, "error": None} for region in ("eu", "us")}
    return ended


def repair(lane: Lane, kill: Callable[..., Any]) -> Any:
    """Killed while one region is mended from the other."""
    ended = kill("-f", str(lane.operator.manifest), "vault", "repair", "--read-data")
    mend(lane)
    assert lane.known["both"] <= check(lane)
    return ended


def recover(lane: Lane, kill: Callable[..., Any]) -> Any:
    """Killed in the course of a recovery, which somebody else goes on with from another machine."""
    where = ("--vault", lane.operator.vault("us"), "--to", "us")
    ended = kill("recover", *where)
    runs = lane.done("run", "list", *where, home="another")["runs"]
    resume = ("--resume", runs[0]["run"]) if runs else ()
    done = lane.done("recover", *where, *resume, home="another")
    assert done["state"] == "done"
    assert not runs or done["run"] == runs[0]["run"]
    assert lane.operator.live("us") == lane.known["live"]
    assert lane.done("vault", "check", "--read-data", "--vault", lane.operator.vault("us"))["ok"]
    return ended


def init(lane: Lane, kill: Callable[..., Any]) -> Any:
    """Killed while the vault is made: what was not acknowledged may be taken away, and made again."""
    making = ("vault", "init", "--key", str(lane.operator.key))
    ended = kill("-f", str(lane.operator.manifest), *making)
    if ended.code != 0:
        again = lane.run("-f", str(lane.operator.manifest), *making)
        assert again.code in (0, 2, 3), again
        if again.code:
            assert again.document["error"]["next"], "it says what stands in the way"
            lane.operator.key.unlink(missing_ok=True)
            for region in ("eu", "us"):
                shutil.rmtree(lane.operator.vault(region), ignore_errors=True)
            lane.here(*making)
    assert lane.here("protect")["grade"] == "exact"
    return ended


PLAYED: dict[str, Callable[[Lane, Callable[..., Any]], Any]] = {
    "protect": protect,
    "grouped": grouped,
    "behind": protect,
    "repair": repair,
    "recover": recover,
    "recover_grouped": recover,
    "init": init,
}


def play(lane: Lane, story: str, place: Place | None) -> Any:
    """One trial: the command of the story, killed at a place, and what comes after."""

    def kill(*argv: str) -> Any:
        return lane.run(*argv, place=place)

    lane.put_back(story)
    return PLAYED[story](lane, kill)


# ------------------------------------------------------------------------------------------------ the trials


@pytest.fixture(scope="module")
def lanes(operator_of: Callable[[Path], Any], served: Callable[[Path], Any]) -> Iterator[list[Lane]]:
    """Worlds, and every story tried once undisturbed in one of them."""
    with folder_in_memory() as folder, contextlib.ExitStack() as stack:
        made, events = [], dict[str, int]()
        for number in range(1 if ONE_SEED else LANES):
            states = folder / f"lane-{number}" / "states"
            states.mkdir(parents=True)
            commands = stack.enter_context(served(states))
            made.append(Lane(operator_of(states.parent / "world"), commands, states, events))
        stories = iter(STORIES)  # whoever is free draws the next
        with ThreadPoolExecutor(LANES) as pool:
            list(pool.map(prepare, made))
            list(pool.map(lambda lane: [undisturbed(lane, story) for story in stories], made))
        yield made


def undisturbed(lane: Lane, story: str) -> None:
    ended = play(lane, story, None)
    assert ended.code == 0 or story == "repair", (story, ended)
    lane.events[story] = ended.tally.events


def drawn(seed: int) -> tuple[str, float]:
    """The story of a seed, and at which share of its events it is killed."""
    dice = random.Random(seed)
    (story,) = dice.choices(list(STORIES), list(STORIES.values()))
    return story, dice.random() * REACHED


def trial(lane: Lane, seed: int) -> str:
    """The trial of a seed; its story. A failure says how to have it again."""
    story, share = drawn(seed)
    for _ in range(ANEW_MAX):
        place = Place(nth=1 + int(share * lane.events[story]))
        try:
            ended = play(lane, story, place)
        except BaseException as error:
            moment = f"{story}, killed at event {place.nth} of {lane.events[story]}"
            error.add_note(
                f"seed {seed}: {moment}; again: REFLOAT_KILL_SEED={seed} pytest {Path(__file__).name}"
            )
            raise
        if ended.tally.sent_at:
            return story
        print(f"seed {seed}: {story} was done after {ended.tally.events} events, before event {place.nth}")
        share *= REACHED
    raise AssertionError(f"seed {seed}: {story} does less each time")


@pytest.mark.parametrize("part", range(PARTS))
def test_two_hundred_kills_at_random_lose_nothing_and_every_command_goes_on(
    lanes: list[Lane], part: int
) -> None:  # faults 18, 23
    if ONE_SEED:
        print(trial(lanes[0], int(ONE_SEED)))
        return
    killed: Counter[str] = Counter()
    seeds = iter(SEEDS[part::PARTS])  # whoever is free draws the next

    def work(lane: Lane) -> list[str]:
        return [trial(lane, seed) for seed in seeds]

    with ThreadPoolExecutor(LANES) as pool:
        for stories in pool.map(work, lanes):
            killed.update(stories)
    print(f"{dict(killed)}; events of each: {lanes[0].events}")
    assert killed.total() == len(SEEDS[part::PARTS])


def test_every_story_is_among_them() -> None:
    assert KILLS < 100 or {drawn(seed)[0] for seed in SEEDS} == set(STORIES)
