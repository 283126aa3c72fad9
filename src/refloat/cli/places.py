"""Where a verb looks: the manifest's vault, or on a bare machine one address."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, key_file, load_manifest, open_vault, resolver

if TYPE_CHECKING:
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.vault.vault import Vault

VaultOption = Annotated[
    str | None,
    typer.Option("--vault", help="One replica's address, where there is no manifest."),
]


def open_place(session: Session, vault: str | None, region: str = "here") -> Vault:
    """The vault of the manifest; with ``vault`` that one replica, known as ``region``."""
    from refloat.vault.vault import Vault

    if vault is None:
        manifest, _ = load_manifest(session.file)
        return open_vault(session, manifest, resolver(session))
    return Vault.open({region: vault}, key_file(session, [vault]), session.clock)


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
