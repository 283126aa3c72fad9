"""What a region's ``vault.json`` must say: who may sign says so under ``keys/``, in every region.

1. a descriptor is written after the note that signs it, so a cut leaves no descriptor that counts as wrong;
2. a region of which something is signed, in whichever region that is kept, has one of the descriptors that were signed
   for it, or none: to take the signature away in one region undoes nothing;
3. one of which nothing is signed, as in a vault of before, is read, and the next repair with a key that can signs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from refloat.contracts import Keeping, Store
from refloat.digest import object_name
from refloat.errors import Damaged, Missing, StoreError, VaultError
from refloat.vault import layout
from refloat.vault.keyobjects import DescriptorNote, read_key_object
from refloat.vault.keys import KeyFile, Keyring
from refloat.vault.layout import Descriptor
from refloat.vault.lock import locked_view
from refloat.vault.replicate import store_checked

Notes = Mapping[str, DescriptorNote]
"""What was signed for descriptors, by the name of the object."""


def known_notes(stores: Iterable[Store], key_file: KeyFile) -> Notes:
    """What was signed for descriptors by somebody who is vouched for, as the stores that can be read keep it."""
    found: dict[str, DescriptorNote] = {}
    for store in stores:
        with suppress(VaultError, StoreError):
            found |= Keyring.vouched(key_file, locked_view(store, key_file)).descriptor_notes()
    return found


def mend_descriptor(
    region: str, store: Store, key_file: KeyFile, regions: Collection[str], notes: Notes | None = None
) -> bool:
    """Write the descriptor anew where it is gone or wrong, has no sum yet or is not signed; whether that was done.

    What was signed for the region, as this or another region keeps it in its ``notes``, is written; else what the key
    file says. That the place is this vault's is shown by its keys, which the key file's admin signed. A sound
    descriptor of another of the ``regions`` is left: then it is the address that is wrong. In a locked vault what was
    put over the descriptor is nothing to this. Raises ``StoreError`` where the store does not take the write.
    """
    store = locked_view(store, key_file)
    try:
        found: Descriptor | None = layout.read_descriptor(store)
    except (Damaged, Missing):
        found = None
    except (VaultError, StoreError):
        return False
    try:
        keyring = Keyring.vouched(key_file, store)
    except (VaultError, StoreError):
        return False
    keyring.adopt_descriptors(notes or {})
    if found is not None and (found.vault, found.pipeline) != (key_file.vault, key_file.pipeline):
        found = None
    if found is not None and found.region not in ("", region) and _is_theirs(found, keyring, regions):
        return False
    signed = keyring.described(region)
    if found is not None and found in signed:
        return False
    if signed or (found is not None and found.region not in ("", region)):
        found = None
    made = _made(region, key_file, found, signed, may_change=not isinstance(store, Keeping))
    return _write(store, found, made, None if signed else keyring.sign_descriptor(made))


def _is_theirs(found: Descriptor, keyring: Keyring, regions: Collection[str]) -> bool:
    signed = keyring.described(found.region)
    return found.region in regions and (found in signed or not signed)


def _made(
    region: str, key_file: KeyFile, found: Descriptor | None, signed: list[Descriptor], *, may_change: bool
) -> Descriptor:
    if signed:
        return signed[-1]
    if found is not None:
        return found.model_copy(update={"region": region}).summed() if may_change else found
    return Descriptor.of_new(key_file.vault, region, key_file.pipeline)


def _write(store: Store, found: Descriptor | None, made: Descriptor, note: DescriptorNote | None) -> bool:
    if note is not None and made.region:
        keep_note(store, note)
    elif made == found:
        return False
    if made != found:
        store.delete(layout.VAULT)
        layout.write_descriptor(store, made)
    return True


def keep_note(store: Store, note: DescriptorNote) -> None:
    """Let a region keep what was signed; what has that name and is something else goes. Raises ``StoreError``."""
    stored = note.stored()
    name = layout.key_name(object_name(stored))
    with suppress(Missing):
        if not isinstance(store, Keeping) and store.get(name, 0, len(stored) + 1) != stored:
            store.delete(name)
    store_checked(store, name, stored)


def keep_notes(store: Store, key_file: KeyFile, notes: Notes) -> None:
    """Let a region of this vault keep what was signed and is not there yet. Raises ``StoreError``."""
    store = locked_view(store, key_file)
    with suppress(VaultError):
        lacking = notes.keys() - Keyring.vouched(key_file, store).descriptor_notes().keys()
        for name in sorted(lacking):
            keep_note(store, notes[name])


def noted(store: Store, like: Descriptor, region: str) -> Descriptor | None:
    """What is noted of a region under ``keys/``, unproved, where it is like another region's in all that it must be.

    For who makes a replica without a key: no other descriptor would count there.
    """
    for name in sorted(layout.objects(store, layout.KEYS)):
        with suppress(VaultError):
            told = read_key_object(store, name)
            if isinstance(told, DescriptorNote) and told.descriptor.region == region:
                same = like.model_copy(update={"region": region, "replica": told.descriptor.replica})
                if same == told.descriptor:
                    return same
    return None
