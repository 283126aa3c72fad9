"""One seed, one story: the dice choose what is done to a simulated world, and what befalls it meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from refloat.errors import RefloatError
from refloat.limits import PRUNE_GRACE_S
from refloat.testing.disk import folder_in_memory
from refloat.testing.simulation.oracle import Broken
from refloat.testing.simulation.places import NONE, Faults
from refloat.testing.simulation.world import REGIONS, SimulatedWorld
from refloat.vault.stores.faulty import When

OPERATIONS = (6, 16)  # of one seed, at least and at most
IN_FOLDERS_EACH = 8  # seeds; there a write may be torn, and everything takes a little longer
SHOWN = 40  # of the last lines, where a promise is broken
STEPS_OF_PROTECT = 70  # about as many as it has: where among them a fault may come
STEPS_OF_RECOVERY = 330
STEPS_OF_PRUNE = 60
YEAR_S = 365 * 86_400.0
MIX: Mapping[str, int] = {
    "release": 16,
    "hotfix": 3,
    "answer": 6,
    "half release": 7,
    "protect": 20,
    "protect together": 8,
    "protect with a fault": 12,
    "protect killed": 12,
    "recover": 6,
    "recover killed": 8,
    "recover with a fault": 5,
    "recover together": 4,
    "lose the pipeline": 3,
    "down": 4,
    "back": 8,
    "wipe": 3,
    "copy": 3,
    "roll back": 2,
    "harm": 8,
    "repair": 4,
    "replicate": 4,
    "lag": 3,
    "jump": 1,
    "pass time": 4,
    "status": 6,
}
"""How often each operation comes, in parts."""

LET_GO: Mapping[str, int] = {
    "nothing": 300,
    "forget": 2,
    "forget killed": 1,
    "prune": 2,
    "prune killed": 2,
    "prune with a fault": 1,
    "prune together": 3,
    "old points go": 6,
}
"""What is done after each of them to let go of old points, by dice of its own: a seed's other steps stay the same."""


@dataclass(frozen=True)
class Story:
    """What a seed came to: how many operations, and a digest of every step that was made."""

    seed: int
    operations: int
    trace: str
    lines: tuple[str, ...]


def simulate(seed: int) -> Story:
    """Play a seed to its end. Raises ``Broken`` with the seed and the last lines."""
    dice = random.Random(f"{seed} what")
    with ExitStack() as stack:
        folder = None if seed % IN_FOLDERS_EACH else stack.enter_context(folder_in_memory())
        world = stack.enter_context(SimulatedWorld(seed, folder))
        player = _Player(world, dice, MIX)
        keeper = _Player(world, random.Random(f"{seed} let go"), LET_GO)
        count = dice.randint(*OPERATIONS)
        try:
            for _ in range(count):
                for one in (player, keeper):
                    one.one()
                    world.judge()
            world.end()
        except Exception as error:  # raised again: the seed is the way to see it, whatever it is
            raise Broken(_story(seed, world, error)) from error
        return Story(seed, count, world.trace, tuple(world.told))


def _story(seed: int, world: SimulatedWorld, error: Exception) -> str:
    kind = "" if isinstance(error, Broken | RefloatError) else f"{type(error).__name__}: "
    last = "\n".join(f"  {line}" for line in world.told[-SHOWN:])
    return f"seed {seed}: {kind}{error}\nto see it again: make sim SEED={seed}\nthe last steps:\n{last}"


class _Player:
    """Chooses operations, and what goes wrong in them."""

    def __init__(self, world: SimulatedWorld, dice: random.Random, mix: Mapping[str, int]) -> None:
        self._world = world
        self._dice = dice
        names, parts = zip(*mix.items(), strict=True)
        self._names, self._parts = names, parts
        self._acts: dict[str, Callable[[], object]] = {
            "release": world.release,
            "hotfix": world.hotfix,
            "answer": world.answer,
            "half release": lambda: world.release(halves=dice.sample(["pages", "ledger"], 1)),
            "protect": world.protect,
            "protect together": self._protect_together,
            "protect with a fault": lambda: world.protect(self._failing(STEPS_OF_PROTECT)),
            "protect killed": lambda: world.protect(self._dying(STEPS_OF_PROTECT)),
            "recover": lambda: self._recover(NONE),
            "recover killed": lambda: self._recover(self._dying(STEPS_OF_RECOVERY)),
            "recover with a fault": lambda: self._recover(self._failing(STEPS_OF_RECOVERY)),
            "recover together": lambda: world.recover_together(self._target(), self._switch()),
            "lose the pipeline": lambda: world.lose_pipeline(self._region()),
            "down": lambda: world.down(self._region()),
            "back": lambda: world.back(self._region()),
            "wipe": lambda: world.wipe(self._region()),
            "copy": lambda: world.save(self._region()),
            "roll back": lambda: world.roll_back(self._region()),
            "harm": lambda: world.harm(self._region(), dice.randrange(1 << 20), lose=dice.random() < 0.5),
            "repair": lambda: world.repair(self._failing(STEPS_OF_PROTECT) if dice.random() < 0.3 else NONE),
            "replicate": self._replicate,
            "lag": lambda: world.lag(self._region(), dice.randrange(8)),
            "jump": lambda: world.jump(dice.choice([-10, -1, -0.0001, 0.0001, 1, 10]) * YEAR_S),
            "pass time": lambda: world.pass_time(dice.choice([1.0, 40.0, 4000.0])),
            "status": world.status,
            "nothing": lambda: None,
            "forget": world.forget,
            "forget killed": lambda: world.forget(self._dying(STEPS_OF_PRUNE)),
            "prune": world.prune,
            "prune killed": lambda: world.prune(self._dying(STEPS_OF_PRUNE)),
            "prune with a fault": lambda: world.prune(self._failing(STEPS_OF_PRUNE)),
            "prune together": self._prune_together,
            "old points go": self._old_points_go,
        }

    def one(self) -> None:
        """Do the next thing."""
        self._acts[self._dice.choices(self._names, self._parts)[0]]()

    def _region(self) -> str:
        return self._dice.choice(REGIONS)

    def _target(self) -> str:
        """Where to recover to: mostly where the pipeline does not run, after it is lost where it does."""
        to = next(name for name in REGIONS if name != self._world.runs_in)
        if self._dice.random() < 0.1:
            return self._world.runs_in
        if not self._world.oracle.acked.get(to):
            self._world.protect()
        if self._dice.random() < 0.8:
            self._world.lose_pipeline(self._world.runs_in)
            self._world.lose_pipeline(to)
        return to

    def _recover(self, faults: Faults) -> None:
        begun = [name for name in REGIONS if self._world.begun(name)]
        if begun and self._dice.random() < 0.8:
            self._world.pass_time(31.0)
            self._world.recover(begun[0], faults, resume=True)
        else:
            self._world.recover(self._target(), faults)

    def _protect_together(self) -> None:
        faults = [self._dying(STEPS_OF_PROTECT) if self._dice.random() < 0.2 else NONE for _ in range(2)]
        self._world.protect_together(
            self._switch(), faults, meanwhile=self._dice.choice(["", "release", "hotfix"])
        )

    def _prune_together(self) -> None:
        others = ["protect", "forget", "prune"]
        beside = self._dice.sample(others, self._dice.randint(1, len(others)))
        dying = self._dying(STEPS_OF_PRUNE) if self._dice.random() < 0.2 else NONE
        self._world.prune_together(self._switch(), beside, dying)

    def _old_points_go(self) -> None:
        """Enough points are made for some to be forgotten; what only these needed is marked, and pruned a day later."""
        for _ in range(2):
            self._world.release()
            self._world.protect()
        self._world.forget(overriding=True)
        self._world.judge()
        self._world.prune()
        if self._dice.random() < 0.5:
            self._prune_together()
        self._world.pass_time(PRUNE_GRACE_S)
        self._world.prune(self._dying(STEPS_OF_PRUNE) if self._dice.random() < 0.3 else NONE)

    def _replicate(self) -> None:
        source, target = self._dice.sample(REGIONS, 2)
        self._world.replicate(source, target, self._dying(30) if self._dice.random() < 0.3 else NONE)

    def _switch(self) -> float:
        return self._dice.choice([0.05, 0.3, 1.0])

    def _dying(self, steps: int) -> Faults:
        when = self._dice.choice([When.BEFORE, When.AFTER, When.TORN])
        return Faults(dies_at=self._dice.randint(1, steps), when=when)

    def _failing(self, steps: int) -> Faults:
        kinds = list(When)
        failing = {
            self._dice.randint(1, steps): self._dice.choice(kinds) for _ in range(self._dice.randint(0, 4))
        }
        misdirect = self._dice.randrange(1 << 16) if self._dice.random() < 0.3 else None
        return Faults(failing=failing, misdirect=misdirect, latency_s=self._dice.choice([0.0, 0.0, 2.0]))
