"""``refloat points forget``: let go of the points that `keep` has no use for, or of one; a prune frees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.completion import POINT_HELP, forget_rules, points

if TYPE_CHECKING:
    from refloat.digest import Json
    from refloat.flows.forget import ForgetPlan
    from refloat.vault.vault import Vault

FORGET = examples(
    "refloat points forget --dry-run",
    "refloat points forget",
    "refloat points forget 3f2a",
    "refloat points forget --override forgets_most",
    "refloat points forget --json",
)


def forget(
    context: typer.Context,
    point: Annotated[
        str | None,
        typer.Argument(help=f"Only this one. {POINT_HELP}", autocompletion=points, show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be forgotten.")] = False,
    override: Annotated[
        list[str],
        typer.Option(
            "--override",
            metavar="RULE",
            help="Forget although this safety rule says no; may be given again.",
            autocompletion=forget_rules,
        ),
    ] = [],  # noqa: B006 - typer copies it
) -> int:
    """Let go of every point that `keep` and `hold` of the manifest have no use for, or of POINT alone.

    `vault prune` frees their data. POINT may be one that cannot be read; a run that is not over and a `hold` keep it.
    """
    from refloat.flows import forget as flow

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    overrides = flow.known_rules(override)
    opened = open_vault(session, manifest, resolver(session))
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} keeps what it has until it answers: {error.message}")
    plan = flow.plan_forget(
        manifest, opened, session.clock, overrides=overrides, progress=session.console.progress(), named=point
    )
    session.console.close()
    _show(session, plan, dry_run=dry_run)
    if not dry_run:
        flow.forget(opened, plan)
    session.console.emit(_document(plan, opened, dry_run=dry_run))
    return 1 if opened.unreachable else 0


def _show(session: Session, plan: ForgetPlan, *, dry_run: bool) -> None:
    from refloat.units import format_size

    console = session.console
    rows = [
        (
            one.point.name[:12],
            f"{one.point.created_at:%Y-%m-%dT%H:%M:%SZ}",
            str(one.point.grade),
            "stays" if one.kept else "goes",
            ", ".join(one.reasons) or plan.why,
        )
        for one in plan.decided
    ]
    console.table(("point", "made", "grade", "", "why"), rows)
    would = "would be " if dry_run else ""
    console.print(f"{len(plan.goes)} of {len(plan.decided)} points {would}forgotten")
    for region, freed in plan.frees.items():
        console.print(
            f"region {region}: `refloat vault prune` then marks {freed.objects} objects "
            f"({format_size(freed.bytes)}), and removes them a day later"
        )
    if plan.unknown is not None:
        console.print(f"what a prune will free cannot be told: {plan.unknown}")
    for objection in plan.objections:
        if objection.rule not in plan.overrides:
            console.warn(f"the rule {objection.rule} says no: {objection.message}")


def _document(plan: ForgetPlan, opened: Vault, *, dry_run: bool) -> dict[str, Json]:
    from refloat.units import format_time

    return {
        "dry_run": dry_run,
        "points": [
            {
                "point": one.point.name,
                "created_at": format_time(one.point.created_at),
                "grade": str(one.point.grade),
                "regions": list(one.regions),
                "kept": one.kept,
                "reasons": list(one.reasons),
            }
            for one in plan.decided
        ],
        "objections": [
            {"rule": objection.rule, "message": objection.message, "next": objection.next}
            for objection in plan.objections
        ],
        "overrides": sorted(plan.overrides),
        "regions": {
            **{region: _region(plan, region) for region in opened.replicas},
            **{region: _silent(error.message) for region, error in opened.unreachable.items()},
        },
    }


def _region(plan: ForgetPlan, region: str) -> Json:
    told, freed = plan.entries.get(region), plan.frees.get(region)
    otherwise = None if plan.goes else 0
    return {
        "forgotten": len(told.points) if told else 0,
        "prune_objects": freed.objects if freed else otherwise,
        "prune_bytes": freed.bytes if freed else otherwise,
        "error": plan.unknown,
    }


def _silent(message: str) -> Json:
    return {"forgotten": None, "prune_objects": None, "prune_bytes": None, "error": message}
