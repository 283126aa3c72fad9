"""``refloat plan``: what a recovery would do, in which order, and how long it should take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, resolver, session_of
from refloat.cli.places import (
    VaultOption,
    open_place,
    target_replica,
    warn_passed_over,
    warn_rolled_back,
    warn_unreachable,
)
from refloat.cli.recover import (
    AtOption,
    BeforeOption,
    OnlyOption,
    OverrideOption,
    PointOption,
    ScenarioOption,
    ToOption,
)

if TYPE_CHECKING:
    from refloat.flows.prepare import Prepared
    from refloat.plan.diff import Difference
    from refloat.plan.model import Plan
    from refloat.room import Room
    from refloat.vault.vault import Vault

EXAMPLES = examples(
    "refloat plan --to us",
    "refloat plan --to us --only registry --only answers",
    "refloat plan --to us --save us.plan",
    "refloat plan --to us --diff us.plan",
    "refloat plan --to us --json",
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("plan", epilog=EXAMPLES)(plan)


def plan(
    context: typer.Context,
    to: ToOption,
    vault: VaultOption = None,
    point: PointOption = None,
    at: AtOption = None,
    only: OnlyOption = [],  # noqa: B006 - typer copies it
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    save: Annotated[
        Path | None, typer.Option(help="Keep the plan in this file, to compare with later.", metavar="FILE")
    ] = None,
    diff: Annotated[
        Path | None,
        typer.Option(
            help="Say what differs from the plan kept in this file; exits 1 where anything does.",
            metavar="FILE",
        ),
    ] = None,
    scenario: ScenarioOption = None,
    before: BeforeOption = None,
) -> int:
    """Print the steps of a recovery by phase and layer, with estimates and what they rest on."""
    import tempfile

    from refloat.flows import baselines, saved_plan
    from refloat.flows.newer import naming_newer, newer_than
    from refloat.flows.prepare import prepare, room, with_doubts
    from refloat.flows.request import wanted_in
    from refloat.plan import explain
    from refloat.plan.estimate import longest, rto

    session = session_of(context)
    wanted = wanted_in(scenario, to, point=point, at=at, only=only, overrides=override, before=before)
    reached = open_place(session, vault, wanted.needs)
    replica = target_replica(reached, to, vault)
    others = list(reached.replicas.values())
    with naming_newer(replica, others, wanted):
        prepared = with_doubts(prepare(replica, wanted, lambda: resolver(session), others), others)
    _warn(session, reached, prepared, newer_than(prepared, wanted, others))
    session.console.table(
        explain.STEP_COLUMNS, explain.steps(prepared.plan), title=explain.heading(prepared.plan)
    )
    found = room(prepared, Path(tempfile.gettempdir()))
    expected = rto(prepared.plan, prepared.manifest)
    path = longest(prepared.plan)
    session.console.table(
        ("until it is back", "expected", "95 of 100", "objective", ""), explain.times(expected)
    )
    for line in filter(None, (explain.rests_on(expected), explain.sooner(path))):
        session.console.print(line)
    _show_room(session, found)
    if prepared.doubts:
        session.console.warn(baselines.remark(prepared.doubts))
    differs = None if diff is None else _show_difference(session, diff, prepared.plan)
    if save is not None:
        saved_plan.save(prepared.plan, save)
    session.console.emit(
        {
            "hash": prepared.plan.hash,
            "point": prepared.plan.point,
            "to": prepared.plan.to,
            "phases": explain.phases(prepared.plan),
            "rto": expected,
            "longest": [one.document() for one in path],
            "room": [one.document() for one in found],
            "unverifiable": baselines.document(prepared.doubts),
            "difference": None if differs is None else differs.document(),
        }
    )
    return 0 if differs is None or differs.none else 1


def _warn(session: Session, reached: Vault, prepared: Prepared, remarks: Sequence[str]) -> None:
    """What a recovery so planned would pass over: newer points, and regions; and what was read elsewhere for it."""
    for remark in (*remarks, *prepared.reader.remarks()):
        session.console.warn(remark)
    warn_unreachable(session, reached)
    warn_rolled_back(session, reached)
    warn_passed_over(session, prepared.choice.passed_over)


def _show_difference(session: Session, kept: Path, plan: Plan) -> Difference:
    from refloat.flows import saved_plan
    from refloat.plan.diff import difference

    found = difference(saved_plan.load(kept), plan)
    session.console.print(f"as in {kept}" if found.none else f"not as in {kept}:")
    for line in found.lines():
        session.console.print(f"  {line}")
    return found


def _show_room(session: Session, found: Sequence[Room]) -> None:
    from refloat.room import short

    for one in found:
        session.console.print(f"room: {one.told}")
    if lacking := short(found):
        session.console.warn(f"the recovery would be refused (target_full): {lacking}")
