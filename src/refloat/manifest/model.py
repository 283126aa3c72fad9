"""The manifest as values: what ``refloat.yaml`` says, validated, nothing resolved yet."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from refloat.digest import Json
from refloat.patterns import checked
from refloat.units import parse_duration, parse_ratio

VERSION = 1  # of the manifest's own form
REGIONS_MAX = 64  # each of them is asked by every command
COMPONENTS_MAX = 1_000  # each is compared with every other where orders are looked for
SAMPLES_MAX = 1_000_000  # questions of one measurement; hours at a hundred a second

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
"""Names are used in expressions, so they are identifiers in lower case."""


def _duration(value: object) -> object:
    if isinstance(value, str):
        seconds = parse_duration(value)
        if seconds <= 0:
            raise ValueError("a duration must be longer than nothing")
        return seconds
    raise ValueError("write a duration with its unit: 90s, 5m, 2h, 7d")


Duration = Annotated[float, BeforeValidator(_duration), PlainSerializer(lambda s: f"{s:g}s", return_type=str)]
"""Seconds, written as ``90s``, ``5m``, ``2h``, ``7d``."""


Pattern = Annotated[str, AfterValidator(checked)]
"""A pattern of paths, as ``patterns`` says."""


class Model(BaseModel):
    """The base of every part of the manifest: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, validate_default=False)


class TierName(StrEnum):
    """How much a component matters."""

    CRITICAL = "critical"
    OPERATIONAL = "operational"
    DEVELOPMENT = "development"


class Tier(Model):
    """Objectives of a tier, the cadence that meets them, and how many regions must hold a point."""

    rto: Duration
    rpo: Duration
    every: Duration
    copies: int = Field(ge=1, le=16, strict=True)


TIERS: Mapping[TierName, Tier] = {
    TierName.CRITICAL: Tier.model_validate({"rto": "5m", "rpo": "1m", "every": "30s", "copies": 2}),
    TierName.OPERATIONAL: Tier.model_validate({"rto": "4h", "rpo": "30m", "every": "15m", "copies": 2}),
    TierName.DEVELOPMENT: Tier.model_validate({"rto": "3d", "rpo": "2d", "every": "1d", "copies": 1}),
}
"""What a tier means where the manifest says nothing else."""


class TierChange(Model):
    """What a manifest changes of a tier."""

    rto: Duration | None = None
    rpo: Duration | None = None
    every: Duration | None = None
    copies: int | None = Field(default=None, ge=1, le=16, strict=True)


class Person(Model):
    """Someone who answers when a decision is needed."""

    name: str
    contact: str
    may: tuple[Literal["approve", "break_glass"], ...] = ()
    deputy: Name | None = None


class Domain(Model):
    """What a region shares its fate with."""

    site: str | None = None
    account: str | None = None
    provider: str | None = None

    def is_elsewhere(self, other: Domain) -> bool:
        """Whether both say something that differs, so that no machine is in both."""
        mine, theirs = self.model_dump(exclude_none=True), other.model_dump(exclude_none=True)
        return any(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())


REFERENCE = r"^(\$\{(env|file):[^{}]+\})?$"
Secret = Annotated[str, StringConstraints(pattern=REFERENCE)]
"""What must not stand in a manifest, which is stored with every point: a reference to where it is."""


class Access(Model):
    """How a region's bucket is reached; what is left out comes from the environment.

    ``ca`` is PEM text, as a rule ``${file:ca.pem}``. ``access_key_id``, ``secret_access_key``, ``session_token``,
    ``region`` and ``path_style`` are for S3, ``account`` and ``account_key`` or ``sas_token`` for Azure, and
    ``service_account_key``, the account's JSON, for Google.
    """

    endpoint: str = Field(default="", pattern=r"^(\$\{|https?://[^@]+$|$)")
    region: str = ""
    path_style: bool = Field(default=True, strict=True)
    allow_http: bool = Field(default=False, strict=True)
    proxy: str = Field(default="", pattern=r"^(\$\{|[a-z0-9]+://[^@]+$|$)")
    ca: str = ""
    access_key_id: str = ""
    secret_access_key: Secret = ""
    session_token: Secret = ""
    account: str = ""
    account_key: Secret = ""
    sas_token: Secret = ""
    service_account_key: Secret = ""

    @model_validator(mode="after")
    def _whole(self) -> Access:
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("access_key_id and secret_access_key belong together")
        if self.session_token and not self.access_key_id:
            raise ValueError("a session_token belongs to an access_key_id")
        if self.account_key and self.sas_token:
            raise ValueError("give account_key or sas_token, not both")
        return self


class Region(Model):
    """A place that can fail as one, with a replica of the vault."""

    vault: str
    store: Access | None = None
    domain: Domain = Domain()
    vars: Mapping[Name, str] = Field(default_factory=dict)
    addresses: Mapping[Name, str] = Field(default_factory=dict)


class Sandbox(Model):
    """A place for trials, apart from everything that lives: what a region says of where things are, and no vault.

    ``at`` is what differs there from each component's own settings. ``replica`` names the region whose replica of the
    vault is read and keeps the journals of the trials; without it that is the primary.
    """

    replica: Name | None = None
    vars: Mapping[Name, str] = Field(default_factory=dict)
    addresses: Mapping[Name, str] = Field(default_factory=dict)
    at: Mapping[Name, Mapping[str, Json]] = Field(default_factory=dict)


class Keep(Model):
    """How many points stay: so many of the last ones, and one of each of so many periods."""

    last: int = Field(default=24, ge=1, strict=True)
    hourly: int = Field(default=0, ge=0, strict=True)
    daily: int = Field(default=7, ge=0, strict=True)
    weekly: int = Field(default=0, ge=0, strict=True)
    monthly: int = Field(default=12, ge=0, strict=True)
    yearly: int = Field(default=0, ge=0, strict=True)


class Protect(Model):
    """How often a component is captured."""

    every: Duration | None = None
    when: Literal["always", "change"] = "change"


class Needs(Model):
    """What a profile needs of a machine."""

    gpu: int = Field(default=0, ge=0, strict=True)
    memory: str | None = None


class Profile(Model):
    """One way of running a component: hardware it needs, settings that differ."""

    needs: Needs = Needs()
    with_: Mapping[str, Json] = Field(default_factory=dict, alias="with")


class Component(Model):
    """One stateful or runnable part. ``needs`` orders start-up, ``refers_to`` orders capture.

    ``priority`` are patterns of the files that are brought back before its others.
    """

    kind: str
    tier: TierName = TierName.OPERATIONAL
    protect: Protect = Protect()
    needs: tuple[Name, ...] = ()
    refers_to: tuple[Name, ...] = ()
    deadline: Duration | None = None
    hold: Duration | None = None
    priority: tuple[Pattern, ...] = ()
    with_: Mapping[str, Json] = Field(default_factory=dict, alias="with")
    at: Mapping[Name, Mapping[str, Json]] = Field(default_factory=dict)
    profiles: Mapping[Name, Profile] = Field(default_factory=dict)


class Group(Model):
    """Components that must be mutually consistent; ``must`` are CEL expressions over their facts."""

    members: tuple[Name, ...] = Field(min_length=1)
    skew: Duration = 5.0
    must: tuple[str, ...] = ()


def _limit(value: object) -> object:
    """A ratio to the baseline, ``1.25x``; a time, ``300ms``; or a number."""
    if not isinstance(value, str):
        return value
    if value.strip().endswith("x"):
        return Ratio(of_baseline=parse_ratio(value))
    try:
        return Time(seconds=parse_duration(value))
    except ValueError:
        raise ValueError(f"{value!r} is no limit; write 1.25x, 0.9 or 300ms") from None


class Ratio(Model):
    """A bound that is relative to the baseline."""

    of_baseline: float = Field(gt=0, allow_inf_nan=False)


class Time(Model):
    """A bound on a metric that is measured in seconds; written as a duration."""

    seconds: float = Field(gt=0)


Figure = Annotated[float, Field(strict=True)]
"""A number that was written as one."""


class Bound(Model):
    """What a recovered metric must keep to: exactly one of the three.

    ``at_most`` and ``at_least`` are relative to the baseline (``1.25x``) or absolute: a number, or a time for what is
    measured in seconds. ``drop_at_most`` is by how much it may fall below the baseline.
    """

    at_most: Annotated[Ratio | Time | Figure | None, BeforeValidator(_limit)] = None
    at_least: Annotated[Ratio | Time | Figure | None, BeforeValidator(_limit)] = None
    drop_at_most: Figure | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one(self) -> Bound:
        given = [self.at_most, self.at_least, self.drop_at_most]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of at_most, at_least, drop_at_most")
        return self


class Verification(Model):
    """How a component proves that it answers as well as before.

    ``probe`` has one key, the probe's kind; its value is the address or the probe's settings. ``golden``
    is a JSON Lines file of questions, captured with the manifest. ``metrics`` maps each quality metric
    to where it is found in question and answer; ``concurrency`` clients ask ``samples`` questions or more
    (up to four times as many where a bound would otherwise be decided by noise). ``with_points`` says when `protect`
    measures too, for ``within`` at the longest, and keeps what it measures as the baseline.
    """

    probe: Mapping[str, Json] = Field(min_length=1, max_length=1)
    golden: str
    metrics: Mapping[Name, Mapping[str, Json]] = Field(default_factory=dict)
    bounds: Mapping[Name, Bound] = Field(min_length=1)
    concurrency: int = Field(default=4, ge=1, le=256, strict=True)
    samples: int = Field(default=300, ge=20, le=SAMPLES_MAX, strict=True)
    warmup: int = Field(default=20, ge=0, le=SAMPLES_MAX, strict=True)
    with_points: Literal["always", "when_identity_moved", "never"] = "never"
    within: Duration = 300.0


class Drills(Model):
    """How often each kind of drill is due."""

    component: str | None = None
    region: str | None = None
    full: str | None = None


class Notify(Model):
    """Where alerts go: an address that gets them by POST, a command that reads them; and how often they come again."""

    webhook: str | None = Field(default=None, min_length=1)
    command: tuple[str, ...] = ()
    remind: Duration = 4 * 3600.0


class Manifest(Model):
    """The whole of ``refloat.yaml``."""

    version: Literal[1]
    pipeline: Name
    people: Mapping[Name, Person] = Field(default_factory=dict)
    regions: Mapping[Name, Region] = Field(min_length=1, max_length=REGIONS_MAX)
    sandboxes: Mapping[Name, Sandbox] = Field(default_factory=dict, max_length=REGIONS_MAX)
    primary: Name
    witness: str | None = None
    tiers: Mapping[TierName, TierChange] = Field(default_factory=dict)
    keep: Keep = Keep()
    components: Mapping[Name, Component] = Field(min_length=1, max_length=COMPONENTS_MAX)
    groups: Mapping[Name, Group] = Field(default_factory=dict, max_length=COMPONENTS_MAX)
    verify: Mapping[Name, Verification] = Field(default_factory=dict)
    drills: Drills = Drills()
    notify: Notify = Notify()

    def tier(self, component: str) -> Tier:
        """The objectives of a component: its tier's, as the manifest changes them."""
        name = self.components[component].tier
        changed = self.tiers.get(name)
        change = {} if changed is None else changed.model_dump(exclude_none=True)
        return TIERS[name].model_copy(update={k: getattr(changed, k) for k in change})

    def cadence_s(self, component: str) -> float:
        """How often a component is captured, in seconds: its own cadence, else its tier's."""
        return self.components[component].protect.every or self.tier(component).every

    @property
    def copies_required(self) -> int:
        """How many regions must hold a point: the most that any tier in use asks for, at most all."""
        return min(max(self.tier(name).copies for name in self.components), len(self.regions))
