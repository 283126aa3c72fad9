"""``refloat protect``: one recovery point of everything, now, in every region that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.places import warn_damaged, warn_rolled_back

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
        str | None, typer.Option(metavar="REGION", help="Where the pipeline runs now, if not in the primary.")
    ] = None,
    require: Annotated[
        str | None, typer.Option(help="`exact`: exit 1 when a group is only fuzzy.", metavar="exact")
    ] = None,
) -> int:
    """Capture every component into one recovery point and write it to every region's vault."""
    from refloat.errors import UsageError
    from refloat.flows import protect as flow
    from refloat.flows import verify
    from refloat.flows.components import Components
    from refloat.flows.points import MANIFEST
    from refloat.point.model import Grade

    if require not in (None, "exact"):
        raise UsageError(f"--require takes exact, not {require!r}", next="refloat protect --help")
    session = session_of(context)
    manifest, content = load_manifest(session.file)
    if region is not None and region not in manifest.regions:
        raise UsageError(
            f"the manifest knows no region {region!r}", next=f"its regions: {', '.join(manifest.regions)}"
        )
    components = Components(manifest, resolver(session))
    vault = open_vault(session, manifest, components.resolver)
    warn_damaged(session, vault)
    warn_rolled_back(session, vault)
    files = {MANIFEST: content, **verify.golden_files(components, session.file.parent)}
    made = flow.protect(
        components, files, vault, session.clock, region=region, progress=session.console.progress()
    )
    session.console.close()
    _show(session.console, made)
    session.console.emit(made.document())
    strict = require == "exact" and made.point.grade is not Grade.EXACT
    return 0 if made.ok and not strict else 1


def _show(console: Console, made: Protected) -> None:
    from refloat.point.model import Grade
    from refloat.units import format_duration, format_size

    rows = [
        (
            name,
            snapshot.kind,
            "carried" if snapshot.carried else format_duration(snapshot.seconds),
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
    for name, error in made.errors.items():
        console.warn(f"{name} could not be captured, and is as old as its last snapshot: {error.message}")
    if made.point.grade is Grade.FUZZY:
        console.warn("the point is fuzzy: its parts may not be from one moment")
    if made.copies < made.copies_required:
        console.warn(
            f"the point is in {made.copies} of the {made.copies_required} regions that the manifest asks for"
        )
