"""From what became of a command to the alarms that a person should hear of, and on to where ``notify`` sends them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refloat.alerts import model
from refloat.alerts.kept import register
from refloat.alerts.model import Alarm, Kind, Looked, Standing
from refloat.alerts.send import Undelivered, to_command, to_webhook
from refloat.clock import Clock
from refloat.digest import Json
from refloat.errors import ManifestError, RefloatError, Waiting
from refloat.flows.protect import Protected
from refloat.flows.recover import Recovered
from refloat.flows.status import Status
from refloat.manifest.model import Manifest
from refloat.manifest.resolve import Resolver
from refloat.point.suspicion import spoken
from refloat.units import format_duration

Send = Callable[[Mapping[str, Json]], None]
"""Hands a document to a channel. Raises ``Undelivered``."""

_UNKEPT = "which alerts were sent is not kept, so they are sent each time"


@dataclass(frozen=True)
class Bell:
    """Tells of alarms as a manifest asks. ``file`` is where this machine keeps what it has told; ``hide`` takes
    secrets out of a text.
    """

    manifest: Manifest
    resolver: Resolver
    file: Path
    clock: Clock
    hide: Callable[[str], str] = str

    @property
    def is_wanted(self) -> bool:
        """Whether the manifest says where alerts go."""
        return bool(self.manifest.notify.webhook or self.manifest.notify.command)

    def ring(self, alarms: Sequence[Alarm], looked: Looked) -> list[str]:
        """Tell what is new, what still stands, and what of all that was ``looked`` at is over; what went wrong.

        Raises nothing for an alert that cannot be delivered: the next command tries again.
        """
        if not self.is_wanted:
            return []
        with ExitStack() as stack:
            try:
                kept = stack.enter_context(register(self.file))
                known = kept.read()
            except OSError as error:  # told each time is better than never
                _, wrong = self._told((), alarms, looked)
                return [*wrong, f"{_UNKEPT}: {error}"]
            standing, wrong = self._told(known, alarms, looked)
            try:
                kept.write(standing)
            except OSError as error:
                wrong.append(f"{_UNKEPT}: {error}")
            return wrong

    def _told(
        self, known: Sequence[Standing], alarms: Sequence[Alarm], looked: Looked
    ) -> tuple[list[Standing], list[str]]:
        now, remind_s = self.clock.now(), self.manifest.notify.remind
        standing = model.seen(known, alarms, looked, now)
        delivered, wrong = [], []
        channels = self._channels()
        for name, send in channels.items():
            found = model.news(standing, name, now, remind_s)
            try:
                if found:
                    send()(model.document(self.manifest.pipeline, found, now, self.hide))
                delivered.append(name)
            except (Undelivered, ManifestError) as error:
                wrong.append(f"notify.{name}: an alert was not delivered: {error}")
        return model.told(standing, channels, delivered, now, remind_s), wrong

    def _channels(self) -> dict[str, Callable[[], Send]]:
        """What makes each channel, once there is something to send: an address may refer to what is not there."""
        notify, late, region = self.manifest.notify, self.resolver, self.manifest.primary
        found: dict[str, Callable[[], Send]] = {}
        if webhook := notify.webhook:
            found["webhook"] = lambda: partial(to_webhook, late.value(webhook, self.manifest, region))
        if command := notify.command:
            found["command"] = lambda: partial(
                to_command, [late.value(word, self.manifest, region) for word in command]
            )
        return found


# ------------------------------------------------------------------------------------------------- the objective


def breaches(found: Status) -> Iterator[Alarm]:
    """Every component of which a loss would take more than its RPO allows, or that no other region holds.

    Where there is one region alone, no other can hold anything, and nobody need be told each day.
    """
    wanted = ("breach",) if len(found.regions) == 1 else ("breach", "unprotected")
    for name, component in found.components.items():
        losses = {lost: loss for lost, loss in component.exposure.items() if loss.state in wanted}
        for lost, loss in losses.items():
            age = "all" if loss.seconds is None else format_duration(loss.seconds)
            most = f"at most {format_duration(component.rpo_objective_s)} may be lost"
            yield Alarm(
                kind=Kind.RPO_BREACH,
                subject=name,
                message=f"losing {lost} now would cost {age} of {name}, and {most}: {loss.reason}",
                next="see why nothing newer is there: refloat status, then refloat protect",
            )


def breaches_looked_at(found: Status) -> Looked:
    """Of which components ``breaches`` would tell; not of one of which nothing is known."""
    told = {name for name, component in found.components.items() if component.state != "unknown"}
    gone = set(found.components)

    def looked(alarm: Alarm) -> bool:
        return alarm.kind is Kind.RPO_BREACH and (alarm.subject in told or alarm.subject not in gone)

    return looked


# ------------------------------------------------------------------------------------------------------- protect


def of_failed_protect(pipeline: str, error: Exception) -> Alarm:
    """No point was made at all."""
    known = error if isinstance(error, RefloatError) else None
    return Alarm(
        kind=Kind.PROTECT_FAILED,
        subject=known.component if known and known.component else pipeline,
        message=f"no recovery point was made: {known.message if known else error}",
        next=known.next_step if known else "run the same command again with --debug",
    )


def of_protected(made: Protected) -> Iterator[Alarm]:
    """What is not as it should be with a point that was made."""
    for name, error in made.errors.items():
        yield Alarm(
            kind=Kind.PROTECT_FAILED,
            subject=name,
            message=f"{name} could not be captured, and is as old as its last snapshot: {error.message}",
            next=error.next_step,
        )
    if made.copies < made.copies_required:
        for region, result in made.regions.items():
            if not result.complete:
                message = f"the newest point is not complete in {region}: {result.error}"
                yield Alarm(
                    kind=Kind.PROTECT_FAILED, subject=region, message=message, next="refloat vault check"
                )
    yield from _broken(made)


def _broken(made: Protected) -> Iterator[Alarm]:
    why = f"refloat points why {made.name[:12]}"
    for name, group in made.point.groups.items():
        if not group.grade.consistent:
            message = f"group {name} of the newest point is {group.grade}: {group.reason}"
            yield Alarm(kind=Kind.POINT_BROKEN, subject=name, message=message, next=why)
    if made.suspect:
        message = f"the newest point is suspect: {spoken(made.suspect)}"
        yield Alarm(kind=Kind.POINT_BROKEN, subject=made.point.pipeline, message=message, next=why)


def protected_looked_at(made: Protected, due: Collection[str] | None) -> Looked:
    """What making a point has looked at: all of it, but for components that were not ``due``."""
    passed_over = set() if due is None else set(made.point.components) - set(due)

    def looked(alarm: Alarm) -> bool:
        is_ours = alarm.kind in (Kind.PROTECT_FAILED, Kind.POINT_BROKEN)
        return is_ours and not (alarm.kind is Kind.PROTECT_FAILED and alarm.subject in passed_over)

    return looked


# ------------------------------------------------------------------------------------------------------ recovery


def of_recovered(done: Recovered, to: str) -> Iterator[Alarm]:
    """A run that ended otherwise than done; not one that a rule kept from its beginning, of which its caller reads."""
    if done.ok or done.evidence.state == "blocked":
        return
    run, failure = done.evidence.run, done.failure or {}
    why = failure.get("message") or "it is not known to answer as before"
    yield Alarm(
        kind=Kind.RECOVERY_FAILED,
        subject=to,
        message=f"the recovery into {to} is {done.evidence.state}: {why}",
        next=str(failure.get("next") or f"refloat run show {run} --to {to}"),
        occasion=run,
    )


def of_stopped_recovery(error: RefloatError, to: str) -> Alarm:
    """A run that stopped where it was: a person must decide, or something failed that no step can mend."""
    waits = isinstance(error, Waiting)
    return Alarm(
        kind=Kind.RECOVERY_WAITING if waits else Kind.RECOVERY_FAILED,
        subject=to,
        message=f"the recovery into {to} {'waits for a person' if waits else 'stopped'}: {error.message}",
        next=error.next_step,
        occasion=error.message,
    )


def recovery_looked_at(done: Recovered, to: str) -> Looked:
    """A run that was begun tells of those before it in the same region."""
    kinds = (Kind.RECOVERY_FAILED, Kind.RECOVERY_WAITING)
    begun = done.evidence.state != "blocked"
    return lambda alarm: begun and alarm.kind in kinds and alarm.subject == to


# ---------------------------------------------------------------------------------------------- of several looks


def any_of(looks: Iterable[Looked]) -> Looked:
    """What any of several looks has looked at."""
    kept = list(looks)
    return lambda alarm: any(look(alarm) for look in kept)
