"""Making an empty place a replica of a vault that lies elsewhere, without a key.

Its keys come from there, verified by name; its descriptor is its own, with a new replica id, and is written last, so
a place where this was cut is begun anew by the next try.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from refloat.contracts import Progress, Store
from refloat.errors import Refused, VaultError
from refloat.vault import layout
from refloat.vault.described import keep_note, noted
from refloat.vault.keys import KeyFile, Keyring
from refloat.vault.layout import Descriptor
from refloat.vault.replicate import Place, copy_objects
from refloat.vault.trial import clear, try_out


def is_free(source: Store, store: Store) -> bool:
    """Whether a place holds nothing, or only keys of the vault in ``source``: what a try that was cut has left."""
    if store.size(layout.VAULT) is not None:
        return False
    keys: set[str] | None = None
    for info in store.list(""):
        if info.name.startswith(layout.TRIAL):
            continue
        if not info.name.startswith(layout.KEYS):
            return False
        keys = set(layout.objects(source, layout.KEYS)) if keys is None else keys
        if info.name not in keys:
            return False
    return True


def make_replica(
    source: Place,
    target: Place,
    progress: Progress | None = None,
    others: Iterable[Place] = (),
    *,
    key_file: KeyFile | None = None,
) -> Descriptor:
    """Make the empty place ``target`` a replica of the vault in ``source``: the keys first, the descriptor last.

    With a key that signs, the descriptor is signed, and the ``source`` keeps the note first; without one, a region for
    which the source keeps a note already gets the descriptor of that note, since no other would count there.
    A way to open the vault that was let go, as one of the ``others`` may know, does not come along.
    Raises ``Refused`` (``vault_exists``) where something else is there and (``create_ignored``) where a second write
    replaces the first, ``Damaged`` for a source whose descriptor or keys are not whole.
    """
    found = layout.read_descriptor(source.store)
    if not is_free(source.store, target.store):
        raise Refused(
            "vault_exists",
            f"{target.store.url} is not empty, and no replica",
            region=target.region,
            next="choose an empty place; where a replica only lost its descriptor: refloat vault repair",
        )
    try_out({target.region: target.store})
    described = _described(source, target, found, key_file)
    copied = copy_objects(source, target, progress, prefixes=[layout.KEYS], others=others)
    if copied.damaged or copied.waiting:
        name = (*copied.damaged, *copied.waiting)[0]
        raise VaultError(
            f"{name} is not whole in {source.region}, and no vault can be read without its keys",
            region=source.region,
            file=name,
            next="refloat vault repair, or name another region with --from",
        )
    layout.write_descriptor(target.store, described)
    clear([target.store])
    return described


def _described(source: Place, target: Place, found: Descriptor, key_file: KeyFile | None) -> Descriptor:
    """What the new replica says of itself. Raises ``StoreError`` where the source does not take the note on it."""
    made = found.model_copy(update={"replica": uuid.uuid4().hex, "region": target.region}).summed()
    if key_file is not None:
        note = Keyring.vouched(key_file, source.store).sign_descriptor(made)
        if note is not None:
            keep_note(source.store, note)
            return made
    return noted(source.store, found, target.region) or made
