"""How a verb tells of alarms: what it found, and what failed in it, to where the manifest's `notify` says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from refloat.cli.common import Session
from refloat.cli.system import local_state_dir
from refloat.errors import Interrupted, RefloatError, Refused, UsageError

if TYPE_CHECKING:
    from refloat.alerts.model import Alarm, Looked
    from refloat.flows.alerts import Bell
    from refloat.flows.status import Status
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.vault.vault import Vault


def bell(session: Session, manifest: Manifest, resolver: Resolver) -> Bell:
    """What tells of alarms for this session."""
    from refloat.flows.alerts import Bell
    from refloat.flows.turn import ALARMS, folder_of

    file = folder_of(local_state_dir(), manifest, resolver) / ALARMS
    return Bell(manifest, resolver, file, session.clock, session.console.redacted)


def ring(session: Session, bell: Bell, alarms: Iterable[Alarm], looked: Looked) -> None:
    """Tell of alarms; what could not be delivered is a warning."""
    for remark in bell.ring(list(alarms), looked):
        session.console.warn(remark)


@contextmanager
def our_turn(session: Session, manifest: Manifest, resolver: Resolver) -> Iterator[bool]:
    """Whether no other protect of this pipeline is at work here; where that cannot be told, it counts as ours."""
    from refloat.flows.turn import folder_of, turn

    with ExitStack() as stack:
        try:
            ours = stack.enter_context(turn(folder_of(local_state_dir(), manifest, resolver)))
        except OSError as error:
            session.console.note(f"whether another protect is at work here cannot be told: {error}")
            ours = True
        yield ours


@contextmanager
def protecting(session: Session, bell: Bell) -> Iterator[None]:
    """What fails in here is told as a failed protect, and raised."""
    from refloat.flows.alerts import of_failed_protect

    try:
        yield
    except Interrupted:
        raise
    except Exception as error:  # raised again: whatever it is, no point was made
        ring(session, bell, [of_failed_protect(bell.manifest.pipeline, error)], lambda alarm: False)
        raise


@contextmanager
def recovering(session: Session, bell: Bell, to: str) -> Iterator[None]:
    """A run that stops in here, for a person or for good, is told of, and the error raised.

    Not where a safety rule said no or the command was wrong: then no run was begun, and whoever typed it reads it.
    """
    from refloat.flows.alerts import of_stopped_recovery

    try:
        yield
    except (Interrupted, Refused, UsageError):
        raise
    except RefloatError as error:
        ring(session, bell, [of_stopped_recovery(error, to)], lambda alarm: False)
        raise


def objective(session: Session, bell: Bell, vault: Vault) -> tuple[list[Alarm], Looked]:
    """Which components are beyond their RPO, as alarms; nothing where that cannot be told, or nobody wants to know."""
    from refloat.flows import status as flow
    from refloat.flows.alerts import breaches, breaches_looked_at

    if not bell.is_wanted:
        return [], lambda alarm: False
    try:
        found = flow.status(bell.manifest, vault, session.clock)
    except RefloatError as error:
        session.console.warn(f"whether every objective is kept cannot be told: {error.message}")
        return [], lambda alarm: False
    return list(breaches(found)), breaches_looked_at(found)


def ring_breaches(session: Session, bell: Bell, found: Status) -> None:
    """Tell which components are beyond their RPO, and which no longer are."""
    from refloat.flows.alerts import breaches, breaches_looked_at

    ring(session, bell, breaches(found), breaches_looked_at(found))
