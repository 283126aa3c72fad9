"""``refloat vault replicate``: bring a region what it lacks, or make an empty place a replica. No key is needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
from refloat.errors import RefloatError, UsageError

if TYPE_CHECKING:
    from refloat.flows.replicate import Pair, Regions
    from refloat.vault.missed import MadeUp
    from refloat.vault.pace import Pace

REPLICATE = examples(
    "refloat vault replicate",
    "refloat vault replicate --to us",
    "refloat vault replicate --from eu --to us --limit 20MiB",
)


def replicate(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="REGION", help="Copy from this region alone.", autocompletion=region_names
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="REGION",
            help="Copy to this region alone; an empty place becomes its replica.",
            autocompletion=region_names,
        ),
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="At most so many bytes a second, as 20MiB.")
    ] = None,
) -> int:
    """Copy what a region's replica lacks from another, every object verified by its name. Needs no key."""
    from refloat.errors import VaultError
    from refloat.flows import replicate as flow

    session = session_of(context)
    pace = _pace(session, limit)
    manifest, _ = load_manifest(session.file)
    urls = vault_urls(manifest, resolver(session))
    _require_known(urls, source, to)
    found = flow.look(urls, manifest.pipeline)
    sources, targets = _sources(found, source, to), _targets(found, to)
    progress = session.console.progress()
    pairs = flow.replicate(found, sources, targets, session.clock, pace=pace, progress=progress)
    counted = _counted(session, urls, sources, targets) if has_key() else {}
    session.console.close()
    _show(session, pairs, counted, keyed=has_key())
    silent = _silent(session, found, targets)
    session.console.emit(_document(pairs, counted, silent))
    if any(pair.copied.damaged for pair in pairs) or any(made.lacking for made in counted.values()):
        return VaultError.exit_code
    return 1 if silent or any(pair.copied.waiting for pair in pairs) else 0


def _pace(session: Session, limit: str | None) -> Pace | None:
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


def _require_known(known: Collection[str], source: str | None, to: str | None) -> None:
    for region in (source, to):
        if region is not None and region not in known:
            raise UsageError(
                f"the manifest knows no region {region!r}", next=f"its regions: {', '.join(known)}"
            )
    if source is not None and source == to:
        raise UsageError(f"{source} has all that it has", next="name another region with --to")


def _sources(found: Regions, source: str | None, to: str | None) -> list[str]:
    """The regions to copy from. Raises the error of the one that was named, or of one where none is left."""
    if source is not None and source in found.unreachable:
        raise found.unreachable[source]
    sources = [region for region in found.places if source in (None, region)]
    if not sources or sources == [to]:
        lost = next(iter(found.unreachable.values()), None)
        raise lost or UsageError("there is no other replica to copy from", next="refloat vault init")
    return sources


def _targets(found: Regions, to: str | None) -> list[str]:
    """The regions to copy to: an empty place only where it was named. Raises the error of the one that was named."""
    if to is None:
        return list(found.places)
    if to in found.unreachable:
        raise found.unreachable[to]
    return [to]


def _counted(
    session: Session, urls: Mapping[str, str], sources: list[str], targets: list[str]
) -> dict[str, MadeUp]:
    """Let the points count that a region has now, where the key may commit some."""
    from refloat.flows.replicate import make_points_count
    from refloat.vault.keys import Role
    from refloat.vault.vault import Vault

    vault = Vault.open(urls, key_file(session, urls.values()), session.clock)
    begin_anew(session, vault)
    if not all(replica.keyring.can(Role.WRITER) for replica in vault.replicas.values()):
        return {}
    return make_points_count(vault, sources, targets, session.console.progress())


def _silent(session: Session, found: Regions, targets: list[str]) -> dict[str, RefloatError | None]:
    """The regions that got nothing because they do not answer or hold no replica."""
    silent: dict[str, RefloatError | None] = dict(found.unreachable)
    for region, error in found.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    for region in found.empty:
        if region not in targets:
            silent[region] = None
            session.console.warn(
                f"{region} holds no replica; refloat vault replicate --to {region} makes one in an empty place"
            )
    return silent


def _show(session: Session, pairs: list[Pair], counted: dict[str, MadeUp], *, keyed: bool) -> None:
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
        if made.committed:
            say(f"region {region}: {len(made.committed)} points count there now")
        for point in made.lacking:
            say(f"region {region}: the point {point[:12]} is not whole there, and does not count")
    if not keyed and any(pair.copied.objects for pair in pairs):
        say("No key was given: what was copied counts in its region after the next refloat protect there.")


def _document(
    pairs: list[Pair], counted: dict[str, MadeUp], silent: dict[str, RefloatError | None]
) -> dict[str, object]:
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
        "points": {
            region: {"committed": list(made.committed), "lacking": list(made.lacking)}
            for region, made in counted.items()
        },
        "unreachable": sorted(silent),
    }
