"""``refloat vault add-region`` and ``rejoin``: a new region, and one that came back with an old state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import (
    Session,
    examples,
    has_key,
    key_file,
    load_manifest,
    open_vault,
    resolver,
    session_of,
    vault_urls,
)
from refloat.cli.completion import regions as region_names
from refloat.cli.places import pin_heads
from refloat.cli.vault_replicate import (
    FromOption,
    LimitOption,
    count_points,
    document_of,
    exit_code,
    pace_of,
    require_known,
    show_copied,
    show_made_up,
    sources_of,
)

if TYPE_CHECKING:
    from refloat.flows.rejoin import Rejoined, Rejoining
    from refloat.flows.replicate import Regions

ADD_REGION = examples(
    "refloat vault add-region us",
    "refloat vault add-region asia --from eu --limit 20MiB",
    "refloat vault add-region us --json | jq .points",
)
REJOIN = examples("refloat vault rejoin us --dry-run", "refloat vault rejoin us")

RegionArgument = Annotated[
    str, typer.Argument(metavar="REGION", help="A region of the manifest.", autocompletion=region_names)
]


def add_region(
    context: typer.Context,
    region: RegionArgument,
    source: FromOption = None,
    limit: LimitOption = None,
) -> int:
    """Make the empty place at a region's address a replica of this vault, and fill it; the same again goes on."""
    from refloat.flows import replicate as flow

    session = session_of(context)
    pace = pace_of(session, limit)
    manifest, _ = load_manifest(session.file)
    urls = vault_urls(manifest, resolver(session))
    require_known(urls, source, region)
    found = flow.look(urls, manifest.pipeline)
    if region in found.unreachable:
        raise found.unreachable[region]
    sources = [name for name in sources_of(found, source, region) if name != region]
    progress = session.console.progress()
    key = key_file(session, (urls[one] for one in found.places)) if has_key() else None
    pairs = flow.add(found, sources, region, session.clock, key_file=key, pace=pace, progress=progress)
    counted = count_points(session, urls, sources, [region]) if has_key() else {}
    session.console.close()
    show_copied(session, pairs, counted)
    _warn_silent(session, found)
    session.console.print(f"region {region}: a replica of this vault at {urls[region]}")
    session.console.emit(document_of(pairs, counted, dict(found.unreachable)))
    return exit_code(pairs, counted)


def _warn_silent(session: Session, found: Regions) -> None:
    for other, error in found.unreachable.items():
        session.console.warn(f"{other} does not answer, and nothing was copied from it: {error.message}")


def rejoin(
    context: typer.Context,
    region: RegionArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> int:
    """Let a region count again that came back with an old state: say what it alone holds, then bring what it missed."""
    from refloat.errors import VaultError
    from refloat.flows import rejoin as flow
    from refloat.flows.opening import require_region

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    require_region(region, manifest.regions)
    vault = open_vault(session, manifest, resolver(session))
    plan = flow.plan_rejoin(vault, region)
    _show_plan(session, plan)
    done = None if dry_run else flow.rejoin(vault, plan, session.console.progress())
    session.console.close()
    if done is not None:
        _show_done(session, region, done)
        pin_heads(session, vault, [] if done.counts else [region])
    session.console.emit(_document(plan, done))
    return 0 if done is None or done.counts else VaultError.exit_code


def _show_plan(session: Session, plan: Rejoining) -> None:
    from refloat.units import format_size, format_time
    from refloat.vault.witness import rolled_back_message

    say, standing, alone = session.console.print, plan.standing, plan.alone
    region = standing.region
    if standing.rolled_back is not None:
        say(rolled_back_message(region, *standing.rolled_back))
    elif not standing.is_old:
        say(f"region {region}: its log is whole")
    records = sum(alone.records.values())
    say(
        f"it alone holds {len(alone.points)} points, {alone.objects} objects ({format_size(alone.bytes)}) and "
        f"{records} records"
    )
    for point in alone.points:
        say(
            f"  point {point.name[:12]} of {format_time(point.created_at)}, {point.grade}: it stays there alone"
        )
    if plan.missed:
        say(f"it missed {len(plan.missed)} points, which are to count there")
    if plan.left_out:
        say(f"{len(plan.left_out)} points that are older than its last one stay in the other regions alone")


def _show_done(session: Session, region: str, done: Rejoined) -> None:
    show_made_up(session, region, done.points)
    if done.records:
        session.console.print(
            f"{done.records} records of baselines and evidence were brought where they lacked"
        )
    if done.newer is not None:
        session.console.warn(
            f"region {region} ends with a point that is newer than {done.newer[:12]}, the newest elsewhere; "
            f"`refloat protect` makes one that all have, then `refloat vault rejoin {region}` again"
        )
    elif done.points.lacking:
        session.console.warn(
            f"region {region} lacks what its points need; refloat vault repair, then rejoin again"
        )
    else:
        session.console.print(f"region {region} counts again")


def _document(plan: Rejoining, done: Rejoined | None) -> dict[str, object]:
    rolled_back = plan.standing.rolled_back
    return {
        "region": plan.standing.region,
        "dry_run": done is None,
        "rolled_back": None if rolled_back is None else {"seen": rolled_back[0], "left": rolled_back[1]},
        "alone": plan.alone.document(),
        "missed": [point.name for point in plan.missed],
        "left_out": [point.name for point in plan.left_out],
        "committed": [] if done is None else list(done.points.committed),
        "lacking": [] if done is None else list(done.points.lacking),
        "records": 0 if done is None else done.records,
        "counts": None if done is None else done.counts,
    }
