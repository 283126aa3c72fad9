"""``refloat vault keys add`` and ``recipient``: keys for somebody else, or another way to open the vault."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, session_of, telling
from refloat.cli.vault_keys import KeyOption, kept_already, opened_vault
from refloat.cli.vault_keys import keys as keys
from refloat.flows.environment import NEW_PASSPHRASE

if TYPE_CHECKING:
    from refloat.vault.holders import Added
    from refloat.vault.keyfile import KeyFile, Role
    from refloat.vault.recipients import RecipientKey
    from refloat.vault.vault import Vault
    from refloat.vault.wraps import Way

_ROLES = "writer, reader or operator"
_PARTS = "writer, reader, operator or admin"


@keys.command(
    "add",
    epilog=examples(
        "refloat vault keys add --role writer --name trainer --key trainer.key",
        "refloat vault keys add --role reader --role operator --name 'on call' --key oncall.key",
        "refloat vault keys add --role reader --name auditor --recipient refloat1…",
        "refloat vault keys add --name safe --recipient refloat1…",
        "refloat vault keys add --name safe --passphrase",
    ),
)
def add(
    context: typer.Context,
    name: Annotated[
        str, typer.Option("--name", help="What the holder is called; whoever reads a store sees it.")
    ],
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            help="writer, reader or operator; may be given again. Without, the key in use is kept in the vault.",
            metavar="ROLE",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Where the key file goes; never over another.", metavar="FILE"),
    ] = None,
    recipient: Annotated[
        str | None,
        typer.Option("--recipient", help="Keep the key in the vault for this public key.", metavar="PUBLIC"),
    ] = None,
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help="Keep it there for the passphrase in REFLOAT_NEW_PASSPHRASE."),
    ] = False,
) -> int:
    """Vouch for somebody else, with a key file or a sealed key in every region; it takes the admin's key."""
    from refloat.errors import UsageError
    from refloat.vault.keyfile import Role, lacks
    from refloat.vault.recipients import recipient_of

    session = session_of(context)
    roles, called = _asked_roles(role or []), _asked_name(name)
    new = os.environ.get(NEW_PASSPHRASE) or None
    session.console.hide(lambda: [new] if new else [])
    if passphrase and not new:
        raise UsageError("no new passphrase is given", next=f"set {NEW_PASSPHRASE}")
    ways: list[Way] = [new] if new and (passphrase or roles) else []
    ways += [recipient_of(recipient)] if recipient else []
    if not ways and not (roles and key):
        raise UsageError(
            "nothing says where the key is to be kept",
            next="--key FILE with --role, --recipient or --passphrase",
        )
    if key and not roles:
        raise UsageError("the key in use has a place already", next="leave out --key, or name a --role")
    opened, own, _ = opened_vault(session)
    if Role.ADMIN not in own.roles:
        raise lacks(Role.ADMIN)
    return _added(session, opened, own, Asked(roles, called, key, tuple(ways)))


@keys.command(
    "export",
    epilog=examples(
        "refloat vault keys export --role writer --key trainer.key",
        "refloat vault keys export --role reader --role operator --key oncall.key",
        "refloat vault keys export --role admin --key safe.key",
    ),
)
def export(
    context: typer.Context,
    role: Annotated[
        list[str],
        typer.Option("--role", help="writer, reader, operator or admin; may be given again.", metavar="ROLE"),
    ],
    key: KeyOption,
    name: Annotated[
        str | None, typer.Option("--name", help="What the holder is called, else as the file is.")
    ] = None,
) -> int:
    """Split the key: a key file for a role alone, that does what the role needs and no more; it takes the admin's."""
    from refloat.errors import UsageError
    from refloat.vault.keyfile import Role, lacks

    session = session_of(context)
    of_admin = Role.ADMIN.value in role
    if of_admin and set(role) != {Role.ADMIN.value}:
        raise UsageError(
            "the admin's part goes to a file of its own", next="give --role admin alone, the others again"
        )
    roles, called = (
        frozenset[Role]() if of_admin else _asked_roles(role, _PARTS),
        _asked_name(name or key.stem),
    )
    opened, own, _ = opened_vault(session)
    if Role.ADMIN not in own.roles:
        raise lacks(Role.ADMIN)
    if not of_admin:
        return _added(session, opened, own, Asked(roles, called, key, ()))
    made = own.for_roles(Role.ADMIN)  # there is one admin: this is no new holder, and nobody vouches for it
    if not kept_already(made, key):
        made.save(key)
    return _say_split(session, called, key, made)


def _say_split(session: Session, name: str, key: Path, made: KeyFile) -> int:
    """Say of the admin's part of the key in use where it is."""
    from refloat.vault.keyfile import Role, signer_id

    place, fingerprint = str(key.resolve()), signer_id(bytes.fromhex(made.admin_public))
    session.console.print(f"admin {name}: {fingerprint}\nkey: {place}")
    given = [{"role": Role.ADMIN.value, "fingerprint": fingerprint}]
    told = {"key": place, "name": name, "given": given, "kept_for": [], "regions": {}, "lagging": []}
    session.console.emit(told)
    return 0


@dataclass(frozen=True)
class Asked:
    """What is to be added: roles for somebody else, none for the key in use; where the key file goes; what opens it."""

    roles: frozenset[Role]
    name: str
    key: Path | None
    ways: tuple[Way, ...]


def _added(session: Session, opened: Vault, own: KeyFile, asked: Asked) -> int:
    from refloat.errors import UsageError, WrongKey
    from refloat.vault import holders as known

    key, now = asked.key, session.clock.now()
    begun = key is not None and key.exists()
    made = own
    if asked.roles:
        made = own.for_another(*asked.roles) if key is None else _made(key, own, asked.roles)
    with telling(f"{asked.name} is vouched for", "refloat vault keys list", over=False) as work:
        try:
            if asked.roles:
                done = known.add(opened, own, made, asked.name, now, ways=asked.ways)
            else:
                done = known.keep(opened, own, asked.name, now, asked.ways)
        except (WrongKey, UsageError):
            if key is not None and not begun:
                key.unlink(missing_ok=True)  # nobody vouches for it, and nothing was written
            raise
        work.over = True
        return _say_added(session, asked, made, done)


def _asked_roles(names: list[str], known_as: str = _ROLES) -> frozenset[Role]:
    from refloat.errors import UsageError
    from refloat.vault.keyobjects import CERTIFIED

    known = {role.value: role for role in CERTIFIED}
    for name in names:
        if name not in known:
            raise UsageError(f"nobody can be given the role {name!r}", next=f"--role {known_as}")
    return frozenset(known[name] for name in names)


def _asked_name(name: str) -> str:
    from refloat.errors import UsageError
    from refloat.vault.keyobjects import NAME_LENGTH_MAX

    if not name.strip() or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise UsageError(
            f"{name[:NAME_LENGTH_MAX]!r} is no name of a holder",
            next=f"--name with 1 to {NAME_LENGTH_MAX} characters that can be printed",
        )
    return name.strip()


def _made(path: Path, own: KeyFile, roles: frozenset[Role]) -> KeyFile:
    """The new key file, on the disk before anybody vouches for it; the one that a command that was cut had made."""
    from refloat.errors import RefloatError, UsageError
    from refloat.vault.holders import is_begun
    from refloat.vault.keyfile import KeyFile

    if not path.exists():
        made = own.for_another(*roles)
        made.save(path)
        return made
    try:
        found = KeyFile.load(path)
    except RefloatError:
        found = None
    if found is None or not is_begun(own, found, roles):
        raise UsageError(
            "another file is there already", file=str(path), next="name another place with --key FILE"
        )
    return found


def _say_added(session: Session, asked: Asked, made: KeyFile, done: Added) -> int:
    from refloat.vault.keyfile import signer_id
    from refloat.vault.keyobjects import publics_of

    publics = publics_of(made).items() if asked.roles else ()
    given = [{"role": role.value, "fingerprint": signer_id(public)} for role, public in publics]
    kinds = ["passphrase" if isinstance(way, str) else "recipient" for way in asked.ways]
    for one in given:
        session.console.print(f"{one['role']} {asked.name}: {one['fingerprint']}")
    for kind in kinds:
        session.console.print(f"the vault keeps the key, sealed for a {kind}")
    if asked.key is not None:
        session.console.print(f"key: {asked.key.resolve()}\nHand it over in a way that nobody else can read.")
    again = "run the same again" if asked.key else "`refloat vault repair` brings it there"
    for region, error in done.lagging.items():
        session.console.warn(f"{region} does not have {asked.name} yet, {again}: {error.message}")
    session.console.emit(
        {
            "key": str(asked.key.resolve()) if asked.key else None,
            "name": asked.name,
            "given": given,
            "kept_for": kinds,
            "regions": {region: {"written": count} for region, count in done.written.items()},
            "lagging": sorted(done.lagging),
        }
    )
    return 1 if done.lagging else 0


@keys.command("recipient", epilog=examples("refloat vault keys recipient --key oncall.private"))
def recipient(context: typer.Context, key: KeyOption) -> int:
    """Make a key pair: the private key goes to a file, the public one is printed; the same again prints it."""
    from refloat.vault.keyfile import signer_id
    from refloat.vault.recipients import RecipientKey

    session = session_of(context)
    there = _recipient_there(key)
    made = there or RecipientKey.create()
    with telling(
        f"the private key is {key.resolve()}", "`refloat vault keys add --help`", over=False
    ) as work:
        if there is None:
            made.save(key)
        work.over = True
        session.console.advise(
            f"private key: {key.resolve()}\npublic key: {made.recipient}\n"
            f"next: the admin runs refloat vault keys add --name NAME --recipient {made.recipient}"
        )
        session.console.emit(
            {
                "key": str(key.resolve()),
                "recipient": made.recipient,
                "fingerprint": signer_id(made.public),
            }
        )
    return 0


def _recipient_there(path: Path) -> RecipientKey | None:
    """The private key that is in a file already, as a command that was killed has left it."""
    from refloat.errors import RefloatError
    from refloat.vault.recipients import RecipientKey, load_key

    with suppress(RefloatError):
        found = load_key(path)
        return found if isinstance(found, RecipientKey) else None
    return None
