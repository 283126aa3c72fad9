"""A thief with a writer's key of its own, and packs that claim chunks which they do not hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from refloat.digest import object_name
from refloat.testing.world import World
from refloat.vault import holders, layout
from refloat.vault.index import seal_index
from refloat.vault.keyfile import Role
from refloat.vault.pack import directory_of, seal_pack, sealed_chunk

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def thief_of(world: World) -> World:
    """The same world, seen by somebody who came by another writer's key."""
    made = world.key_file.for_another(Role.WRITER)
    assert not holders.add(world.vault(), world.key_file, made, "trainer", NOW).lagging
    return World(world.root, world.group, world.clock, made, world.stores)


def packs(world: World, region: str) -> dict[str, bytes]:
    """The packs of a region by the names of their objects."""
    store = world.vault().replicas[region].store
    return {one.name: store.get(one.name) for one in store.list(layout.PACKS)}


def poison(thief: World, stored: dict[str, bytes], region: str) -> None:
    """Packs with the records of true ones, each under the name of another, and index objects that list them."""
    keyring, store = thief.vault().replicas[region].keyring, thief.stores[region]
    for name, content in stored.items():
        directory = directory_of(keyring, content, what=name)
        rows = directory.entries
        chunks = [sealed_chunk(row, content[int(row["offset"]) :][: int(row["stored"])]) for row in rows]
        turned = [
            replace(chunk, name=other.name)
            for chunk, other in zip(chunks, chunks[1:] + chunks[:1], strict=True)
        ]
        assert len({chunk.name for chunk in chunks}) > 1
        liar = seal_pack(keyring, directory.key_id, turned)
        index = seal_index(keyring, [(liar.record, liar.directory)])
        store.create(layout.pack_name(liar.record.name), liar.stored)
        store.create(layout.index_name(object_name(index)), index)
