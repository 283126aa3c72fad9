"""``refloat vault keys``: who holds keys of the vault, and the key files that people hold."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import (
    KEY_FILE,
    PASSPHRASE,
    Session,
    asked_passphrase,
    examples,
    key_by,
    load_manifest,
    on_terminal,
    resolver,
    session_of,
    telling,
    vault_urls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from refloat.digest import Json
    from refloat.vault.holders import Holder, SharedKey
    from refloat.vault.keyfile import KeyFile
    from refloat.vault.vault import Vault
    from refloat.vault.wraps import Kept, LetGo, Secret

keys = typer.Typer(
    no_args_is_help=True,
    help="Who holds keys of the vault.",
    epilog=examples(
        "refloat vault keys list",
        "refloat vault keys add --role writer --name trainer --key trainer.key",
        "refloat vault keys restore page.txt --key chat.key",
    ),
)

KeyOption = Annotated[
    Path, typer.Option("--key", help="Where the key file goes; never over another.", metavar="FILE")
]


def opened_vault(session: Session) -> tuple[Vault, KeyFile, Secret | None]:
    """The manifest's vault, the key that opened it, and what opened that, where the vault keeps it."""
    from refloat.flows.opening import Opener

    manifest, _ = load_manifest(session.file)
    late = resolver(session)
    key, secret = key_by(session, vault_urls(manifest, late).values())
    opened = Opener(lambda _: key, session.clock).of_manifest(manifest, late)
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    return opened, key, secret


# ------------------------------------------------------------------------------------------------------- list


@keys.command("list", epilog=examples("refloat vault keys list", "refloat vault keys list --json"))
def list_keys(context: typer.Context) -> int:
    """Everybody the admin vouches for, with role, name and fingerprint, and the keys that contents are sealed with."""
    from refloat.vault import holders as known
    from refloat.vault import wraps
    from refloat.vault.keyobjects import publics_of
    from refloat.vault.kit import admin_fingerprint

    session = session_of(context)
    opened, key, _ = opened_vault(session)
    replicas = list(opened.replicas.values())
    own = {(role, public) for role, public in publics_of(key).items()}
    people = [_holder(one, own=(one.known.role, one.known.public) in own) for one in known.holders(replicas)]
    shared = [
        _shared(one, current=one.id == known.own_content_key(key)) for one in known.content_keys(replicas)
    ]
    ways = [_way(one) for one in wraps.kept(replicas)]
    _show(session, people, shared, ways)
    session.console.emit(
        {
            "vault": key.vault,
            "admin": admin_fingerprint(key),
            "holders": people,
            "kept": ways,
            "content_keys": shared,
            "unreachable": sorted(opened.unreachable),
        }
    )
    return 1 if opened.unreachable else 0


def _holder(one: Holder, *, own: bool) -> dict[str, Json]:
    from refloat.units import format_time

    since = one.known.since
    return {
        "role": one.known.role.value,
        "name": one.known.name or None,
        "fingerprint": one.known.id,
        "since": format_time(since) if since else None,
        "own": own,
        "removed_at": format_time(one.known.removed_at) if one.known.removed_at else None,
        "regions": list(one.regions),
    }


def _way(one: Kept) -> dict[str, Json]:
    from refloat.units import format_time
    from refloat.vault.recipients import recipient_text

    noted, recipient = one.noted, one.told.recipient
    return {
        "kept_for": one.told.kind,
        "recipient": recipient_text(recipient) if recipient else None,
        "name": noted.name if noted and noted.name else None,
        "fingerprint": one.told.id,
        "holders": sorted(noted.holders) if noted else [],
        "since": format_time(noted.since) if noted and noted.since else None,
        "removed_at": format_time(noted.removed_at) if noted and noted.removed_at else None,
        "regions": list(one.regions),
    }


def _shared(one: SharedKey, *, current: bool) -> dict[str, Json]:
    return {
        "id": one.id.hex(),
        "affinity": one.affinity,
        "readers": sorted(one.readers),
        "current": current,
        "regions": list(one.regions),
    }


def _line(one: Mapping[str, Json], kind: str, state: str) -> tuple[str, ...]:
    """What a table says of a holder, or of a way to open the vault."""
    return (
        str(one[kind]),
        str(one["name"] or "(no name)"),
        str(one["fingerprint"]),
        f"{str(one['since'])[:19]}Z" if one["since"] else "",
        state,
        _joined(one["regions"]),
    )


def _show(
    session: Session,
    people: list[dict[str, Json]],
    shared: list[dict[str, Json]],
    ways: list[dict[str, Json]],
) -> None:
    session.console.table(
        ("kept for", "name", "fingerprint", "since", "", "in"),
        [_line(one, "kept_for", "removed" if one["removed_at"] else "") for one in ways],
    )
    session.console.table(
        ("role", "name", "fingerprint", "since", "", "in"),
        [
            _line(one, "role", "removed" if one["removed_at"] else "this key" if one["own"] else "")
            for one in people
        ],
    )
    session.console.table(
        ("content key", "seals", "readers", "", "in"),
        [
            (
                str(one["id"]),
                str(one["affinity"]),
                _joined(one["readers"]),
                "this key's own" if one["current"] else "",
                _joined(one["regions"]),
            )
            for one in shared
        ],
    )


def _joined(values: Json) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else ""


# ----------------------------------------------------------------------------------------------------- remove

_KNOWN_STILL = {
    "writer": "what it committed until now stays good, and nothing that it signs from now on counts; what it could "
    "read it has read: the catalogue, and contents that it sealed itself",
    "operator": "what it signed in journals, claims and evidence until now stays good, and nothing that it signs from "
    "now on counts; take the store's credentials from its holder",
    "reader": "no content key that is made from now on is given to it; what it could open it still opens, so let each "
    "writer make a new content key: refloat vault keys rotate",
}


@keys.command("remove", epilog=examples("refloat vault keys remove 3f2a9c01"))
def remove(
    context: typer.Context,
    fingerprint: Annotated[str, typer.Argument(help="The key's fingerprint, or how it begins.")],
) -> int:
    """Let somebody's key, or a passphrase or recipient, count no more from now on; it takes the admin's key."""
    from refloat.vault import holders as known

    session = session_of(context)
    opened, own, secret = opened_vault(session)
    found = known.named(list(opened.replicas.values()), fingerprint)
    if isinstance(found, known.Holder):
        return _remove_holder(session, opened, own, found)
    return _remove_way(session, opened, own, found, secret)


def _remove_holder(session: Session, opened: Vault, own: KeyFile, holder: Holder) -> int:
    from refloat.errors import UsageError
    from refloat.units import format_time
    from refloat.vault import holders as known
    from refloat.vault.keyobjects import publics_of

    if publics_of(own).get(holder.known.role) == holder.known.public:
        raise UsageError(
            "this is the key that you use",
            next="use a key file with the admin's role that has not this key, or keep it",
        )
    role, name = holder.known.role.value, holder.known.name
    with telling(f"{role} {holder.known.id} is removed", "refloat vault keys list", over=False) as work:
        now = session.clock.now()
        written = known.remove(opened, own, holder, now)
        work.over = True
        session.console.print(f"{role} {name or holder.known.id} counts no more: {_KNOWN_STILL[role]}")
        session.console.emit(
            {
                "role": role,
                "name": name or None,
                "fingerprint": holder.known.id,
                "removed_at": format_time(holder.known.removed_at or now),
                "regions": {region: {"written": count} for region, count in written.items()},
                "remark": _KNOWN_STILL[role],
            }
        )
    return 0


_COPIES = (
    "whoever kept a copy of the sealed key still opens it and reads what is sealed until the keys are rotated: "
    "refloat vault keys rotate, and remove its holder where that is somebody else"
)


def _remove_way(session: Session, opened: Vault, own: KeyFile, way: Kept, secret: Secret | None) -> int:
    from refloat.errors import UsageError
    from refloat.units import format_time
    from refloat.vault import holders as known
    from refloat.vault import wraps

    if secret is not None and wraps.is_opened_by(opened.replicas.values(), way, secret):
        raise UsageError(
            "this is what you opened the vault with", next="open it with another key, then remove this one"
        )
    now = session.clock.now()
    kind, name = way.told.kind, way.noted.name if way.noted else ""
    with telling(f"{kind} {way.told.id} is removed", "refloat vault keys list", over=False) as work:
        done = known.let_go(opened, own, way, now)
        work.over = True
        removed_at = way.noted.removed_at if way.noted else None
        remark = "; ".join([*_still_there(done, "the sealed key", _REFUSED), _COPIES])
        session.console.print(f"{kind} {name or way.told.id} opens nothing here any more: {remark}")
        session.console.emit(
            {
                "kept_for": kind,
                "name": name or None,
                "fingerprint": way.told.id,
                "removed_at": format_time(removed_at or now),
                "regions": {
                    region: {"written": one.written, "deleted": one.deleted} for region, one in done.items()
                },
                "remark": remark,
            }
        )
    return 0


_REFUSED = "refloat refuses it, and a program that does not ask the admin's note still opens it"


def _still_there(done: Mapping[str, LetGo], what: str, worth: str) -> Iterator[str]:
    """What is said of the regions where something that should go is locked, and what it is worth there."""
    from refloat.units import format_time

    for region, one in done.items():
        if one.locked_until is not None:
            until = f"{format_time(one.locked_until)[:19]}Z"
            yield f"in {region} {what} is locked and stays until {until}: {worth}"


# ----------------------------------------------------------------------------------------------------- rotate

FUTURE_ONLY = (
    "this protects the future only: whoever has the old key still reads what it sealed, and every other copy of this "
    "key file, on paper or kept for a passphrase, still writes with it until it is replaced"
)


_OUTDATED = "refloat takes the new one, and a program that does not ask which counts may go on with the old content key"


@keys.command("rotate", epilog=examples("refloat vault keys rotate"))
def rotate(context: typer.Context) -> int:
    """Give the writer of this key a new key to seal contents with, for the future only."""
    from refloat.vault import holders as known
    from refloat.vault import wraps

    session = session_of(context)
    opened, own, secret = opened_vault(session)
    path = os.environ.get(KEY_FILE) if secret is None else None
    for error in opened.unreachable.values():
        raise error
    before = known.own_content_key(own)
    with telling("the key has a new content key", "refloat vault keys list", over=False) as work:
        replicas = list(opened.replicas.values())
        fresh = known.rotate(replicas, own)
        done = wraps.replace(replicas, fresh, secret, session.clock.now()) if secret is not None else {}
        if path:
            _keep(fresh, path)
        work.over = True
        after = known.own_content_key(fresh)
        assert before is not None and after is not None  # ``rotate`` wants a writer
        remark = "; ".join([*_still_there(done, "the old sealed key", _OUTDATED), FUTURE_ONLY])
        session.console.print(f"new points are sealed with content key {after.hex()}; {remark}")
        session.console.emit(
            {
                "key": str(Path(path).resolve()) if path else None,
                "before": before.hex(),
                "after": after.hex(),
                "regions": sorted(opened.replicas),
                "remark": remark,
            }
        )
    return 0


def _keep(fresh: KeyFile, path: str) -> None:
    from refloat.errors import UsageError
    from refloat.vault.keyfile import KeyFile

    now = KeyFile.load(path)  # which may have come to keep newer heads meanwhile
    try:
        now.model_copy(update={"writer": fresh.writer}).put_back(path)
    except OSError as error:
        raise UsageError(
            f"the key file {path} cannot be replaced, so the old content key stays: {error.strerror}",
            file=path,
            next="put the key file where it can be written, and run the same again",
        ) from error


# ---------------------------------------------------------------------------------------------------- restore


@keys.command(
    "restore",
    epilog=examples(
        "refloat vault keys restore page.txt --key chat.key",
        "refloat vault keys restore share-*.txt --key chat.key",
    ),
)
def restore(
    context: typer.Context,
    pages: Annotated[
        list[Path],
        typer.Argument(
            help="The page of `refloat vault kit` as a file, or its key lines; of shares as many as are needed.",
            metavar="PAGE...",
        ),
    ],
    key: KeyOption,
) -> int:
    """Make the key file from the page that `refloat vault kit` printed; needs neither vault nor network."""
    from refloat.vault.kit import admin_fingerprint, read_pages

    session = session_of(context)
    restored = read_pages({str(page): _text(page) for page in pages}, lambda: _passphrase(session))
    made = restored.key_file
    with telling(
        f"the key file is {key.resolve()}", f"export {KEY_FILE}={shlex.quote(str(key.resolve()))}", over=False
    ) as work:
        again = kept_already(made, key)
        if again:
            session.console.print(f"{key.resolve()} holds this key already; it stays as it is")
        else:
            made.save(key)
        work.over = True
        session.console.print(
            f"key of {made.pipeline}: {key.resolve()}\nnext: export {KEY_FILE}={shlex.quote(str(key.resolve()))}"
        )
        session.console.emit(
            {
                "key": str(key.resolve()),
                "vault": made.vault,
                "pipeline": made.pipeline,
                "admin": admin_fingerprint(made),
                "roles": sorted(made.roles),
                "shares": list(restored.shares),
            }
        )
    return 0


def kept_already(made: KeyFile, key: Path) -> bool:
    """Whether a key file is there that is this one, whatever heads each saw; it takes in those that are newer."""
    from refloat.errors import RefloatError
    from refloat.vault.keyfile import KeyFile

    try:
        if not key.is_file() or KeyFile.load(key).model_copy(update={"heads": made.heads}) != made:
            return False
    except RefloatError:
        return False
    with suppress(OSError):  # on a read-only medium the pin stays as it was
        KeyFile.pin(key, {region: (head.slot, head.hash) for region, head in made.heads.items()})
    return True


def _text(page: Path) -> str:
    """What is in a page; also of a pipe, so that it can be pasted."""
    from refloat.errors import UsageError
    from refloat.vault.kit import PAGE_BYTES_MAX

    try:
        with page.open("rb") as file:
            content = file.read(PAGE_BYTES_MAX + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read the page {page}: {error.strerror}", file=str(page), next="see where it is: ls -l"
        ) from error
    if len(content) > PAGE_BYTES_MAX:
        raise UsageError(
            f"{page} is too large to be a page", file=str(page), next="give the page of `refloat vault kit`"
        )
    return content.decode("utf-8", "replace")


def _passphrase(session: Session) -> str:
    from refloat.errors import UsageError

    passphrase = os.environ.get(PASSPHRASE) or (asked_passphrase() if on_terminal() else "")
    if not passphrase:
        raise UsageError("this page needs its passphrase", next=f"set {PASSPHRASE}")
    session.console.hide(lambda: [passphrase])
    return passphrase
