"""``refloat metrics``: the protection of a pipeline in figures, for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of

EXAMPLES = examples(
    "refloat metrics", "refloat metrics --output /var/lib/prometheus/node-exporter/refloat.prom"
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("metrics", epilog=EXAMPLES)(metrics)


def metrics(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write this file, whole or not at all, for node_exporter's textfile collector.",
        ),
    ] = None,
) -> None:
    """Print ages, objectives, states, regions and the newest point as Prometheus reads them."""
    from refloat.durable import hand_out
    from refloat.flows import metrics as flow

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    vault = open_vault(session, manifest, resolver(session), awaited=())
    measured = flow.metrics(manifest, vault, session.clock)
    if output is not None:
        hand_out(output, measured.text().encode())
    else:
        session.console.print(measured.text().rstrip("\n"))
    session.console.emit({**measured.document(), "output": str(output) if output else None})
