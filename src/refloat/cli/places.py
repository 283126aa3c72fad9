"""Where a verb looks: the manifest's vault, or on a bare machine one address."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import KEY_FILE, Session, load_manifest, open_vault, opener, resolver
from refloat.cli.system import local_state_dir
from refloat.errors import RefloatError

if TYPE_CHECKING:
    from refloat.point.select import Candidate
    from refloat.vault.replica import Replica
    from refloat.vault.vault import Vault

VaultOption = Annotated[
    str | None,
    typer.Option("--vault", metavar="ADDRESS", help="One replica's address, where there is no manifest."),
]


def open_place(session: Session, vault: str | None, awaited: Collection[str] | None = None) -> Vault:
    """The vault of the manifest; with ``vault`` that one replica, under the region's name that it carries.

    Regions that say nothing are waited for as ``open_vault`` says.
    """
    if vault is None:
        manifest, _ = load_manifest(session.file)
        return open_vault(session, manifest, resolver(session), awaited=awaited)
    return opener(session).at(vault)


def target_replica(reached: Vault, to: str, vault: str | None) -> Replica:
    """The replica to recover from: the one that ``vault`` names, else that of the region to recover in.

    Raises its error where it does not answer, and ``UsageError`` for no such region.
    """
    from refloat.flows import opening

    return opening.target_replica(reached, to, vault)


def warn_rolled_back(session: Session, vault: Vault) -> Collection[str]:
    """Say of each region that its log of points is not the one that was seen; those regions."""
    from refloat.vault.witness import rolled_back, rolled_back_message

    shorter = rolled_back(list(vault.replicas.values()))
    for region, (seen, there) in shorter.items():
        session.console.warn(f"{rolled_back_message(region, seen, there)}: refloat vault rejoin {region}")
    return shorter


def begin_anew(session: Session, vault: Vault) -> None:
    """Let a log of points that was lost with its region begin anew, and say so."""
    from refloat.vault.witness import anew_message
    from refloat.vault.witness import begin_anew as begin

    for region, seen in begin(list(vault.replicas.values())).items():
        session.console.warn(anew_message(region, seen))


def pin_heads(session: Session, vault: Vault, but: Collection[str]) -> None:
    """Keep on this machine and in the key file what each region's log of points ends with, but for some.

    Where that cannot be written, it is only noted.
    """
    from refloat.flows import opening

    try:
        opening.pin_heads(vault, os.environ.get(KEY_FILE), but, local_state_dir())
    except (OSError, RefloatError) as error:
        session.console.note(f"what was seen last is not kept: {error}")


def sound_place(session: Session, vault: str | None) -> Vault:
    """As ``open_place``, without the regions that say nothing or whose log is damaged, of which a warning speaks."""
    opened = open_place(session, vault, awaited=()).sound()
    warn_unreachable(session, opened)
    return opened


def warn_unreachable(session: Session, vault: Vault) -> None:
    """Say of each region that cannot be used why that is."""
    for region, error in vault.unreachable.items():
        session.console.warn(f"{region} is passed over: {error.message}")


def warn_passed_over(session: Session, passed_over: Iterable[Candidate]) -> None:
    """Say which newer points are not recovered from though they may be good: what they alone hold is lost."""
    from refloat.units import format_time

    for point in passed_over:
        session.console.warn(
            f"the newer point {point.name[:12]} of {format_time(point.created_at)} is passed over, and what it alone "
            f"holds is lost: it is {point.doubt}"
        )
