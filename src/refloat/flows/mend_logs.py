"""Let the logs of a region be written on after damage: what is wrong is set aside, and what can be known is said again.

A log has no copy: it says what happened in its own region. What an entry that cannot be read any more said is known
where other regions have as many of the same, or where it is of no use any more. In all other cases something may be
lost, and a person says so first: rule ``log_damaged``. By log:

- ``points``: what other regions commit, and what was set aside and still verifies, is committed again;
- ``baselines``, ``evidence``: the same of records; ``forgotten``, ``renewed``, ``audit``, ``drills``: what was set
  aside is said again; of ``forgotten`` less is then forgotten, never more;
- ``prune``: what is marked is marked anew, and waits its whole grace again;
- ``runs/ID``: a journal that lacks a part tells nothing that anybody may act upon. All of it is set aside, unless what
  is whole says that the run was over;
- ``targets/REGION``: nothing is claimed any more, and the next epoch is later than all that can have been given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from refloat.clock import Clock
from refloat.contracts import Progress
from refloat.digest import Json, canonical_json
from refloat.errors import StoreError, VaultError
from refloat.flows.prepare import LOG_DAMAGED
from refloat.flows.rejoin import plan_rejoin, rejoin
from refloat.run.claim import standing
from refloat.run.journal import RUNS, Journal, is_over
from refloat.vault import layout
from refloat.vault.aside import (
    ASIDE,
    Break,
    audited,
    first_break,
    may_set_aside,
    role_of,
    said_aside,
    say_again,
    set_aside,
    sound_entries,
    streams_aside,
)
from refloat.vault.forgotten import forgotten_points
from refloat.vault.keys import Role
from refloat.vault.missed import commit_points
from refloat.vault.missed_records import STREAMS as RECORDS
from refloat.vault.renewed import renewed_hashes, write_renewed
from refloat.vault.replica import CommittedPoint, Replica, committed
from refloat.vault.slotlog import FIRST, Entry
from refloat.vault.vault import Vault
from refloat.vault.witness import accept_gone, rolled_back

TARGETS = "targets/"
GO_ON = f"`refloat vault repair --override {LOG_DAMAGED}` goes on without it"


@dataclass(frozen=True)
class LogsMended:
    """By the first slot that was wrong: what was done about a log, and why nothing was."""

    mended: Mapping[str, str]
    left: Mapping[str, str]


def mend_logs(
    replica: Replica,
    wrong: Iterable[str],
    others: Sequence[Replica],
    clock: Clock,
    overrides: frozenset[str],
    progress: Progress | None = None,
) -> LogsMended:
    """Mend the logs of a region in which a check found what is ``wrong``, as far as its key file may.

    What was set aside before and not said again, as where that was cut, is said again as well. Raises ``StoreError``.
    """
    mending = _Mending(replica, others, clock, overrides, progress)
    named = {
        name.removeprefix(layout.LOG).rpartition("/")[0] for name in wrong if name.startswith(layout.LOG)
    }
    for stream in sorted(named | mending.aside, key=lambda stream: (_ORDER.get(_kind(stream), 1), stream)):
        mending.mend(stream)
    mending.settle_claims()
    return LogsMended(mending.mended, mending.left)


_ORDER = {layout.AUDIT_STREAM: 0, layout.POINTS_STREAM: 2}
"""The audit says of all others what was set aside."""


class _Mending:
    def __init__(
        self,
        replica: Replica,
        others: Sequence[Replica],
        clock: Clock,
        overrides: frozenset[str],
        progress: Progress | None,
    ) -> None:
        self.replica = replica
        self.mended: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.aside = streams_aside(self.replica)
        self._others = others
        self._clock = clock
        self._overrides = overrides
        self._progress = progress

    def mend(self, stream: str) -> None:
        """Mend one log, where it is not what was written, or where that was begun and not ended."""
        role = role_of(stream)
        if role is None:
            return
        found = first_break(self.replica.log(stream, role))
        if found is None:
            if stream in self.aside and self.replica.keyring.can(role):
                self._go_on(stream, role)
            return
        name = found.error.file or layout.slot_name(stream, found.slot)
        why = self._hindrance(stream, role, found)
        if why is not None:
            self.left[name] = f"{found.error.message}; {why}"
            return
        whole = stream.startswith(RUNS) and not self._is_over(stream, found)
        more: dict[str, Json] = {"overrides": sorted(self._overrides)}
        if stream.startswith(TARGETS):
            more["epoch"] = max(standing(self.replica.log(stream, role)).epoch, found.end)
        set_aside(self.replica, self.replica.log(stream, role), found, whole=whole, **more)
        self.mended[name] = f"set aside below {ASIDE}; {self._said_again(stream, role)}"

    def _go_on(self, stream: str, role: Role) -> None:
        """End what was cut after a log had been set aside: say again what is not said there."""
        if stream == layout.POINTS_STREAM:
            if self.replica.region in rolled_back([self.replica, *self._others]):
                self.mended[layout.stream_prefix(stream)] = self._points(stream, role)
        elif _kind(stream) in _SAID and (again := say_again(self.replica, stream, role)):
            self.mended[layout.stream_prefix(stream)] = f"{again} entries are said again"

    def _said_again(self, stream: str, role: Role) -> str:
        if stream == layout.POINTS_STREAM:
            return self._points(stream, role)
        if _kind(stream) in _SAID:
            return f"{say_again(self.replica, stream, role)} entries are said again"
        return _INSTEAD[_kind(stream)]

    def _hindrance(self, stream: str, role: Role, found: Break) -> str | None:
        """Why a log stays as it is; None where it is mended."""
        if not may_set_aside(self.replica, stream):
            return "in a vault with a lock only what operators sign is set aside"
        for needed in dict.fromkeys((role, Role.OPERATOR)):
            if not self.replica.keyring.can(needed):
                return f"to set it aside takes the key of a {needed}"
        if stream.startswith(TARGETS) and (holder := self._holder(stream)) is not None:
            another = f"`refloat recover --to {stream.removeprefix(TARGETS)} --override claim_damaged` begins another"
            return f"run {holder} holds the target, and is not known to be over; {another}"
        if LOG_DAMAGED in self._overrides:
            return None
        if (signer := self.replica.log(stream, role).stranger(found.slot)) is not None:
            return f"no key here vouches for {signer}, who signed it; {GO_ON}"
        if self._is_known(stream, role, found):
            return None
        return f"what it said is not known from elsewhere; {GO_ON}"

    def _holder(self, target: str) -> str | None:
        """The run that holds a target by a journal that can be read, and is not over."""
        last = standing(self.replica.log(target, Role.OPERATOR)).last
        if last is None or last.released:
            return None
        try:
            view = Journal(self.replica.log(RUNS + last.run, Role.OPERATOR), self._clock).view
        except VaultError:
            return None
        return last.run if view.plan is not None and not view.ended else None

    def _is_known(self, stream: str, role: Role, found: Break) -> bool:
        """Whether nothing is lost with a log's entries from its break on, however little of them can be read."""
        if stream == layout.POINTS_STREAM:
            whole = self._whole(stream, role)
            shorter = rolled_back(whole)
            names = {point.name for one in whole if one.region not in shorter for point in one.points()}
            return len(names) >= found.end
        if stream in RECORDS:
            return len(self._records(stream)) >= found.end
        if stream.startswith(RUNS):
            return self._is_over(stream, found)
        return stream in _NEVER_MISSED

    def _whole(self, stream: str, role: Role) -> list[Replica]:
        """The other regions whose log by this name is what was written, as far as they say."""
        whole = []
        for one in self._others:
            with suppress(StoreError):
                whole += [one] if first_break(one.log(stream, role)) is None else []
        return whole

    def _records(self, stream: str) -> set[bytes]:
        """What the records of a log say in all regions, up to the break of each."""
        logs = (one.log(stream, Role.OPERATOR) for one in (self.replica, *self._others))
        return {canonical_json(entry.body) for log in logs for entry in sound_entries(log) if not entry.void}

    def _is_over(self, journal: str, found: Break) -> bool:
        """Whether the last entry of a journal before its break says that the run was over."""
        log = self.replica.log(journal, Role.OPERATOR)
        return found.slot > 0 and is_over(log.read(found.slot - 1))

    # -------------------------------------------------------------------------------------------- by log

    def settle_claims(self) -> None:
        """Let no run whose journal was set aside hold a target, and no epoch be given that was given before."""
        if not self.aside:
            return
        said = audited(self.replica)
        gone = {str(one["stream"]) for one in said if one["whole"] and not self._is_there(str(one["stream"]))}
        streams = {*self.replica.streams(), *(str(one["stream"]) for one in said)}
        for target in sorted(stream for stream in streams if stream.startswith(TARGETS)):
            epochs = [
                epoch
                for one in said
                if isinstance(epoch := one.get("epoch"), int) and one["stream"] == target
            ]
            known = standing(self.replica.log(target, Role.OPERATOR))
            holds = known.last is not None and not known.last.released and RUNS + known.last.run in gone
            least = max(epochs, default=0)
            if known.damage is None and (holds or known.epoch < least):
                run = known.last.run if known.last else "unknown"
                body: dict[str, Json] = {"type": "released", "run": run, "epoch": max(known.epoch, least)}
                self.replica.log(target, Role.OPERATOR).append(body)
                self.mended.setdefault(layout.stream_prefix(target), "nothing is claimed there")

    def _is_there(self, stream: str) -> bool:
        return self.replica.log(stream, Role.OPERATOR).last_slot() >= 0

    def _points(self, stream: str, role: Role) -> str:
        here = {point.name for point in self.replica.points()} | forgotten_points(self.replica)
        aside = list(said_aside(self.replica, stream, role))
        again = [point for point in map(committed, aside) if point.name not in here]
        whole = [one for one in self._whole(stream, role) if one.points()]
        if not whole:
            heads = {} if (head := self.replica.head()) is None else {self.replica.region: head}
            made = commit_points(self.replica, _by_age(again), heads)
            accept_gone(self.replica, [])
        else:
            sound = Vault({one.region: one for one in (self.replica, *whole)}, {})
            plan = plan_rejoin(sound, self.replica.region)
            missed = {point.name: point for point in (*again, *plan.missed)}
            made = rejoin(sound, replace(plan, missed=_by_age(missed.values())), self._progress).points
        if not made.lacking and self.replica.keyring.can(Role.ADMIN):
            self._tell_gone(stream, role, aside)
        lacking = f", {len(made.lacking)} are not whole here" if made.lacking else ""
        return f"{len(made.committed)} points are committed again{lacking}"

    def _tell_gone(self, stream: str, role: Role, aside: Sequence[Entry]) -> None:
        """Say of the entries that were set aside that they are gone: a machine far away may have seen one of them."""
        there = {entry.hash for entry in self.replica.log(stream, role).entries()}
        known = there | renewed_hashes(self.replica) | {FIRST}
        gone = [hash for entry in aside for hash in (entry.previous, entry.hash) if hash not in known]
        if gone:
            write_renewed(self.replica, list(dict.fromkeys(gone)))


_SAID = {layout.AUDIT_STREAM, "drills", layout.FORGOTTEN_STREAM, layout.RENEWED_STREAM, *RECORDS}
"""Logs of which every entry stands for itself, so that it can be said again."""
_INSTEAD = {
    "prune": "what is pruned is marked anew",
    "runs": "a run that was not over cannot be gone on with",
    "targets": "nothing is claimed there",
}
_NEVER_MISSED = {layout.AUDIT_STREAM, *layout.ADMIN_STREAMS}
"""Logs that are mended without asking: what is lost of them lets nothing be removed or passed over."""


def _kind(stream: str) -> str:
    """What a log is called up to the first ``/``."""
    return stream.partition("/")[0]


def _by_age(points: Iterable[CommittedPoint]) -> tuple[CommittedPoint, ...]:
    return tuple(sorted(points, key=lambda point: (point.created_at, point.name)))
