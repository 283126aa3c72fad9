"""Where a verb looks: the manifest's vault, or on a bare machine one address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, key_file, load_manifest, open_vault, resolver

if TYPE_CHECKING:
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.vault.replica import Replica
    from refloat.vault.vault import Vault

VaultOption = Annotated[
    str | None,
    typer.Option("--vault", metavar="ADDRESS", help="One replica's address, where there is no manifest."),
]


def open_place(session: Session, vault: str | None) -> Vault:
    """The vault of the manifest; with ``vault`` that one replica, under the region's name that it carries."""
    from refloat.vault.layout import read_descriptor
    from refloat.vault.stores import open_store
    from refloat.vault.vault import Vault

    if vault is None:
        manifest, _ = load_manifest(session.file)
        return open_vault(session, manifest, resolver(session))
    region = read_descriptor(open_store(vault)).region or "here"
    return Vault.open({region: vault}, key_file(session, [vault]), session.clock)


def target_replica(reached: Vault, to: str, vault: str | None) -> Replica:
    """The replica to recover from: the one that ``vault`` names, else that of the region to recover in.

    Raises its error where it does not answer, and ``UsageError`` for no such region.
    """
    from refloat.errors import UsageError

    if vault is not None:
        return next(iter(reached.replicas.values()))
    if to in reached.replicas:
        return reached.replicas[to]
    if to in reached.unreachable:
        raise reached.unreachable[to]
    known = ", ".join([*reached.replicas, *reached.unreachable])
    raise UsageError(f"the manifest knows no region {to!r}", next=f"its regions: {known}")


def others(session: Session, reached: Vault, manifest: Manifest, resolver: Resolver) -> Vault:
    """What was reached, and every other region of the manifest that a point carried, as far as it answers."""
    from refloat.cli.common import vault_urls
    from refloat.errors import RefloatError
    from refloat.vault.vault import Vault

    urls = {
        region: url
        for region, url in vault_urls(manifest, resolver).items()
        if region not in reached.replicas and region not in reached.unreachable
    }
    if not urls:
        return reached
    try:
        more = Vault.open(urls, key_file(session, urls.values()), session.clock)
    except RefloatError as error:
        return Vault(reached.replicas, {**reached.unreachable, **dict.fromkeys(urls, error)})
    return Vault({**reached.replicas, **more.replicas}, {**reached.unreachable, **more.unreachable})


def warn_rolled_back(session: Session, vault: Vault) -> None:
    """Say of each region that its log of points is not the one that another region saw."""
    from refloat.vault.witness import rolled_back

    for region, (seen, there) in rolled_back(list(vault.replicas.values())).items():
        session.console.warn(rolled_back_message(region, seen, there))


def warn_damaged(session: Session, vault: Vault) -> None:
    """Say of each region that its log of points is not what was written: a recovery there would be refused."""
    from refloat.errors import VaultError

    for region, replica in vault.replicas.items():
        try:
            replica.points()
        except VaultError as error:
            session.console.warn(f"{region} cannot be recovered from as it is: {error.message}")


def rolled_back_message(region: str, seen: int, there: int) -> str:
    """What is said of a log that was cut, rolled back or replaced."""
    return f"the log of points in {region} was rolled back: of {seen} entries that another region saw, {there} are left"


def sound_place(session: Session, vault: str | None) -> Vault:
    """As ``open_place``, without the regions whose log is damaged, of which a warning speaks."""
    opened = open_place(session, vault).sound()
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} is passed over: {error.message}")
    return opened
