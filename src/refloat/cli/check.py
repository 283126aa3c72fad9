"""``refloat check``: is the manifest right, does everything answer, and what is unprotected or impossible."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, has_key, key_file, load_manifest, resolver, session_of
from refloat.cli.completion import components as known_components
from refloat.cli.system import local_state_dir
from refloat.errors import ConnectorError, ManifestError, RefloatError, StoreError, UsageError, plug_in

if TYPE_CHECKING:
    from refloat.cli.findings import ComponentSeen, Problem, RegionSeen, Seen
    from refloat.contracts import Facts, Place, Store
    from refloat.digest import Json
    from refloat.flows.baselines import Doubts
    from refloat.flows.newer import Behind
    from refloat.flows.rejoin import Standing
    from refloat.manifest.document import Path as ManifestPath
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.point.model import Verdict
    from refloat.vault.keyfile import KeyFile
    from refloat.vault.replica import Replica

LOOK_SECONDS_MAX = 20.0  # a component or region that takes longer is reported as not answering
NOT_COMPARED = "see whether every region's store answers, and check again"
LOOKS_AT_ONCE = 8  # enough to hide the latency of regions, few enough for a small machine


EXAMPLES = examples(
    "refloat check",
    "refloat check --facts",
    "refloat check --facts registry index",
    "refloat check --json",
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("check", epilog=EXAMPLES)(check)


def check(
    context: typer.Context,
    components: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMPONENT...", help="With --facts: of these alone.", autocompletion=known_components
        ),
    ] = None,
    facts: Annotated[
        bool,
        typer.Option(
            "--facts", help="Show the facts that invariants may use, by the names to write in `must`."
        ),
    ] = False,
) -> None:
    """Validate the manifest and look at every component and region, changing nothing."""
    from refloat.cli.findings import Level, problems

    session = session_of(context)
    manifest, content = load_manifest(session.file)
    shown = _wanted(manifest, components or [], facts=facts)
    look = _Look(session, manifest, content, resolver(session))
    seen = _look(look)
    found = [look.placed(problem) for problem in problems(seen)]
    ok = all(problem.level is not Level.ERROR for problem in found)
    _say(session, seen, found, shown, ok=ok)
    session.console.emit(_document(seen, found, shown, ok=ok))
    if not ok:
        raise typer.Exit(1)


def _wanted(manifest: Manifest, components: Sequence[str], *, facts: bool) -> frozenset[str]:
    """The components whose facts are shown. Raises ``UsageError``."""
    from refloat.manifest.document import nearest

    if components and not facts:
        raise UsageError(
            "components are named for their facts", next=f"refloat check --facts {' '.join(components)}"
        )
    for name in components:
        if name not in manifest.components:
            hint = nearest(name, manifest.components) or f"its components: {', '.join(manifest.components)}"
            raise UsageError(f"the manifest knows no component {name!r}", next=hint)
    return frozenset(components or manifest.components) if facts else frozenset()


# ------------------------------------------------------------------------------------------------- the looks


@dataclass(frozen=True)
class _Look:
    """What looking starts from."""

    session: Session
    manifest: Manifest
    content: bytes
    late: Resolver

    def wrong(self, path: ManifestPath, message: str, next: str | None) -> ManifestError:
        """An error in the manifest at ``path``."""
        from refloat.manifest.parse import spots

        file = str(self.session.file)
        if not path:
            return ManifestError(message, file=file, next=next)
        spot = spots(self.content)(path)
        return ManifestError(message, line=spot.line, column=spot.column, file=file, next=next)

    def placed(self, problem: Problem) -> Problem:
        """A problem with the line and column of what it is about."""
        from refloat.manifest.parse import spots

        spot = spots(self.content)(tuple(problem.where.split(".")))
        return replace(problem, line=spot.line, column=spot.column)

    def missing(self) -> dict[str, list[str]]:
        """What each region refers to and is not there. Raises ``ManifestError`` where the primary lacks it."""
        try:
            self.late.require(self.manifest, [self.manifest.primary])
            return {region: self.late.missing(self.manifest, [region]) for region in self.manifest.regions}
        except ManifestError as error:
            raise self.wrong(error.path, error.message, error.next) from None


def _look(look: _Look) -> Seen:
    from refloat.cli.findings import Seen

    manifest = look.manifest
    _require_known_kinds(look)
    missing = look.missing()
    _require_right_probes(look, missing)
    places = {name: _place(look, name, missing) for name in manifest.components}
    urls = {region: _url(look, region) for region in manifest.regions}
    key = key_file(look.session, [u for u in urls.values() if isinstance(u, str)]) if has_key() else None
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as pool:
        looks = {name: pool.submit(_component, manifest, name, place) for name, place in places.items()}
        regions = _regions(look.session, urls, key)
    components = {name: done.result() for name, done in looks.items()}
    opened = [replica for _, _, replica in regions.values() if replica is not None]
    standings, behind, unknown = _compared(opened)
    return Seen(
        manifest=manifest,
        components=components,
        regions={region: seen for region, (seen, _, _) in regions.items()},
        protected=None if key is None else frozenset[str]().union(*(held for _, held, _ in regions.values())),
        missing=missing,
        standings=standings,
        behind=behind,
        unknown=unknown,
        doubts=_doubts(opened),
        verdicts=_verdicts(manifest, components),
        unheard=look.late.lacking(
            [manifest.notify.webhook or "", *manifest.notify.command], manifest, manifest.primary
        ),
        verification=_verification(look, components),
        overlapping=_overlapping(look),
    )


def _overlapping(look: _Look) -> list[Problem]:
    """Vaults and components that do not lie apart, and what one machine would have for two regions at once."""
    from refloat.cli.findings import Level, Problem
    from refloat.flows.apart import in_one_place, overlaps
    from refloat.flows.components import Components

    components = Components(look.manifest, look.late)
    found = {Level.ERROR: overlaps(components, local_state_dir()), Level.WARNING: in_one_place(components)}
    return [
        Problem(level, ".".join(map(str, one.path)), one.message, one.next)
        for level, mistakes in found.items()
        for one in mistakes
    ]


def _require_right_probes(look: _Look, missing: Mapping[str, Sequence[str]]) -> None:
    """Raise ``ManifestError`` for settings that a probe refuses in a region of which nothing is missing."""
    from refloat.cli.check_verify import wrong_probes
    from refloat.manifest.parse import refused

    complete = [region for region, lacks in missing.items() if not lacks]
    mistakes = list(wrong_probes(look.manifest, look.late, complete))
    if mistakes:
        raise refused(mistakes, look.content, file=str(look.session.file))


def _verification(look: _Look, components: Mapping[str, ComponentSeen]) -> list[Problem]:
    """What is wrong with golden questions, and probes that find nobody though the component seems well."""
    from refloat.cli.check_verify import silent, wrong_golden
    from refloat.contracts import Health

    nobody = silent(look.manifest, look.late, LOOK_SECONDS_MAX)
    well = [nobody[name] for name in nobody if components[name].health is Health.HEALTHY]
    return [*wrong_golden(look.manifest, look.late, look.session.file.parent), *well]


def _require_known_kinds(look: _Look) -> None:
    """Raise ``ManifestError`` for a kind of component or of probe that is not installed."""
    from refloat import registry
    from refloat.manifest.document import nearest
    from refloat.manifest.parse import dotted

    manifest = look.manifest
    kinds: list[tuple[ManifestPath, str, str]] = [
        *((("components", n, "kind"), c.kind, registry.CONNECTORS) for n, c in manifest.components.items()),
        *((("verify", n, "probe"), next(iter(v.probe)), registry.PROBES) for n, v in manifest.verify.items()),
    ]
    for path, kind, group in kinds:
        known = registry.names(group)
        if kind not in known:
            hint = nearest(kind, known) or f"installed: {', '.join(known)}"
            raise look.wrong(path, f"{dotted(path)}: nothing installed is called {kind!r}", hint)


def _place(look: _Look, name: str, missing: Mapping[str, list[str]]) -> Place | RefloatError:
    """A component's place in the primary, or why its connector cannot be loaded.

    Its settings are checked in every region of which nothing is missing. Raises ``ManifestError``.
    """
    from refloat import registry
    from refloat.contracts import Place

    manifest = look.manifest
    try:
        schema = registry.connector(manifest.components[name].kind).spec.settings
    except (UsageError, ConnectorError) as error:
        return error
    try:
        with plug_in(f"reading the settings of {name}", component=name):
            fit = {
                r: look.late.settings(manifest, name, r, schema) for r, lacks in missing.items() if not lacks
            }
    except ManifestError as error:
        raise look.wrong(("components", name, "with"), error.message, error.next) from None
    except ConnectorError as error:
        return error
    return Place(component=name, region=manifest.primary, settings=fit[manifest.primary])


def _url(look: _Look, region: str) -> str | RefloatError:
    from refloat.vault.stores import open_store

    try:
        url = look.late.vault(look.manifest, region)
    except ManifestError as error:
        return error
    try:
        open_store(url)
    except UsageError as error:
        raise look.wrong(
            ("regions", region, "vault"), f"regions.{region}.vault: {error.message}", error.next
        ) from None
    return url


def _component(manifest: Manifest, name: str, place: Place | RefloatError) -> ComponentSeen:
    from refloat import registry
    from refloat.cli.findings import ComponentSeen
    from refloat.contracts import Ailing, Health, Remarked
    from refloat.deadline import within
    from refloat.point.capture import inspected

    if isinstance(place, RefloatError):
        return ComponentSeen(error=place)
    connector = registry.connector(manifest.components[name].kind)
    doing, asking = f"inspecting {name}", f"asking {name} for its health"
    try:
        with plug_in(doing, component=name):
            facts = within(LOOK_SECONDS_MAX, doing, lambda: inspected(connector, place))
        with plug_in(asking, component=name):
            health = within(LOOK_SECONDS_MAX, asking, lambda: connector.health(place))
            ailment = ""
            if health is not Health.HEALTHY and isinstance(connector, Ailing):
                ailment = within(LOOK_SECONDS_MAX, asking, lambda: connector.ailment(place))
            remarks: list[ConnectorError] = []
            if isinstance(connector, Remarked):
                remarks = within(LOOK_SECONDS_MAX, asking, lambda: connector.remarks(place))
    except RefloatError as error:
        return ComponentSeen(error=error)
    return ComponentSeen(facts=facts, health=health, ailment=ailment, remarks=remarks)


def _compared(
    replicas: Sequence[Replica],
) -> tuple[Mapping[str, Standing], Mapping[str, Behind], Mapping[str, RefloatError]]:
    """How the regions' logs stand to each other, and who lacks a newer point; by region, why that is not known."""
    from refloat.deadline import within
    from refloat.flows.newer import late
    from refloat.flows.rejoin import standings

    unknown: dict[str, RefloatError] = {}
    try:
        stand = within(LOOK_SECONDS_MAX, "comparing the regions' logs", lambda: standings(replicas))
        told: dict[str, RefloatError] = {}
        behind = within(
            LOOK_SECONDS_MAX, "comparing the regions' newest points", lambda: late(replicas, told)
        )
    except RefloatError as error:
        for replica in replicas:
            message = f"how the log of {replica.region} stands to the others is not known: {error.message}"
            unknown[replica.region] = StoreError(
                message, region=replica.region, file=error.file, retry=error.retry, next=NOT_COMPARED
            )
        return {}, {}, unknown
    return stand, behind, told


def _doubts(replicas: Sequence[Replica]) -> Doubts:
    """What could not be verified if the newest point were recovered now; nothing where it cannot be read."""
    from refloat.deadline import within
    from refloat.flows.baselines import doubts_of
    from refloat.flows.points import newest

    def found() -> Doubts:
        last = newest(replicas)
        return doubts_of(last[2], last[1], replicas) if last else {}

    try:
        return within(LOOK_SECONDS_MAX, "looking for a baseline", found)
    except RefloatError:
        return {}  # what is wrong with a region is told of it


_Opened = tuple["RegionSeen", frozenset[str], "Replica | None"]
"""A region, the components that its newest point holds, and its replica where it can be opened."""


def _regions(
    session: Session, urls: Mapping[str, str | RefloatError], key: KeyFile | None
) -> dict[str, _Opened]:
    """Every region, looked at in the same time; one that says nothing holds up no other for long."""
    from refloat.cli.findings import RegionSeen
    from refloat.vault.first_word import Asking, answers
    from refloat.vault.stores import open_store

    asked: dict[str, Asking[_Opened]] = {}
    found: dict[str, _Opened] = {}
    for region, url in urls.items():
        if isinstance(url, RefloatError):
            found[region] = (RegionSeen(url="", error=url), frozenset(), None)
            continue
        try:
            store = open_store(url)
        except RefloatError as error:
            found[region] = (RegionSeen(url=url, error=error.at(region=region)), frozenset(), None)
        else:
            asked[region] = Asking(store, partial(_region, session, region, url, store, key))
    for region, seen in answers(asked, _answered, awaited=()).items():
        if isinstance(seen, RefloatError):
            found[region] = (RegionSeen(url=str(urls[region]), error=seen), frozenset(), None)
        else:
            found[region] = seen
    return {region: found[region] for region in urls}


def _answered(seen: _Opened) -> bool:
    return seen[0].error is None


def _region(session: Session, region: str, url: str, store: Store, key: KeyFile | None) -> _Opened:
    from refloat.cli.findings import RegionSeen
    from refloat.deadline import within

    try:
        return within(
            LOOK_SECONDS_MAX,
            f"opening the vault of {region}",
            lambda: _open(session, region, url, store, key),
        )
    except RefloatError as error:
        return RegionSeen(url=url, error=error, occupied=_is_occupied(store, error)), frozenset(), None


def _is_occupied(store: Store, error: RefloatError) -> bool:
    """Whether something lies at an address that has no descriptor: as much as a listing tells."""
    from refloat.deadline import within
    from refloat.errors import Missing
    from refloat.vault import layout

    if not isinstance(error, Missing) or error.file != layout.VAULT:
        return False
    aside = (layout.TRIAL, layout.KEYS)  # what the making of a replica leaves where it was cut
    try:
        listed = within(LOOK_SECONDS_MAX, f"listing {store.url}", lambda: list(store.list("")))
    except RefloatError:
        return False
    return any(not info.name.startswith(aside) for info in listed)


def _open(session: Session, region: str, url: str, store: Store, key: KeyFile | None) -> _Opened:
    from refloat.cli.findings import RegionSeen
    from refloat.vault.forgotten import kept_points
    from refloat.vault.layout import read_descriptor
    from refloat.vault.replica import Replica

    descriptor = read_descriptor(store)
    there = RegionSeen(url=url, pipeline=descriptor.pipeline, descriptor=descriptor)
    if key is None:
        return there, frozenset(), None
    replica = Replica.open(region, store, key, session.clock)
    points = kept_points(replica)
    held = _components_of(replica) if points else frozenset[str]()
    return replace(there, points=len(points)), held, replica


def _components_of(replica: Replica) -> frozenset[str]:
    from refloat.flows import points

    newest = points.newest([replica])
    return frozenset(newest[1].components) if newest else frozenset()


def _verdicts(manifest: Manifest, components: Mapping[str, ComponentSeen]) -> dict[str, list[Verdict]]:
    """Each group's invariants over what is live now, where every member answered."""
    from refloat.point.evaluate import Evaluator

    known: dict[str, Facts] = {
        name: seen.facts for name, seen in components.items() if seen.facts is not None
    }
    with Evaluator() as evaluator:
        return {
            name: evaluator.evaluate(group.must, {member: known[member] for member in group.members})
            for name, group in manifest.groups.items()
            if set(group.members) <= set(known)
        }


# ------------------------------------------------------------------------------------------------ the answer


def _say(session: Session, seen: Seen, found: Sequence[Problem], shown: Collection[str], *, ok: bool) -> None:
    console = session.console
    rows = [
        (name, part.kind, str(part.tier), _state(seen.components[name]), _protection(seen, name))
        for name, part in seen.manifest.components.items()
    ]
    console.table(["component", "kind", "tier", "state", "protected"], rows)
    regions = [
        (name, _region_state(region), _points(region), region.url) for name, region in seen.regions.items()
    ]
    console.table(["region", "state", "points", "vault"], regions)
    for name in filter(shown.__contains__, seen.components):
        _say_facts(session, seen, name)
    for problem in found:
        place = f"{session.file}:{problem.line}:{problem.column}"
        console.print(f"{problem.level}: {problem.where}: {problem.message} ({place})")
        if problem.next:
            console.advise(f"  next: {problem.next}")
    warned = "ready, with warnings" if found else "ready"
    console.print(warned if ok else "not ready: correct the errors above")


def _state(component: ComponentSeen) -> str:
    return "unreachable" if component.error is not None else str(component.health)


def _protection(seen: Seen, name: str) -> str:
    if seen.protected is None:
        return "not looked at: no key"
    return "yes" if name in seen.protected else "no"


def _region_state(region: RegionSeen) -> str:
    if not region.reachable:
        return "unreachable"
    return "no vault yet" if region.error is not None else "reachable"


def _points(region: RegionSeen) -> str:
    return "-" if region.points is None else str(region.points)


def _facts(seen: Seen, name: str) -> Mapping[str, Json] | None:
    """The facts of a component as an invariant names them; None where it has none to use."""
    from refloat.point.invariants import spelled

    facts = seen.components[name].facts
    return None if facts is None else spelled(name, facts)


def _say_facts(session: Session, seen: Seen, name: str) -> None:
    facts = _facts(seen, name)
    if facts is None:
        why = (
            "could not be read" if seen.components[name].facts is None else "are too large for an expression"
        )
        session.console.print(f"the facts of {name} {why}")
    for fact, value in (facts or {}).items():
        session.console.print(f"{fact} == {json.dumps(value, ensure_ascii=False)}")


def _document(seen: Seen, found: Sequence[Problem], shown: Collection[str], *, ok: bool) -> dict[str, object]:
    return {
        "ok": ok,
        "problems": [
            {
                "level": str(p.level),
                "where": p.where,
                "message": p.message,
                "next": p.next,
                "line": p.line,
                "column": p.column,
                "retry": str(p.retry),
                "file": p.file,
            }
            for p in found
        ],
        "components": {
            name: _component_document(seen, name) | ({"facts": _facts(seen, name)} if name in shown else {})
            for name in seen.components
        },
        "regions": {name: _region_document(region) for name, region in seen.regions.items()},
    }


def _component_document(seen: Seen, name: str) -> dict[str, object]:
    component, part = seen.components[name], seen.manifest.components[name]
    return {
        "kind": part.kind,
        "tier": str(part.tier),
        "reachable": component.error is None,
        "health": str(component.health),
        "protected": None if seen.protected is None else name in seen.protected,
    }


def _region_document(region: RegionSeen) -> dict[str, object]:
    return {
        "vault": region.url,
        "reachable": region.reachable,
        "exists": region.error is None,
        "points": region.points,
    }
