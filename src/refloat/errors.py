"""Every error refloat raises, in one tree: each says what failed, where, why, and what to do next.

    RefloatError                 1   what was asked did not succeed
    ├── ManifestError            2   the manifest is wrong; carries line and column
    ├── UsageError               2   the command line or the call is wrong
    ├── Refused                  3   a safety rule said no; carries the rule's name
    ├── VaultError               4   what is stored is not what was written
    │   ├── Missing              4   an object that must be there is not
    │   ├── Damaged              4   an object's bytes do not match its name, seal or signature
    │   │   └── Malformed        4   they do, and are still nothing that refloat writes
    │   └── WrongKey             4   the key does not open this vault
    ├── Waiting                  5   a person must decide before anything more happens
    ├── StoreError               1   a store did not answer as it should; usually worth another try
    ├── ConnectorError           1   a component could not be inspected, captured, staged, switched or started
    │   ├── Cancelled            1   a call was told to end, and did
    │   └── DeadlineExceeded     1   a step took longer than it was allowed to
    │       └── Unended          1   it was told to end, and has not
    ├── SlotTaken                1   somebody else wrote the slot first (raised by ``vault.slotlog``)
    ├── HoldLost                 1   another orchestrator took over; this one must stop
    └── Interrupted            130   stopped by a signal; the run can be resumed

Errors are raised low and rendered once, in ``cli/``. The exit code belongs to the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import ClassVar, Self


class Retry(StrEnum):
    """Whether trying the same thing again can help."""

    NEVER = "never"
    LATER = "later"
    NOW = "now"


class RefloatError(Exception):
    """Something asked for did not succeed.

    ``message`` says what failed and why; ``next`` says what to do, ``otherwise`` what to do where whoever
    raised it knew nothing better. ``component``, ``region`` and ``file`` say to what it happened, where that
    is known.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"
    otherwise: ClassVar[str] = "run the same command again with --debug, and read where it stopped"

    def __init__(
        self,
        message: str,
        *,
        component: str | None = None,
        region: str | None = None,
        file: str | None = None,
        retry: Retry = Retry.NEVER,
        next: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.component = component
        self.region = region
        self.file = file
        self.retry = retry
        self.next = next

    @property
    def next_step(self) -> str:
        """What to do next; never nothing."""
        return self.next or self.otherwise

    @property
    def told(self) -> str:
        """What failed, where, and what to do next, for where there is room for one text only."""
        place = f" ({self.file})" if self.file and self.file not in self.message else ""
        return f"{self.message}{place}" + (f"; next: {self.next}" if self.next else "")

    def at(self, *, component: str | None = None, region: str | None = None, file: str | None = None) -> Self:
        """The same error with the places that a caller knows and the raiser did not."""
        self.component = self.component or component
        self.region = self.region or region
        self.file = self.file or file
        return self

    def document(self) -> dict[str, str | None]:
        """The error as ``--json`` prints it."""
        return {
            "code": self.code,
            "message": self.message,
            "component": self.component,
            "region": self.region,
            "file": self.file,
            "retry": str(self.retry),
            "next": self.next_step,
        }


class ManifestError(RefloatError):
    """The manifest is wrong. ``line`` and ``column`` count from 1 where the place is known.

    ``path`` leads to the value, for whoever has the file and can tell its line.
    """

    exit_code = 2
    code = "manifest"
    otherwise = "look the key up in docs/MANIFEST.md"

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        path: tuple[str | int, ...] = (),
        file: str | None = None,
        next: str | None = None,
    ) -> None:
        super().__init__(message, file=file, next=next)
        self.path = path
        self.line = line
        self.column = column

    def document(self) -> dict[str, str | None]:
        """The error with ``FILE:LINE:COLUMN`` as its file."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return {**super().document(), "file": place or None}


class UsageError(RefloatError):
    """The command line or the call is wrong."""

    exit_code = 2
    code = "usage"
    otherwise = "refloat --help"


class Refused(RefloatError):
    """A safety rule said no. ``rule`` is the name that ``--override`` takes."""

    exit_code = 3
    code = "refused"
    otherwise = "see what the rule asks for: docs/CLI.md, Safety rules"

    def __init__(
        self,
        rule: str,
        message: str,
        *,
        component: str | None = None,
        region: str | None = None,
        next: str | None = None,
    ) -> None:
        super().__init__(message, component=component, region=region, next=next)
        self.rule = rule

    def document(self) -> dict[str, str | None]:
        """The error with the rule that refused."""
        return {**super().document(), "rule": self.rule}


class VaultError(RefloatError):
    """What is stored is not what was written."""

    exit_code = 4
    code = "vault"
    otherwise = (
        "`refloat vault check --read-data` names what else is wrong, and `refloat vault repair` mends it"
    )


class Missing(VaultError):
    """An object that must be there is not."""

    code = "vault_missing"


class Damaged(VaultError):
    """An object's bytes do not match its name, its seal or its signature; ``reason`` says what is wrong, if told."""

    code = "vault_damaged"
    reason = ""


class Malformed(Damaged):
    """An object is what its writer signed, and nothing that refloat writes: by another program, or to do harm."""

    code = "vault_malformed"


class WrongKey(VaultError):
    """The key does not open this vault."""

    code = "vault_wrong_key"
    otherwise = "try each copy of the key file"


class Waiting(RefloatError):
    """A person must decide before anything more happens."""

    exit_code = 5
    code = "waiting"
    otherwise = "`refloat run show RUN --to REGION` tells what is where"


class StoreError(RefloatError):
    """A store did not answer as it should."""

    code = "store"
    otherwise = "see whether the store answers and its credentials are right, then run the same command again"


class StoreFull(StoreError):
    """A store has no room: the same again helps only once somebody has made some."""


class ConnectorError(RefloatError):
    """A component could not be inspected, captured, staged, switched or started."""

    code = "connector"
    otherwise = "`refloat check` tells how every component is now"


class Cancelled(ConnectorError):
    """A call was told to end, and did: its time was over, or the run stopped."""

    code = "cancelled"
    otherwise = "run the same command again to go on"


class DeadlineExceeded(ConnectorError):
    """A step took longer than it was allowed to."""

    code = "deadline"


class Unended(DeadlineExceeded):
    """A call was told to end and has not; while it goes on, nothing of its component is put back."""

    code = "unended"
    otherwise = "see what the component waits for; the call ends with the process that made it"


class HoldLost(RefloatError):
    """Another orchestrator took over this run or target; this one stops without another action."""

    code = "hold_lost"
    otherwise = "`refloat run list --to REGION` tells which run holds it"


class Interrupted(RefloatError):
    """Stopped by SIGINT; the run can be resumed."""

    exit_code = 130
    code = "interrupted"
    otherwise = "run the same command again"


def most_hopeful(causes: Iterable[RefloatError]) -> RefloatError:
    """Of several causes the first that trying again may help, and soonest; else the first. Raises ``ValueError``."""
    return min(causes, key=lambda cause: _HOPE.index(cause.retry))


_HOPE = (Retry.NOW, Retry.LATER, Retry.NEVER)


def of_plug_in(
    error: Exception, doing: str, *, component: str | None = None, region: str | None = None
) -> RefloatError:
    """An error that came out of a plug-in, with what it happened to; one that is not ours is a defect, and says so.

    ``doing`` says what failed: ``inspecting pages``.
    """
    if isinstance(error, RefloatError):
        return error.at(component=component, region=region)
    return ConnectorError(
        f"{doing} failed unexpectedly: {type(error).__name__}: {error}",
        component=component,
        region=region,
        next="this is a defect of the plug-in; report it",
    )


@contextmanager
def plug_in(doing: str, *, component: str | None = None, region: str | None = None) -> Iterator[None]:
    """Stands around whatever calls a plug-in. Raises ``RefloatError``, as ``of_plug_in`` makes it."""
    try:
        yield
    except RefloatError as error:
        error.at(component=component, region=region)
        raise
    except Exception as error:  # raised again: others' code raises anything
        raise of_plug_in(error, doing, component=component, region=region) from error
