"""The whole small world under Hypothesis: any order of writers, deaths, losses and recoveries, against a plain model.

The model is the simulation's oracle. Each rule is one operation; what is inside of it (who goes first) is seeded by
a number that Hypothesis chooses, so that a failing history shrinks to the few operations that matter.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from refloat.flows import protect as protecting
from refloat.limits import PACK_BYTES_MAX, PRUNE_GRACE_S
from refloat.testing.disk import folder_in_memory
from refloat.testing.simulation import SimulatedWorld
from refloat.testing.simulation.places import NONE, Faults
from refloat.testing.simulation.seeds import IN_FOLDERS_EACH
from refloat.testing.simulation.world import REGIONS
from refloat.vault.stores.faulty import When
from refloat.vault.writer import Writer

pytestmark = pytest.mark.slow

REGION = st.sampled_from(REGIONS)
SWITCH = st.sampled_from([0.05, 0.3, 1.0])
MOMENT = st.sampled_from([When.BEFORE, When.AFTER, When.TORN])


def deaths(steps: int) -> st.SearchStrategy[Faults]:
    return st.builds(Faults, dies_at=st.integers(1, steps), when=MOMENT)


def failures(steps: int) -> st.SearchStrategy[Faults]:
    failing = st.dictionaries(st.integers(1, steps), st.sampled_from(list(When)), max_size=3)
    return st.builds(Faults, failing=failing)


class SmallWorld(RuleBasedStateMachine):
    """One pipeline, two regions, and everything that may befall them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()

    def teardown(self) -> None:
        with self.stack:
            if hasattr(self, "world"):
                self.world.end()

    @initialize(place=st.integers(1, IN_FOLDERS_EACH))
    def begin(self, place: int) -> None:
        folder = self.stack.enter_context(folder_in_memory()) if place == IN_FOLDERS_EACH else None
        self.world = self.stack.enter_context(SimulatedWorld("state machine", folder))
        self.world.protect()

    @rule()
    def release(self) -> None:
        self.world.release()

    @rule()
    def fix(self) -> None:
        self.world.hotfix()

    @rule(part=st.sampled_from(["pages", "ledger"]))
    def release_half(self, part: str) -> None:  # fault 51
        self.world.release(halves=[part])

    @rule(faults=st.one_of(st.just(NONE), deaths(70), failures(70)))
    def protect(self, faults: Faults) -> None:
        self.world.protect(faults)

    @rule(
        seed=st.integers(0, 7),
        switch=SWITCH,
        first=st.one_of(st.just(NONE), deaths(70)),
        meanwhile=st.sampled_from(["", "release", "hotfix"]),
    )
    def two_writers(self, seed: int, switch: float, first: Faults, meanwhile: str) -> None:  # fault 15
        self.world.dice.seed(seed)
        self.world.protect_together(switch, (first, NONE), meanwhile=meanwhile)

    @rule(lost=st.booleans(), faults=st.one_of(st.just(NONE), deaths(330), failures(330)))
    def recover(self, faults: Faults, *, lost: bool) -> None:
        self.world.recover(self.elsewhere(lost=lost), faults)

    @precondition(lambda self: any(self.world.begun(name) for name in REGIONS))
    @rule(faults=st.one_of(st.just(NONE), deaths(200)))
    def resume(self, faults: Faults) -> None:  # fault 23
        to = next(name for name in REGIONS if self.world.begun(name))
        self.world.pass_time(31.0)
        self.world.recover(to, faults, resume=True)

    @rule(seed=st.integers(0, 7), switch=SWITCH)
    def two_orchestrators(self, seed: int, switch: float) -> None:  # fault 24
        to = self.elsewhere(lost=True)
        self.world.dice.seed(seed)
        self.world.recover_together(to, switch)

    @rule(region=REGION)
    def region_is_down(self, region: str) -> None:
        self.world.down(region)

    @rule(region=REGION)
    def region_is_back(self, region: str) -> None:
        self.world.back(region)

    @rule(region=REGION)
    def store_is_wiped(self, region: str) -> None:
        self.world.wipe(region)

    @rule(region=REGION)
    def store_is_copied(self, region: str) -> None:
        self.world.save(region)

    @rule(region=REGION)
    def store_is_rolled_back(self, region: str) -> None:
        self.world.roll_back(region)

    @rule(region=REGION, number=st.integers(0, 1 << 16), lose=st.booleans())
    def something_is_harmed(self, region: str, number: int, *, lose: bool) -> None:  # faults 2, 3
        self.world.harm(region, number, lose=lose)

    @rule(region=REGION, objects=st.integers(0, 7))
    def listings_lag(self, region: str, objects: int) -> None:  # fault 11
        self.world.lag(region, objects)

    @rule(faults=st.one_of(st.just(NONE), failures(70)))
    def repair(self, faults: Faults) -> None:
        self.world.repair(faults)

    @rule(source=REGION)
    def replicate(self, source: str) -> None:
        self.world.replicate(source, next(name for name in REGIONS if name != source))

    @rule(overriding=st.booleans(), faults=st.one_of(st.just(NONE), deaths(60), failures(60)))
    def forget(self, faults: Faults, *, overriding: bool) -> None:  # faults 12, 56
        self.world.forget(faults, overriding=overriding)

    @rule(faults=st.one_of(st.just(NONE), deaths(60), failures(60)))
    def prune(self, faults: Faults) -> None:  # fault 20
        self.world.prune(faults)

    @rule(
        seed=st.integers(0, 7),
        switch=SWITCH,
        beside=st.sets(st.sampled_from(["protect", "forget", "prune"]), min_size=1),
        faults=st.one_of(st.just(NONE), deaths(60)),
    )
    def prune_beside(
        self, seed: int, switch: float, beside: set[str], faults: Faults
    ) -> None:  # faults 16, 17
        self.world.dice.seed(seed)
        self.world.prune_together(switch, beside, faults)

    @rule()
    def a_day_goes_by(self) -> None:
        self.world.pass_time(PRUNE_GRACE_S)

    @rule(years=st.sampled_from([-10, -1, 1, 10]))
    def clock_jumps(self, years: int) -> None:  # fault 12
        self.world.jump(years * 31_536_000.0)

    @rule()
    def status(self) -> None:
        self.world.status()

    @invariant()
    def every_promise_is_kept(self) -> None:
        self.world.judge()

    def elsewhere(self, *, lost: bool) -> str:
        """Where the pipeline does not run; with ``lost``, nothing is left of it in either region."""
        to = next(name for name in REGIONS if name != self.world.runs_in)
        if lost:
            for region in REGIONS:
                self.world.lose_pipeline(region)
        return to


def run(examples: int, steps: int) -> None:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        SmallWorld,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=slow,
        ),
    )


def test_no_history_of_the_small_world_breaks_a_promise() -> None:
    run(16, 25)


@pytest.mark.soak
@pytest.mark.parametrize(
    "pack_bytes_max", [1, PACK_BYTES_MAX]
)  # a pack of each chunk is needed by few points
def test_no_long_history_of_the_small_world_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch, pack_bytes_max: int
) -> None:
    monkeypatch.setattr(protecting, "Writer", partial(Writer, pack_bytes_max=pack_bytes_max))
    run(1000, 100)
