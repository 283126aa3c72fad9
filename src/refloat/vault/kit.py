"""The recovery kit: one page that a bare machine recovers from when nothing else is left, or several in shares.

A page is text for people. A program reads nothing of it but its key lines and the lines of its share. The stored
forms are in ``docs/FORMAT.md``.
"""

from __future__ import annotations

import re
import secrets
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidTag

from refloat.digest import canonical_json
from refloat.errors import Damaged, RefloatError, UsageError, VaultError, WrongKey
from refloat.limits import KIB
from refloat.manifest.address import access_of
from refloat.units import format_time
from refloat.vault import shares
from refloat.vault.keyfile import (
    KEY_OBJECT_BYTES_MAX,
    KeyFile,
    Role,
    open_sealed,
    passphrase_key,
    seal_bytes,
    signer_id,
)
from refloat.vault.keylines import bytes_of, lines_of, typed
from refloat.vault.shares import Share

PAGE_BYTES_MAX = 256 * KIB  # a page has about seven thousand; all sixteen of a kit may be typed into one file

_PLAIN, _SEALED, _SHARED = b"\x01", b"\x02", b"\x03"
_SALT_BYTES = 16
_ASSOCIATED = b"refloat-1:recovery-kit"


@dataclass(frozen=True)
class Site:
    """A region's replica as the page tells of it: its address, and the last slot and hash of its log of points."""

    region: str
    url: str
    head: tuple[int, str] | None = None
    answers: bool = True


# ------------------------------------------------------------------------------------------------ key lines


def key_lines(key_file: KeyFile, passphrase: str | None = None) -> list[str]:
    """A key file as lines to be typed; where a passphrase is given, sealed for it."""
    content = _packed(key_file)
    if passphrase is None:
        return lines_of(_PLAIN + content)
    salt = secrets.token_bytes(_SALT_BYTES)
    return lines_of(_SEALED + salt + seal_bytes(passphrase_key(passphrase, salt), content, _ASSOCIATED))


@dataclass(frozen=True)
class Restored:
    """A key file that was typed, and the numbers of the shares that it was made from, if it was in shares."""

    key_file: KeyFile
    shares: tuple[int, ...] = ()


def read_pages(pages: Mapping[str, str], passphrase: Callable[[], str]) -> Restored:
    """The key file that pages stand for, texts by name; ``passphrase`` is asked where a page needs one.

    The key lines of a kit in shares are the same on each page, so those of one are enough.
    Raises ``Damaged`` naming the page and the line that is not as it was written or is missing, ``UsageError`` for
    pages without any, for too few shares and for those of several kits, ``WrongKey`` for a wrong passphrase.
    """
    given: list[Share] = []
    for name, text in pages.items():
        with _naming(name):
            given += shares.typed(text, name)
    shares.require_one_kit(given)
    lines = _typed_key_lines(pages)
    if given and not lines:
        raise UsageError(
            "these are shares, and there is no key line for them to open",
            next="type the key lines of one of these pages as well; each has the same",
        )
    whole = bytes_of(lines)
    kind, content = whole[:1], whole[1:]
    if kind == _PLAIN:
        return Restored(_unpacked(content))
    if kind == _SEALED:
        return Restored(_unpacked(_unsealed(content, passphrase())))
    if kind == _SHARED:
        numbers = tuple(sorted({share.number for share in given}))
        return Restored(_unpacked(shares.opened(content, given)), numbers)
    raise VaultError(
        "this page was printed by a newer refloat", next="pip install --upgrade refloat, and try again"
    )


def _typed_key_lines(pages: Mapping[str, str]) -> dict[int, str]:
    """The key lines of all pages, by number. Raises ``UsageError`` where a page has another one than a page before."""
    lines: dict[int, str] = {}
    for name, text in pages.items():
        with _naming(name):
            for number, digits in typed(text).items():
                if lines.setdefault(number, digits) != digits:
                    raise UsageError(
                        f"key line {number} is as it was written, and that of a page before is another one",
                        next="bring pages of one kit together, or one page that has the whole key",
                    )
    return lines


@contextmanager
def _naming(page: str) -> Iterator[None]:
    """Errors name the page."""
    try:
        yield
    except RefloatError as error:
        error.at(file=page)
        raise


def _packed(key_file: KeyFile) -> bytes:
    return zlib.compress(canonical_json(key_file.model_dump(mode="json", exclude_none=True)), 9)


def _unsealed(content: bytes, passphrase: str) -> bytes:
    key = passphrase_key(passphrase, content[:_SALT_BYTES])
    try:
        return open_sealed(key, content[_SALT_BYTES:], _ASSOCIATED)
    except InvalidTag:
        raise WrongKey("the passphrase does not open this page", next="try another passphrase") from None


def _unpacked(content: bytes) -> KeyFile:
    try:
        unpacked = zlib.decompressobj().decompress(content, KEY_OBJECT_BYTES_MAX + 1)
    except zlib.error as error:
        raise Damaged("the key on this page does not unpack", next="take another copy of the page") from error
    return KeyFile.from_bytes(unpacked)


# ------------------------------------------------------------------------------------------------ the pages


def page(key_file: KeyFile, sites: Sequence[Site], made_at: datetime, passphrase: str | None = None) -> str:
    """The whole page: what it is, where the vault is, what to type, and the key."""
    restore = ["Put this page, or its key lines alone, into a file: page.txt"]
    if passphrase is not None:
        restore.append("The second line asks for the passphrase.")
    return _joined(
        _warning(key_file, needs_passphrase=passphrase is not None),
        _facts(key_file, made_at),
        _places(sites),
        _steps(key_file, sites, restore, "page.txt", needs_passphrase=passphrase is not None),
        ["THE KEY", "", *key_lines(key_file, passphrase)],
    )


@dataclass(frozen=True)
class InShares:
    """A kit in shares: its number, which stands on each of its pages, and these, by the name of a file."""

    number: int
    pages: Mapping[str, str]


def share_pages(
    key_file: KeyFile, sites: Sequence[Site], made_at: datetime, count: int, threshold: int
) -> InShares:
    """``count`` pages, of which any ``threshold`` have the key; they are read again before they are handed out.

    Raises ``UsageError`` outside of the limits, ``VaultError`` where what was made does not give the key back.
    """
    split = shares.split(_packed(key_file), count, threshold)
    sealed = lines_of(_SHARED + split.sealed)
    restore = [
        f"Bring {threshold} of the {count} pages of kit {split.kit} together. Put each, or its share lines and, of one",
        "page, the key lines as well, into a file of its own: share-1.txt, share-2.txt and so on.",
    ]
    pages = {}
    for number, lines in enumerate(split.lines, 1):
        pages[f"share-{number}-of-{count}.txt"] = _joined(
            _warning_of_share(key_file, number, count, threshold),
            _holders(number, count),
            [f"kit        {split.kit}", *_facts(key_file, made_at)],
            _places(sites),
            _steps(key_file, sites, restore, "share-*.txt"),
            [f"SHARE {number}", "", *lines],
            ["THE KEY, sealed: the same on each page of this kit", "", *sealed],
        )
    _require_restoring(pages, key_file, threshold)
    return InShares(split.kit, pages)


def says_the_same(
    there: Mapping[str, str],
    made: Mapping[str, str],
    key_file: KeyFile,
    *,
    passphrase: str = "",
    threshold: int | None = None,
) -> bool:
    """Whether pages that are there tell what those would that were made now, and give this key, heads and all.

    ``threshold`` is of pages in shares.

    They differ in when they were printed, in what their key is sealed with, and in the number and words of shares.
    """
    if there.keys() != made.keys() or any(_frame(there[name]) != _frame(text) for name, text in made.items()):
        return False
    try:
        if threshold is not None:
            _require_restoring(there, key_file, threshold)
        return read_pages(there, lambda: passphrase).key_file == key_file
    except (VaultError, UsageError):
        return False


_DIFFERS = re.compile(r"(printed {4}|kit {8}|key \d\d |share \d+ \d\d |Bring \d+ of the \d+ pages of kit ).*")


def _frame(text: str) -> list[str]:
    """All of a page but for what differs each time that one is made."""
    return [found[1] if (found := _DIFFERS.fullmatch(line)) else line for line in text.splitlines()]


def number_of(page: str) -> int:
    """The number of the kit that a page is a share of. Raises ``Damaged`` for one that is not as it was written."""
    return shares.typed(page, "")[0].kit


def _require_restoring(pages: Mapping[str, str], key_file: KeyFile, threshold: int) -> None:
    """Raise ``VaultError`` where pages do not give the key back; each is in one trial at least."""
    every = list(pages.items())
    for start in range(0, len(every), threshold):
        some = dict(every[min(start, len(every) - threshold) :][:threshold])
        try:
            restored = read_pages(some, str).key_file
        except VaultError:
            restored = None
        if restored != key_file:
            raise VaultError("the pages that were made do not give the key back", next="make them again")


def _joined(*parts: Sequence[str]) -> str:
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _can(key_file: KeyFile) -> str:
    can = "read everything that is in the vault"
    return can + (", add to it and remove from it" if Role.ADMIN in key_file.roles else "")


def _warning(key_file: KeyFile, *, needs_passphrase: bool) -> list[str]:
    who = "Whoever has this page and the passphrase" if needs_passphrase else "Whoever has this page"
    lines = [
        f"REFLOAT RECOVERY KIT of {key_file.pipeline}: THIS PAGE IS A SECRET",
        "",
        f"{who} can {_can(key_file)}.",
        "Keep it in a safe, outside of every region below; in no repository, mail, ticket or chat.",
    ]
    if needs_passphrase:
        lines.append("It needs the passphrase, which is not on it: without that nothing is recovered.")
    return lines


def _warning_of_share(key_file: KeyFile, number: int, count: int, threshold: int) -> list[str]:
    return [
        f"REFLOAT RECOVERY KIT of {key_file.pipeline}: SHARE {number} OF {count}, OF WHICH {threshold} ARE NEEDED",
        "",
        f"Whoever has {threshold} of the {count} pages can {_can(key_file)}.",
        f"Fewer than {threshold} tell nothing of the key. This page is a part of a secret: let another person keep",
        "each, in another safe, outside of every region below; in no repository, mail, ticket or chat.",
    ]


def _holders(number: int, count: int) -> list[str]:
    lines = [f"share {one:<2} {'this page' if one == number else '.' * 60}" for one in range(1, count + 1)]
    return ["WHO TO BRING TOGETHER: write on each page who keeps the others", "", *lines]


def _facts(key_file: KeyFile, made_at: datetime) -> list[str]:
    roles = ", ".join(role for role in Role if role in key_file.roles)
    return [
        f"pipeline   {key_file.pipeline}",
        f"vault      {key_file.vault}",
        f"admin      {admin_fingerprint(key_file)}",
        f"roles      {roles}",
        f"printed    {format_time(made_at)}",
    ]


def admin_fingerprint(key_file: KeyFile) -> str:
    """What the admin's public key is called: trust starts there, and it is no secret."""
    return signer_id(bytes.fromhex(key_file.admin_public))


def _places(sites: Sequence[Site]) -> list[str]:
    lines = ["WHERE IT IS, and how each log of points ended when this was printed", ""]
    for site in sites:
        endpoint = access_of(site.url).endpoint
        server = f", of the server {endpoint}" if endpoint else ""
        lines.append(f"{site.region}: {site.url}{server}" + ("" if site.answers else " (did not answer)"))
        lines.append(
            f"    slot {site.head[0]}, hash {site.head[1]}" if site.head else "    no point was seen there"
        )
    return lines


def _steps(
    key_file: KeyFile,
    sites: Sequence[Site],
    restore: Sequence[str],
    files: str,
    *,
    needs_passphrase: bool = False,
) -> list[str]:
    name = shlex.quote(f"{key_file.pipeline}.key")
    lines = [
        "WHAT TO TYPE on a bare machine with Python 3.11 or newer",
        "",
        "The credentials of the stores, such as AWS_ACCESS_KEY_ID, are not on this page.",
        *restore,
        "",
        "  $ pip install refloat",
        f"  $ refloat vault keys restore {files} --key {name}",
        *(["  $ unset REFLOAT_PASSPHRASE"] if needs_passphrase else []),
        f'  $ export REFLOAT_KEY_FILE="$PWD"/{name}',
    ]
    for site in sites:
        lines += ["", f"Where {site.region} is left:", "", *_commands(key_file, site)]
    return lines


def _commands(key_file: KeyFile, site: Site) -> list[str]:
    vault, region = shlex.quote(site.url), shlex.quote(site.region)
    lines = [f"  $ refloat points list --vault {vault}"]
    if Role.OPERATOR in key_file.roles:
        lines.append(f"  $ refloat recover --vault {vault} --to {region}")
    folder = shlex.quote(f"./only-the-files-{site.region}")
    return [*lines, f"  $ refloat recover --vault {vault} --into {folder}"]
