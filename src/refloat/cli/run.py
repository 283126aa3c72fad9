"""``refloat run``: the runs of a region, as their journals tell them."""

from __future__ import annotations

from typing import Annotated

import typer

from refloat.cli.alarm import bell, ring
from refloat.cli.common import examples, opener, resolver, session_of
from refloat.cli.completion import RUN_HELP, runs
from refloat.cli.places import VaultOption, open_place, target_replica
from refloat.cli.recover import ToOption

run = typer.Typer(
    no_args_is_help=True,
    help="The runs of a region.",
    epilog=examples(
        "refloat run list --to us",
        "refloat run show 3f2a9c01d4e5 --to us",
        "refloat run abort 3f2a9c01d4e5 --to us",
    ),
)

RunArgument = Annotated[str, typer.Argument(help=RUN_HELP, metavar="RUN", autocompletion=runs)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(run, name="run")


@run.command("list", epilog=examples("refloat run list --to us"))
def list_runs(context: typer.Context, to: ToOption, vault: VaultOption = None) -> int:
    """Every run that claimed the region, newest first, and where it stands."""
    from refloat.flows.recover import journal_of, runs_of
    from refloat.units import format_time

    session = session_of(context)
    replica = target_replica(open_place(session, vault), to, vault)
    views = [journal_of(replica, name, session.clock).view for name in reversed(runs_of(replica, to))]
    known = [(view, view.started_at, view.plan) for view in views]
    session.console.table(
        ("run", "started", "point", "state"),
        [
            (view.run, format_time(began)[:19] + "Z", plan.point[:12], str(view.state))
            for view, began, plan in known
            if began and plan
        ],
    )
    session.console.emit(
        {
            "runs": [
                {
                    "run": view.run,
                    "started_at": format_time(began),
                    "point": plan.point,
                    "state": str(view.state),
                }
                for view, began, plan in known
                if began and plan
            ]
        }
    )
    return 0


@run.command("show", epilog=examples("refloat run show 3f2a9c01d4e5 --to us"))
def show(
    context: typer.Context,
    name: RunArgument,
    to: ToOption,
    vault: VaultOption = None,
) -> int:
    """One run: its state, its steps, and what each took."""
    from refloat.flows.recover import plan_of, run_named
    from refloat.units import format_duration

    session = session_of(context)
    replica = target_replica(open_place(session, vault), to, vault)
    plan, view = plan_of(replica, run_named(replica, to, name), session.clock)
    session.console.print(f"run {view.run}: {view.state}" + (f" - {view.reason}" if view.reason else ""))
    steps = [(step.id, view.step(step.id)) for step in plan.steps]
    session.console.table(
        ("step", "status", "took", "attempts"),
        [(id, str(known.status), format_duration(known.seconds), str(known.attempts)) for id, known in steps],
    )
    session.console.emit(
        {
            "run": view.run,
            "state": str(view.state),
            "reason": view.reason,
            "standing": dict(view.standing),
            "steps": [
                {
                    "id": id,
                    "status": str(k.status),
                    "seconds": k.seconds,
                    "attempts": k.attempts,
                    "error": k.error,
                }
                for id, k in steps
            ],
        }
    )
    return 0


@run.command("abort", epilog=examples("refloat run abort 3f2a9c01d4e5 --to us"))
def abort(
    context: typer.Context,
    name: RunArgument,
    to: ToOption,
    vault: VaultOption = None,
) -> int:
    """Put back everything that a run has done which waits, was stopped or died; what it had replaced is live again."""
    from refloat.cli.recover import tell
    from refloat.flows import recover as flow
    from refloat.flows.alerts import recovery_looked_at
    from refloat.flows.request import Request
    from refloat.run.state import RunState

    session = session_of(context)
    reached = open_place(session, vault)
    request = Request.checked(to, resume=name, now=session.clock.now()).named(reached, vault)
    prepared, everywhere = request.ready(reached, vault, opener(session), lambda: resolver(session))
    done = flow.recover(
        prepared,
        everywhere,
        session.clock,
        run=request.resume,
        progress=session.console.progress(),
        turn_back="a person put it back",
    )
    session.console.close()
    ringing = bell(session, prepared.manifest, prepared.components.resolver)
    ring(session, ringing, (), recovery_looked_at(done, to))  # whoever put it back has heard of it
    with flow.resumable(to, done.evidence.run):
        session.console.emit(
            {"run": done.evidence.run, "state": done.evidence.state, "page": tell(session, done)}
        )
    return 0 if done.evidence.state == RunState.ROLLED_BACK else 1
