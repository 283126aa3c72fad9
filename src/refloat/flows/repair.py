"""Mend every region of a vault, and check it again: what is wrong then is left, and nothing else.

Objects are mended from where they verify, a pack of which nobody has a whole copy from what is whole of it, logs as
``mend_logs`` says, and what a region missed counts there at last. Whatever was mended may let more be seen, so that the
vault is opened and checked anew until there is nothing more to mend; what is wrong then and not the vault's is set
aside, as ``mend_foreign`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from refloat.clock import Clock
from refloat.contracts import Keeping, Progress
from refloat.errors import RefloatError, StoreError, VaultError
from refloat.flows.mend_foreign import FOREIGN_OBJECTS, mend_foreign
from refloat.flows.mend_logs import LogsMended, mend_logs
from refloat.flows.prepare import LOG_DAMAGED
from refloat.flows.replicate import make_points_count
from refloat.vault import layout
from refloat.vault.check import CheckReport, check
from refloat.vault.missed import MadeUp
from refloat.vault.repair import repair, uncover
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.witness import rolled_back

RULES = (FOREIGN_OBJECTS, LOG_DAMAGED)
"""The safety rules that are asked, and can be overridden, where a vault is mended."""
ROUNDS_MAX = (
    5  # a mended key shows what it opens, a mended folder what lies below it; more is a store that lies
)


@dataclass
class Mended:
    """What was mended in a region, by object, and from where; what is wrong there still, and why.

    ``uncovered``: what was done with what lay over an object of a locked vault. ``points``: what the region missed and
    counts there now.
    """

    mended: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    uncovered: dict[str, str] = field(default_factory=dict)
    points: MadeUp = field(default_factory=MadeUp)


@dataclass(frozen=True)
class Repair:
    """What came of a repair, by region, and the errors of those that do not answer."""

    regions: Mapping[str, Mended]
    unreachable: Mapping[str, RefloatError]


def repair_vault(
    open_vault: Callable[[Mapping[str, RefloatError]], Vault],
    clock: Clock,
    *,
    read_data: bool = False,
    overrides: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Repair:
    """Mend what can be mended in every region that answers; with ``read_data`` every byte is read to find damage.

    ``open_vault`` opens it, without asking again the regions that fell silent; their errors are handed to it.
    Raises the error of ``open_vault``, and ``StoreError`` where no region is left that answers and takes a write.
    """
    found: dict[str, Mended] = {}
    silent: Mapping[str, RefloatError] = {}
    for round_ in range(ROUNDS_MAX):
        vault = open_vault(silent)
        work = _Round(vault, clock, overrides, progress)
        for region in vault.replicas:
            found.setdefault(region, Mended())
        reports = work.checked(read_data=read_data and (not round_ or work.must_read(found)))
        more = work.mended(reports, found)
        silent = {
            region: error for region, error in vault.unreachable.items() if isinstance(error, StoreError)
        }
        if not more:
            break
    answered = {region: one for region, one in found.items() if region not in silent or one.mended}
    return Repair(answered, vault.unreachable)


@dataclass(frozen=True)
class _Round:
    """One look at every region."""

    vault: Vault
    clock: Clock
    overrides: frozenset[str]
    progress: Progress | None

    def must_read(self, found: Mapping[str, Mended]) -> bool:
        """Whether what was read before says too little: keys were mended, or a locked vault keeps no quarantine."""
        keys = any(name.startswith(layout.KEYS) for one in found.values() for name in one.mended)
        return keys or any(isinstance(replica.store, Keeping) for replica in self.vault.replicas.values())

    def checked(self, *, read_data: bool) -> dict[str, CheckReport]:
        shorter = rolled_back(list(self.vault.replicas.values()))
        return self.vault.each(
            lambda replica: check(
                replica,
                read_data=read_data,
                progress=self.progress,
                others=self._others(replica),
                shorter=shorter,
            )
        )

    def mended(self, reports: Mapping[str, CheckReport], found: Mapping[str, Mended]) -> bool:
        """Mend what the checks name; whether that was anything."""
        more = self.vault.each(lambda one: self.mend(one, reports[one.region], found[one.region]))
        return any(more.values()) or self._set_aside(reports, found)

    def _set_aside(self, reports: Mapping[str, CheckReport], found: Mapping[str, Mended]) -> bool:
        """Set aside what the checks name and is not the vault's, when all else is as good as it gets."""
        foreign = mend_foreign(self.vault, reports, self.overrides)
        for region, one in foreign.items():
            done = found[region]
            done.left = {**done.left, **one.left}
            done.left = {name: why for name, why in done.left.items() if name not in one.done}
            done.mended |= one.done
        return any(one.done for one in foreign.values())

    def mend(self, replica: Replica, report: CheckReport, done: Mended) -> bool:
        """Mend what the check of a region names, and tell in ``done``; whether that was anything."""
        region, others = replica.region, self._others(replica)
        wrong = {damage.object: damage.told for damage in report.damaged}
        objects = [name for name in wrong if not name.startswith(layout.LOG)]
        by_copy = repair(replica, objects, others, self.progress, all_answer=not self.vault.unreachable)
        logs = LogsMended({}, {})
        if not any(name.startswith(layout.KEYS) for name in wrong):  # without a key a whole log looks damaged
            logs = mend_logs(replica, wrong, others, self.clock, self.overrides, self.progress)
        made = self._made_up(region)
        done.uncovered |= uncover(replica, [cover.object for cover in report.covered])
        mended = {**by_copy.mended, **by_copy.parted, **logs.mended}
        done.left = {**wrong, **by_copy.left, **logs.left}
        done.left = {name: why for name, why in done.left.items() if name not in mended}
        done.points = MadeUp(
            (*done.points.committed, *made.committed), made.lacking, done.points.records + made.records
        )
        more = bool(mended.keys() - done.mended.keys()) or bool(made.committed)
        done.mended |= mended
        return more

    def _made_up(self, region: str) -> MadeUp:
        """Let what a region missed count there, where its log and that of another are whole."""
        try:
            sound = self.vault.sound()
        except (VaultError, StoreError):
            return MadeUp()
        if region not in sound.replicas:
            return MadeUp()
        return make_points_count(sound, list(sound.replicas), [region], self.progress)[region]

    def _others(self, replica: Replica) -> list[Replica]:
        return [other for other in self.vault.replicas.values() if other is not replica]
