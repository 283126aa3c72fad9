"""The story's one table, and the figures before and after, for a terminal or a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from refloat.evidence.render import figure
from refloat.units import format_duration, format_size

COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def components(recover: Mapping[str, Any], ledger: Mapping[str, int]) -> Table:
    """Each component's layer and tier, objectives against what was achieved, and what was lost."""
    table = Table(
        title=f"Recovered in {recover['to']}: achieved, of the objective",
        caption=f"{ledger['lost']} of {ledger['answered']} answers lost, by the client's own ledger",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("component", no_wrap=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("tier", no_wrap=True)
    for heading in ("RTO", "data lost", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, part in recover["components"].items():
        table.add_row(
            name,
            part["layer"],
            part["tier"],
            achieved(part["rto"]),
            achieved(part["rpo"]),
            format_size(part["bytes"]),
        )
    table.add_section()
    table.add_row("the pipeline", "", "", achieved(recover["rto"]), "", "", style="bold")
    return table


def achieved(result: Mapping[str, Any]) -> Text:
    """Seconds achieved, green within the objective, red beyond it, yellow where unknown."""
    seconds = result["seconds"]
    if seconds is None:
        return Text("unknown", style="yellow")
    colour = "green" if seconds <= result["objective_s"] else "red"
    objective = f" of {format_duration(result['objective_s'])}"
    return Text.assemble((format_duration(seconds), colour), (objective, "dim"))


def behaviour(recover: Mapping[str, Any]) -> Table:
    """Latency, throughput, quality and end-to-end time before and after."""
    table = Table(
        title="Behaviour before and after", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("measured", no_wrap=True)
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    table.add_column("bound")
    table.add_column("samples", justify="right")
    table.add_column("verdict")
    for check in recover["checks"]:
        table.add_row(
            check["name"],
            figure(check["baseline"], check["unit"]),
            figure(check["recovered"], check["unit"]),
            check["bound"],
            str(check["samples"]),
            Text(check["verdict"], style=COLOURS[check["verdict"]]),
        )
    return table
