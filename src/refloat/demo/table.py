"""The story's one table, and the figures before and after, for a terminal or a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from refloat.evidence.render import figure
from refloat.units import format_duration, format_size

COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def components(recover: Mapping[str, Any], ledger: Mapping[str, int]) -> Table:
    """Each component's layer and tier, objectives against what was achieved, and what was lost."""
    lost = f"{ledger['lost']} of {ledger['answered']} answers lost, by the client's own ledger"
    table = Table(
        title=f"Recovered in {recover['to']}: objectives against results",
        caption=lost,
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("component", "layer", "tier"):
        table.add_column(heading)
    for heading in ("RTO", "objective", "data lost", "objective", "size"):
        table.add_column(heading, justify="right")
    for name, part in recover["components"].items():
        table.add_row(
            name,
            part["layer"],
            part["tier"],
            achieved(part["rto"]),
            format_duration(part["rto"]["objective_s"]),
            achieved(part["rpo"]),
            format_duration(part["rpo"]["objective_s"]),
            format_size(part["bytes"]),
        )
    whole = recover["rto"]
    table.add_section()
    table.add_row(
        "the pipeline",
        "",
        "",
        achieved(whole),
        format_duration(whole["objective_s"]),
        "",
        "",
        "",
        style="bold",
    )
    return table


def achieved(result: Mapping[str, Any]) -> Text:
    """Seconds achieved, green within the objective, red beyond it, yellow where unknown."""
    seconds = result["seconds"]
    if seconds is None:
        return Text("unknown", style="yellow")
    return Text(format_duration(seconds), style="green" if seconds <= result["objective_s"] else "red")


def behaviour(recover: Mapping[str, Any]) -> Table:
    """Latency, throughput, quality and end-to-end time before and after."""
    table = Table(title="Behaviour before and after", title_justify="left")
    table.add_column("measured")
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
