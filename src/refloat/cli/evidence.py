"""``refloat evidence``: the signed records of runs, and their pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refloat.cli.common import examples, session_of
from refloat.cli.completion import RUN_HELP, runs
from refloat.cli.places import VaultOption, open_place

evidence = typer.Typer(
    no_args_is_help=True,
    help="The signed records of runs.",
    epilog=examples("refloat evidence list", "refloat evidence show 3f2a --html run.html"),
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(evidence, name="evidence")


@evidence.command("list", epilog=examples("refloat evidence list"))
def list_records(context: typer.Context, vault: VaultOption = None) -> int:
    """Every record that the vault holds, newest first."""
    from refloat.evidence.seal import records
    from refloat.units import format_duration, format_time

    session = session_of(context)
    opened = open_place(session, vault)
    found = {record.run: record for replica in opened.replicas.values() for record in records(replica)}
    newest = sorted(found.values(), key=lambda record: record.started_at, reverse=True)
    session.console.table(
        ("run", "kind", "started", "to", "state", "time to recover"),
        [
            (
                r.run,
                r.kind,
                format_time(r.started_at)[:19] + "Z",
                r.to,
                r.state,
                format_duration(r.rto.seconds),
            )
            for r in newest
        ],
    )
    session.console.emit({"evidence": [{**record.document(), "kind": record.kind} for record in newest]})
    return 0


@evidence.command(
    "show", epilog=examples("refloat evidence show 3f2a", "refloat evidence show 3f2a --html run.html")
)
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=runs)],
    vault: VaultOption = None,
    html: Annotated[Path | None, typer.Option(help="Write the page here.", metavar="FILE")] = None,
) -> int:
    """One record, its signature checked."""
    from refloat.cli.outcome import show_record
    from refloat.digest import json_form
    from refloat.durable import hand_out
    from refloat.evidence.render import page
    from refloat.evidence.seal import find

    session = session_of(context)
    opened = open_place(session, vault)
    record = find(list(opened.replicas.values()), run)
    show_record(session.console, record)
    if html is not None:
        hand_out(html, page(record))
        session.console.print(f"wrote {html}")
    session.console.emit(json_form(record))
    return 0
