"""From a point to a plan: which steps take it into a region, and what each must wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from refloat.contracts import Layer, Spec, Staging
from refloat.errors import UsageError
from refloat.manifest.document import nearest
from refloat.manifest.graph import answers_depend_on, capture_order, order_of_need
from refloat.manifest.model import Manifest
from refloat.plan.model import APART, UNMOVED, Action, Phase, Plan, Step
from refloat.plan.scenario import UNNAMED, Scenario
from refloat.point.model import Point

CHECK_SECONDS_MAX = 300.0  # a check reads, and reads little
VERIFY_SECONDS_MAX = 1800.0  # a load test with enough samples, on a slow machine
CLEANUP_SECONDS_MAX = 600.0  # what was set aside is deleted, never read

_LAYERS = tuple(Layer)


def build(
    point_name: str,
    point: Point,
    manifest: Manifest,
    to: str,
    specs: Mapping[str, Spec],
    *,
    only: Sequence[str] = (),
    scenario: Scenario = UNNAMED,
) -> Plan:
    """The plan that takes ``point`` into region ``to``; ``specs`` are the connectors' by kind.

    ``scenario`` may ask for more steps than a plan has without one. Nothing live is touched before everything is staged
    and validated, and no user is served before everything is verified. Raises ``UsageError`` for a region, component or
    kind that is not known, and for a move to where the pipeline runs.
    """
    if scenario.moves and to == point.primary:
        raise UsageError(
            f"the newest good point was made in {to}, and a move leads elsewhere",
            next="name the region that the pipeline is to run in",
        )
    _known([to], manifest.regions, "region")
    _known(only, manifest.components, "component")
    names = [name for name in manifest.components if name in only] if only else list(manifest.components)
    _captured(names, point, point_name)
    _known([manifest.components[name].kind for name in names], specs, "connector")
    parts = _Parts(point, manifest, to, specs, tuple(names), scenario)
    return Plan(
        pipeline=point.pipeline,
        point=point_name,
        source=point.primary,
        to=to,
        only=tuple(names) if only else (),
        steps=tuple(reduced(in_order(parts.steps()))),
    )


def in_order(steps: Iterable[Step]) -> list[Step]:
    """The steps so that each stands after what it needs, else as given.

    Raises ``UsageError`` for a need that is not there and for a cycle.
    """
    waiting = list(steps)
    settled: dict[str, Step] = {}
    met: set[tuple[str, ...]] = set()  # many steps need the same, as all of a phase the one before it

    def may_go(step: Step) -> bool:
        if step.needs not in met and all(need in settled for need in step.needs):
            met.add(step.needs)
        return step.needs in met

    while waiting:
        ready = next(filter(may_go, waiting), None)
        if ready is None:
            raise UsageError(
                f"no step can go first among {', '.join(step.id for step in waiting)}",
                next="remove the circle from `needs` in the manifest",
            )
        settled[ready.id] = ready
        waiting.remove(ready)
    return list(settled.values())


def reduced(steps: Sequence[Step]) -> list[Step]:
    """The steps, in an order that works, without the needs that other needs imply (transitive reduction)."""
    bit = {step.id: 1 << place for place, step in enumerate(steps)}
    before: dict[str, int] = {}
    known: dict[
        tuple[str, ...], tuple[tuple[str, ...], int]
    ] = {}  # of needs: those that stay, and all before them
    for step in steps:
        if step.needs not in known:
            implied = reduce(or_, (before[need] for need in step.needs), 0)
            whole = reduce(or_, (bit[need] for need in step.needs), implied)
            known[step.needs] = tuple(need for need in step.needs if not bit[need] & implied), whole
        before[step.id] = known[step.needs][1]
    return [step.model_copy(update={"needs": known[step.needs][0]}) for step in steps]


def _known(asked: Iterable[str], known: Iterable[str], noun: str) -> None:
    names = list(known)
    for name in asked:
        if name not in names:
            hint = nearest(name, names) or f"known: {', '.join(names)}"
            raise UsageError(f"no {noun} is called {name!r}", next=hint)


def _captured(names: Sequence[str], point: Point, point_name: str) -> None:
    lacking = [name for name in names if name not in point.components]
    if lacking:
        raise UsageError(
            f"the point {point_name} has no snapshot of {', '.join(lacking)}",
            next=f"choose another point, or recover --only {' '.join(point.components)}",
        )


@dataclass(frozen=True)
class _Parts:
    """What the steps are made from; each method gives the steps of one phase."""

    point: Point
    manifest: Manifest
    to: str
    specs: Mapping[str, Spec]
    names: tuple[str, ...]
    scenario: Scenario
    order: Mapping[str, int] = field(init=False)
    """Which is switched before which, where nothing else decides."""
    rank: Mapping[str, int] = field(init=False)
    """Of its layer: lower ones are switched first."""
    lower: Mapping[int, Sequence[str]] = field(init=False)
    """What is below each rank."""

    def __post_init__(self) -> None:
        refers_to = {kind: spec.refers_to for kind, spec in self.specs.items()}
        captured = capture_order(self.manifest, refers_to, list(self.names))
        order = {name: place for place, name in enumerate(reversed(captured))}
        object.__setattr__(self, "order", order)
        rank = {name: _LAYERS.index(self.spec(name).layer) for name in self.names}
        object.__setattr__(self, "rank", rank)
        lower = {mine: [name for name in self.names if rank[name] < mine] for mine in set(rank.values())}
        object.__setattr__(self, "lower", lower)

    def spec(self, name: str) -> Spec:
        return self.specs[self.manifest.components[name].kind]

    @property
    def runnable(self) -> list[str]:
        return [name for name in self.names if self.spec(name).runnable]

    def steps(self) -> list[Step]:
        """Every step, phase after phase; what a step needs may still stand behind it."""
        preflight = self.preflight()
        before_activation = [*self.stage(preflight), *self.validate()]
        switching = [*self.activate(before_activation), *self.start()]
        verify = self.verify(switching)
        if self.scenario.drill:
            return [*preflight, *before_activation, *switching, *verify]
        traffic = self.traffic([*(verify or switching)])
        return [
            *preflight,
            *before_activation,
            *switching,
            *verify,
            *traffic,
            *self.reprotect(traffic or verify or switching),
        ]

    def preflight(self) -> list[Step]:
        checks = [_check("point")]
        if self.scenario.drill:  # before anything in the sandbox is so much as looked at
            checks += [_check(APART), _check("room", after=(_check(APART).id,))]
            return checks + [
                self.of(name, _check(f"target:{name}", after=(checks[-1].id,))) for name in self.names
            ]
        if self.to != self.point.primary:
            checks.append(_check("source"))
        if self.scenario.moves:
            checks.append(_check(UNMOVED))
        checks.append(_check("room"))
        return checks + [self.of(name, _check(f"target:{name}")) for name in self.names]

    def stage(self, preflight: Sequence[Step]) -> list[Step]:
        """What serving needs first is brought first, where not all can be at the same time."""
        checked = _ids(preflight)
        return [self.stage_one(name, checked) for name in order_of_need(self.manifest, self.names)]

    def stage_one(self, name: str, needs: tuple[str, ...]) -> Step:
        """In place means that what is live changes: that waits until all that stands beside is valid."""
        in_place = self.spec(name).staging is Staging.IN_PLACE
        if in_place:
            needs += tuple(
                _id(Phase.VALIDATE, Action.VALIDATE, other)
                for other in self.names
                if self.spec(other).staging is Staging.BESIDE
            )
        return self.on(
            name,
            Phase.STAGE,
            Action.STAGE,
            needs=needs,
            reversible=self.scenario.drill or self.spec(name).staging is not Staging.NONE,
            touches_live=in_place,
            bytes=self.point.components[name].bytes,
        )

    def validate(self) -> list[Step]:
        """Staged is what was captured; a connector that stages nothing has validated in its stage step."""
        alone = [
            self.on(
                name,
                Phase.VALIDATE,
                Action.VALIDATE,
                needs=(_id(Phase.STAGE, Action.STAGE, name),),
                bytes=self.point.components[name].bytes,
            )
            for name in self.names
            if self.spec(name).staging is not Staging.NONE
        ]
        return alone + [self.group(name) for name in self.whole_groups()]

    def whole_groups(self) -> list[str]:
        return [name for name, group in self.manifest.groups.items() if set(group.members) <= set(self.names)]

    def group(self, name: str) -> Step:
        needs = (self.proven(member) for member in self.manifest.groups[name].members)
        subject = f"group:{name}"
        return Step(
            id=_id(Phase.VALIDATE, Action.VALIDATE, subject),
            phase=Phase.VALIDATE,
            action=Action.VALIDATE,
            subject=subject,
            needs=tuple(needs),
            timeout_s=CHECK_SECONDS_MAX,
        )

    def proven(self, name: str) -> str:
        """The step after which a staged component is known to be what was captured."""
        if self.spec(name).staging is Staging.NONE:
            return _id(Phase.STAGE, Action.STAGE, name)
        return _id(Phase.VALIDATE, Action.VALIDATE, name)

    def activate(self, before: Sequence[Step]) -> list[Step]:
        ordered = sorted(self.names, key=lambda name: (self.rank[name], self.order[name]))
        everything = _ids(before)
        return [
            self.on(
                name,
                Phase.ACTIVATE,
                Action.ACTIVATE,
                needs=everything + tuple(_id(Phase.ACTIVATE, Action.ACTIVATE, other) for other in below),
                reversible=True,
                touches_live=True,
            )
            for name, below in ((name, self.pointed_to(name)) for name in ordered)
        ]

    def pointed_to(self, name: str) -> Sequence[str]:
        """What must be switched before ``name``: lower layers, and in its own what it points to."""
        rank, order, components = self.rank, self.order, self.manifest.components
        pointed, kinds = {*components[name].refers_to}, {*self.spec(name).refers_to}
        if not pointed and not kinds:
            return self.lower[rank[name]]
        return [
            other
            for other in self.names
            if rank[other] < rank[name]
            or (
                rank[other] == rank[name]
                and order[other] < order[name]
                and (other in pointed or components[other].kind in kinds)
            )
        ]

    def start(self) -> list[Step]:
        """Started after every switch, and after what it needs that runs, however far down the chain."""
        activated = tuple(_id(Phase.ACTIVATE, Action.ACTIVATE, name) for name in self.names)
        return [
            self.on(
                name,
                Phase.ACTIVATE,
                Action.START,
                needs=activated
                + tuple(
                    _id(Phase.ACTIVATE, Action.START, other)
                    for other in self.runnable
                    if other in self.needed(name)
                ),
                reversible=True,
            )
            for name in self.runnable
        ]

    def needed(self, name: str) -> set[str]:
        found: set[str] = set()
        ahead = [*self.manifest.components[name].needs]
        while ahead:
            other = ahead.pop()
            if other not in found:
                found.add(other)
                ahead += self.manifest.components[other].needs
        return found

    def verify(self, switching: Sequence[Step]) -> list[Step]:
        return [
            self.on(
                name,
                Phase.VERIFY,
                Action.VERIFY,
                needs=_ids(switching),
                timeout_s=VERIFY_SECONDS_MAX,
                attempts=1,
            )
            for name in self.manifest.verify
            if name in self.names or (self.scenario.dependents and self.depends(name))
        ]

    def depends(self, name: str) -> bool:
        return not set(answers_depend_on(self.manifest, name)).isdisjoint(self.names)

    def traffic(self, before: Sequence[Step]) -> list[Step]:
        return [self.on(name, Phase.TRAFFIC, Action.SHIFT, needs=_ids(before)) for name in self.runnable]

    def reprotect(self, before: Sequence[Step]) -> list[Step]:
        needs = _ids(before)
        protect = Step(
            id=_id(Phase.REPROTECT, Action.PROTECT, "pipeline"),
            phase=Phase.REPROTECT,
            action=Action.PROTECT,
            subject="pipeline",
            needs=needs,
            attempts=1,
            critical=False,
        )
        return [
            protect,
            *(
                self.on(
                    name,
                    Phase.REPROTECT,
                    Action.CLEANUP,
                    needs=needs,
                    timeout_s=CLEANUP_SECONDS_MAX,
                    critical=False,
                )
                for name in self.names
                if self.spec(name).staging is not Staging.NONE
            ),
        ]

    def on(
        self,
        name: str,
        phase: Phase,
        action: Action,
        *,
        needs: tuple[str, ...],
        timeout_s: float | None = None,
        **more: bool | int,
    ) -> Step:
        """A step on one component, with its deadline where the action has none of its own."""
        own = self.manifest.components[name].deadline or self.spec(name).deadline_s
        step = Step(
            id=_id(phase, action, name),
            phase=phase,
            action=action,
            subject=name,
            needs=needs,
            timeout_s=timeout_s or own,
        )
        return self.of(name, step.model_copy(update=more))

    def of(self, name: str, step: Step) -> Step:
        return step.model_copy(update={"component": name, "layer": self.spec(name).layer})


def _id(phase: Phase, action: Action, subject: str) -> str:
    return f"{phase}.{action}:{subject}"


def _ids(steps: Iterable[Step]) -> tuple[str, ...]:
    return tuple(step.id for step in steps)


def _check(subject: str, *, after: tuple[str, ...] = ()) -> Step:
    return Step(
        id=_id(Phase.PREFLIGHT, Action.CHECK, subject),
        phase=Phase.PREFLIGHT,
        action=Action.CHECK,
        subject=subject,
        needs=after,
        timeout_s=CHECK_SECONDS_MAX,
    )
