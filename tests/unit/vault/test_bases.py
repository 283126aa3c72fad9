"""Tensors of a series of checkpoints: stored as differences, restored as they were, whatever becomes of the bases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refloat.contracts import Facts, Store
from refloat.errors import Damaged, StoreError, VaultError
from refloat.limits import MIB, PACK_BYTES_MAX, PRUNE_GRACE_S
from refloat.vault import layout
from refloat.vault.anywhere import Anywhere
from refloat.vault.check import check
from refloat.vault.chunk import NO_BASE
from refloat.vault.forgotten import write_forgotten
from refloat.vault.keys import Role
from refloat.vault.prune import plan_prune, prune
from refloat.vault.repair import repair
from refloat.vault.stores.faulty import FaultyStore
from refloat.vault.vault import Vault
from refloat.vault.whole import missing_for
from refloat.vault.writer import Writer

NOW = datetime(2026, 11, 2, tzinfo=UTC)
VaultWorld = Any  # the fixture ``world`` of conftest.py
Tensors = Mapping[str, np.ndarray[Any, Any]]


def safetensors(path: Path, tensors: Tensors, **metadata: str) -> None:
    """Write a file as https://github.com/huggingface/safetensors describes it."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        end = at + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"".join(t.tobytes() for t in tensors.values()))


class Training:
    """A model of a few tensors that moves a little with every step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._dice = np.random.default_rng(7)
        shapes = {"embed": (3000, 256), "up": (700, 512), "down": (512, 700), "bias": (512,)}
        self.tensors = {n: (self._dice.standard_normal(s) * 0.02).astype("<f4") for n, s in shapes.items()}

    def step(self, number: int, size: float = 1e-6) -> Path:
        """Take a step and save a checkpoint."""
        for tensor in self.tensors.values():
            tensor += (self._dice.standard_normal(tensor.shape) * size).astype("<f4")
        path = self.folder / f"step-{number}" / "model.safetensors"
        safetensors(path, self.tensors, step="1" * number)  # a header that grows
        return path


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path / "run")


def body_of(tree: str, manifest: str) -> dict[str, Any]:
    """A point's body with one component."""
    return {
        "manifest": manifest,
        "components": {"files": {"tree": tree}},
        "groups": {},
        "pipeline": "demo",
        "created_at": "2026-11-01T12:00:00Z",
    }


def capture(
    world: VaultWorld,
    folder: Path,
    previous: str | None = None,
    key_file: Any = None,
    pack_bytes_max: int = PACK_BYTES_MAX,
) -> Any:
    """The point and what was stored of a folder."""
    replicas = [world.open(region, key_file=key_file) for region in world.stores]
    with Writer(replicas, pack_bytes_max=pack_bytes_max) as writer:
        sink = writer.sink(previous)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            stat = path.stat()
            sink.file(path.relative_to(folder).as_posix(), path, mtime_ns=stat.st_mtime_ns)
        stored = sink.finish()
        point, regions = writer.commit(body_of(stored.tree, writer.sink().finish().tree))
    assert all(result.complete for result in regions.values())
    return point, stored


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def chunks_of(world: VaultWorld, tree: str, path: str) -> tuple[bytes, ...]:
    return world.open().source(tree, Facts())._file(path).chunks


def bases(world: VaultWorld, tree: str) -> dict[bytes, bytes]:
    """What each chunk of a tree rests on."""
    replica = world.open()
    paths = [entry.path for entry in replica.source(tree, Facts()).entries() if entry.type == "file"]
    names = {name for path in paths for name in chunks_of(world, tree, path)}
    found = {name: replica.index.lookup(name).base for name in names}
    return {name: base for name, base in found.items() if base != NO_BASE}


def test_the_next_checkpoint_is_stored_as_its_difference_and_restored_as_it_was(
    world: VaultWorld, training: Training
) -> None:
    training.step(1)
    _, first = capture(world, training.folder)
    training.step(2)
    point, second = capture(world, training.folder, first.tree)
    assert second.new_bytes < 1.1 * first.new_bytes
    assert second.stored_bytes < 0.65 * first.stored_bytes
    assert bases(world, second.tree)
    assert world.restored(point) == files_of(training.folder)
    assert all(check(world.open(region), read_data=True).ok for region in world.stores)


def test_a_series_rests_on_its_first_checkpoint_and_not_on_a_chain(
    world: VaultWorld, training: Training
) -> None:
    previous = None
    for number in range(1, 5):
        training.step(number)
        point, stored = capture(world, training.folder, previous)
        previous = stored.tree
    rests_on = bases(world, stored.tree)
    assert rests_on
    assert not set(rests_on.values()) & set(rests_on), "a base rests on a base"
    assert world.restored(point) == files_of(training.folder)


def test_two_checkpoints_of_one_capture_are_differences_too(world: VaultWorld, training: Training) -> None:
    training.step(1)
    training.step(2)
    point, stored = capture(world, training.folder)
    assert bases(world, stored.tree)
    assert world.restored(point) == files_of(training.folder)


def test_a_fine_tuned_model_in_a_folder_of_another_name_is_its_difference_from_the_model(
    world: VaultWorld, training: Training
) -> None:
    shutil.move(training.step(1), training.folder / "base.safetensors")
    _, first = capture(world, training.folder)
    shutil.move(training.step(2), training.folder / "tuned.safetensors")
    point, second = capture(world, training.folder, first.tree)
    assert second.stored_bytes < 0.65 * first.stored_bytes
    assert world.restored(point) == files_of(training.folder)


@pytest.mark.parametrize("reader", [True, False])
def test_a_checkpoint_that_took_the_place_of_the_last_one_needs_a_key_that_reads(
    world: VaultWorld, training: Training, reader: bool
) -> None:
    key_file = world.key_file if reader else world.key_file.for_roles(Role.WRITER)
    shutil.move(training.step(1), training.folder / "last.safetensors")
    _, first = capture(world, training.folder, key_file=key_file)
    shutil.move(training.step(2), training.folder / "last.safetensors")
    point, second = capture(world, training.folder, first.tree, key_file=key_file)
    assert bool(bases(world, second.tree)) is reader
    assert world.restored(point)["last.safetensors"] == (training.folder / "last.safetensors").read_bytes()


def test_a_file_that_only_looks_like_the_base_is_not_taken_for_it(
    world: VaultWorld, training: Training
) -> None:  # fault 40
    path = training.step(1)
    _, first = capture(world, training.folder, key_file=world.key_file.for_roles(Role.WRITER))
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2 :] = bytes(len(spoilt) - len(spoilt) // 2)
    path.write_bytes(spoilt)
    training.step(2)
    writer_only = world.key_file.for_roles(Role.WRITER)
    point, second = capture(world, training.folder, first.tree, key_file=writer_only)
    known = set(bases(world, second.tree).values())
    assert known, "the half that is as it was is a base"
    assert world.restored(point) == files_of(training.folder)


def test_a_lost_base_costs_what_rests_on_it_and_nothing_else(world: VaultWorld, training: Training) -> None:
    # faults 2, 40
    training.step(1)
    one, first = capture(world, training.folder)
    shutil.rmtree(training.folder / "step-1")
    (training.folder / "note").write_text("this rests on nothing")
    training.step(2)
    point, second = capture(world, training.folder, first.tree)
    replica = world.open()
    base = next(iter(bases(world, second.tree).values()))
    pack = layout.pack_name(replica.index.lookup(base).pack.name)
    world.flip(pack, 5000)
    world.flip(pack, world.stores["eu"].size(pack) // 2)
    report = check(world.open(), read_data=True)
    assert [damage.object for damage in report.damaged] == [pack]
    assert set(report.damaged[0].affects) == {one, point}
    assert world.open().source(second.tree, Facts()).open("note").read() == b"this rests on nothing"
    with pytest.raises(Damaged):
        world.restored(point)
    assert repair(world.open(), [pack], [world.open("us")]).mended == {pack: "us"}
    assert check(world.open(), read_data=True).ok
    assert world.restored(point) == files_of(training.folder)
    world.stores["eu"].delete(pack)
    lacking = missing_for(Anywhere([world.open()]), [second.tree])
    assert lacking and all(name.startswith("chunk ") for name in lacking)
    with pytest.raises(VaultError):
        world.restored(point)


class Unmeasured(FaultyStore):
    """Does not say how large some packs are."""

    def __init__(self, inner: Store, packs: Collection[str]) -> None:
        super().__init__(inner)
        self._packs = packs

    def size(self, name: str) -> int | None:
        if name.rpartition("/")[2] in self._packs:
            raise StoreError(f"how large {name} is cannot be told")
        return super().size(name)


def test_a_difference_and_its_base_may_lie_in_two_regions(world: VaultWorld, training: Training) -> None:
    # fault 3
    training.step(1)
    _, first = capture(world, training.folder)
    training.step(2)
    _, second = capture(world, training.folder, first.tree)
    index = world.open().index
    told = bases(world, second.tree)
    apart = (
        {index.lookup(name).pack.name for name in told},
        {index.lookup(name).pack.name for name in told.values()},
    )
    assert told and not apart[0] & apart[1]
    for region, packs in zip(("eu", "us"), apart, strict=True):
        for pack in packs:
            world.stores[region].delete(layout.pack_name(pack))
    for order in (("eu", "us"), ("us", "eu")):
        reader = Anywhere([world.open(region) for region in order])
        assert missing_for(reader, [second.tree]) == []
        name = next(iter(told))
        assert reader.name_of(reader.read_chunk(name)) == name
        alone = missing_for(Anywhere([world.open(order[0])]), [second.tree])
        assert {f"chunk {name.hex()}" for name in told} <= set(alone)
    eu = Unmeasured(world.stores["eu"], apart[1])
    with pytest.raises(StoreError, match="how large"):
        missing_for(Anywhere([world.open("eu", store=eu), world.open("us")]), [second.tree])
    for pack in apart[1]:
        world.stores["eu"].delete(layout.pack_name(pack))
    lacking = missing_for(Anywhere([world.open(region) for region in ("eu", "us")]), [second.tree])
    assert {f"chunk {name.hex()}" for name in told} <= set(lacking)


def test_a_prune_keeps_what_only_a_difference_needs(
    world: VaultWorld, training: Training
) -> None:  # fault 20
    steps = [training.step(1), training.step(2)]
    with Writer(world.replicas(), pack_bytes_max=MIB) as writer:
        sink = writer.sink()
        for path in steps:
            sink.file("model.safetensors", path)  # the second takes the place of the first
        tree = sink.finish().tree
        writer.commit(body_of(tree, writer.sink().finish().tree))
    replica = world.open()
    resting = bases(world, tree)
    assert resting
    packs = {layout.pack_name(replica.index.lookup(base).pack.name) for base in resting.values()}
    assert packs <= check(replica, read_data=False).needed
    assert replica.source(tree, Facts()).open("model.safetensors").read() == steps[1].read_bytes()


def test_a_base_stays_when_its_own_point_is_forgotten_and_what_lies_beside_it_goes(
    world: VaultWorld, training: Training
) -> None:  # fault 20
    training.step(1)
    passing = training.folder / "passing.bin"
    passing.write_bytes(np.random.default_rng(1).bytes(MIB))
    one, first = capture(world, training.folder, pack_bytes_max=MIB)
    (passing_chunk,) = chunks_of(world, first.tree, "passing.bin")
    gone = layout.pack_name(world.open().index.lookup(passing_chunk).pack.name)
    training.step(2)
    shutil.rmtree(training.folder / "step-1")
    passing.unlink()
    two, second = capture(world, training.folder, first.tree, pack_bytes_max=MIB)
    resting = bases(world, second.tree)
    assert resting
    for replica in world.replicas():
        write_forgotten(replica, 0, {one: "beyond last 1"}, seen=1)
    for days in (1, 2):
        vault = Vault({replica.region: replica for replica in world.replicas()}, {})
        plans = plan_prune(vault, NOW + days * timedelta(seconds=PRUNE_GRACE_S))
        for plan in plans:
            prune(vault.replicas[plan.region], plan)
        assert check(world.open(), read_data=True).ok
        assert world.restored(two) == files_of(training.folder)
    assert all(gone in plan.remove and plan.remove[gone] > MIB for plan in plans)
    assert resting == bases(world, second.tree)


def test_differences_that_go_round_in_a_circle_come_to_an_end(world: VaultWorld) -> None:  # fault 53
    from refloat.vault.index import is_there
    from refloat.vault.indexrun import Location
    from refloat.vault.pack import PackRecord

    pack = PackRecord("ab", 100, bytes(16), "w")
    circle = {b"a": b"b", b"b": b"a"}
    places = {name: [Location(pack, 0, 1, 1, 3, base)] for name, base in circle.items()}
    assert not is_there(b"a", lambda name: places[name], lambda place: True)


def test_a_large_tensor_of_which_one_row_changed_stores_one_piece(world: VaultWorld, tmp_path: Path) -> None:
    table = np.random.default_rng(3).integers(0, 1 << 31, 6 * MIB // 4, dtype=np.int32)
    folder = tmp_path / "index"
    folder.mkdir()
    np.save(folder / "vectors.npy", table)
    _, first = capture(world, folder)
    table[5] += 1
    np.save(folder / "vectors.npy", table)
    _, second = capture(world, folder, first.tree)
    assert second.new_bytes <= 4 * MIB + 1024


def test_a_file_with_a_broken_header_is_stored_all_the_same_and_a_warning_says_so(
    world: VaultWorld, training: Training
) -> None:
    path = training.step(1)
    path.write_bytes(path.read_bytes().replace(b"[3000, 256]", b"[9000, 256]"))
    with Writer(world.replicas()) as writer:
        writer.sink().file("model.safetensors", path)
        (warning,) = writer.warnings
    assert warning.startswith("model.safetensors is not cut at its tensors or columns: ")
