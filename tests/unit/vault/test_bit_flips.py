"""Bits flipped and packs cut in numbers: all are found, all are mended with one clean copy, and no wrong byte is read.

A store that serves what was damaged under the name that fits it gets past the first defence, so each object is judged
without its name, too. Only what was hit is opened then: the whole vault for each of thousands of bits would find the
same and take hours. What ``test_damage.py`` does to every bit of index objects, points, descriptors and the logs of
operators is done here to the rest of what is small: keys, the log of points, a pack's header, directory and footer.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refloat.digest import object_name
from refloat.errors import Damaged, RefloatError, VaultError
from refloat.vault import codecs, layout
from refloat.vault.check import check
from refloat.vault.chunk import open_chunk
from refloat.vault.keyobjects import WrappedContentKey, is_signed, parsed_key_object, public_of
from refloat.vault.keys import Role
from refloat.vault.pack import (
    CATALOGUE_KEY,
    PACK_HEADER_BYTES,
    Directory,
    directory_of,
    open_directory,
    record_secret,
    sealed_chunk,
)
from refloat.vault.repair import repair
from refloat.vault.replica import Replica
from refloat.vault.writer import Writer

VaultWorld = Any  # the fixture ``world`` of conftest.py

FLIPS = int(os.environ.get("REFLOAT_FLIPS", "20000"))
SEED = int(os.environ.get("REFLOAT_FLIPS_SEED", "7"))
WHOLE_WAYS = 40  # flips of which each is found by a check, mended and read again: a tenth of a second each
CUTS = 1000
SMALL_CHUNKS = layout.Chunking(min=64, avg=2048, max=8192)


# ------------------------------------------------------------------------------------- a vault of every kind of record


def checkpoint(path: Path, step: int) -> None:
    """A safetensors file of two tensors that move a little with every step."""
    weights = np.random.default_rng(3).standard_normal(3000).astype("<f4")
    weights += np.random.default_rng(step).standard_normal(3000).astype("<f4") * np.float32(1e-6)
    entry = {"dtype": "F32", "shape": [1500]}
    header = {name: {**entry, "data_offsets": [at, at + 6000]} for name, at in (("a", 0), ("b", 6000))}
    raw = json.dumps(header).encode()
    path.parent.mkdir()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + weights.tobytes())


@dataclass
class Full:
    """A vault of two regions that holds every kind of record, the point in it and what that restores to."""

    world: VaultWorld
    point: str
    files: dict[str, bytes]

    def packs(self) -> dict[str, bytes]:
        return {name: self.world.stores["eu"].get(name) for name in self.world.names(layout.PACKS)}

    def read(self) -> dict[str, bytes]:
        restored: dict[str, bytes] = self.world.restored(self.point)
        return restored


@pytest.fixture
def full(world: VaultWorld, tmp_path: Path) -> Full:
    world.unsign()
    for store in world.stores.values():
        descriptor = layout.read_descriptor(store).model_copy(update={"chunking": SMALL_CHUNKS}).summed()
        store.delete(layout.VAULT)
        layout.write_descriptor(store, descriptor)
    for step in (1, 2):
        checkpoint(tmp_path / f"step-{step}" / "model.safetensors", step)
    (tmp_path / "notes.txt").write_bytes(b"what a person wrote down\n" * 300)
    (tmp_path / "noise.bin").write_bytes(random.Random(5).randbytes(9000))
    files = {p.relative_to(tmp_path).as_posix(): p for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    with Writer(world.replicas()) as writer:
        sink = writer.sink()
        for name, path in files.items():
            sink.file(name, path)
        tree = sink.finish().tree
        body = {"manifest": writer.sink().finish().tree, "components": {"files": {"tree": tree}}}
        point, _ = writer.commit({**body, "groups": {}, "created_at": "2026-11-01T12:00:00Z"})
    return Full(world, point, {name: path.read_bytes() for name, path in files.items()})


@dataclass(frozen=True)
class Pack:
    """A pack in memory, as bytes that can be changed, and its directory as it was written."""

    name: str
    stored: bytearray
    directory: Directory
    replica: Replica

    @classmethod
    def of(cls, name: str, stored: bytes, replica: Replica) -> Pack:
        return cls(name, bytearray(stored), directory_of(replica.keyring, stored, what=name), replica)

    @contextmanager
    def flipped(self, bit: int) -> Iterator[None]:
        """One bit of it is another one meanwhile."""
        self.stored[bit // 8] ^= 1 << bit % 8
        try:
            yield
        finally:
            self.stored[bit // 8] ^= 1 << bit % 8

    def opened(self, row: int) -> bytes:
        """The bytes of one record; what it rests on is whole."""
        entry = self.directory.entries[row]
        start, keyring = int(entry["offset"]), self.replica.keyring
        return open_chunk(
            sealed_chunk(entry, memoryview(self.stored)[start : start + int(entry["stored"])]),
            name_key=keyring.chunk_name_key,
            secret=record_secret(keyring, self.directory.key_id),
            what=self.name,
            read=self.replica.read_chunk,
        )

    def reads_as_written(self, byte: int, written: Callable[[int], bytes]) -> bool:
        """Whether what lies at a byte, a record or all of the directory, opens to what was written."""
        row = int(np.searchsorted(self.directory.entries["offset"].astype(np.int64), byte, "right")) - 1
        end = int(self.directory.entries[-1]["offset"]) + int(self.directory.entries[-1]["stored"])
        if PACK_HEADER_BYTES <= byte < end:
            return self.opened(row) == written(row)
        found = directory_of(self.replica.keyring, self.stored, what=self.name)
        same = found.entries.tobytes() == self.directory.entries.tobytes()
        return same and found.key_id == self.directory.key_id


def test_the_packs_hold_every_kind_of_record(full: Full) -> None:
    replica = full.world.open()
    directories = [directory_of(replica.keyring, stored, what=name) for name, stored in full.packs().items()]
    assert {int(row["codec"]) for each in directories for row in each.entries} == set(codecs.CODECS)
    assert CATALOGUE_KEY in {each.key_id for each in directories}
    assert full.read() == full.files


# ---------------------------------------------------------------------------------------------------- random bits


def test_no_random_flipped_bit_of_a_pack_gives_another_byte(full: Full) -> None:
    # fault 2
    dice, replica = random.Random(SEED), full.world.open()
    packs = [Pack.of(name, stored, replica) for name, stored in full.packs().items()]
    written = {
        (pack.name, row): pack.opened(row) for pack in packs for row in range(len(pack.directory.entries))
    }
    lengths = [len(pack.stored) for pack in packs]
    for turn in range(FLIPS):
        (pack,) = dice.choices(packs, lengths)
        bit = dice.randrange(len(pack.stored) * 8)
        told = f"bit {bit} of {pack.name}, turn {turn} of REFLOAT_FLIPS_SEED={SEED}"
        with pack.flipped(bit):
            assert layout.pack_name(object_name(pack.stored)) != pack.name, told
            try:
                assert pack.reads_as_written(bit // 8, lambda row, of=pack.name: written[of, row]), told
            except VaultError as error:
                assert error.next, told


@pytest.mark.parametrize("turn", range(WHOLE_WAYS))
def test_a_random_flipped_bit_is_found_and_mended_and_all_bytes_are_as_they_were(
    full: Full, turn: int
) -> None:
    # fault 2
    dice, eu = random.Random(SEED + turn), full.world.stores["eu"]
    name, whole = dice.choice(list(full.packs().items()))
    broken = bytearray(whole)
    broken[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
    full.world.replace(name, bytes(broken))
    try:
        assert full.read() == full.files
    except RefloatError as error:
        assert error.next
    damaged = [damage.object for damage in check(full.world.open(), read_data=True).damaged]
    assert name in damaged
    assert name in repair(full.world.open(), damaged, [full.world.open("us")]).mended
    assert eu.get(name) == whole
    assert full.read() == full.files
    assert check(full.world.open(), read_data=True).ok


# -------------------------------------------------------------------------------- every bit of what is small


def every_flip(stored: bytes) -> Iterator[bytes]:
    broken = bytearray(stored)
    for bit in range(len(stored) * 8):
        broken[bit // 8] ^= 1 << bit % 8
        yield bytes(broken)
        broken[bit // 8] ^= 1 << bit % 8


def test_every_flipped_bit_around_the_records_of_a_pack_is_an_error(full: Full) -> None:
    # fault 2
    replica = full.world.open()
    for name, stored in full.packs().items():
        pack = Pack.of(name, stored, replica)
        last = pack.directory.entries[-1]
        around = [range(PACK_HEADER_BYTES), range(int(last["offset"]) + int(last["stored"]), len(stored))]
        for bit in (byte * 8 + bit for part in around for byte in part for bit in range(8)):
            with pack.flipped(bit), pytest.raises(VaultError):
                directory_of(replica.keyring, pack.stored, what=name)


def test_no_key_object_with_a_flipped_bit_is_signed_by_anybody(full: Full) -> None:
    # fault 2
    key = full.world.key_file
    admin, writer = bytes.fromhex(key.admin_public), public_of(key.writer.signing)
    for name in full.world.names(layout.KEYS):
        whole = full.world.stores["eu"].get(name)
        for broken in every_flip(whole):
            with pytest.raises(Damaged, match="named after"):
                parsed_key_object(name, broken)
            try:
                told = parsed_key_object(layout.key_name(object_name(broken)), broken)
            except VaultError as error:
                assert error.next
                continue
            by_writer = isinstance(told, WrappedContentKey)
            public, role = (writer, Role.WRITER) if by_writer else (admin, Role.ADMIN)
            assert told is None or not is_signed(public, role, told.message(), bytes.fromhex(told.signature))


def test_every_flipped_bit_of_the_log_of_points_is_damage_that_names_its_slot(full: Full) -> None:
    # faults 2, 28
    store, name = full.world.stores["eu"], layout.slot_name("points", 0)
    replica = full.world.open()
    for broken in every_flip(store.get(name)):
        full.world.replace(name, broken)
        replica._logs.clear()
        with pytest.raises(VaultError) as caught:
            replica.log("points", Role.WRITER).read(0)
        assert caught.value.file == name
        assert caught.value.next


# ---------------------------------------------------------------------------------------------------- cut and longer


class Counted:
    """Reads ranges of bytes that it counts, and of which it gives no more than are there."""

    def __init__(self, stored: bytes) -> None:
        self.stored = stored
        self.asked = 0

    def __call__(self, start: int, length: int) -> bytes:
        assert start >= 0 and length >= 0, "a range before the beginning"
        self.asked += length
        return self.stored[start : start + length]


def is_refused(replica: Replica, stored: bytes, told: int) -> None:
    """Bytes that a store says to be ``told`` are no pack, and not more is read of them than it says."""
    read = Counted(stored)
    with pytest.raises(Damaged) as caught:
        open_directory(replica.keyring, read, told, what="pack")
    assert caught.value.next
    assert read.asked <= told + PACK_HEADER_BYTES + 8


def test_every_length_of_a_small_pack_but_its_own_is_damage(full: Full) -> None:
    # fault 6
    replica = full.world.open()
    stored = min(full.packs().values(), key=lambda stored: abs(len(stored) - 4096))
    for length in range(len(stored)):
        is_refused(replica, stored[:length], length)
        is_refused(replica, stored[:length], len(stored))


def test_a_larger_pack_of_any_other_length_is_damage_and_what_is_read_of_it_is_bounded(full: Full) -> None:
    # fault 6
    dice, replica = random.Random(SEED), full.world.open()
    name, stored = max(full.packs().items(), key=lambda pack: len(pack[1]))
    longer: list[Callable[[int], bytes]] = [
        dice.randbytes,
        bytes,
        lambda length: stored[-length:],
        lambda length: stored[:length],
    ]
    for turn in range(CUTS):
        length = dice.randrange(1, len(stored))
        other = stored[:length] if turn % 2 else stored + dice.choice(longer)(length)
        assert layout.pack_name(object_name(other)) != name
        is_refused(replica, other, len(other))
        if len(other) < len(stored):
            is_refused(replica, other, len(stored))


def test_a_pack_that_was_cut_is_found_and_mended(full: Full) -> None:
    # fault 6
    dice = random.Random(SEED)
    for name, whole in full.packs().items():
        for cut in (b"", whole[: dice.randrange(len(whole))], whole + dice.randbytes(50), whole + whole):
            full.world.replace(name, cut)
            damaged = [damage.object for damage in check(full.world.open(), read_data=True).damaged]
            assert name in damaged
            assert name in repair(full.world.open(), damaged, [full.world.open("us")]).mended
            assert full.read() == full.files
