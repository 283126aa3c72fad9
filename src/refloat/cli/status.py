"""``refloat status``: what each region holds, and what losing each of them now would cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.alarm import bell, ring_breaches
from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of

if TYPE_CHECKING:
    from refloat.flows.status import Status
    from refloat.point.exposure import Exposure

EXAMPLES = examples("refloat status", "refloat status --json | jq .exposure", "refloat status --notify")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("status", epilog=EXAMPLES)(status)


def status(
    context: typer.Context,
    notify: Annotated[
        bool,
        typer.Option(
            "--notify",
            help="Send an alert for each component beyond its RPO: for a watch from another machine.",
        ),
    ] = False,
) -> int:
    """Say how old the newest copy of each component is, for each region that could be lost."""
    from refloat.flows import status as flow
    from refloat.point.suspicion import spoken
    from refloat.vault.replica import REPAIR

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    late = resolver(session)
    vault = open_vault(session, manifest, late, awaited=())
    found = flow.status(manifest, vault, session.clock)
    regions = list(manifest.regions)
    session.console.table(
        ("component", "tier", "objective", *(f"if {region} is lost" for region in regions), "state"),
        _rows(found, regions),
        title=f"{found.pipeline}: RPO exposure",
    )
    for name, region in found.regions.items():
        if "error" in region:
            how = "cannot be recovered from" if region["reachable"] else "does not answer"
            session.console.warn(f"{name} {how}: {region['error']}")
    for name, region in found.regions.items():
        if region.get("lock_lapsed"):
            ended = region["locked_until"] or "at no time"
            session.console.warn(f"{name}: its newest point is not locked (until {ended}): refloat protect")
    for one in found.behind.values():
        session.console.warn(f"{one.told}: {REPAIR}")
    for error in found.unknown.values():
        session.console.warn(error.told)
    if suspect := {name: told.suspect for name, told in found.components.items() if told.suspect}:
        session.console.warn(f"the newest point is suspect, and does not count: {spoken(suspect)}")
    for remark in _of_the_newest(found):
        session.console.warn(remark)
    if found.runs_in != manifest.primary:
        session.console.warn(f"it runs in {found.runs_in} now; the manifest's primary is {manifest.primary}")
    session.console.emit(found.document())
    if notify:
        ring_breaches(session, bell(session, manifest, late), found)
    return 0 if found.well else 1


def _of_the_newest(found: Status) -> Iterator[str]:
    """What speaks against the newest point."""
    from refloat.flows.baselines import remark
    from refloat.units import format_time

    newest = found.newest
    if newest is None:
        yield "nothing is protected yet: refloat protect"
        return
    name = newest.name[:12]
    if not newest.grade.consistent:
        groups = newest.point.groups.items()
        why = "; ".join(
            f"group {name}: {group.reason}" for name, group in groups if not group.grade.consistent
        )
        yield (
            f"the newest point {name} of {format_time(newest.point.created_at)[:19]}Z is {newest.grade}, and does not "
            f"count: {why}: refloat points why {name}"
        )
    for component, reason in newest.point.not_captured.items():
        yield f"{component} could not be captured with the newest point, and is as old as before: {reason}"
    if newest.doubts:
        yield f"the newest point: {remark(newest.doubts)}"


def _rows(found: Status, regions: list[str]) -> list[tuple[str, ...]]:
    from refloat.units import format_duration

    return [
        (
            name,
            component.tier,
            format_duration(component.rpo_objective_s),
            *(_lost(component.exposure[region]) for region in regions),
            component.state,
        )
        for name, component in found.components.items()
    ]


def _lost(loss: Exposure) -> str:
    from refloat.units import format_duration

    if loss.state == "unknown":
        return "not known"
    if loss.seconds is None:
        return "all of it"
    if loss.state == "unprotected":
        return f"all of it ({format_duration(loss.seconds)} old)"
    return "nothing" if loss.seconds == 0 else format_duration(loss.seconds)
