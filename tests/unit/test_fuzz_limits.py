"""Whatever stands in place of what is parsed: a value or a typed error, in little time and little memory.

One child process parses inputs made from valid ones by flipped bits, cuts, splices and huge numbers. It may take
``MEMORY_BYTES_MAX`` beyond what it has when it begins, and ``INPUT_SECONDS_MAX`` of its processor an input. What is
sealed or signed is sealed and signed after it was changed, since nothing else would get past the seal.
"""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import resource
import signal
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from refloat.contracts import EntryType
from refloat.digest import canonical_json, object_name
from refloat.errors import RefloatError
from refloat.limits import CHUNK_BYTES_MAX, MIB
from refloat.manifest.parse import parse
from refloat.testing.memory_file import Held
from refloat.vault import codecs, kit, layout, segmenters
from refloat.vault.chunk import (
    NO_BASE,
    SealedChunk,
    _described,
    _record_key,
    chunk_name,
    open_chunk,
    seal_chunk,
)
from refloat.vault.codecs import difference, shuffled, zstd
from refloat.vault.index import open_index, seal_index
from refloat.vault.keyfile import KeyFile, seal_bytes
from refloat.vault.keylines import lines_of
from refloat.vault.keyobjects import (
    holder_object,
    key_objects,
    lock_object,
    parsed_key_object,
    removal_object,
)
from refloat.vault.keys import Keyring, Role
from refloat.vault.pack import CATALOGUE_KEY, directory_of, seal_pack
from refloat.vault.points import open_point
from refloat.vault.seal import Kind, open_signed, seal, seal_signed
from refloat.vault.segmenters.spans import cut
from refloat.vault.slotlog import SlotLog
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.tree import Node, Page, decode_page, encode_page

GOLDEN = Path(__file__).parents[1] / "golden" / "segmenters"
INPUTS = int(os.environ.get("REFLOAT_FUZZ", "100"))
SEED = int(os.environ.get("REFLOAT_FUZZ_SEED", "7"))
MEMORY_BYTES_MAX = 256 * MIB
INPUT_SECONDS_MAX = 2.0
INPUT_BYTES_SHOWN = 4000
CHILD_SECONDS_MAX = 600 + INPUTS  # only so that what hangs for good ends

MANIFEST = b"""\
version: 1
pipeline: small
primary: eu
keep: {last: 2, daily: 3, monthly: 0}
regions:
  eu: {vault: "memory://eu"}
  us: {vault: "memory://us"}
components:
  weights: {kind: files, tier: critical}
"""


# ------------------------------------------------------------------------------------------------------ mutation


def mutated(dice: random.Random, whole: bytes) -> bytes:
    """Something near ``whole``: one change most often, several sometimes."""
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        whole = dice.choice(CHANGES)(dice, whole)
    if whole[:1] == b"{" and dice.random() < 0.7:
        with suppress(ValueError, RecursionError):
            whole = canonical_json(json.loads(whole))  # else nothing but the canonical form would be judged
    return whole


def _flipped(dice: random.Random, whole: bytes) -> bytes:
    broken = bytearray(whole)
    for _ in range(dice.randint(1, 4) if whole else 0):
        broken[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
    return bytes(broken)


def _cut(dice: random.Random, whole: bytes) -> bytes:
    at = dice.randint(0, len(whole))
    return whole[:at] if dice.random() < 0.7 else whole[at:]


def _spliced(dice: random.Random, whole: bytes) -> bytes:
    start, end = sorted(dice.randint(0, len(whole)) for _ in range(2))
    at = dice.randint(0, len(whole))
    piece = whole[start:end] if dice.random() < 0.6 else dice.randbytes(dice.randint(1, 60))
    return whole[:at] + piece * dice.choice((1, 1, 2, 50)) + whole[at + dice.choice((0, len(piece))) :]


def _huge_field(dice: random.Random, whole: bytes) -> bytes:
    """A field of a binary header that says as much as it can, or nothing."""
    width, at = dice.choice((1, 2, 4, 8)), dice.randint(0, min(len(whole), dice.choice((64, 1 << 20))))
    number = dice.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 2 ** (8 * width - 1) - 1))
    return whole[:at] + number.to_bytes(width, dice.choice(("little", "big"))) + whole[at + width :]


def _huge_text(dice: random.Random, whole: bytes) -> bytes:
    """A number, or a nesting, of a document that no machine holds."""
    found = list(re.finditer(rb"\d+", whole))
    if not found:
        return whole
    place = dice.choice(found)
    huge = (
        b"9" * 30,
        b"9" * 5000,
        b"-1",
        b"1e999",
        b"9223372036854775808",
        b"[" * 30_000,
        b"NaN",
        b'{"a":' * 2000,
    )
    return whole[: place.start()] + dice.choice(huge) + whole[place.end() :]


CHANGES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flipped,
    _cut,
    _spliced,
    _huge_field,
    _huge_text,
)


# ------------------------------------------------------------------------------------------------------- targets


@dataclass(frozen=True)
class Target:
    """One parser: valid inputs, and what reads an input. ``refusal`` are the errors that it says it raises."""

    seeds: list[bytes]
    read: Callable[[bytes], object]
    refusal: type[Exception] = RefloatError
    seconds: float = INPUT_SECONDS_MAX


class Fixed:
    """A clock that stands still."""

    def now(self) -> datetime:
        return datetime(2026, 11, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


KEY = KeyFile.create("vault-1", "demo")


def _keyring() -> Keyring:
    store = MemoryStore()
    for stored in key_objects(KEY):
        store.create(layout.key_name(object_name(stored)), stored)
    layout.write_descriptor(store, layout.Descriptor(vault="vault-1", replica="r", pipeline="demo"))
    return Keyring.open(KEY, store)


def _directory_target(keyring: Keyring) -> Iterator[tuple[str, Target]]:
    raws = (b"one", b"two" * 100)
    names = [chunk_name(keyring.chunk_name_key, raw) for raw in raws]
    chunks = [seal_chunk(raw, name, keyring.catalogue_key) for raw, name in zip(raws, names, strict=True)]
    pack = seal_pack(keyring, CATALOGUE_KEY, chunks)
    header = Kind.PACK.header + CATALOGUE_KEY
    records = bytes(sum(len(chunk.record) for chunk in chunks))

    def read_plain(plain: bytes) -> object:
        sealed = seal(keyring, Kind.PACK, plain, header=header)
        stored = header + records + sealed + struct.pack(">I4s", len(sealed), b"RFLT")
        return directory_of(keyring, stored, what="pack")

    index = seal_index(keyring, [(pack.record, pack.directory)])
    content = open_signed(keyring, Kind.INDEX, object_name(index), index, what="index")[1]
    yield "pack", Target([bytes(pack.stored)], lambda stored: directory_of(keyring, stored, what="pack"))
    yield "pack directory", Target([pack.directory.entries.tobytes()], read_plain)
    yield "index", Target([content], lambda content: _signed_index(keyring, content))
    left_out = struct.pack(">I", 1) + bytes(32) + index
    yield (
        "reduced index",
        Target([left_out], lambda content: _signed_index(keyring, content, Kind.REDUCED_INDEX)),
    )


def _signed_index(keyring: Keyring, content: bytes, kind: Kind = Kind.INDEX) -> object:
    stored = seal_signed(keyring, kind, content)
    return open_index(keyring, object_name(stored), stored, what="index")


def _signed_point(keyring: Keyring, content: bytes) -> object:
    stored = seal_signed(keyring, Kind.POINT, content)
    return open_point(keyring, object_name(stored), stored)


def _point_targets(keyring: Keyring) -> Iterator[tuple[str, Target]]:
    tree = "aa" * 32
    body = {"format": 1, "manifest": tree, "components": {"files": {"tree": tree}}, "created_at": 5}
    page = Page(
        (
            Node(b"a", EntryType.FILE, 0o644, 5, 9, (bytes(32), b"1" * 32), 1, "token"),
            Node(b"b", EntryType.DIRECTORY, 0o755, 5, tree=bytes(32)),
            Node(b"c", EntryType.SYMLINK, target=b"a"),
        ),
        bytes(32),
    )
    yield "point", Target([canonical_json(body)], lambda content: _signed_point(keyring, content))
    yield "tree", Target([encode_page(page)], lambda raw: decode_page(raw, what="folder"))


def _log_targets(keyring: Keyring) -> Iterator[tuple[str, Target]]:
    name = layout.slot_name("points", 0)

    def log_in(store: MemoryStore) -> SlotLog:
        return SlotLog(store, "points", keyring, role=Role.WRITER, clock=Fixed())

    def read(stored: bytes) -> object:
        store = MemoryStore()
        store.create(name, stored)
        return log_in(store).read(0)

    whole = MemoryStore()
    log = log_in(whole)
    log.append({"point": "aa" * 32, "heads": {"us": {"slot": 3, "hash": "bb" * 32}}})

    def read_signed(body: bytes) -> object:
        sealed = base64.b64encode(seal_bytes(log._body_key, body, log._associated(0))).decode()
        entry = log._sealed(0, "0" * 64, {}, []).model_copy(update={"sealed": sealed, "signature": ""})
        signature = keyring.sign(Role.WRITER, entry.message(keyring.vault)).value.hex()
        return read(canonical_json({**entry.model_dump(mode="json"), "signature": signature}))

    yield "log entry", Target([whole.get(name)], read)
    yield "log body", Target([canonical_json({"point": "aa" * 32, "slot": 7, "more": [1, {}]})], read_signed)


def _key_targets() -> Iterator[tuple[str, Target]]:
    holder = bytes.fromhex(KEY.admin_public)
    told = [
        *key_objects(KEY),
        holder_object(KEY, Role.READER, holder, "somebody", Fixed().now()),
        removal_object(KEY, Role.WRITER, "ab" * 16, Fixed().now(), {"eu": (4, "cd" * 32)}),
        lock_object(KEY, 86_400),
    ]
    descriptor = layout.Descriptor(vault="v", replica="r", pipeline="p").model_dump(mode="json")

    def read_descriptor(stored: bytes) -> object:
        store = MemoryStore()
        store.create(layout.VAULT, stored)
        return layout.read_descriptor(store)

    yield "key object", Target(told, lambda raw: parsed_key_object(layout.key_name(object_name(raw)), raw))
    yield "key file", Target([KEY.to_bytes()], KeyFile.from_bytes)
    yield "vault.json", Target([canonical_json(descriptor)], read_descriptor)


def _kit_targets() -> Iterator[tuple[str, Target]]:
    sites = [kit.Site("eu", "s3://bucket/eu")]
    page = kit.page(KEY, sites, Fixed().now()).encode()
    shares = list(kit.share_pages(KEY, sites, Fixed().now(), 3, 2).pages.values())
    packed = zlib.compress(KEY.to_bytes())

    def read(page: bytes) -> object:
        return kit.read_pages({"page": page.decode("utf-8", "replace")}, lambda: "no passphrase")

    def read_packed(content: bytes) -> object:
        return read("\n".join(lines_of(b"\x01" + content)[:999]).encode())

    yield "kit page", Target([page], read)
    yield "kit shares", Target(["".join(shares[1:]).encode()], read)
    yield "kit content", Target([packed, zlib.compress(bytes(10 * MIB))], read_packed)


def _archived() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=np.arange(50), b=np.ones((3, 4), "f4"))
    return stream.getvalue()


def _saved() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(30, [("a", "i4", (2,)), ("b", "f8")]))
    return stream.getvalue()


def _parquet() -> bytes:
    stream = io.BytesIO()
    rows = {"id": list(range(90)), "text": ["a", "b", "c"] * 30, "list": [[1.0, 2.0]] * 90}
    pq.write_table(pa.table(rows), stream, row_group_size=40)
    return stream.getvalue()


def _database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB)")
        connection.executemany("INSERT INTO t VALUES (?, zeroblob(300))", [(row,) for row in range(40)])
        connection.commit()
        return connection.serialize()


def _segmenter_targets() -> Iterator[tuple[str, Target]]:
    torch = [(GOLDEN / name).read_bytes() for name in ("checkpoint.pt", "shard.distcp")]
    tensors = [(GOLDEN / "model.safetensors").read_bytes()]
    yield "safetensors", _segmented(segmenters.safetensors, tensors)
    yield "torch", _segmented(segmenters.torch_zip, torch)
    yield "npy", _segmented(segmenters.npy, [_saved(), _archived()])
    yield "parquet", _segmented(segmenters.parquet, [_parquet()])
    yield "sqlite", _segmented(segmenters.sqlite, [_database()])


def _segmented(format: ModuleType, seeds: list[bytes]) -> Target:
    def read(content: bytes) -> object:
        format.recognised(content[: segmenters.HEAD_BYTES], len(content))
        found = cut(format.spans(Held(content)), len(content))
        if sum(segment.length for segment in found) != len(content):
            raise AssertionError("the segments do not tile the file")
        return found

    return Target(seeds, read, ValueError)


BOMB_BYTES = 64 * MIB


def _codec_targets(keyring: Keyring) -> Iterator[tuple[str, Target]]:
    """A row of a pack's directory says how long a chunk is; so an input here is four bytes of that, then the frame."""
    raw = np.arange(3000, dtype="<f4").tobytes()

    def reader(codec: codecs.Codec) -> Callable[[bytes], object]:
        def read(content: bytes) -> object:
            length, stored = int.from_bytes(content[:4], "big"), content[4:]
            name, base = chunk_name(keyring.chunk_name_key, raw), b"b" * 32 if codec.based else NO_BASE
            described = _described(name, codec.id, base)
            record = seal_bytes(_record_key(keyring.catalogue_key, described), stored, described)
            chunk = SealedChunk(name, codec.id, base, length, record)
            opened = partial(open_chunk, name_key=keyring.chunk_name_key, secret=keyring.catalogue_key)
            return opened(chunk, what="pack", read=lambda _: raw)

        return read

    def told(stored: bytes, *lengths: int) -> list[bytes]:
        return [length.to_bytes(4, "big") + stored for length in lengths]

    bomb = bytes(BOMB_BYTES)
    lies = (1024, CHUNK_BYTES_MAX, BOMB_BYTES)
    frames = [*told(zstd.encode(raw), len(raw)), *told(zstd.encode(bomb), *lies)]
    blosc = [*told(shuffled.encode(raw, 4), len(raw)), *told(shuffled.encode(bomb, 4), *lies)]
    blosc += told(shuffled.encode(bomb[:CHUNK_BYTES_MAX], 4), CHUNK_BYTES_MAX)
    yield "zstd", Target(frames, reader(codecs.ZSTD))
    yield "blosc2", Target(blosc, reader(codecs.SHUFFLED))
    yield "difference", Target(told(difference.encode(raw, 4, raw), len(raw)), reader(codecs.DIFFERENCE))


def targets() -> dict[str, Target]:
    """Every parser of what a store, a person or a pipeline gives us."""
    keyring = _keyring()
    return {
        "manifest": Target([MANIFEST], parse),
        **dict(_directory_target(keyring)),
        **dict(_point_targets(keyring)),
        **dict(_log_targets(keyring)),
        **dict(_key_targets()),
        **dict(_kit_targets()),
        **dict(_segmenter_targets()),
        **dict(_codec_targets(keyring)),
    }


def _endless(content: bytes) -> object:
    while True:
        pass


BEYOND = {
    "too much": Target([b"1"], lambda content: bytes(int(content) * (MEMORY_BYTES_MAX + MIB))),
    "too long": Target([b"1"], _endless, seconds=0.1),
}
"""What is beyond the limits, so that they are known to hold."""

NAMES = (
    *("manifest", "pack", "pack directory", "index", "reduced index", "point", "tree"),
    *("log entry", "log body", "key object"),
    *(
        "key file",
        "vault.json",
        "kit page",
        "kit shares",
        "kit content",
        "safetensors",
        "torch",
        "npy",
        "parquet",
        "sqlite",
    ),
    *("zstd", "blosc2", "difference"),
)


# ---------------------------------------------------------------------------------------------------- the child


class TooLong(BaseException):
    """An input took longer than it may; no parser's own handler takes it for one of its errors."""


def _over(signum: int, frame: FrameType | None) -> None:
    raise TooLong


def limit_memory() -> None:
    """From here on this process gets ``MEMORY_BYTES_MAX`` more than it has, of addresses and so of memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def tried(name: str, target: Target, inputs: int, seed: int) -> dict[str, object]:
    """What became of the valid inputs and ``inputs`` changed ones: how many were values and refusals, what failed."""
    dice = random.Random(f"{seed} {name}")
    values = refused = 0
    for turn in range(-len(target.seeds), inputs):
        whole = target.seeds[turn] if turn < 0 else mutated(dice, dice.choice(target.seeds))
        signal.setitimer(signal.ITIMER_PROF, target.seconds)
        try:
            target.read(whole)
            values += 1
        except target.refusal:
            refused += 1
        except (Exception, TooLong) as error:  # noqa: BLE001 - it is what we look for
            signal.setitimer(signal.ITIMER_PROF, 0)
            shown = base64.b64encode(whole[:INPUT_BYTES_SHOWN]).decode()
            said = f"{type(error).__name__}: {error}"[:400]
            return {"name": name, "failed": said, "turn": turn, "bytes": len(whole), "input": shown}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return {"name": name, "values": values, "refused": refused}


def main(inputs: int, seed: int) -> None:
    """Try each target, and say a line of JSON of it when it begins and when it has ended."""
    every = targets()
    for target in every.values():  # what a library loads at its first use is no input's fault
        with suppress(target.refusal):
            target.read(target.seeds[0])
    signal.signal(signal.SIGPROF, _over)
    limit_memory()
    for name, target in {**every, **BEYOND}.items():
        print(json.dumps({"name": name, "begun": True}), flush=True)
        print(json.dumps(tried(name, target, inputs, seed)), flush=True)


# ----------------------------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, object]]:
    """What the child says of each target; one that it died at has only begun."""
    child = subprocess.run(
        [sys.executable, __file__, str(INPUTS), str(SEED)],
        capture_output=True,
        text=True,
        check=False,
        timeout=CHILD_SECONDS_MAX,
    )
    told = [json.loads(line) for line in child.stdout.splitlines()]
    died = {"exit": child.returncode, "said": child.stderr[-2000:]}
    return {str(line["name"]): line | ({} if "values" in line else died) for line in told}


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_parsed_is_a_value_or_a_typed_error_in_little_time_and_memory(
    outcomes: dict[str, dict[str, object]], name: str
) -> None:
    # faults 7, 53
    outcome = outcomes.get(name, outcomes)
    assert "values" in outcome, f"REFLOAT_FUZZ_SEED={SEED} REFLOAT_FUZZ={INPUTS}: {outcome}"
    assert outcome["values"], "not even what is valid was read"
    assert outcome["refused"], "nothing was refused: the changes change nothing"


def test_every_target_is_looked_at(outcomes: dict[str, dict[str, object]]) -> None:
    assert set(outcomes) == {*NAMES, *BEYOND}


@pytest.mark.parametrize(("name", "error"), [("too much", "MemoryError"), ("too long", "TooLong")])
def test_what_is_beyond_a_limit_is_a_failure(
    outcomes: dict[str, dict[str, object]], name: str, error: str
) -> None:
    assert str(outcomes[name]["failed"]).startswith(error)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
