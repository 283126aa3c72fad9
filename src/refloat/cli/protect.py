"""``refloat protect``: one recovery point of everything, now, in every region that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.completion import regions
from refloat.cli.places import begin_anew, pin_heads, warn_damaged, warn_rolled_back
from refloat.cli.system import give_way

if TYPE_CHECKING:
    from refloat.cli.console import Console
    from refloat.flows.protect import Protected

EXAMPLES = examples(
    "refloat protect", "refloat protect --require exact", "refloat -f other.yaml protect --json | jq .point"
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("protect", epilog=EXAMPLES)(protect)


def protect(
    context: typer.Context,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="REGION",
            help="Where the pipeline runs now, if not in the primary.",
            autocompletion=regions,
        ),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            help="`exact`: exit 1 when a group is only fuzzy.",
            metavar="exact",
            autocompletion=lambda: ["exact"],
        ),
    ] = None,
) -> int:
    """Capture every component into one recovery point and write it to every region's vault."""
    from refloat.flows import protect as flow
    from refloat.flows.components import Components

    give_way()
    session, required = session_of(context), flow.required_grade(require)
    manifest, content = load_manifest(session.file)
    components = Components(manifest, resolver(session))
    files = flow.carried_files(components, content, session.file.parent)
    vault = open_vault(session, manifest, components.resolver)
    warn_damaged(session, vault)
    begin_anew(session, vault)
    contradicted = warn_rolled_back(session, vault)
    made = flow.protect(
        components,
        files,
        vault,
        session.clock,
        region=region,
        require=required,
        progress=session.console.progress(),
    )
    session.console.close()
    given_up = [name for name, result in made.regions.items() if not result.complete]
    pin_heads(session, vault, [*contradicted, *given_up])
    _show(session.console, made)
    session.console.emit(made.document())
    return 0 if made.ok else 1


def _how(made: Protected, name: str) -> str:
    """How a component came into the point, where it was not captured for it."""
    if name in made.point.not_captured:
        return "failed"
    return "carried" if made.point.components[name].carried else ""


def _show(console: Console, made: Protected) -> None:
    from refloat.flows.baselines import remark
    from refloat.point.model import Grade
    from refloat.point.suspicion import spoken
    from refloat.units import format_duration, format_size

    rows = [
        (
            name,
            snapshot.kind,
            _how(made, name) or format_duration(snapshot.seconds),
            format_size(snapshot.bytes),
            format_size(snapshot.new_bytes),
            format_size(snapshot.stored_bytes),
        )
        for name, snapshot in made.point.components.items()
    ]
    console.table(("component", "kind", "captured in", "size", "new", "stored"), rows)
    for name, group in made.point.groups.items():
        console.print(f"group {name}: {group.grade}" + (f" - {group.reason}" if group.reason else ""))
    for region, result in made.regions.items():
        console.print(
            f"region {region}: " + ("complete" if result.complete else f"not complete: {result.error}")
        )
    console.print(f"point {made.name}")
    for name, why in made.point.not_captured.items():
        console.warn(f"{name} could not be captured, and is as old as its last snapshot: {why}")
    for warning in made.warnings:
        console.warn(warning)
    if made.suspect:
        console.warn(f"the point is suspect, and no recovery takes it by itself: {spoken(made.suspect)}")
    if made.point.grade is Grade.FUZZY:
        console.warn("the point is fuzzy: its parts may not be from one moment")
    if made.point.grade is Grade.UNKNOWN:
        console.warn(
            "whether the point's parts belong together is unknown; it is asked again when one is chosen"
        )
    for name, reason in made.measured.items():
        if reason:
            console.warn(f"{name} was measured, and that is not its baseline: {reason}")
    if made.doubts:
        console.warn(remark(made.doubts))
    if made.copies < made.copies_required:
        console.warn(
            f"the point is in {made.copies} of the {made.copies_required} regions that the manifest asks for"
        )
