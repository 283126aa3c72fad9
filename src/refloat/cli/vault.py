"""``refloat vault``: make the replicas, check them, mend them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import (
    KEY_FILE,
    PASSPHRASE,
    examples,
    load_manifest,
    resolver,
    session_of,
    vault_urls,
)
from refloat.cli.places import VaultOption, open_place

if TYPE_CHECKING:
    from refloat.contracts import Store
    from refloat.vault.check import CheckReport

vault = typer.Typer(no_args_is_help=True, help="The vault's replicas.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(vault, name="vault")


@vault.command("init", epilog=examples("refloat vault init", "refloat vault init --key /safe/place/chat.key"))
def init(
    context: typer.Context,
    key: Annotated[
        Path | None, typer.Option(help="Where the key goes; never over an existing file.", metavar="FILE")
    ] = None,
) -> int:
    """Make an empty replica in every region, and the key file that opens them."""
    import os
    import uuid

    from refloat.errors import RefloatError, UsageError
    from refloat.vault.keys import KeyFile
    from refloat.vault.replica import create_vault
    from refloat.vault.stores import open_store

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    stores = {region: open_store(url) for region, url in vault_urls(manifest, resolver(session)).items()}
    path = key or Path(f"{manifest.pipeline}.key")
    if path.exists():
        raise UsageError("a file is there already", file=str(path), next="name another place with --key FILE")
    keys = KeyFile.create(uuid.uuid4().hex, manifest.pipeline)
    keys.save(path)
    try:
        made = create_vault(stores, keys, session.clock, manifest.pipeline)
    except (RefloatError, KeyboardInterrupt):
        path.unlink()  # a key without a vault opens nothing and would stand in the way of the next try
        raise
    passphrase = os.environ.get(PASSPHRASE)
    if passphrase:
        _keep_wrapped(list(stores.values()), keys.wrapped(passphrase))
    for region in made:
        session.console.print(f"region {region}: an empty replica at {stores[region].url}")
    session.console.print(
        f"key: {path.resolve()}\nKeep it in two safe places that are in none of these regions; without it nothing "
        f"can be recovered.\nnext: export {KEY_FILE}={path.resolve()} and refloat protect"
    )
    session.console.emit(
        {"vault": keys.vault, "key": str(path.resolve()), "regions": {r: s.url for r, s in stores.items()}}
    )
    return 0


def _keep_wrapped(stores: list[Store], wrapped: bytes) -> None:
    """Keep the key in each replica, wrapped for a passphrase, so that the passphrase alone recovers."""
    from refloat.digest import object_name
    from refloat.vault.layout import key_name

    for store in stores:
        store.create(key_name(object_name(wrapped)), wrapped)


@vault.command("check", epilog=examples("refloat vault check", "refloat vault check --read-data --json"))
def check(
    context: typer.Context,
    vault: VaultOption = None,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and verify every byte.")] = False,
) -> int:
    """Is everything there that the points need, and is it still what was written?"""
    from refloat.errors import VaultError
    from refloat.vault.check import check as inspect

    session = session_of(context)
    opened = open_place(session, vault)
    progress = session.console.progress()
    reports = {
        region: inspect(replica, read_data=read_data, progress=progress)
        for region, replica in opened.replicas.items()
    }
    session.console.close()
    for region, report in reports.items():
        _show(session.console.print, region, report)
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    session.console.emit(
        {
            "ok": all(report.ok for report in reports.values()) and not opened.unreachable,
            "packs": sum(report.packs for report in reports.values()),
            "chunks": sum(report.chunks for report in reports.values()),
            "bytes_read": sum(report.bytes_read for report in reports.values()),
            "damaged": [
                {
                    "object": found.object,
                    "region": found.region,
                    "affects": list(found.affects),
                    "reason": found.reason,
                }
                for report in reports.values()
                for found in report.damaged
            ],
            "unreachable": sorted(opened.unreachable),
        }
    )
    if any(not report.ok for report in reports.values()):
        return VaultError.exit_code
    return 1 if opened.unreachable else 0


@vault.command("repair", epilog=examples("refloat vault repair", "refloat vault repair --read-data"))
def repair(
    context: typer.Context,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every byte to find what is damaged.")
    ] = False,
) -> int:
    """Mend what is missing or damaged in each replica from another where it verifies."""
    from refloat.errors import VaultError
    from refloat.vault.check import check as inspect
    from refloat.vault.repair import repair as mend

    session = session_of(context)
    opened = open_place(session, None)
    progress = session.console.progress()
    found = {}
    for region, replica in opened.replicas.items():
        report = inspect(replica, read_data=read_data, progress=progress)
        others = [other for name, other in opened.replicas.items() if name != region]
        found[region] = mend(replica, [damage.object for damage in report.damaged], others)
    session.console.close()
    for region, done in found.items():
        session.console.print(f"region {region}: {len(done.mended)} objects mended, {len(done.left)} left")
        for name, why in done.left.items():
            session.console.print(f"  {name}: {why}")
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    session.console.emit(
        {
            "regions": {
                region: {"mended": done.mended, "left": done.left, "again": done.again}
                for region, done in found.items()
            },
            "unreachable": sorted(opened.unreachable),
        }
    )
    if any(done.left for done in found.values()):
        return VaultError.exit_code
    again = [region for region, done in found.items() if done.again]
    for region in again:
        session.console.warn(f"keys of {region} were mended; refloat vault repair again looks at the rest")
    return 1 if opened.unreachable or again else 0


def _show(say: Callable[[str], None], region: str, report: CheckReport) -> None:
    from refloat.units import format_size

    read = f", {format_size(report.bytes_read)} read" if report.bytes_read else ""
    outcome = "sound" if report.ok else f"{len(report.damaged)} objects are damaged"
    say(f"region {region}: {outcome}; {report.packs} packs, {report.chunks} chunks{read}")
    for found in report.damaged:
        hit = f"; affects points {', '.join(p[:12] for p in found.affects)}" if found.affects else ""
        say(f"  {found.object}: {found.reason}{hit}")
