"""A whole small world that one seed plays: a pipeline in one of two regions, a vault in both, and what befalls them.

Each operation may be asked for with faults; what the real code then says and leaves behind is held against the
``Oracle`` at once. Whoever chooses the operations (a seed's dice, or Hypothesis) decides everything.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar
from unittest import mock

from refloat import registry
from refloat.errors import RefloatError
from refloat.flows import opening
from refloat.flows.components import Components
from refloat.flows.forget import forget, plan_forget, spared
from refloat.flows.opening import Opener
from refloat.flows.points import MANIFEST
from refloat.flows.prepare import Wanted
from refloat.flows.protect import Protected, protect
from refloat.flows.recover import Recovered, journal_of, recover, runs_of, unfinished
from refloat.flows.request import Request
from refloat.flows.status import status
from refloat.limits import PRUNE_GRACE_S
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.point.retain import RULES
from refloat.run import claim
from refloat.run.state import FINAL
from refloat.testing.simulation.lockstep import Lockstep, in_step
from refloat.testing.simulation.oracle import Broken, Oracle, error_is_clear
from refloat.testing.simulation.places import NONE, Faults, LaggingStore, Process, Region
from refloat.testing.simulation.shelves import ANSWERS, GROUP, LEDGER, PAGES, Disks, Shelved, freeze
from refloat.testing.world import WorldClock
from refloat.vault import vault as vaults
from refloat.vault.check import check
from refloat.vault.keys import KeyFile
from refloat.vault.prune import plan_prune, prune
from refloat.vault.repair import repair
from refloat.vault.replica import Replica, create_vault
from refloat.vault.replicate import catch_up
from refloat.vault.stores.faulty import Crash
from refloat.vault.vault import Vault

T = TypeVar("T")

REGIONS = ("eu", "us")
END_OF_TIME_S = 1500 * 365 * 86_400.0  # further than all jumps of a clock together
WAITS_MAX = 600  # turns that a rival gives away; who has ended by then makes no more steps
KEPT_LAST = 2  # points, as `keep` says below
PAGES_KEPT = 3  # of earlier releases, so that snapshots share pages

TEXT = b"""\
version: 1
pipeline: small
primary: eu
keep: {last: 2, daily: 0, monthly: 0}
regions:
  eu: {vault: "memory://eu"}
  us: {vault: "memory://us"}
components:
  pages: {kind: front, tier: critical}
  ledger: {kind: shelf}
  answers: {kind: shelf}
groups:
  serving: {members: [pages, ledger], must: [pages.version == ledger.version]}
"""


class SimulatedWorld:
    """One pipeline, two regions, and everything that ``seed`` decides inside of an operation.

    The vaults are in memory, or in a ``folder``, where a write that is torn leaves what it leaves.
    """

    def __init__(self, seed: object, folder: Path | None = None) -> None:
        self.dice = random.Random(f"{seed} within")
        self.clock = WorldClock()
        self.told: list[str] = []
        self.regions = {name: Region(name, LaggingStore(name, folder and folder / name)) for name in REGIONS}
        self.runs_in = REGIONS[0]
        self.jumped = False
        self.unsettled: set[str] = set()
        self._here = threading.local()
        self._processes = 0
        self._lockstep: Lockstep | None = None
        self._saved: dict[str, tuple[dict[str, bytes], list[str], frozenset[str], set[str]]] = {}
        self._shortened: dict[str, bool] = {}
        self._lines = 0
        self._version = 0
        self._revision = 0
        self.disks = Disks(lambda what: self._process.touch(what))
        self._connectors = {
            "front": Shelved(self.disks, "front", refers_to=("shelf",)),
            "shelf": Shelved(self.disks, "shelf"),
        }
        self._manifest = parse(TEXT)
        self._stack = ExitStack()

    def __enter__(self) -> SimulatedWorld:
        with ExitStack() as stack:
            stack.enter_context(in_step(self.dice))
            for where, name, stand_in in (
                (vaults, "open_store", lambda url: self._process.store(url)),
                (opening, "open_store", lambda url: self._process.store(url)),
                (claim, "this_process", lambda: self._process.holder),
                (registry, "connector", self._connectors.__getitem__),
            ):
                stack.enter_context(mock.patch.object(where, name, stand_in))
            self.key = KeyFile.create("5ma11" * 4, "small")
            self.oracle = Oracle(self.key, self.clock)
            create_vault({r.name: r.store for r in self.regions.values()}, self.key, self.clock, "small")
            self.release()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def trace(self) -> str:
        """A digest of everything that happened, in order."""
        return hashlib.sha256("\n".join(self.told).encode()).hexdigest()

    # ---------------------------------------------------------------------------------- the pipeline lives

    def release(self, *, halves: Sequence[str] = GROUP) -> None:
        """Write the next version, part after part; ``halves`` says of which parts."""
        self._version += 1
        self._deploy("release", halves)

    def hotfix(self) -> None:
        """Write the same version once more, part after part, with other contents."""
        self._deploy("hotfix", GROUP)

    def _deploy(self, what: str, halves: Sequence[str]) -> None:
        self._revision += 1
        self._tell(f"{what} {self._version} of {', '.join(halves)} in {self.runs_in}")
        anew = not self.disks.live(self.runs_in)
        for part in GROUP if anew else halves:
            self._write(part)
        if anew:
            self.answer()

    def answer(self) -> None:
        """One more line in the log of answers, where anything runs."""
        if not self.disks.live(self.runs_in):
            return
        self._lines += 1
        live = self.disks.shelf(self.runs_in, ANSWERS).live or {}
        line = f"answer {self._lines}\n".encode()
        self._put(ANSWERS, {"log": live.get("log", b"") + line})

    def _write(self, part: str) -> None:
        said = {"facts.json": json.dumps({"version": self._version}).encode()}
        if part == PAGES:
            said |= {"built.txt": f"build {self._revision}\n".encode()}
            first = max(1, self._version - PAGES_KEPT)
            said |= {
                f"deep/page-{n}.txt": f"what page {n} says\n".encode() * 20
                for n in range(first, self._version + 1)
            }
        if part == LEDGER:
            said |= {"rows": "".join(f"{n}\n" for n in range(1, self._revision + 1)).encode()}
        self._put(part, said)

    def _put(self, part: str, files: dict[str, bytes]) -> None:
        while (self.runs_in, part) in self.disks.frozen and self._lockstep is not None:
            self._lockstep.pause()
        self.disks.shelf(self.runs_in, part).live = freeze(files)
        self.oracle.changed(self.runs_in, self.disks.live(self.runs_in))
        if self._lockstep is not None:
            self._lockstep.pause()

    # ------------------------------------------------------------------------------------------- the flows

    def protect(self, faults: Faults = NONE, *, region: str | None = None) -> Protected | None:
        """Make a recovery point; None where it came to an end by a fault."""
        return self._judged(self._attempt("protect", self._protect(region or self.runs_in), faults))

    def protect_together(
        self, switch: float, faults: Sequence[Faults] = (NONE, NONE), *, meanwhile: str = ""
    ) -> None:
        """Two writers protect at once; ``meanwhile`` somebody may deploy a ``release`` or a ``hotfix``."""
        calls: dict[str, Callable[[], object]] = {
            name: self._inside(name, self._protect(self.runs_in), fault)
            for name, fault in zip(("A", "B"), faults, strict=True)
        }
        if meanwhile:
            calls["life"] = self.hotfix if meanwhile == "hotfix" else self.release
        for outcome in self._play(switch, calls).values():
            if isinstance(outcome, Protected):
                self._acknowledged(outcome)

    def recover(
        self, to: str, faults: Faults = NONE, *, resume: bool = False, point: str | None = None
    ) -> Recovered | None:
        """Recover into a region, or go on with the run that was begun there."""
        before = self.disks.live(to)
        run = self.begun(to) if resume else None
        newest = self.oracle.newest_good(self.regions[to])
        done = self._attempt(f"recover into {to}", self._recover(to, run, point), faults)
        if done is not None and run is None and point is None:
            self.oracle.chosen(done.evidence.point, newest)
        return self._recovered(to, done, before, by_default=run is None and point is None)

    def recover_together(self, to: str, switch: float) -> None:
        """One orchestrator recovers; another, whom a person tells that it is dead, goes on with the same run."""

        def rival() -> object:
            enough = len(self.told) + self.dice.randrange(20, 300)
            for _ in range(WAITS_MAX):
                if len(self.told) < enough and self._lockstep is not None:
                    self._lockstep.give_way()
            run = self.begun(to)
            return self._recover(to, run, None, *(["target_claimed"] if run else []))()

        before = self.disks.live(to)
        calls = {
            "A": self._inside("A", self._recover(to, None, None), NONE),
            "B": self._inside("B", rival, NONE),
        }
        outcomes = [came for came in self._play(switch, calls).values() if isinstance(came, Recovered)]
        ended = [done for done in outcomes if done.evidence.state == "done"] or outcomes
        first = next(iter(ended), None)  # who comes late is refused by what the first has put there
        self._recovered(to, first, before, by_default=False)

    def begun(self, region: str) -> str | None:
        """The run into a region that is not over; None where there is none, or it cannot be told."""
        if not self.regions[region].sound:
            return None
        with self.regions[region].listed():
            return self._begun(self.oracle.open(self.regions[region]), region)

    def _begun(self, replica: Replica, region: str) -> str | None:
        for run in reversed(runs_of(replica, region)):
            view = journal_of(replica, run, self.clock).view
            if view.plan is not None:
                return None if view.ended or view.state in FINAL else run
        return None

    def status(self) -> None:
        """Ask what a loss would cost."""
        told = self._attempt("status", lambda: status(self._manifest, self._vault(), self.clock), NONE)
        if told is not None and not self.jumped:
            self.oracle.status(told, self.runs_in, self.regions, settled=not self.unsettled)

    def repair(self, faults: Faults = NONE) -> None:
        """Check every replica, and mend each from the other."""

        def mend() -> None:
            vault = self._vault()
            for name, replica in vault.replicas.items():
                found = [damage.object for damage in check(replica, read_data=True).damaged]
                others = [other for other in vault.replicas.values() if other is not replica]
                done = repair(replica, found, others, all_answer=not vault.unreachable)
                self.regions[name].harmed -= set(done.mended)

        self._attempt("repair", mend, faults)

    def forget(self, faults: Faults = NONE, *, overriding: bool = False) -> None:
        """Forget what `keep` has no use for; ``overriding``, whatever speaks against it."""
        self.oracle.overridden |= overriding
        self._attempt("forget", self._forget(RULES if overriding else ()), faults)
        self._all_is_there()

    def prune(self, faults: Faults = NONE) -> int | None:
        """Remove what no point needs; how many objects that were, None where it was refused."""
        removed = self._attempt("prune", self._prune, faults)
        self._all_is_there()
        return removed

    def prune_together(self, switch: float, beside: Collection[str], faults: Faults = NONE) -> None:
        """Somebody prunes, and ``beside`` it others ``protect``, ``forget`` or ``prune``."""
        others = {"protect": self._protect(self.runs_in), "forget": self._forget(()), "prune": self._prune}
        calls: dict[str, Callable[[], object]] = {
            name: self._inside(name, others[name], NONE) for name in sorted(beside)
        }
        outcomes = self._play(switch, {**calls, "P": self._inside("P", self._prune, faults)})
        for outcome in outcomes.values():
            if isinstance(outcome, Protected):
                self._acknowledged(outcome)
        self._all_is_there()

    def _all_is_there(self) -> None:
        """I1: nothing that a point needs has gone."""
        for region in self.regions.values():
            if not region.wiped:
                with region.listed():
                    for point in self.oracle.acked.get(region.name, ()):
                        self.oracle.still(region, point)

    def replicate(self, source: str, target: str, faults: Faults = NONE) -> None:
        """Bring one replica what the other holds."""

        def copy() -> None:
            replicas = self._vault().replicas
            if {source, target} <= set(replicas):
                catch_up(replicas[source], replicas[target])

        self._attempt(f"replicate {source} to {target}", copy, faults)

    # -------------------------------------------------------------------------------------- what befalls it

    def lose_pipeline(self, region: str) -> None:
        """A region's disks are gone, and what ran there; its vault is not.

        Not in the middle of a recovery into it: a run that goes on trusts what it has recorded as done.
        """
        if region in self.unsettled:
            return
        self._tell(f"the disks of {region} are gone")
        self.disks.lose(region)

    def down(self, region: str) -> None:
        """A region's store does not answer."""
        self._tell(f"{region} is down")
        self.regions[region].up = False

    def back(self, region: str) -> None:
        """A region's store answers again; one that was wiped is made anew."""
        place = self.regions[region]
        self._tell(f"{region} is back")
        place.up = True
        if place.wiped:
            with place.listed():
                create_vault({region: place.store}, self.key, self.clock, "small")
            place.wiped = False

    def wipe(self, region: str) -> None:
        """Everything that a region's store held is gone."""
        self._tell(f"{region} is wiped")
        place = self.regions[region]
        place.store.put_back({})
        place.harmed.clear()
        place.wiped = True
        self._shortened[region] = True
        self.oracle.vanished(place)

    def save(self, region: str) -> None:
        """Somebody copies a region's store, to put it back one day."""
        place = self.regions[region]
        if not place.wiped:
            self._tell(f"{region} is copied")
            known = list(self.oracle.acked.get(region, []))
            forgotten = self.oracle.forgotten.get(region, frozenset())
            self._saved[region] = (place.store.saved(), known, forgotten, set(place.harmed))

    def roll_back(self, region: str) -> None:
        """A region's store is as it was when it was copied."""
        if region in self._saved:
            self._tell(f"{region} is rolled back")
            place = self.regions[region]
            objects, known, forgotten, harmed = self._saved[region]
            place.store.put_back(objects)
            place.harmed, place.wiped = set(harmed), False
            self._shortened[region] = True
            self.oracle.vanished(place, known, forgotten)

    def harm(self, region: str, number: int, *, lose: bool) -> None:
        """One bit of a stored object rots, or the object is lost."""
        place = self.regions[region]
        names = [
            n for n in place.store.names() if n.startswith(("packs/", "index/", "points/", "log/points/"))
        ]
        if not names:
            return
        name = names[number % len(names)]
        self._tell(f"{region} {'loses' if lose else 'rots in'} {name}")
        content = bytearray(place.store.get(name))
        content[number % len(content)] ^= 1 << number % 8
        place.store.delete(name)
        if not lose:
            place.store.create(name, bytes(content))
        place.harmed.add(name)

    def lag(self, region: str, objects: int) -> None:
        """A region's listings do not show what was created last."""
        self._tell(f"{region} lists all but {objects}")
        self.regions[region].store.lag = objects

    def pass_time(self, seconds: float) -> None:
        """Time goes by."""
        self._tell(f"{seconds:g} s pass")
        self.clock.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Every clock is set wrong."""
        self._tell(f"the clock jumps by {seconds:g} s")
        self.clock.jump(seconds)
        self.jumped = True

    # ------------------------------------------------------------------------------------------- judgement

    def judge(self) -> None:
        """Hold everything against what must be true. No fault is met meanwhile."""
        for region in self.regions.values():
            if region.wiped or region.judged == region.store.changes:
                continue
            region.judged = region.store.changes
            with region.listed():
                self.oracle.adopt(region)
                self.oracle.let_go(region, KEPT_LAST, self._in_use)
                self.oracle.claims(region)
                self.oracle.named(region)
                if known := self.oracle.acked.get(region.name):
                    self.oracle.still(region, self.dice.choice(known))
        self.oracle.effects(self.disks.effects)

    def end(self) -> None:
        """Every fault is over: the world converges, and nothing that was acknowledged is lost."""
        for name, region in self.regions.items():
            self.back(name)
            region.store.lag = 0
        self.judge()
        self.repair()
        for region in self.regions.values():
            for point in self.oracle.acked.get(region.name, ()):
                self.oracle.still(region, point)
            if region.sound:
                self.oracle.checks(region)
        self.oracle.rolled_back(self.regions.values(), self._shortened)
        self._converges()
        self._leaks_nothing()

    def _leaks_nothing(self) -> None:
        """I5: a day after a prune the next one leaves what the points need, and nothing else. I1: all of that."""
        if self.prune() is None:
            return  # refused, as where a region was rolled back: then everything stays
        self.clock.sleep(PRUNE_GRACE_S)
        if self.jumped:
            self.clock.jump(END_OF_TIME_S)  # what was marked while the clock was ahead waits until then
        if self.prune():
            self.oracle.pruned(self.regions.values(), self._in_use())

    def _converges(self) -> None:
        self.release()
        made = self.protect()
        if any(region.rotten for region in self.regions.values()):
            return  # what is known to be stored is not stored again, whether it can be read or not
        for name in [name for name, region in self.regions.items() if region.sound]:
            if made is None or not (made.regions[name].complete or self._shortened.get(name)):
                raise Broken(
                    f"every fault is over, and {name} takes no point: {made and made.regions[name].error}"
                )

    def _judged(self, made: Protected | None) -> Protected | None:
        if made is not None:
            self._acknowledged(made)
        return made

    def _acknowledged(self, made: Protected) -> None:
        for name, result in made.regions.items():
            region = self.regions[name]
            with region.listed():
                self.oracle.adopt(region)
                if result.complete:
                    self.oracle.acknowledged(region, made.name)

    def _recovered(
        self, to: str, done: Recovered | None, before: Mapping[str, object], *, by_default: bool
    ) -> Recovered | None:
        live = self.disks.live(to)
        if (
            done is not None and done.evidence.state != "blocked"
        ):  # which leaves all as it was, settled or not
            self.unsettled.discard(to)
        if (done is None and live != before) or self._left_over(to):
            self.unsettled.add(to)
        if done is not None and done.evidence.state == "done":
            self.runs_in = to
            self.oracle.changed(to, live)
            self.oracle.recovered(done.evidence.point, live, by_default=by_default)
        elif done is not None and done.evidence.state in ("blocked", "rolled_back") and live != before:
            raise Broken(f"the recovery into {to} is {done.evidence.state}, and something else is live there")
        return done

    def _left_over(self, region: str) -> bool:
        """Whether a recovery has staged or switched something there and not cleaned up."""
        shelves = [shelf for (at, _), shelf in self.disks.shelves.items() if at == region]
        return any(shelf.staged or shelf.partial or shelf.aside for shelf in shelves)

    # ------------------------------------------------------------------------------------------- processes

    @property
    def _process(self) -> Process:
        found: Process = self._here.process
        return found

    def _pause(self) -> None:
        if self._lockstep is not None:
            self._lockstep.pause()

    def _tell(self, line: str) -> None:
        self.told.append(line)

    def _play(self, switch: float, calls: Mapping[str, Callable[[], object]]) -> dict[str, object]:
        self._lockstep = Lockstep(self.dice, switch)
        try:
            found = self._lockstep.play(calls)
        finally:
            self._lockstep = None
        for outcome in found.values():
            if isinstance(outcome, BaseException):
                raise outcome
        return found

    def _attempt(self, what: str, call: Callable[[], T], faults: Faults) -> T | None:
        """What a new process makes of a call; None where it died or was refused."""
        self._tell(what)
        return self._inside(f"p{self._processes}", call, faults)()

    def _inside(self, name: str, call: Callable[[], T], faults: Faults) -> Callable[[], T | None]:
        self._processes += 1
        process = Process(
            f"{name}-{self._processes}", self.regions, self.clock, faults, pause=self._pause, told=self._tell
        )

        def run() -> T | None:
            with self._as(process):
                try:
                    return call()
                except Crash:
                    self._tell(f"{process.name} died")
                except RefloatError as error:
                    self._tell(f"{process.name}: {type(error).__name__}: {error}")
                    error_is_clear(error)
            return None

        return run

    @contextmanager
    def _as(self, process: Process) -> Iterator[None]:
        self._here.process = process
        try:
            yield
        finally:
            del self._here.process

    def _opener(self) -> Opener:
        return Opener(lambda urls: self.key, self.clock)

    def _vault(self) -> Vault:
        return self._opener().of_manifest(self._manifest, _resolver())

    def _forget(self, overrides: Collection[str]) -> Callable[[], None]:
        def call() -> None:
            vault = self._vault()
            forget(vault, plan_forget(self._manifest, vault, self.clock, overrides=overrides))

        return call

    def _prune(self) -> int:
        vault = self._vault()
        plans = plan_prune(vault, self.clock.now(), spared=spared(vault, self.clock))
        for plan in plans:
            place = self.regions[plan.region]
            try:
                prune(vault.replicas[plan.region], plan)
            finally:
                place.harmed -= {name for name in plan.remove if place.store.size(name) is None}
        return sum(len(plan.remove) for plan in plans)

    def _in_use(self) -> frozenset[str]:
        """The points that runs name which are not over, as far as it can be told."""
        found: set[str] = set()
        for region in self.regions.values():
            if region.sound:
                with region.listed():
                    runs = unfinished(self.oracle.open(region), self.clock)
                    found.update(plan.point for _, plan in runs if plan is not None)
        return frozenset(found)

    def _protect(self, region: str) -> Callable[[], Protected]:
        components = Components(self._manifest, _resolver())
        return lambda: protect(components, {MANIFEST: TEXT}, self._vault(), self.clock, region=region)

    def _recover(self, to: str, run: str | None, point: str | None, *rules: str) -> Callable[[], Recovered]:
        def call() -> Recovered:
            request = Request(Wanted(to, point), resume=run)
            prepared, everywhere = request.ready(self._vault(), None, self._opener(), _resolver)
            return recover(prepared, everywhere, self.clock, run=run, overrides=frozenset(rules))

        return call


def _resolver() -> Resolver:
    return Resolver({}, _no_file)


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)
