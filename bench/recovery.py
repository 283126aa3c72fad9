"""The sections of `bench-recovery`: do estimates hold, in drawn runs and in real ones, and how soon is a plan there?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import foreseen
from measure import CommandFailed, Setting
from refloat.cli.system import SystemClock
from refloat.evidence.model import Evidence
from refloat.flows.components import Components
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.recover import recover
from refloat.manifest.model import Manifest
from refloat.manifest.resolve import Resolver
from refloat.plan.build import build
from refloat.plan.estimate import estimate, longest, rto
from refloat.plan.learn import StepTiming
from refloat.plan.model import SIZED, Plan
from refloat.point.model import Point, Snapshot
from refloat.testing.world import World, WorldClock
from refloat.vault.replica import create_vault
from refloat.vault.stores.local import LocalStore
from report import ABSENT, Section, Series, Table, figure

COVERED_LEAST, COVERED_MOST = 0.93, 0.97
PLAN_SECONDS_MAX = 1.0
SEED = 20
EACH, EACH_QUICK = 100, 3
"""Simulated machines for each number of earlier runs."""

WARM, REAL, REAL_QUICK = 3, 30, 2
SIZES = (10, 100, 1000)
HISTORY = 10  # earlier runs of what is planned
PARTS = ("preflight", "stage", "validate", "activate")
AGAIN = frozenset({"target_primary"})  # it is recovered where it already is, again and again


def covered(inside: Sequence[bool]) -> str:
    """How many of how many were within the p95."""
    return f"{sum(inside)} of {len(inside)}, {100 * sum(inside) / len(inside):.1f} %"


def verdict(inside: Sequence[bool]) -> str:
    """The aim of coverage, and whether it is met; what no such sample could tell apart from it is within the noise."""
    share = sum(inside) / len(inside)
    met = "met" if COVERED_LEAST <= share <= COVERED_MOST else "NOT MET"
    deviation = (0.95 * 0.05 / len(inside)) ** 0.5
    noise = ", within the noise" if met == "NOT MET" and abs(share - 0.95) <= 1.96 * deviation else ""
    return f"93 to 97 %: {met}{noise}"


# --------------------------------------------------------------------------------------------------- drawn


def drawn(setting: Setting) -> Section:
    """Machines that are known, from which earlier runs are drawn, and the run that then comes."""
    each = setting.rounds(EACH, EACH_QUICK)
    setting.say(f"drawing {each} machines for each of {len(foreseen.EARLIER)} numbers of earlier runs")
    held = foreseen.many(SEED, each)
    rows = [
        _drawn(str(earlier), [one for one in held if one.earlier == earlier]) for earlier in foreseen.EARLIER
    ]
    return Section(
        name="drawn",
        title=f"Runs that are drawn, {len(held)} of as many machines",
        tables=(
            Table(
                "Within the p95",
                ("earlier runs", "within the p95", "aim", "times the p50", "p95 over p50"),
                (*rows, _drawn("all", held, aim=True)),
            ),
        ),
        notes=(
            "Each machine has 2 to 8 components of three kinds; a kind of step has a fixed time and a rate, each step "
            "deviates from both. Whole runs are slow together, steps for themselves, and on half of the machines one "
            "step in fifty hangs. Components grow by 2 % from run to run.",
        ),
    )


def _drawn(name: str, held: Sequence[foreseen.Held], *, aim: bool = False) -> tuple[str, ...]:
    inside = [one.inside for one in held]
    wide = Series(tuple(one.p95_of_p50 for one in held), "times")
    took = Series(tuple(one.of_p50 for one in held), "times")
    return (name, covered(inside), verdict(inside) if aim else ABSENT, str(took), figure(wide.median))


# ---------------------------------------------------------------------------------------------------- real


class Now(SystemClock, WorldClock):
    """The machine's own clock, where a world has its."""


def real(setting: Setting) -> Section:
    """A small pipeline on the local disk, recovered again and again, each time with what was learnt so far."""
    count = setting.rounds(REAL, REAL_QUICK)
    stores = {region: LocalStore(str(setting.work / f"vault-{region}")) for region in ("eu", "us")}
    world = World(setting.work, clock=Now(), stores={**stores})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    world.protect()
    records: list[Evidence] = []
    for number in range(WARM + count):
        setting.say(f"recovery {number + 1} of {WARM + count}")
        vault = world.vault()
        prepared = prepare(vault.replicas["us"], Wanted("us", overrides=AGAIN), world.resolver)
        done = recover(prepared, vault, world.clock, overrides=AGAIN).evidence
        if done.state != "done" or done.foreseen is None or done.foreseen.seconds is None:
            raise CommandFailed(f"recovery {number + 1} ended as {done.state}")
        records.append(done)
    told = [one.foreseen for one in records[WARM:] if one.foreseen]
    inside = [bool(one.inside) for one in told]
    rows = (
        ("within the p95", covered(inside), verdict(inside)),
        ("until verified", str(Series(tuple(one.seconds or 0.0 for one in told), "s")), ABSENT),
        ("times the p50", str(Series(tuple(one.of_p50 or 0.0 for one in told), "times")), ABSENT),
        ("p95 over p50", str(Series(tuple(one.p95_s / one.p50_s for one in told), "times")), ABSENT),
        *(
            (f"of it {phase}", _seconds([_part(one, phase) for one in records[WARM:]]), ABSENT)
            for phase in PARTS
        ),
    )
    return Section(
        name="real",
        title=f"{count} real recoveries of a small pipeline",
        tables=(Table("Real", ("what", "figure", "aim"), rows),),
        notes=(
            f"Three components on the local disk, recovered in one process where they already are; the first {WARM} "
            "runs only teach. Parts are the sums of their steps, of which two go at once.",
        ),
    )


def _part(record: Evidence, phase: str) -> float:
    return sum(step.seconds for step in record.steps if step.phase == phase)


def _seconds(values: Sequence[float]) -> str:
    return str(Series(tuple(values), "s"))


# --------------------------------------------------------------------------------------------------- plans


def large(count: int) -> tuple[Manifest, Point]:
    """A pipeline of so many components, and a point of it."""
    names = [f"part{number}" for number in range(count)]
    given = {"kind": "files", "with": {"path": "/srv/${region}/part"}}
    manifest = Manifest.model_validate(
        {
            "version": 1,
            "pipeline": "large",
            "regions": {"eu": {"vault": "x"}, "us": {"vault": "y"}},
            "primary": "eu",
            "components": dict.fromkeys(names, given),
        }
    )
    now = foreseen.NOW
    snapshots = {
        name: Snapshot(
            kind="files",
            tree="00",
            identity={},
            position={},
            as_of=now,
            captured_from=now,
            captured_to=now + timedelta(seconds=1),
            bytes=1_000_000 * (1 + number % 97),
        )
        for number, name in enumerate(names)
    }
    return manifest, Point(
        pipeline="large", primary="eu", created_at=now, manifest="00", components=snapshots
    )


def plans(setting: Setting) -> Section:
    """From the point to the plan with its estimates, RTO, and what would shorten it."""
    rows = []
    for count in SIZES[: 2 if setting.quick else None]:
        setting.say(f"planning {count} components")
        manifest, point = large(count)
        specs = Components(manifest, Resolver({}, _no_file)).specs()

        def planned(history: Sequence[StepTiming], manifest=manifest, point=point, specs=specs) -> Plan:
            plan = estimate(build("p", point, manifest, "us", specs), point, history)
            rto(plan, manifest)
            longest(plan)
            return plan

        plan = planned(())
        history = [one for run in range(HISTORY) for one in _history(plan, point, run)]
        first = _timed(lambda: planned(()), setting.rounds(5))
        learnt = _timed(lambda: planned(history), setting.rounds(5))  # noqa: B023 - called here and now
        aim = learnt.against(PLAN_SECONDS_MAX) if count == SIZES[-1] else ABSENT
        rows.append((str(count), str(len(plan.steps)), str(first), str(learnt), aim))
    headings = ("components", "steps", "nothing learnt yet", f"after {HISTORY} runs", "aim")
    return Section(
        name="plans",
        title="A plan with its times",
        tables=(Table("Processor time", headings, tuple(rows)),),
        notes=(
            "The steps, the estimate of each, 200 drawn runs, RTO by component, layer and pipeline, critical path, and "
            "what would shorten it. Without reading the point and the evidence from a vault.",
        ),
    )


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)


def _history(plan: Plan, point: Point, run: int) -> list[StepTiming]:
    return [
        StepTiming(
            step.id,
            step.action,
            point.components[step.component].kind if step.component else "",
            step.bytes if step.action in SIZED else 0,
            0.5 + step.bytes / 50e6 + 0.01 * ((run * 7 + number) % 11),
            f"run-{run}",
        )
        for number, step in enumerate(plan.steps)
    ]


def _timed(work: Callable[[], object], rounds: int) -> Series:
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return Series(tuple(taken), "s")


SECTIONS = {"drawn": drawn, "real": real, "plans": plans}
