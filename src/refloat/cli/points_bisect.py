"""``refloat points bisect``: points are tried in a sandbox by halves until the newest is known whose answers pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.completion import POINT_HELP, components, points, sandboxes
from refloat.cli.places import warn_unreachable

if TYPE_CHECKING:
    from refloat.flows.bisect import Bisected
    from refloat.flows.trial import Trial

BISECT = examples(
    "refloat points bisect --sandbox bench",
    "refloat points bisect --sandbox bench --good 3f2a --component assistant",
    "refloat points bisect --sandbox bench --good 3f2a --bad latest --json",
)


def bisect(
    context: typer.Context,
    sandbox: Annotated[
        str,
        typer.Option(
            "--sandbox", metavar="NAME", help="The sandbox of the manifest.", autocompletion=sandboxes
        ),
    ],
    good: Annotated[
        str | None,
        typer.Option(
            "--good",
            metavar="POINT",
            help=f"Known to be good; answers are also held against its baseline. {POINT_HELP}",
            autocompletion=points,
        ),
    ] = None,
    bad: Annotated[
        str | None,
        typer.Option("--bad", metavar="POINT", help="Known to be bad, as well.", autocompletion=points),
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(
            "--component",
            metavar="NAME",
            help="Only the answers of this one count; it is tried with what they depend on.",
            autocompletion=components,
        ),
    ] = None,
) -> int:
    """Find the newest point whose answers pass: recover points into a sandbox by halves, ask them, put all back."""
    from refloat.flows import bisect as flow
    from refloat.flows.components import Components
    from refloat.manifest.sandbox import sandbox_of

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    sandbox_of(manifest, sandbox)  # before a vault is asked
    today = Components(manifest, resolver(session))
    vault = open_vault(session, manifest, today.resolver)
    warn_unreachable(session, vault)
    bench, remarks = flow.opened(
        today,
        session.file.parent,
        vault,
        session.clock,
        sandbox,
        good=good,
        component=component,
        progress=session.console.progress(),
    )
    for remark in remarks:
        session.console.warn(remark)
    found = flow.bisect(bench, good=good, bad=bad, on_trial=lambda trial: _told(session, trial))
    session.console.close()
    _show(session, found)
    session.console.emit(found.document())
    return 0 if found.ok else 1


def _told(session: Session, trial: Trial) -> None:
    from refloat.flows.trial import SPOKEN

    why = f" ({trial.reason})" if trial.reason else ""
    session.console.note(f"tried {trial.point[:12]}: {SPOKEN[trial.verdict]}{why}")


def _show(session: Session, found: Bisected) -> None:
    from refloat.flows.trial import SPOKEN
    from refloat.units import format_time

    console = session.console
    console.table(
        ("point", "made", "verdict", "by component", "drill"),
        [
            (
                trial.point[:12],
                format_time(trial.created_at)[:19] + "Z",
                SPOKEN[trial.verdict],
                ", ".join(f"{name}: {SPOKEN[verdict]}" for name, verdict in trial.components.items()),
                trial.run or "-",
            )
            for trial in found.trials
        ],
    )
    for line in found.spoken():
        console.print(line)
    console.print(f"next: {session.pasteable(found.next)}")
