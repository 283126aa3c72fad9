"""Whose an object below ``keys/``, ``packs/`` or ``index/`` is that a check found wrong.

Asked before anything is set aside (``foreign``). What holds:

1. what a newer refloat writes is never anybody else's, and neither is what an index object of ours lists;
2. a pack that opens with our key and that no index object lists is what a killed command left: a prune removes it,
   after its grace; so is what lies below ``points/`` and no log commits;
3. an object whose bytes have its name, and that another vault's key made or none, was never ours: nothing is lost;
4. one whose name is of our kind and whose bytes are not may have been ours: ``doubtful``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum

from refloat.errors import Damaged, VaultError
from refloat.vault import layout
from refloat.vault.index import open_index
from refloat.vault.keyfile import KEY_OBJECT_BYTES_MAX
from refloat.vault.keys import Keyring
from refloat.vault.pack import directory_of
from refloat.vault.replica import Replica
from refloat.vault.seal import HEADER_BYTES, Kind, newer_version, unseal

ASKED = (layout.KEYS, layout.PACKS, layout.INDEX)
"""Where an object can be foreign: what no log commits below ``points/`` goes with the next prune."""


class Whose(Enum):
    """Whose an object is, as far as can be told."""

    OURS = "ours"
    FOREIGN = "foreign"
    DOUBTFUL = "doubtful"
    NEWER = "newer"
    LEFTOVER = "leftover"


def is_asked(name: str) -> bool:
    """Whether a finding of a check names an object that can be foreign: no folder, no chunk, no temporary file."""
    return name.startswith(ASKED) and not name.endswith(("/", "~"))


def whose(name: str, stored: bytes, replica: Replica, others: Iterable[Replica]) -> Whose:
    """Whose an object of ``replica`` is, by its bytes; ``others`` tell what they list. Raises ``StoreError``."""
    if not is_asked(name):
        return Whose.LEFTOVER
    if newer_format_of(stored) is not None:
        return Whose.NEWER
    if not layout.is_object(name):
        return Whose.FOREIGN
    whole = layout.has_its_name(name, stored)
    if name.startswith(layout.KEYS):
        return _whose_key(replica.keyring, stored) if whole else Whose.DOUBTFUL
    if name.startswith(layout.INDEX):
        return _whose_index(replica.keyring, name, stored)
    if any(one.index.knows(name.rpartition("/")[2]) for one in (replica, *others)):
        return Whose.OURS
    try:
        directory_of(replica.keyring, stored, what=name)
    except VaultError:
        return Whose.FOREIGN if whole else Whose.DOUBTFUL
    return Whose.LEFTOVER


def newer_format_of(stored: bytes) -> int | None:
    """The format of an object that only a newer refloat writes; None for anything else."""
    found = newer_version(stored)
    if found is not None:
        return found
    number = _document(stored).get("format")
    return number if type(number) is int and number > layout.FORMAT else None


def is_key_of(stored: bytes, vault: str) -> bool:
    """Whether an object below ``keys/`` says that it belongs to a vault; one of a newer format may."""
    return newer_format_of(stored) is not None or _document(stored).get("vault") == vault


def _document(stored: bytes) -> dict[str, object]:
    with suppress(ValueError, RecursionError):
        document = json.loads(stored) if len(stored) <= KEY_OBJECT_BYTES_MAX else None
        if isinstance(document, dict):
            return document
    return {}


def _whose_key(keyring: Keyring, stored: bytes) -> Whose:
    return Whose.OURS if is_key_of(stored, keyring.vault) else Whose.FOREIGN


def _whose_index(keyring: Keyring, name: str, stored: bytes) -> Whose:
    try:
        open_index(keyring, name.removeprefix(layout.INDEX), stored, what=name)
    except VaultError:
        return Whose.DOUBTFUL if _is_of(keyring, name, stored) else Whose.FOREIGN
    return Whose.OURS


def _is_of(keyring: Keyring, name: str, stored: bytes) -> bool:
    """Whether an index object that counts for nothing may be ours: its bytes are others now, or its seal is ours."""
    if not layout.has_its_name(name, stored):
        return True
    for kind in (Kind.INDEX, Kind.REDUCED_INDEX):
        with suppress(Damaged):
            unseal(keyring, kind, stored[HEADER_BYTES:], what=name)
            return True
    return False
