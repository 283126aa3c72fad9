"""What the machine itself can do: read, hash, pack, encrypt and write, measured as the vault would do each alone."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refloat.vault.codecs import shuffled
from report import MIB

PIECE_BYTES = 4 * MIB  # a chunk's
OBJECT_BYTES = 64 * MIB  # a pack's
TAG_BYTES, NONCE_BYTES = 16, 12
READ, FACTS, HASH, PACK, UNPACK, CIPHER, WRITE = (
    "read",
    "SHA-256",
    "BLAKE3",
    "shuffle and Zstandard 1, by Blosc2",
    "the same undone",
    "AES-256-GCM",
    "write and fsync",
)
LIMITS = (READ, FACTS, HASH, PACK, UNPACK, CIPHER, WRITE)
ELEMENT_BYTES = 4  # what is packed here are fp32 weights
MEGABYTE = 1_000_000
START_SECONDS_MAX = 60.0

Work = Callable[[memoryview], None]


def measure(sample: Path, work: Path, size: int) -> dict[str, float]:
    """MB/s of each, over ``size`` bytes; all but writing on every core, on what is in ``sample``."""
    content = sample.open("rb")
    with content:
        pieces = max(1, os.fstat(content.fileno()).st_size // PIECE_BYTES)
        descriptor = content.fileno()
        numbers = count()

        def read(buffer: memoryview) -> None:
            os.preadv(descriptor, [buffer], next(numbers) % pieces * PIECE_BYTES)

        return {
            READ: _rate(read, descriptor, size),
            FACTS: _rate(_facts, descriptor, size),
            HASH: _rate(_hash, descriptor, size),
            PACK: _rate(_pack, descriptor, size),
            UNPACK: _on_every_core(_unpackers(descriptor), descriptor, size),
            CIPHER: _on_every_core(_ciphers(), descriptor, size),
            WRITE: _written(work / "limits", descriptor, size),
        }


def start_s() -> float:
    """Seconds until an interpreter has imported what a capture needs, which every command does before its work."""
    needed = "refloat.cli.main, refloat.flows.protect, refloat.vault.codecs.shuffled as packing; packing._library()"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {needed}"], check=True, timeout=START_SECONDS_MAX)
    return time.perf_counter() - began


def least(limits: dict[str, float], of: tuple[str, ...]) -> str:
    """Which of these is the slowest."""
    return min(of, key=lambda name: limits[name])


def _rate(do: Work, descriptor: int, size: int) -> float:
    def same() -> Iterator[Work]:
        while True:
            yield do

    return _on_every_core(same(), descriptor, size)


def _on_every_core(workers: Iterator[Work], descriptor: int, size: int) -> float:
    """MB/s of work on pieces, each core with a buffer of its own that is filled before the clock starts."""
    cores = len(os.sched_getaffinity(0))
    each = max(1, size // PIECE_BYTES // cores)
    start = threading.Barrier(cores + 1)

    def run(do: Work, buffer: memoryview) -> None:
        start.wait()
        for _ in range(each):
            do(buffer)

    threads = []
    for _ in range(cores):
        buffer = memoryview(bytearray(PIECE_BYTES))
        os.preadv(descriptor, [buffer], 0)
        threads.append(threading.Thread(target=run, args=(next(workers), buffer)))
    with _started(threads):
        start.wait()
        began = time.perf_counter()
    return each * cores * PIECE_BYTES / (time.perf_counter() - began) / MEGABYTE


@contextmanager
def _started(threads: list[threading.Thread]) -> Iterator[None]:
    """Threads that are started before and have ended after."""
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()


def _facts(buffer: memoryview) -> None:
    hashlib.sha256(buffer).digest()


def _pack(buffer: memoryview) -> None:
    shuffled.encode(bytes(buffer), ELEMENT_BYTES)


def _unpackers(descriptor: int) -> Iterator[Work]:
    """The first piece, packed, is unpacked again and again."""
    packed = shuffled.encode(os.pread(descriptor, PIECE_BYTES, 0), ELEMENT_BYTES)
    while True:
        yield lambda buffer: shuffled.decode(packed, len(buffer)) and None


def _hash(buffer: memoryview) -> None:
    blake3(buffer).digest()


def _ciphers() -> Iterator[Work]:
    """Encryption as fast as it goes: into a buffer that is used again."""
    while True:
        cipher, sealed = AESGCM(bytes(32)), memoryview(bytearray(PIECE_BYTES + TAG_BYTES))

        def seal(buffer: memoryview, cipher: AESGCM = cipher, sealed: memoryview = sealed) -> None:
            cipher.encrypt_into(os.urandom(NONCE_BYTES), buffer, None, sealed)

        yield seal


def _written(folder: Path, descriptor: int, size: int) -> float:
    """MB/s of whole objects, each on the disk with its name before the next."""
    folder.mkdir()
    content = memoryview(bytearray(min(OBJECT_BYTES, size)))
    os.preadv(descriptor, [content], 0)
    objects = max(1, size // len(content))
    names = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        began = time.perf_counter()
        for number in range(objects):
            with (folder / str(number)).open("wb", buffering=0) as file:
                file.write(content)
                os.fsync(file.fileno())
            os.fsync(names)
        taken = time.perf_counter() - began
    finally:
        os.close(names)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return objects * len(content) / taken / MEGABYTE
