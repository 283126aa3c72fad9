"""The mixed tree that is protected: text, random bytes, float arrays and a database, a quarter of each."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from report import MIB

TEXT_BYTES_MAX = 64 * 1024  # of one document
BLOCK_BYTES = 8 * MIB  # of one array or one file of random bytes
ROW_BYTES = 1024  # four rows fill a page of SQLite's 4096 bytes
ROW_TEXT_BYTES = 450
ROW_VECTOR_FLOATS = 128
CHANGED_EVERY = 100  # one in a hundred


def make(root: Path, size: int, *, seed: int) -> None:
    """Fill an empty folder with about ``size`` bytes; the same seed makes the same bytes."""
    random = np.random.default_rng(seed)
    words = _words(random)
    _make_text(_folder(root, "text"), size // 4, words, random)
    for number, block in enumerate(_blocks(size // 4)):
        (_folder(root, "random") / f"{number:04d}.bin").write_bytes(random.bytes(block))
        weights = random.standard_normal(block // 4, dtype=np.float32)
        np.save(_folder(root, "arrays") / f"{number:04d}.npy", weights)
    _make_database(_folder(root, "database") / "passages.db", size // 4, words, random)


def _folder(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True, exist_ok=True)
    return root / name


def _words(random: np.random.Generator) -> np.ndarray:
    """A vocabulary of made-up words."""
    letters = np.array(list("etaoinshrdlucmfw"))
    return np.array(["".join(random.choice(letters, length)) for length in random.integers(2, 10, 4000)])


def _text(random: np.random.Generator, words: np.ndarray, size: int) -> str:
    """About ``size`` bytes of text whose words are as unevenly frequent as those of a language."""
    return " ".join(words[random.zipf(1.3, size // 6) % len(words)])


def _make_text(folder: Path, size: int, words: np.ndarray, random: np.random.Generator) -> None:
    number = 0
    while size > 0:
        text = _text(random, words, int(random.integers(4096, TEXT_BYTES_MAX)))
        (folder / f"{number:05d}.txt").write_text(text)
        size, number = size - len(text), number + 1


def _blocks(size: int) -> Iterator[int]:
    """``size`` bytes in equal blocks of at most ``BLOCK_BYTES``, each a multiple of four."""
    count = -(-size // BLOCK_BYTES)
    for _ in range(count):
        yield size // count // 4 * 4


def _make_database(path: Path, size: int, words: np.ndarray, random: np.random.Generator) -> None:
    text = _text(random, words, 2 * MIB)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE passages (id INTEGER PRIMARY KEY, text TEXT, vector BLOB)")
        database.executemany(
            "INSERT INTO passages (text, vector) VALUES (?, ?)",
            (
                (text[start : start + ROW_TEXT_BYTES], _vector(random))
                for start in random.integers(0, len(text) - ROW_TEXT_BYTES, size // ROW_BYTES).tolist()
            ),
        )


def _vector(random: np.random.Generator) -> bytes:
    return random.standard_normal(ROW_VECTOR_FLOATS, dtype=np.float32).tobytes()


def change(root: Path, *, seed: int) -> None:
    """Change one hundredth of each kind: rows, documents, a stretch of each array, bytes inserted."""
    random = np.random.default_rng(seed)
    for path in sorted((root / "text").iterdir())[seed % CHANGED_EVERY :: CHANGED_EVERY]:
        path.write_text(path.read_text()[::-1])
    for path in sorted((root / "arrays").iterdir()):
        _overwrite(path, random)
    _insert(sorted((root / "random").iterdir()), random)
    with closing(sqlite3.connect(root / "database" / "passages.db")) as database, database:
        (rows,) = database.execute("SELECT count(*) FROM passages").fetchone()
        count = max(1, rows // CHANGED_EVERY)
        first = int(random.integers(1, rows - count))
        database.executemany(
            "UPDATE passages SET text = upper(text), vector = ? WHERE id = ?",
            ((_vector(random), number) for number in range(first, first + count)),
        )


def _overwrite(path: Path, random: np.random.Generator) -> None:
    size = path.stat().st_size
    count = size // CHANGED_EVERY
    with path.open("r+b") as file:
        file.seek(int(random.integers(128, size - count)))  # after the header of the array
        file.write(random.bytes(count))


def _insert(paths: list[Path], random: np.random.Generator) -> None:
    """Put new bytes into the first file, so that everything after them moves."""
    count = sum(path.stat().st_size for path in paths) // CHANGED_EVERY
    content = paths[0].read_bytes()
    place = int(random.integers(0, len(content)))
    paths[0].write_bytes(content[:place] + random.bytes(count) + content[place:])


# ------------------------------------------------------------------------------------------- reading


def files(root: Path) -> Iterator[Path]:
    """Every file below a folder."""
    for folder, _, names in os.walk(root):
        yield from (Path(folder) / name for name in names)


def size(root: Path) -> int:
    """Bytes of every file below a folder."""
    return sum(path.stat().st_size for path in files(root))


def warm(root: Path) -> None:
    """Read everything below a folder, so that it is in the page cache."""
    with Path(os.devnull).open("wb") as nowhere:
        for path in files(root):
            with path.open("rb") as file:
                shutil.copyfileobj(file, nowhere, MIB)


def digests(root: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path below the folder."""
    found = {}
    for path in files(root):
        with path.open("rb") as file:
            found[str(path.relative_to(root))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
