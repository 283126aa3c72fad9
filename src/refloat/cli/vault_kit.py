"""``refloat vault kit``: the page that a bare machine recovers from, or several of which some are enough."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import (
    Session,
    examples,
    key_by,
    load_manifest,
    resolver,
    session_of,
    telling,
    vault_urls,
)
from refloat.cli.places import warn_rolled_back
from refloat.cli.system import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from refloat.vault.keyfile import KeyFile
    from refloat.vault.kit import Site
    from refloat.vault.vault import Vault

KIT = examples(
    "refloat vault kit | lp",
    "refloat vault kit --to /media/stick/chat-kit.txt",
    "refloat vault kit --shares 5 --threshold 3 --to /media/stick/chat-kit",
)


@dataclass(frozen=True)
class _Shares:
    """What is asked for: so many pages, of which so many are needed, in a folder."""

    count: int
    threshold: int
    folder: Path


def kit(
    context: typer.Context,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="Write the page here, for you alone; never over another. With --shares a folder, for a page a share.",
            metavar="FILE",
        ),
    ] = None,
    shares: Annotated[
        int | None,
        typer.Option(help="Make so many pages, each with a share of the key: up to 16.", metavar="N"),
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(
            help="With --shares: so many pages together give the key, and fewer nothing.", metavar="K"
        ),
    ] = None,
) -> int:
    """Print the page that a bare machine recovers from: addresses, heads, commands and the key. It is a secret."""
    from refloat.flows.opening import Opener
    from refloat.vault.keyfile import Role, lacks

    session = session_of(context)
    in_shares = _shares(shares, threshold, to)
    if in_shares is None:
        _require_place(session, to)
    manifest, _ = load_manifest(session.file)
    late = resolver(session)
    urls = vault_urls(manifest, late)
    key, secret = key_by(session, urls.values())
    if Role.READER not in key.roles:
        raise lacks(Role.READER)
    opened = Opener(lambda _: key, session.clock).of_manifest(manifest, late)
    newest, sites = _seen(session, opened, key, urls)
    if in_shares is not None:
        _put_shares(session, in_shares, newest, sites)
    else:
        _put_page(session, to, newest, sites, secret if isinstance(secret, str) else None)
    return 0


# -------------------------------------------------------------------------------------------------- one page


def _require_place(session: Session, to: Path | None) -> None:
    from refloat.errors import UsageError

    if to is None and sys.stdout is None:
        raise UsageError("standard output is closed", next="name the place of the page: --to FILE")
    if to is None and session.console.json_mode:
        raise UsageError("a document holds no secret, and the page is one", next="name its place: --to FILE")


def _put_page(
    session: Session, to: Path | None, key: KeyFile, sites: list[Site], passphrase: str | None
) -> None:
    from refloat.vault import kit as kits
    from refloat.vault.keyfile import write_secret

    page = kits.page(key, sites, session.clock.now(), passphrase)
    if to is not None and _is_there({to: page}, key, passphrase=passphrase or ""):
        _said_again(session, f"page: {to.resolve()}")
        told = _document(key, sites, needs_passphrase=passphrase is not None)
        session.console.emit({"page": str(to.resolve()), "shares": None, **told})
        return
    if to is None:
        session.console.hand_on(page)
        return
    with telling(f"the page is in {to.resolve()}", "print it, and keep it in a safe", over=False) as work:
        write_secret(to, page.encode("utf-8", "surrogateescape"), what="the page")
        work.over = True
        session.console.print(
            f"page: {to.resolve()}\nIt is a secret: print it, keep it in a safe, and remove the file."
        )
        told = _document(key, sites, needs_passphrase=passphrase is not None)
        session.console.emit({"page": str(to.resolve()), "shares": None, **told})


def _is_there(
    pages: Mapping[Path, str], key: KeyFile, *, passphrase: str = "", threshold: int | None = None
) -> str | None:
    """The text of one of these pages where files say already what they would; None where they do not."""
    from refloat.durable import opened_file
    from refloat.vault.kit import PAGE_BYTES_MAX, says_the_same

    there: dict[str, str] = {}
    for path in pages:
        try:
            with opened_file(path, follow=False) as descriptor, open(descriptor, "rb", closefd=False) as file:
                there[path.name] = file.read(PAGE_BYTES_MAX).decode("utf-8", "surrogateescape")
        except OSError:
            return None
    made = {path.name: page for path, page in pages.items()}
    same = says_the_same(there, made, key, passphrase=passphrase, threshold=threshold)
    return next(iter(there.values())) if same else None


def _said_again(session: Session, what: str) -> None:
    session.console.print(
        f"{what}\nIt was there already, and tells the same as it would now; it stays as it is."
    )


# ----------------------------------------------------------------------------------------- a page for each share


def _shares(count: int | None, threshold: int | None, to: Path | None) -> _Shares | None:
    """What the options ask for, or None without them. Raises ``UsageError`` where they do not go together."""
    from refloat.errors import UsageError
    from refloat.vault.shares import require_limits

    if count is None and threshold is None:
        return None
    if count is None or threshold is None:
        raise UsageError(
            "--shares and --threshold go together: how many pages, and how many of them are needed",
            next="for example --shares 5 --threshold 3",
        )
    require_limits(count, threshold)
    if to is None:
        raise UsageError(
            "all shares in one stream would be the key itself", next="name a folder for the pages: --to DIR"
        )
    return _Shares(count, threshold, to)


def _put_shares(session: Session, asked: _Shares, key: KeyFile, sites: list[Site]) -> None:
    from refloat.vault import kit as kits

    made = kits.share_pages(key, sites, session.clock.now(), asked.count, asked.threshold)
    folder = asked.folder.resolve()
    if text := _is_there(
        {folder / name: page for name, page in made.pages.items()}, key, threshold=asked.threshold
    ):
        number = kits.number_of(text)
        _said_again(session, f"kit {number}: {asked.count} pages in {folder}")
        session.console.emit(_document_of_shares(asked, number, made.pages, key, sites))
        return
    with telling(f"the pages are in {folder}", "print each, and give it to its keeper", over=False) as work:
        with SIGNALS.held():
            _write_all(folder, made.pages)
            work.over = True
        session.console.print(
            f"kit {made.number}: any {asked.threshold} of these {asked.count} pages give the key, fewer tell nothing"
        )
        for name in made.pages:
            session.console.print(f"  {folder / name}")
        session.console.print(
            "Give each to another person, to keep in another safe. Together they are a secret: print them, and remove "
            "the files."
        )
        session.console.emit(_document_of_shares(asked, made.number, made.pages, key, sites))


def _document_of_shares(
    asked: _Shares, number: int, names: Iterable[str], key: KeyFile, sites: list[Site]
) -> dict[str, object]:
    folder = asked.folder.resolve()
    pages = [str(folder / name) for name in names]
    shares = {"kit": number, "threshold": asked.threshold, "pages": pages}
    return {"page": None, "shares": shares, **_document(key, sites, needs_passphrase=False)}


def _write_all(folder: Path, pages: Mapping[str, str]) -> None:
    """Write every page into the folder, which is made where it is not there; where one cannot be written, none is left.

    Raises ``Refused`` (``key_exists``) over an existing one, ``UsageError`` where they cannot be written.
    """
    from refloat.errors import RefloatError, UsageError
    from refloat.vault.keyfile import write_secret

    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {folder}: {error.strerror}",
            file=str(folder),
            next="name a folder on this machine that you may write to: --to DIR",
        ) from error
    written: list[Path] = []
    try:
        for name, page in pages.items():
            write_secret(folder / name, page.encode("utf-8", "surrogateescape"), what="the page")
            written.append(folder / name)
    except RefloatError:
        for path in written:
            path.unlink()
        raise


# ---------------------------------------------------------------------------------------------- what it tells


def _seen(
    session: Session, opened: Vault, key: KeyFile, urls: Mapping[str, str]
) -> tuple[KeyFile, list[Site]]:
    """The key with the newest heads pinned, and what the page says of each region."""
    from refloat.vault.kit import Site
    from refloat.vault.stores import open_store

    heads = _heads(session, opened, warn_rolled_back(session, opened))
    newest = key.with_heads(heads)
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    sites = [
        Site(
            region,
            open_store(url).url,
            (head.slot, head.hash) if (head := newest.heads.get(region)) else None,
            answers=region in opened.replicas,
        )
        for region, url in urls.items()
    ]
    return newest, sites


def _heads(session: Session, opened: Vault, contradicted: Collection[str]) -> dict[str, tuple[int, str]]:
    """The heads of the logs that are whole, and not shorter than they were seen to be."""
    from refloat.errors import RefloatError

    heads = {}
    for region, replica in opened.replicas.items():
        try:
            point = replica.last_point()
        except RefloatError as error:
            session.console.warn(f"the head of {region} is not on the page as it is now: {error.message}")
        else:
            if point is not None and region not in contradicted:
                heads[region] = (point.slot, point.hash)
    return heads


def _document(key: KeyFile, sites: list[Site], *, needs_passphrase: bool) -> dict[str, object]:
    """Whose key it is and where the vault is, without a secret."""
    from refloat.vault.kit import admin_fingerprint

    return {
        "vault": key.vault,
        "pipeline": key.pipeline,
        "admin": admin_fingerprint(key),
        "roles": sorted(key.roles),
        "needs_passphrase": needs_passphrase,
        "regions": {
            site.region: {
                "vault": site.url,
                "answers": site.answers,
                "slot": site.head[0] if site.head else None,
                "hash": site.head[1] if site.head else None,
            }
            for site in sites
        },
    }
