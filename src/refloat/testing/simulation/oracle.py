"""What must be true of a simulated world: a plain model of it, and the questions that are asked of the real one.

The model knows only what happened: what was live when, which points were acknowledged where. It shares no code
with what it judges, and every ``Broken`` is a promise that was not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from refloat.clock import Clock
from refloat.contracts import EntryType, Facts
from refloat.digest import object_name
from refloat.errors import RefloatError, VaultError
from refloat.flows import points
from refloat.flows.status import Status
from refloat.point.model import Grade, Point
from refloat.run.state import View
from refloat.testing.simulation.places import Region
from refloat.testing.simulation.shelves import GROUP, Effect, Files
from refloat.vault import layout
from refloat.vault.check import check
from refloat.vault.forgotten import forgotten_points
from refloat.vault.keys import KeyFile, Role
from refloat.vault.replica import Replica
from refloat.vault.witness import rolled_back

NAMED = (layout.KEYS, layout.PACKS, layout.INDEX, layout.POINTS)
"""Where objects are named by their bytes."""

ROUNDED_S = 0.01  # what is told is rounded, and the clock moves while it is being told


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclass(frozen=True)
class Moment:
    """What was live in a region from ``time`` on."""

    time: datetime
    region: str
    live: Mapping[str, Files]


@dataclass
class Oracle:
    """What happened, and whether what is told fits it."""

    key: KeyFile
    clock: Clock
    history: list[Moment] = field(default_factory=list)
    contents: dict[str, Mapping[str, Files]] = field(default_factory=dict)
    points: dict[str, Point] = field(default_factory=dict)
    acked: dict[str, list[str]] = field(default_factory=dict)
    forgotten: dict[str, frozenset[str]] = field(default_factory=dict)
    overridden: bool = False
    read_at: dict[tuple[str, str], int] = field(default_factory=dict)
    opened_at: dict[str, tuple[tuple[int, int], Replica]] = field(default_factory=dict)

    # -------------------------------------------------------------------------------------- what happened

    def changed(self, region: str, live: Mapping[str, Files]) -> None:
        """Something else is live in a region."""
        self.history.append(Moment(self.clock.now(), region, dict(live)))

    def open(self, region: Region) -> Replica:
        """A region's replica as a process would see it that meets no fault."""
        return Replica.open(region.name, region.store, self.key, self.clock)

    def _opened(self, region: Region) -> Replica:
        """The same, opened once for all that is asked of a store in which nothing has changed since."""
        now = region.store.changes, region.store.lag
        if self.opened_at.get(region.name, (None,))[0] != now:
            self.opened_at[region.name] = now, self.open(region)
        return self.opened_at[region.name][1]

    def adopt(self, region: Region) -> None:
        """Hold a region's log against what was acknowledged there; what it has beyond that is known from now on.

        I1: whatever was acknowledged is listed, in order. A region that was harmed may refuse, never differ.
        """
        if region.wiped or region.log_harmed:
            return
        known = self.acked.setdefault(region.name, [])
        try:
            listed = [point.name for point in self._opened(region).points()]
        except VaultError as error:
            if not region.harmed:
                raise Broken(f"the log of {region.name} was never harmed: {error}") from error
            return
        if listed[: len(known)] != known:
            raise Broken(f"{region.name} acknowledged {_short(known)} and lists {_short(listed)}")
        for name in listed[len(known) :]:
            self.still(region, name)
            known.append(name)

    def let_go(self, region: Region, keep_last: int, in_use: Callable[[], Collection[str]]) -> None:
        """Row 56: what a region forgets is none of its last points, nor its newest good one, nor in use; it stays so.

        Row 12: unless a person overrode that, nothing is forgotten while the clock is behind a point.
        """
        if region.wiped or region.log_harmed:
            return
        before, known = self.forgotten.get(region.name, frozenset()), self.acked.get(region.name, [])
        told = forgotten_points(self._opened(region))
        if not before <= told and not any(name.startswith("log/forgotten/") for name in region.harmed):
            raise Broken(f"{region.name} has forgotten {_short(sorted(before - told))} and counts them again")
        if told <= before:
            return
        behind = not self.overridden and any(
            self.points[name].created_at > self.clock.now() for name in set(known) - before
        )
        kept = {*known[0 if behind else -keep_last :], *in_use(), *filter(None, [self.newest_good(region)])}
        if lost := kept & (told - before):
            raise Broken(f"{region.name} forgot {_short(sorted(lost))}, which it must keep")
        self.forgotten[region.name] = before | told

    def still(self, region: Region, name: str) -> None:
        """I1: a point that was acknowledged and not forgotten restores; of one that was, no other bytes come."""
        gone = name in self.forgotten.get(region.name, ())
        self.read(region, name, harmed=gone or bool(region.harmed))

    def acknowledged(self, region: Region, name: str) -> None:
        """I1: a protect said that the point is complete in a region: then it is, whatever was lost there before."""
        if region.wiped or region.log_harmed:
            return
        if name not in self.acked.get(region.name, []):
            raise Broken(f"{name[:12]} was acknowledged in {region.name} and is not in its log")
        self.read(region, name, harmed=region.rotten)

    def read(self, region: Region, name: str, *, harmed: bool) -> None:
        """I1, I2: a point restores byte for byte as it was captured; where the region is harmed, or not at all.

        One that was read since the region's store last changed is not read again.
        """
        if self.read_at.get((region.name, name)) == region.store.changes:
            return
        try:
            replica = self._opened(region)
            point = points.read(replica, name)
            found = {part: _files(replica, point, part) for part in point.components}
        except RefloatError as error:
            if not harmed:
                raise Broken(f"{name[:12]} cannot be read in {region.name}: {error}") from error
            return
        if name not in self.contents:
            self._plausible(name, point, found)
            self.contents[name], self.points[name] = found, point
        elif self.contents[name] != found:
            raise Broken(f"{name[:12]} in {region.name} holds other bytes than were captured")
        self.read_at[region.name, name] = region.store.changes

    def _plausible(self, name: str, point: Point, found: Mapping[str, Files]) -> None:
        """I2: each part was live at some time. Row 51: what is graded exact was live together, and fits."""
        for part, files in found.items():
            if not any(moment.live.get(part) == files for moment in self.history):
                raise Broken(f"{part} of {name[:12]} was never so: {dict(files)}")
        fits = found[GROUP[0]]["facts.json"] == found[GROUP[1]]["facts.json"]
        if fits != (point.grade is not Grade.BROKEN):
            raise Broken(f"{name[:12]} is graded {point.grade}, and {'fits' if fits else 'does not fit'}")
        if point.grade is Grade.EXACT and not self._were_live_together(found):
            raise Broken(f"{name[:12]} is graded exact, and its parts were never live at one moment")

    def _were_live_together(self, found: Mapping[str, Files]) -> bool:
        return any(all(moment.live.get(part) == found[part] for part in GROUP) for moment in self.history)

    def vanished(
        self, region: Region, kept: Sequence[str] = (), forgotten: frozenset[str] = frozenset()
    ) -> None:
        """A region was lost, or is as it was when it had ``kept`` and had ``forgotten`` some of it."""
        self.acked[region.name] = list(kept)
        self.forgotten[region.name] = forgotten

    # -------------------------------------------------------------------------------------- what is asked

    def recovered(self, name: str, live: Mapping[str, Files], *, by_default: bool) -> None:
        """I2: what is live is what the point holds. Row 51: a broken one is never the default."""
        if name not in self.contents:
            raise Broken(f"{name[:12]} was recovered from, and nobody ever captured it")
        if live != self.contents[name]:
            raise Broken(f"what is live after the recovery is not what {name[:12]} holds")
        if by_default and self.points[name].grade is Grade.BROKEN:
            raise Broken(f"{name[:12]} is broken, and was chosen by default")

    def newest_good(self, region: Region) -> str | None:
        """The newest point of a region that is not broken; None where that cannot be told."""
        known = self.acked.get(region.name, []) if region.sound else []
        return next((name for name in reversed(known) if self.points[name].grade is not Grade.BROKEN), None)

    def chosen(self, name: str, newest_good: str | None) -> None:
        """Row 51: it is chosen by default, and no other, newer and broken or older and good."""
        if newest_good is not None and name != newest_good:
            raise Broken(f"{name[:12]} was chosen, and the newest good one is {newest_good[:12]}")

    def status(self, told: Status, runs_in: str, regions: Mapping[str, Region], *, settled: bool) -> None:
        """What a loss would cost is never told better than it is."""
        if told.runs_in != runs_in:
            if settled and all(region.sound for region in regions.values()):
                raise Broken(f"the pipeline runs in {runs_in}, and status says {told.runs_in}")
            return
        now = self.clock.now()
        for part, component in told.components.items():
            loss = component.exposure[runs_in]
            if loss.state not in ("ok", "warn", "breach"):
                continue
            kept = [
                self._true_until(self.contents[name][part], part, runs_in, now)
                for region in regions.values()
                if region.up and region.name != runs_in
                for name in self.acked.get(region.name, ())
                if self.points[name].grade is not Grade.BROKEN
            ]
            if not kept:
                raise Broken(f"status says that {part} is {loss.state}, and no other region holds any of it")
            truth_s = (now - max(kept)).total_seconds()
            if (loss.seconds or 0.0) < truth_s - ROUNDED_S:
                raise Broken(f"status says that {loss.seconds} s of {part} are at stake; {truth_s:.3f} s are")

    def _true_until(self, files: Files, part: str, region: str, now: datetime) -> datetime:
        """Until when a component was still as these files are, where the pipeline runs."""
        until, end = datetime.min.replace(tzinfo=now.tzinfo), now
        for moment in reversed(self.history):
            if moment.live.get(part) == files:
                return max(until, end)
            end = moment.time
        return until

    def claims(self, region: Region) -> None:
        """I3: each claim has the next epoch, and only the holder gives it back."""
        if region.wiped or any(name.startswith("log/targets/") for name in region.harmed):
            return
        epoch, run = 0, ""
        for entry in self.open(region).log(f"targets/{region.name}", Role.OPERATOR).entries():
            told = int(str(entry.body["epoch"]))
            if entry.body["type"] == "claimed":
                if told != epoch + 1:
                    raise Broken(f"epoch {told} of {region.name} follows epoch {epoch}")
                epoch, run = told, str(entry.body["run"])
            elif (told, entry.body["run"]) != (epoch, run):
                raise Broken(f"epoch {told} of {region.name} was given back in epoch {epoch}")

    def effects(self, effects: Iterable[Effect]) -> None:
        """I3: epochs never fall at what is switched. I4: nothing is switched twice by one operation."""
        epochs: dict[tuple[str, str], int] = {}
        active: set[tuple[str, str, str]] = set()
        for effect in effects:
            place, op = (effect.region, effect.component), (effect.region, effect.component, effect.token)
            if effect.what == "activate":
                if effect.epoch < epochs.get(place, 0):
                    raise Broken(f"{effect} comes after epoch {epochs[place]}")
                if op in active:
                    raise Broken(f"{effect} happened twice")
                epochs[place] = effect.epoch
                active.add(op)
            elif effect.what == "revert":
                if op not in active:
                    raise Broken(f"{effect} puts back what was not switched")
                active.discard(op)

    def journal(self, view: View) -> None:
        """I4: a run that is done knows what became of each step."""
        if view.plan is not None and view.state == "done":
            unsettled = [step.id for step in view.plan.steps if not view.step(step.id).ended_at]
            if unsettled:
                raise Broken(f"run {view.run} is done, and nothing is known of {unsettled}")

    def named(self, region: Region) -> None:
        """Damaged bytes are never copied onward: where nothing was harmed, each object has its own."""
        for name in set(region.store.names()) - region.harmed:
            if name.startswith(NAMED) and object_name(region.store.get(name)) != name.rpartition("/")[2]:
                raise Broken(
                    f"{name} was never harmed in {region.name}, and its bytes are not those of its name"
                )

    def checks(self, region: Region) -> None:
        """A region that was never harmed passes its check, every byte read."""
        report = check(self.open(region), read_data=True)
        if not report.ok:
            raise Broken(f"{region.name} was never harmed, and its check finds {report.damaged}")

    def pruned(self, regions: Iterable[Region], spared: Collection[str]) -> None:
        """I5: no pack and no body is left but those that points need. A pack beside one of them may stay."""
        replicas = [self.open(region) for region in regions]
        kept: set[str] = set()
        for replica in replicas:
            report = check(replica, read_data=False, spared=spared)
            kept |= report.needed.union(*report.shared.values())
        for replica in replicas:
            beside = {layout.pack_name(pack.name) for pack in replica.index.packs if pack.writer}
            for prefix in (layout.PACKS, layout.POINTS):
                for entry in replica.store.list(prefix):
                    if entry.name not in kept | beside:
                        raise Broken(
                            f"{replica.region} was pruned, and {entry.name} is left, which no point needs"
                        )

    def rolled_back(self, regions: Iterable[Region], truly: Mapping[str, bool]) -> None:
        """No region is called rolled back that was not."""
        for name in rolled_back([self.open(region) for region in regions if region.up and not region.wiped]):
            if not truly.get(name, False):
                raise Broken(f"{name} is called rolled back, and was not")


def error_is_clear(error: RefloatError) -> None:
    """I6: an error says what happened, and what to do next."""
    if not error.message or not error.next:
        raise Broken(f"{type(error).__name__} says no next step: {error.message!r}")


def _files(replica: Replica, point: Point, part: str) -> Files:
    snapshot = point.components[part]
    source = replica.source(snapshot.tree, Facts(snapshot.identity, snapshot.position))
    files = (entry.path for entry in source.entries() if entry.type is EntryType.FILE)
    return {path: source.open(path).read() for path in files}


def _short(names: Sequence[str]) -> list[str]:
    return [name[:8] for name in names]
