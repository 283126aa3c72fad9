"""``refloat points accept``: a person has looked at a suspect point, and says that it is good."""

from __future__ import annotations

from typing import Annotated

import typer

from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.completion import POINT_HELP, points

ACCEPT = examples(
    'refloat points accept 3f2a --because "retrained from scratch, ticket 81"',
    'refloat points accept 3f2a --because "we deleted the old crawl" --json',
)


def accept(
    context: typer.Context,
    point: Annotated[str, typer.Argument(help=POINT_HELP, autocompletion=points)],
    because: Annotated[
        str, typer.Option("--because", metavar="TEXT", help="What you looked at, for the record.")
    ],
) -> int:
    """Say that a suspect point is good: recoveries take it again, and what it holds counts as good from then on."""
    from refloat.flows import accept as flow
    from refloat.flows.points import find
    from refloat.point.suspicion import spoken

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    opened = open_vault(session, manifest, resolver(session))
    name, _, _ = find(list(opened.replicas.values()), point)
    done = flow.accept(opened, name, because)
    console = session.console
    for region, error in opened.unreachable.items():
        console.warn(f"{region} is not told, and what the others say counts: {error.message}")
    was = f", though {spoken(done.suspect)}" if done.suspect else ""
    console.print(f"point {name} is accepted in {', '.join(done.regions)}{was}")
    console.emit(done.document())
    return 0 if done.ok else 1
