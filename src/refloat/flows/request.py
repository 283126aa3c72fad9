"""What is asked of a recovery: checked before anything is opened, then made ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from refloat.errors import UsageError
from refloat.flows import into
from refloat.flows.newer import naming_newer, newer_than
from refloat.flows.opening import Opener, require_not_rolled_back, target_replica
from refloat.flows.prepare import Prepared, Wanted, prepare, with_doubts
from refloat.flows.recover import prepare_again, run_named
from refloat.manifest.document import nearest
from refloat.manifest.resolve import Resolver
from refloat.plan import scenario as scenarios
from refloat.units import parse_time
from refloat.vault.vault import Vault

RULES = (
    "claim_damaged",
    "group_broken",
    "group_split",
    "log_damaged",
    "log_rolled_back",
    "point_suspect",
    "quality_unverified",
    "source_ahead",
    "source_alive",
    "target_claimed",
    "target_foreign",
    "target_full",
    "target_primary",
    "target_serving",
)
"""The safety rules that can be overridden."""


@dataclass(frozen=True)
class Request:
    """A recovery as it was asked for. ``resume`` names a run to go on with, ``declared_at`` the disaster's time."""

    wanted: Wanted
    resume: str | None = None
    declared_at: datetime | None = None

    @classmethod
    def checked(
        cls,
        to: str,
        *,
        point: str | None = None,
        at: datetime | str | None = None,
        only: Iterable[str] = (),
        overrides: Iterable[str] = (),
        lost_at: datetime | str | None = None,
        resume: str | None = None,
        scenario: str | None = None,
        before: datetime | str | None = None,
        now: datetime,
    ) -> Request:
        """What was asked. Raises ``UsageError`` for what is no time or rule, or does not go together."""
        declared_at = moment(lost_at, "--lost-at")
        if declared_at is not None and declared_at > now:
            raise UsageError(  # RTO would be negative, and data loss made up
                "--lost-at is in the future",
                next="give the time of the disaster in UTC; this machine's clock counts",
            )
        wanted = wanted_in(scenario, to, point=point, at=at, only=only, overrides=overrides, before=before)
        if resume is not None and (wanted.narrowed or declared_at or scenario):
            raise UsageError(
                "a run that was begun keeps its point, its components and its disaster",
                next="leave out --scenario, --point, --at, --only and --lost-at, or begin another run without --resume",
            )
        return cls(wanted, resume, declared_at)

    def named(self, reached: Vault, address: str | None) -> Request:
        """The same with the whole name of the run that is resumed. Raises as ``run_named`` and ``target_replica``."""
        if self.resume is None:
            return self
        replica = target_replica(reached, self.wanted.to, address)
        return replace(self, resume=run_named(replica, self.wanted.to, self.resume))

    def ready(
        self, reached: Vault, address: str | None, opener: Opener, resolver: Callable[[], Resolver]
    ) -> tuple[Prepared, Vault]:
        """The plan, and every region's replica that still answers. Nothing is written.

        ``address`` is that of the one replica that was named, where there is no manifest. Raises ``Refused``
        or ``UsageError`` where nothing fits, and ``VaultError`` for a region that is not what was written: what
        is wrong with another one stands in ``remarks``.
        """
        to, overrides = self.wanted.to, self.wanted.overrides
        replica = target_replica(reached, to, address)
        needed = {replica.region}
        require_not_rolled_back(reached, needed, overrides)  # first, since what is left may be nothing
        others = list(reached.replicas.values())
        if self.resume is None:
            with naming_newer(replica, others, self.wanted):
                prepared = prepare(replica, self.wanted, resolver, others)
        else:
            prepared = prepare_again(replica, self.resume, resolver, opener.clock, others)
            if prepared.plan.to != to:
                place = prepared.plan.to
                raise UsageError(f"run {self.resume} recovers into {place}", next=f"--to {place}")
        late = prepared.components.resolver
        awaited = None if self.wanted.scenario.moves else ()  # as ``needs``, and where to is reached by now
        everywhere = opener.with_others(reached, prepared.manifest, late, awaited)
        remarks = [
            f"{region} is passed over: {error.message}" for region, error in everywhere.unreachable.items()
        ]
        remarks += require_not_rolled_back(everywhere, needed, overrides)
        if self.resume is None:
            remarks += newer_than(prepared, self.wanted, everywhere.replicas.values())
        prepared = with_doubts(prepared, everywhere.replicas.values())
        return replace(prepared, remarks=tuple(remarks)), everywhere


def wanted_in(
    scenario: str | None,
    to: str,
    *,
    point: str | None,
    at: datetime | str | None,
    only: Iterable[str],
    overrides: Iterable[str],
    before: datetime | str | None,
) -> Wanted:
    """What is asked of a recovery in a scenario, or in none. Raises ``UsageError`` as ``scenario.until``."""
    names = tuple(only)
    options = {"--point": point, "--at": at, "--only": names or None, "--before": before}
    given = {option for option, value in options.items() if value is not None}
    until = scenarios.until(scenario, given, at=moment(at, "--at"), before=moment(before, "--before"))
    return Wanted(to, point, until, names, known_rules(overrides), scenarios.named(scenario))


def require_only_bytes(
    *,
    to: str | None,
    resume: str | None,
    lost_at: datetime | str | None,
    overrides: Iterable[str],
    scenario: str | None = None,
    before: datetime | str | None = None,
) -> None:
    """Raises ``UsageError`` for what speaks of a run, where only the bytes are wanted and there will be none."""
    if to is not None:
        raise UsageError("--to and --into exclude each other", next="leave out one of them")
    speaking = {"--resume": resume, "--lost-at": lost_at, "--scenario": scenario, "--before": before}
    for option, value in speaking.items():
        if value is not None:
            raise UsageError(
                f"{option} says nothing with --into, which begins no run", next=f"leave out {option}"
            )
    for rule in sorted(known_rules(overrides) - set(into.RULES)):
        raise UsageError(
            f"the rule {rule} is not asked with --into, which touches nothing that is live",
            next=f"leave it out; with --into there are {', '.join(into.RULES)}",
        )


def moment(value: datetime | str | None, name: str) -> datetime | None:
    """A time that a caller gave. Raises ``UsageError`` for one without its offset from UTC."""
    if isinstance(value, str):
        try:
            return parse_time(value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", next="write 2026-11-01T12:00:00Z") from error
    if value is not None and value.tzinfo is None:
        raise UsageError(f"{name}: the time has no zone", next="give it one: datetime.now(UTC)")
    return value


def known_rules(
    names: Iterable[str], rules: Sequence[str] = RULES, *, noun: str = "safety rule"
) -> frozenset[str]:
    """The safety rules to override, of those that are asked. Raises ``UsageError`` for one that does not exist."""
    asked = list(names)
    for name in asked:
        if name not in rules:
            hint = nearest(name, rules) or f"rules: {', '.join(rules)}"
            raise UsageError(f"no {noun} is called {name!r}", next=hint)
    return frozenset(asked)
