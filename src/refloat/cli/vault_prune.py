"""``refloat vault prune``: what no point needs is marked, and goes a day later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, session_of
from refloat.cli.places import open_place

if TYPE_CHECKING:
    from refloat.digest import Json
    from refloat.vault.prune import PrunePlan

PRUNE = examples("refloat vault prune --dry-run", "refloat vault prune", "refloat vault prune --json")


def prune(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Remove what interrupted commands left, and what only forgotten points need: marked first, gone a day later."""
    from refloat.flows.forget import spared
    from refloat.vault import prune as pruning

    session = session_of(context)
    opened = open_place(session, None)
    progress = session.console.progress()
    plans = pruning.plan_prune(opened, session.clock.now(), progress, spared=spared(opened, session.clock))
    swept = {plan.region: 0 for plan in plans}
    if not dry_run:
        for plan in plans:
            swept[plan.region] = pruning.prune(opened.replicas[plan.region], plan, progress)
    session.console.close()
    for plan in plans:
        _show(session, plan, swept[plan.region], dry_run=dry_run)
    regions: dict[str, Json] = {plan.region: _document(plan, swept[plan.region]) for plan in plans}
    session.console.emit({"dry_run": dry_run, "regions": regions})
    return 0


def _show(session: Session, plan: PrunePlan, swept: int, *, dry_run: bool) -> None:
    from refloat.units import format_size, format_time

    would = "would be " if dry_run else ""
    removed, marked = (
        f"{len(of)} objects ({format_size(sum(of.values()))})" for of in (plan.remove, plan.mark)
    )
    done = (
        f"{removed} {would}removed, {marked} {would}marked" if plan.remove or plan.mark else "nothing to do"
    )
    session.console.print(f"region {plan.region}: {done}")
    if plan.replace:
        session.console.print(f"  {len(plan.replace)} index objects {would}written anew without what goes")
    if swept:
        session.console.print(f"  {format_size(swept)} of unfinished writes removed")
    if plan.wait:
        until = format_time(min(plan.wait.values()))
        session.console.print(f"  {len(plan.wait)} objects were marked before; the first may go at {until}")
    if plan.locked:
        held = format_size(sum(one.bytes for one in plan.locked.values()))
        until = format_time(max(one.until for one in plan.locked.values()))
        session.console.print(
            f"  {len(plan.locked)} objects ({held}) that no point needs are locked, the last until {until}"
        )
    for name, why in plan.beside.items():
        session.console.print(f"  what {name} names stays, and nobody recovers that: {why}")
    if dry_run:
        for word, objects in (("remove", plan.remove), ("mark", plan.mark)):
            for name, size in objects.items():
                session.console.print(f"  {word} {name} ({format_size(size)})")


def _document(plan: PrunePlan, swept: int) -> Json:
    from refloat.units import format_time

    return {
        "removed": [{"object": name, "bytes": size} for name, size in plan.remove.items()],
        "marked": [{"object": name, "bytes": size} for name, size in plan.mark.items()],
        "waiting": [{"object": name, "until": format_time(at)} for name, at in plan.wait.items()],
        "locked": [
            {"object": name, "bytes": one.bytes, "until": format_time(one.until)}
            for name, one in plan.locked.items()
        ],
        "beside": dict(plan.beside),
        "unfinished_bytes": swept,
    }
