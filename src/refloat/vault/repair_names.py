"""Mends a replica without a key: whether an object is whole its name says, and a good copy is known by it as well.

What only a key shows is not looked at: logs, chunks that no pack holds, packs that no index object lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from refloat.contracts import Progress, Silent
from refloat.errors import Missing, StoreError
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.quarantine import lift, quarantined
from refloat.vault.repair import NO_GOOD_COPY, Repaired, replaced
from refloat.vault.replicate import Place, copy_objects


def repair_by_names(
    place: Place, others: Sequence[Place], *, read_data: bool, progress: Progress | None = None
) -> Repaired:
    """Replace each object whose bytes do not have its name by a copy that has, and fetch what only others hold.

    Of packs every byte is read with ``read_data``; without it only those in quarantine and those whose size is another
    elsewhere. A bad object is removed only once a good copy is in hand.

    Raises ``StoreError`` where the replica does not answer.
    """
    progress = progress or Silent()
    mended: dict[str, str] = {}
    left: dict[str, str] = {}
    for name in list(_damaged(place, others, progress, read_data=read_data)):
        region = replaced(place, name, others)
        if region is None:
            left[name] = NO_GOOD_COPY
        else:
            mended[name] = region
    before = _names(place)
    for other in others:
        with suppress(Missing):
            copy_objects(other, place, progress, others=others)
        after = _names(place)
        mended |= dict.fromkeys(sorted(after - before), other.region)
        before = after
    return Repaired(mended, left)


def _names(place: Place) -> set[str]:
    return {name for prefix in layout.OBJECTS for name in layout.objects(place.store, prefix)}


def _damaged(place: Place, others: Sequence[Place], progress: Progress, *, read_data: bool) -> Iterator[str]:
    """The objects whose bytes do not have their name, of those that are read."""
    listed = {
        name: size for prefix in layout.OBJECTS for name, size in layout.objects(place.store, prefix).items()
    }
    doubted = quarantined(place.store)
    if not read_data:
        elsewhere = [_pack_sizes(other) for other in others]
        listed = {
            name: size
            for name, size in listed.items()
            if not name.startswith(layout.PACKS)
            or name in doubted
            or any(sizes.get(name, size) != size for sizes in elsewhere)
        }
    task = f"look through {place.region}"
    progress.start(task, sum(listed.values()))
    for name, size in listed.items():
        with suppress(Missing):  # a prune was quicker
            stored = place.store.get(name, 0, OBJECT_BYTES_MAX + 1)
            if not layout.has_its_name(name, stored):
                yield name
            elif name in doubted:
                lift(place.store, [name])  # it was only read badly before
        progress.advance(task, size)
    progress.finish(task)


def _pack_sizes(place: Place) -> dict[str, int]:
    try:
        return layout.objects(place.store, layout.PACKS)
    except StoreError:
        return {}
