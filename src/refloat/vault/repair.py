"""Mends a replica from the others: an object that is missing or damaged is fetched where it verifies.

An object's name is the BLAKE3 of its bytes, so no key is needed to know a good copy, and a damaged one is
never copied onward. A region's log is its own and has no copy: ``aside`` and the flow of a repair see to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from refloat.contracts import Keeping, Progress, Silent
from refloat.digest import object_name
from refloat.errors import Missing, StoreError, VaultError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.forgotten import kept_points
from refloat.vault.index import seal_index
from refloat.vault.keys import Role
from refloat.vault.pack import PackRecord, directory_of, open_records
from refloat.vault.points import roots
from refloat.vault.quarantine import lift, quarantined
from refloat.vault.replica import Replica
from refloat.vault.replicate import Place, copy_index, good_copy, is_let_go, let_go, store_checked
from refloat.vault.salvage import Salvaged, salvage
from refloat.vault.tree import chunk_names
from refloat.vault.whose import is_key_of

_CHUNK = re.compile(r"(?:chunk )?([0-9a-f]{64})")  # what a check names where no pack has it

NO_GOOD_COPY = "no other region that answers has a good copy"
NOWHERE = "no other region that answers has it; where what is live still holds it: `refloat protect`"
LET_GO = "the admin's note that it was let go"
_WHOLE = (
    "it is whole, so no copy is better: a newer refloat may read it, or its writer did not tell the truth"
)


@dataclass(frozen=True)
class Repaired:
    """What was mended, by object name, with the region or the record that it came from; what could not be, and why.

    ``parted``: packs that no region has whole, of which the pieces that are whole lie in other packs now.
    What is no object, such as a chunk that is in no pack, is not told here where it is still so: a check says it.
    """

    mended: dict[str, str]
    left: dict[str, str]
    parted: dict[str, str] = field(default_factory=dict)


def repair(
    replica: Replica,
    damaged: Iterable[str],
    others: Sequence[Replica],
    progress: Progress | None = None,
    *,
    all_answer: bool = True,
) -> Repaired:
    """Replace each damaged object of ``replica`` by a copy from ``others`` that verifies.

    Where ``all_answer``, so that no other region can have it, a pack that none has whole is taken apart (``salvage``).
    ``damaged`` are names as ``check`` reports them. The bad object is removed only once a good copy is in
    hand. Raises ``StoreError`` where the replica itself does not take a write.
    """
    mended: dict[str, str] = {}
    left: dict[str, str] = {}
    parted: dict[str, str] = {}
    whole: list[str] = []
    chunks: dict[str, bytes] = {}
    progress, task = progress or Silent(), f"mend {replica.region}"
    names = sorted(dict.fromkeys(damaged), key=lambda name: not name.startswith(layout.KEYS))
    progress.start(task, len(names), "objects")
    for name in names:
        progress.advance(task)
        if name == layout.KEYS:
            keys = _lacking_keys(replica, others)
            mended |= keys
            left |= {} if keys else {name: "no other region that answers has a key that is lacking here"}
            continue
        if chunk := _CHUNK.fullmatch(name):
            chunks[name] = bytes.fromhex(chunk[1])
            continue
        if not name.startswith(layout.OBJECTS):
            continue
        if good_copy(name, [replica]) is not None:
            if _acquitted(replica, name):
                mended[name] = "it is whole again"
            else:
                whole.append(name)
            continue
        region = replaced(replica, name, others)
        replica.look_again()
        if region is not None:
            mended[name] = region
        elif all_answer and (saved := _salvaged(replica, name, others)) is not None:
            (mended if saved.kept == saved.of else parted)[name] = saved.told
        else:
            left[name] = NO_GOOD_COPY
    progress.finish(task)
    replica.look_again()
    if chunks or any(name.startswith(layout.POINTS) for name in mended):
        packs = _packs_cut_short(replica, others)
        mended |= packs
        whole += packs
    left |= {name: NOWHERE for name, chunk in chunks.items() if not replica.locate(chunk)}
    for other in others:  # an index object that is gone leaves no name behind, only packs that none lists
        mended |= dict.fromkeys(copy_index(other, replica), other.region)
    replica.look_again()
    mended |= _listed_anew(replica, [name for name in whole if name.startswith(layout.PACKS)])
    if not mended:
        left |= dict.fromkeys(whole, _WHOLE)
    return Repaired(mended, left, parted)


def _salvaged(replica: Replica, name: str, others: Sequence[Replica]) -> Salvaged | None:
    if not name.startswith(layout.PACKS):
        return None
    try:
        return salvage(replica, name, others)
    except StoreError:  # not before every region says what it has
        return None


def _acquitted(replica: Replica, name: str) -> bool:
    """Whether a whole pack was in quarantine, as where a repair was cut before it let it out; now it is not."""
    if name not in quarantined(replica.store):
        return False
    lift(replica.store, [name])
    return True


def uncover(replica: Replica, covered: Iterable[str]) -> dict[str, str]:
    """Put objects of a locked vault on top again, so that a reader that knows no versions finds them, too.

    ``covered`` are names as ``check`` reports them; what was done, by name. Raises ``StoreError`` where the replica
    does not let what lies there be removed or written over.
    """
    store = replica.store
    if not isinstance(store, Keeping):
        return {}
    return {name: done for name in covered if (done := store.uncover(name))}


def _packs_cut_short(replica: Replica, others: Sequence[Replica]) -> dict[str, str]:
    """Fetch each pack that a point here needs and that nothing here names: it and its index objects are gone.

    So it is after a repair that was killed when it had removed a bad pack and not yet written the good one.
    """
    mended: dict[str, str] = {}
    for point in kept_points(replica):
        trees: list[str] = []
        with suppress(VaultError):
            trees = roots(replica.read_point(point.name))
        for tree in trees:
            while (lacking := _lacking_chunk(replica, tree)) and (
                found := _pack_of(lacking, replica, others)
            ):
                mended |= found
    return mended


def _lacking_chunk(replica: Replica, tree: str) -> bytes | None:
    """The first chunk below a tree that is in no pack here."""
    try:
        names = chunk_names(bytes.fromhex(tree), replica.read_chunk)
        return next((name for name in replica.index.with_bases(names) if not replica.locate(name)), None)
    except Missing as error:
        chunk = _CHUNK.fullmatch(error.file or "")
        return bytes.fromhex(chunk[1]) if chunk else None
    except VaultError:
        return None


def _pack_of(chunk: bytes, replica: Replica, others: Sequence[Replica]) -> dict[str, str] | None:
    """Fetch the pack that holds a chunk elsewhere; None where none is had."""
    for other in others:
        with suppress(VaultError, StoreError):
            for pack in (layout.pack_name(location.pack.name) for location in other.locate(chunk)):
                found = good_copy(pack, [other]) if replica.store.size(pack) is None else None
                if found is not None:
                    store_checked(replica.store, pack, found[1])
                    replica.look_again()
                    return {pack: found[0]}
    return None


def _listed_anew(replica: Replica, packs: Iterable[str]) -> dict[str, str]:
    """Write an index object for each pack that none lists, as where every other one that does names a lost pack.

    It is this writer's word that the chunks are there, so each record is opened first. What cannot be opened,
    or is not what it says, stays unlisted.
    """
    keyring = replica.keyring
    mended: dict[str, str] = {}
    if not keyring.can(Role.WRITER):
        return mended
    replica.refresh_index()
    listed = {layout.pack_name(pack.name) for pack in replica.index.packs if pack.writer}
    for name in packs:
        if name in listed:
            continue
        stored = replica.store.get(name, 0, OBJECT_BYTES_MAX + 1)
        with suppress(VaultError):
            directory = directory_of(keyring, stored, what=name)
            if open_records(keyring, stored, directory, what=name, read=replica.read_chunk).lost:
                continue
            record = PackRecord(object_name(stored), len(stored), directory.key_id, keyring.writer)
            index = seal_index(keyring, [(record, directory)])
            store_checked(replica.store, layout.index_name(object_name(index)), index)
            mended[name] = "its own directory"
    return mended


def _lacking_keys(replica: Replica, others: Sequence[Replica]) -> dict[str, str]:
    """Copy every key object that is whole elsewhere and not here: what lacks says whom it is for, not its name."""
    mended = {}
    gone = let_go([replica, *others])
    for other in others:
        for entry in other.store.list(layout.KEYS):
            if replica.store.size(entry.name) is not None:
                continue
            copy = good_copy(entry.name, [other])
            ours = copy is not None and is_key_of(copy[1], replica.keyring.vault)
            if copy is not None and ours and not is_let_go(copy[1], gone):
                store_checked(replica.store, entry.name, copy[1])
                mended[entry.name] = other.region
    return mended


def replaced(place: Place, name: str, others: Sequence[Place]) -> str | None:
    """Put a good copy of an object in the place of a bad one; the region it came from, None where none has any.

    The bad object is removed only once a good copy is in hand; from a locked vault not at all, where a good version
    counts beside it. Of a key file whose way was let go no copy is put there. Raises ``StoreError``.
    """
    found = good_copy(name, others)
    if found is None:
        return None
    region, content = found
    gone = name.startswith(layout.KEYS) and is_let_go(content, let_go([place, *others]))
    if gone and isinstance(place.store, Keeping):
        return None
    if not isinstance(place.store, Keeping):
        place.store.delete(name)
    if gone:
        return LET_GO
    store_checked(place.store, name, content)
    if name.startswith(layout.PACKS) and not isinstance(place.store, Keeping):
        lift(place.store, [name])
    return region
