"""Which of two sealed key files counts, where the older one lies there still: as one that is locked does.

A key file that is sealed anew says nothing of when. So its writer says which object the new one takes the place of,
under ``keys/``; what that is worth:

1. the word counts where both objects open with one secret, to keys of one holder, whose writer signed it: so whoever
   made the new object held all of that holder's keys, and nobody is kept out by an object that does not open;
2. it is written before the new object, so that a cut leaves what was there or what counts from then on;
3. where words go round in a circle, as somebody with the key may let them, they say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final, Literal

from pydantic import Field

from refloat.digest import canonical_json, object_name
from refloat.errors import VaultError
from refloat.vault.keyfile import (
    KEY_OBJECT_BYTES_MAX,
    Hex32,
    KeyFile,
    KeyObject,
    Role,
    lacks,
    parsed_object,
)
from refloat.vault.keyobjects import is_signed, publics_of, signed_by
from refloat.vault.layout import key_name, plain_object

RESEALED: Final = "resealed"


class Resealed(KeyObject):
    """A writer's word that of its sealed key files the object ``new`` counts in the place of ``old``."""

    type: Literal["resealed"] = RESEALED
    old: Hex32
    new: Hex32
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def message(self) -> bytes:
        """What the writer signs."""
        return b"resealed:" + canonical_json(self.model_dump(mode="json", exclude={"signature"}))


def resealed_object(key_file: KeyFile, old: bytes, new: bytes) -> bytes:
    """The word of a key file's writer on two objects in which it is sealed. Raises ``WrongKey`` for no writer."""
    if key_file.writer is None:
        raise lacks(Role.WRITER)
    unsigned = Resealed(vault=key_file.vault, old=object_name(old), new=object_name(new))
    signature = signed_by(key_file.writer.signing, Role.WRITER, unsigned.message())
    return canonical_json({**unsigned.model_dump(mode="json"), "signature": signature.hex()})


def resealed_in(stored: bytes) -> Resealed | None:
    """What an object says, of which nothing is believed yet; None for one of another type, or that is damaged."""
    with suppress(VaultError):
        name = key_name(object_name(stored))
        document = plain_object(stored, name, KEY_OBJECT_BYTES_MAX)
        if document.get("type") == RESEALED:
            return parsed_object(Resealed, document, name)
    return None


def outdated(
    words: Iterable[Resealed], sealed: Iterable[bytes], opened: Callable[[bytes], KeyFile | None]
) -> frozenset[bytes]:
    """Those of the ``sealed`` key files in whose place another of them counts; ``opened`` gives what is in one."""
    there = {object_name(stored): stored for stored in sealed}
    after: dict[str, set[str]] = {}
    for word in words:
        if word.old in there and word.new in there and _counts(word, there, opened):
            after.setdefault(word.old, set()).add(word.new)
    behind = {name: _behind(name, after) for name in after}
    return frozenset(
        there[name] for name, later in behind.items() if any(name not in behind.get(one, ()) for one in later)
    )


def _counts(word: Resealed, there: Mapping[str, bytes], opened: Callable[[bytes], KeyFile | None]) -> bool:
    old, new = (opened(there[name]) for name in (word.old, word.new))
    if old is None or new is None or _holder(old) != _holder(new) or old.vault != word.vault:
        return False
    writer = publics_of(old).get(Role.WRITER)
    signature = bytes.fromhex(word.signature)
    return writer is not None and is_signed(writer, Role.WRITER, word.message(), signature)


def _holder(key_file: KeyFile) -> tuple[str, str, dict[Role, bytes]]:
    return key_file.vault, key_file.admin_public, publics_of(key_file)


def _behind(name: str, after: Mapping[str, set[str]]) -> set[str]:
    """All that words lead to from a name, one after the other."""
    found: set[str] = set()
    left = [name]
    while left:
        new = after.get(left.pop(), set()) - found
        found |= new
        left += new
    return found
