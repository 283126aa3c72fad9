"""``refloat vault replicate``: bring each region what it lacks. No key is needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import (
    Session,
    examples,
    has_key,
    key_file,
    load_manifest,
    resolver,
    session_of,
    vault_urls,
)
from refloat.cli.completion import regions as region_names
from refloat.cli.places import begin_anew
from refloat.errors import RefloatError, UsageError, most_hopeful

if TYPE_CHECKING:
    from refloat.flows.replicate import Pair, Regions
    from refloat.vault.missed import MadeUp
    from refloat.vault.pace import Pace

REPLICATE = examples(
    "refloat vault replicate",
    "refloat vault replicate --to us",
    "refloat vault replicate --from eu --to us --limit 20MiB",
)


FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="REGION", help="Copy from this region alone.", autocompletion=region_names
    ),
]
LimitOption = Annotated[
    str | None, typer.Option("--limit", metavar="SIZE", help="At most so many bytes a second, as 20MiB.")
]


def replicate(
    context: typer.Context,
    source: FromOption = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="REGION",
            help="Copy to this region alone.",
            autocompletion=region_names,
        ),
    ] = None,
    limit: LimitOption = None,
) -> int:
    """Copy what a region's replica lacks from another, every object verified by its name. Needs no key."""
    from refloat.flows import replicate as flow

    session = session_of(context)
    pace = pace_of(session, limit)
    manifest, _ = load_manifest(session.file)
    urls = vault_urls(manifest, resolver(session))
    require_known(urls, source, to)
    found = flow.look(urls, manifest.pipeline)
    sources, targets = sources_of(found, source, to), _targets(found, to)
    progress = session.console.progress()
    pairs = flow.replicate(found, sources, targets, session.clock, pace=pace, progress=progress)
    counted = count_points(session, urls, sources, targets) if has_key() else {}
    session.console.close()
    show_copied(session, pairs, counted)
    silent = _silent(session, found)
    session.console.emit(document_of(pairs, counted, silent))
    return exit_code(pairs, counted) or (1 if silent else 0)


def exit_code(pairs: list[Pair], counted: dict[str, MadeUp]) -> int:
    """4 where something is damaged or not whole, 1 where something waits."""
    from refloat.errors import VaultError

    if any(pair.copied.damaged for pair in pairs) or any(made.lacking for made in counted.values()):
        return VaultError.exit_code
    return 1 if any(pair.copied.waiting for pair in pairs) else 0


def pace_of(session: Session, limit: str | None) -> Pace | None:
    """What ``--limit`` says. Raises ``UsageError``."""
    from refloat.units import parse_size
    from refloat.vault.pace import Pace

    if limit is None:
        return None
    try:
        rate = parse_size(limit)
    except ValueError as error:
        raise UsageError(f"--limit: {error}", next="for example --limit 20MiB") from error
    if rate < 1:
        raise UsageError("--limit: nothing would ever pass", next="for example --limit 20MiB")
    return Pace(rate, session.clock)


def require_known(known: Collection[str], source: str | None, to: str | None) -> None:
    """Raises ``UsageError`` for a region that the manifest does not know, or that is both."""
    from refloat.flows.opening import require_region

    for region in (source, to):
        if region is not None:
            require_region(region, known)
    if source is not None and source == to:
        raise UsageError(f"{source} has all that it has", next="name another region with --to")


def sources_of(found: Regions, source: str | None, to: str | None) -> list[str]:
    """The regions to copy from. Raises the error of the one that was named, or of one where none is left."""
    if source is not None and source in found.unreachable:
        raise found.unreachable[source]
    sources = [region for region in found.places if source in (None, region)]
    if not sources or sources == [to]:
        none = UsageError("there is no other replica to copy from", next="refloat vault init")
        raise most_hopeful(found.unreachable.values() or [none])
    return sources


def _targets(found: Regions, to: str | None) -> list[str]:
    """The regions to copy to. Raises the error of the one that was named."""
    if to is None:
        return list(found.places)
    if to in found.unreachable:
        raise found.unreachable[to]
    if to in found.empty:
        place = found.empty[to].store.url
        raise UsageError(f"{place} holds no replica", region=to, next=f"refloat vault add-region {to}")
    return [to]


def count_points(
    session: Session, urls: Mapping[str, str], sources: Sequence[str], targets: Sequence[str]
) -> dict[str, MadeUp]:
    """Let the points and records count that a region has now, where the key may sign some."""
    from refloat.flows.replicate import make_points_count
    from refloat.vault.vault import Vault

    vault = Vault.open(urls, key_file(session, urls.values()), session.clock)
    begin_anew(session, vault)
    return make_points_count(vault, sources, targets, session.console.progress())


def _silent(session: Session, found: Regions) -> dict[str, RefloatError | None]:
    """The regions that got nothing because they do not answer or hold no replica."""
    silent: dict[str, RefloatError | None] = dict(found.unreachable)
    for region, error in found.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    for region in found.empty:
        silent[region] = None
        session.console.warn(f"{region} holds no replica; `refloat vault add-region {region}` makes one")
    return silent


def show_copied(session: Session, pairs: list[Pair], counted: dict[str, MadeUp]) -> None:
    """Say what was copied, and what counts now."""
    from refloat.units import format_size

    say = session.console.print
    for pair in pairs:
        copied = pair.copied
        say(f"{pair.source} to {pair.target}: {copied.objects} objects ({format_size(copied.bytes)}) copied")
        for name in copied.damaged:
            say(f"  {name}: damaged in {pair.source}, and left behind; refloat vault repair")
        if copied.waiting:
            say(f"  {len(copied.waiting)} objects wait until all that they may name is there")
    for region, made in counted.items():
        show_made_up(session, region, made)
    if not has_key() and any(pair.copied.objects for pair in pairs):
        say("No key was given: what was copied counts in its region after the next `refloat protect` there.")


def show_made_up(session: Session, region: str, made: MadeUp) -> None:
    """Say which points and records count in a region from now on."""
    say = session.console.print
    if made.committed:
        say(f"region {region}: {len(made.committed)} points count there now")
    if made.records:
        say(f"region {region}: {made.records} records of baselines and evidence came")
    for point in made.lacking:
        say(f"region {region}: the point {point[:12]} is not whole there, and does not count")


def document_of(
    pairs: list[Pair], counted: dict[str, MadeUp], silent: dict[str, RefloatError | None]
) -> dict[str, object]:
    """The JSON document of what was copied."""
    return {
        "copied": [
            {
                "from": pair.source,
                "to": pair.target,
                "objects": pair.copied.objects,
                "bytes": pair.copied.bytes,
                "damaged": list(pair.copied.damaged),
                "waiting": list(pair.copied.waiting),
                "seconds": pair.seconds,
            }
            for pair in pairs
        ],
        "points": {region: made.document() for region, made in counted.items()},
        "unreachable": sorted(silent),
    }
