"""Objects that are not this vault's are set aside, so that they keep no check, no repair and no prune from its end.

An object is copied to ``aside/objects/<BLAKE3 of its bytes>``, the copy is read back, the log ``audit`` of the region
says what it was called, and why; then it is looked at once more, and only then removed from where it lay. So a cut
leaves it in both places, and the next try ends it without saying the same again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from refloat.contracts import Store
from refloat.digest import Json, object_name
from refloat.errors import Missing, StoreError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault.aside import ASIDE, sound_entries
from refloat.vault.keys import Role
from refloat.vault.layout import AUDIT_STREAM
from refloat.vault.lock import removable_from
from refloat.vault.quarantine import stored_whole
from refloat.vault.replica import Replica
from refloat.vault.replicate import store_checked

OBJECTS_ASIDE = f"{ASIDE}objects/"
OBJECT_SET_ASIDE = "objects_set_aside"
IN_ONE_ENTRY_MAX = 256  # of names with up to 1,024 bytes: an eighth of what an entry of a log may have


@dataclass(frozen=True)
class SetAside:
    """By name: where each object that was set aside lies now, and why others stay where they are."""

    done: Mapping[str, str]
    left: Mapping[str, str]


def set_objects_aside(replica: Replica, reasons: Mapping[str, str], overrides: Collection[str]) -> SetAside:
    """Set objects of a region aside, each for its reason; ``overrides`` are said of all in the audit.

    What is locked, and what is larger than any object, stays. Raises ``WrongKey`` without the operator's role,
    ``Damaged`` for an audit that cannot be written on, ``StoreError``.
    """
    done: dict[str, str] = {}
    left: dict[str, str] = {}
    names = iter(reasons)
    said = _said(replica)
    while some := list(islice(names, IN_ONE_ENTRY_MAX)):
        copied = {name: digest for name in some if (digest := _copied(replica, name, left)) is not None}
        objects: list[Json] = [
            {"object": name, "blake3": digest, "reason": reasons[name]}
            for name, digest in copied.items()
            if (name, digest) not in said
        ]
        if objects:
            body = {"type": OBJECT_SET_ASIDE, "objects": objects, "overrides": sorted(overrides)}
            replica.log(AUDIT_STREAM, Role.OPERATOR).append(body)
        for name, digest in copied.items():
            if _digest(replica.store, name) != digest:  # looked at once more: it may have been mended by hand
                continue
            try:
                replica.store.delete(name)
            except StoreError as error:
                left[name] = (
                    f"a copy of it is in {OBJECTS_ASIDE}{digest}, and it cannot be removed: {error.message}"
                )
            else:
                done[name] = f"set aside as {OBJECTS_ASIDE}{digest}"
    return SetAside(done, left)


def _copied(replica: Replica, name: str, left: dict[str, str]) -> str | None:
    """Copy an object and read the copy back; the BLAKE3 of its bytes, or None where it is ``left``, or gone."""
    until = removable_from(replica.store, [name]).get(name)
    if until is not None and until > replica.clock.now():
        left[name] = "it is locked, and nothing that is locked is set aside"
        return None
    with suppress(Missing):
        stored = stored_whole(replica.store, name)
        digest = object_name(stored)
        if len(stored) > OBJECT_BYTES_MAX:
            left[name] = (
                f"it is larger than any object of a vault ({OBJECT_BYTES_MAX} bytes): move it away by hand"
            )
            return None
        copy = OBJECTS_ASIDE + digest
        store_checked(replica.store, copy, stored)
        if _digest(replica.store, copy) != digest:
            left[name] = f"its copy {copy} is not whole: move that away by hand"
            return None
        return digest
    return None


def _digest(store: Store, name: str) -> str | None:
    with suppress(Missing):
        return object_name(stored_whole(store, name))
    return None


def _said(replica: Replica) -> set[tuple[Json, Json]]:
    """What the audit says already, as where a try was cut behind that: names, with the BLAKE3 of the bytes."""
    found: set[tuple[Json, Json]] = set()
    for entry in sound_entries(replica.log(AUDIT_STREAM, Role.OPERATOR)):
        objects = entry.body.get("objects") if entry.body.get("type") == OBJECT_SET_ASIDE else None
        for one in objects if isinstance(objects, list) else ():
            if isinstance(one, Mapping):
                found.add((one.get("object"), one.get("blake3")))
    return found
