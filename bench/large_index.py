"""What an index of ten million chunks takes: read for the first time, opened again, asked.

Run by itself it is the process that is measured: ``python bench/large_index.py VAULT KEY CACHE NAMES``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from measure import Setting
from refloat.cli.system import SystemClock
from refloat.digest import object_name
from refloat.limits import MIB
from refloat.vault.index import seal_index
from refloat.vault.keys import KeyFile
from refloat.vault.layout import index_name
from refloat.vault.pack import ENTRY, PACK_HEADER_BYTES, Directory, PackRecord
from refloat.vault.replica import Replica, create_vault
from refloat.vault.stores.local import LocalStore
from report import ABSENT, Section, Series, Table, figure

REGION = "here"
CHUNKS, QUICK_CHUNKS = 10_000_000, 100_000
CHUNKS_OF_PACK = 20  # of 3 MiB as they are stored, which is what a chunk of 4 MiB of a checkpoint takes
PACKS_OF_OBJECT = 1000
ASKED = 20_000  # chunks that are there, and as many that are not
WARM_ROUNDS = 5
WARM_S_MAX, WARM_MIB_MAX = 2.0, 600.0
SECONDS_MAX = 1800.0


@dataclass(frozen=True)
class Opened:
    """What it took to open an index, and how fast it answered."""

    seconds: float
    rows: int
    bytes_max: int
    known_s: float
    unknown_s: float


def made(folder: Path, chunks: int) -> tuple[Path, Path, Path]:
    """A vault whose index objects list so many chunks; its folder, its key and names that are in it."""
    vault, key, names = folder / "vault", folder / "key", folder / "names"
    keys = KeyFile.create(uuid.uuid4().hex, "bench")
    keys.save(key)
    store = LocalStore(str(vault))
    replica = create_vault({REGION: store}, keys, SystemClock(), "bench")[REGION]
    key_id = replica.keyring.content_key().id
    per_object = CHUNKS_OF_PACK * PACKS_OF_OBJECT
    with names.open("wb") as some:
        for _ in range(-(-chunks // per_object)):
            packs = list(_packs(key_id))
            some.write(b"".join(packs[at][1].entries["name"][0].tobytes() for at in range(0, len(packs), 20)))
            stored = seal_index(replica.keyring, packs)
            store.create(index_name(object_name(stored)), stored)
    return vault, key, names


def _packs(key_id: bytes) -> Iterator[tuple[PackRecord, Directory]]:
    """What one index object lists: packs that are full of chunks of like size."""
    stored = 3 * MIB
    for _ in range(PACKS_OF_OBJECT):
        entries = np.zeros(CHUNKS_OF_PACK, ENTRY)
        entries["name"] = np.frombuffer(os.urandom(32 * CHUNKS_OF_PACK), "V32")
        entries["offset"] = PACK_HEADER_BYTES + np.arange(CHUNKS_OF_PACK) * stored
        entries["stored"], entries["raw"], entries["codec"] = stored, 4 * MIB, 2
        yield PackRecord(os.urandom(32).hex(), 61 * MIB, key_id), Directory(key_id, entries)


def opened(vault: Path, key: Path, cache: Path, names: Path) -> Opened:
    """Open the index in a process of its own."""
    ran = subprocess.run(
        [sys.executable, __file__, str(vault), str(key), str(cache), str(names)],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    return Opened(**json.loads(ran.stdout))


def _open(vault: Path, key: Path, cache: Path, names: Path) -> Opened:
    stored = names.read_bytes()
    known = [stored[at : at + 32] for at in range(0, len(stored), 32)][:ASKED]
    unknown = [os.urandom(32) for _ in known]
    began = time.perf_counter()
    replica = Replica.open(REGION, LocalStore(str(vault)), KeyFile.load(key), SystemClock(), cache)
    rows = len(replica.index)
    seconds = time.perf_counter() - began
    looked = []
    for asked, there in ((known, True), (unknown, False)):
        began = time.perf_counter()
        found = [replica.index.lookup(name) is not None for name in asked]
        looked.append(time.perf_counter() - began)
        if found != [there] * len(asked):
            raise SystemExit("the index does not say what the vault does")
    return Opened(seconds, rows, _peak(), looked[0] / len(known), looked[1] / len(unknown))


def _peak() -> int:
    """The most bytes that this program had resident. ``ru_maxrss`` would be that of whoever started it as well."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def measure(setting: Setting) -> Section:
    """Open it without a cache once, and with one as often as there are rounds."""
    folder = setting.work / "large_index"
    folder.mkdir()
    chunks = QUICK_CHUNKS if setting.quick else CHUNKS
    setting.say(f"an index of {chunks} chunks is made")
    vault, key, names = made(folder, chunks)
    cache = folder / "cache"
    setting.say("it is read from the vault")
    cold = opened(vault, key, cache, names)
    warm = [opened(vault, key, cache, names) for _ in range(WARM_ROUNDS)]
    shutil.rmtree(folder)
    seconds = Series(tuple(one.seconds for one in warm), "s")
    memory = Series(tuple(one.bytes_max / MIB for one in warm), "MiB")
    rows = (
        ("opened by the next command", str(seconds), seconds.against(WARM_S_MAX)),
        ("peak memory of it", str(memory), memory.against(WARM_MIB_MAX)),
        ("lookups a second, of chunks that are there", str(_rate(one.known_s for one in warm)), ABSENT),
        ("lookups a second, of chunks that are not", str(_rate(one.unknown_s for one in warm)), ABSENT),
        ("read from the vault for the first time", f"{figure(cold.seconds)} s", ABSENT),
        ("peak memory of it", f"{figure(cold.bytes_max / MIB)} MiB", ABSENT),
    )
    return Section(
        name="large index",
        title=f"An index of {cold.rows} chunks",
        tables=(Table("Index", ("what", "figure", "aim"), rows),),
        notes=(
            f"Packs of {CHUNKS_OF_PACK} chunks, index objects of {PACKS_OF_OBJECT} packs, on the local disk. The first "
            "time, index objects are verified and sorted into runs on the disk, which are merged; the next command "
            "opens the one that is left, and each lookup reads and verifies a block of 11 kB of it.",
        ),
    )


def _rate(seconds: Iterable[float]) -> Series:
    return Series(tuple(1 / one for one in seconds), "a second")


if __name__ == "__main__":
    print(json.dumps(vars(_open(*map(Path, sys.argv[1:])))))
