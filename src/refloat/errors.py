"""Every error refloat raises, in one tree: each says what failed, where, why, and what to do next.

    RefloatError                 1   what was asked did not succeed
    ├── ManifestError            2   the manifest is wrong; carries line and column
    ├── UsageError               2   the command line or the call is wrong
    ├── Refused                  3   a safety rule said no; carries the rule's name
    ├── VaultError               4   what is stored is not what was written
    │   ├── Missing              4   an object that must be there is not
    │   ├── Damaged              4   an object's bytes do not match its name, seal or signature
    │   └── WrongKey             4   the key does not open this vault
    ├── Waiting                  5   a person must decide before anything more happens
    ├── StoreError               1   a store did not answer as it should; usually worth another try
    ├── ConnectorError           1   a component could not be inspected, captured, staged, switched or started
    │   └── DeadlineExceeded     1   a step took longer than it was allowed to
    ├── SlotTaken                1   somebody else wrote the slot first (raised by ``vault.slotlog``)
    ├── HoldLost                 1   another orchestrator took over; this one must stop
    └── Interrupted            130   stopped by a signal; the run can be resumed

Errors are raised low and rendered once, in ``cli/``. The exit code belongs to the class.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self


class Retry(StrEnum):
    """Whether trying the same thing again can help."""

    NEVER = "never"
    LATER = "later"
    NOW = "now"


class RefloatError(Exception):
    """Something asked for did not succeed.

    ``message`` says what failed and why; ``next`` says what to do. ``component``, ``region`` and
    ``file`` say to what it happened, where that is known.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

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
            "next": self.next,
        }


class ManifestError(RefloatError):
    """The manifest is wrong. ``line`` and ``column`` count from 1 where the place is known."""

    exit_code = 2
    code = "manifest"

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        file: str | None = None,
        next: str | None = None,
    ) -> None:
        super().__init__(message, file=file, next=next)
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


class Refused(RefloatError):
    """A safety rule said no. ``rule`` is the name that ``--override`` takes."""

    exit_code = 3
    code = "refused"

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


class Missing(VaultError):
    """An object that must be there is not."""

    code = "vault_missing"


class Damaged(VaultError):
    """An object's bytes do not match its name, its seal or its signature."""

    code = "vault_damaged"


class WrongKey(VaultError):
    """The key does not open this vault."""

    code = "vault_wrong_key"


class Waiting(RefloatError):
    """A person must decide before anything more happens."""

    exit_code = 5
    code = "waiting"


class StoreError(RefloatError):
    """A store did not answer as it should."""

    code = "store"


class ConnectorError(RefloatError):
    """A component could not be inspected, captured, staged, switched or started."""

    code = "connector"


class DeadlineExceeded(ConnectorError):
    """A step took longer than it was allowed to."""

    code = "deadline"


class HoldLost(RefloatError):
    """Another orchestrator took over this run or target; this one stops without another action."""

    code = "hold_lost"


class Interrupted(RefloatError):
    """Stopped by SIGINT; the run can be resumed."""

    exit_code = 130
    code = "interrupted"
