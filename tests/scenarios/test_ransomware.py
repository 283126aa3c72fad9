"""Files are encrypted where they lie: the next point says so, and what is recovered is from the day before.

The ransomware is AES-GCM under one key a file, as it is sold: whole files, or every other block of them for speed, and
a new suffix. And the days that must raise no alarm, though most bytes are new.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from refloat.testing.disk import folder_in_memory

pytestmark = pytest.mark.slow

BLOCK = 16 * 1024
DAYS = 4
KEEP = "keep: {last: 1, daily: 0, monthly: 0}\n"
WORDS = tuple(
    re.findall("[a-z]+", "the vault keeps what a pipeline serves and nobody has to ask twice for any of it")
)


def prose(seed: str, lines: int) -> str:
    """Text that packs as text does: words in an order that does not come again."""
    chance = random.Random(seed)
    return "".join(f"{chance.random():.6f} {' '.join(chance.choices(WORDS, k=9))}\n" for _ in range(lines))


# ------------------------------------------------------------------------------------------- the day it happens


def encrypt(path: Path, every: int) -> None:
    """Each block of so many that follow one another, in place; then a new suffix."""
    cipher = AESGCM(AESGCM.generate_key(256))
    content = bytearray(path.read_bytes())
    size = len(content) if every == 1 else BLOCK
    for number, start in enumerate(range(0, len(content), size * every)):
        block = bytes(content[start : start + size])
        content[start : start + size] = cipher.encrypt(number.to_bytes(12), block, None)[: len(block)]
    path.write_bytes(content + b"LOCKED" + bytes(10))
    path.rename(path.with_suffix(path.suffix + ".locked"))


@pytest.fixture
def small(
    operator_of: Callable[[Path], Any], ask: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, Callable[..., Any], list[str]]]:
    """A small pipeline, what runs a command by its manifest, and the points of three days of work."""
    with folder_in_memory() as folder:
        operator = operator_of(folder / "world")
        operator.manifest.write_text(operator.manifest.read_text() + KEEP)
        monkeypatch.setenv("HOME", str(operator.home))
        monkeypatch.setenv("REFLOAT_KEY_FILE", str(operator.key))

        def here(*arguments: str) -> Any:
            return ask("-f", str(operator.manifest), *arguments)

        assert here("vault", "init", "--key", str(operator.key))[0] == 0
        for number in range(20):
            (operator.root / "eu" / "pages" / f"{number}.txt").write_text(prose(f"page {number}", 1000))
        names = []
        for version in (1, 2, 3):
            operator.release(version)
            code, made, _ = here("protect")
            assert (code, made["components"]["pages"]["suspect"]) == (0, [])
            names.append(made["point"])
        yield operator, here, names


@pytest.mark.parametrize("every", [1, 2], ids=["whole files", "every other block"])
def test_after_ransomware_the_last_good_point_is_what_is_recovered_and_kept(small, every) -> None:
    # fault 49
    operator, here, (*_, good) = small
    pages = operator.root / "eu" / "pages"
    before = {path.relative_to(pages): path.read_bytes() for path in pages.rglob("*.txt")}
    for path in list(pages.rglob("*.txt")):
        encrypt(path, every)
    code, hit, said = here("protect")
    assert code == 1 and "dense" in hit["components"]["pages"]["suspect"]
    assert "the point is suspect, and no recovery takes it by itself: pages looks encrypted" in said
    assert here("protect")[0] == 1, "also on the day after, on which nothing changed"
    code, planned, said = here("plan", "--to", "us")
    assert (code, planned["point"]) == (0, good)
    assert f"the newer point {hit['point'][:12]}" in said and "is passed over" in said
    out = operator.root / "out"
    code, brought, said = here("recover", "--into", str(out))
    assert (code, brought["point"]) == (0, good) and "is passed over" in said
    content = out / "pages" / "content"
    assert {path.relative_to(content): path.read_bytes() for path in content.rglob("*.txt")} == before
    code, told, _ = here("points", "forget")
    assert (code, told["error"]["rule"]) == (3, "source_rewritten")
    _, told, _ = here("points", "forget", "--dry-run")
    assert {entry["point"]: entry["kept"] for entry in told["points"]}[good]
    code, refused, _ = here("recover", "--to", "us", "--point", hit["point"])
    assert (code, refused["error"]["rule"]) == (3, "point_suspect")
    code, done, _ = here("points", "accept", hit["point"][:12], "--because", "our own encryption, ticket 81")
    assert code == 0 and done["point"] == hit["point"] and "dense" in done["suspect"]["pages"]
    code, made, _ = here("protect")
    assert code == 0, "what is as in a good point is good"
    assert here("plan", "--to", "us")[1]["point"] == made["point"]


def test_after_a_mass_deletion_the_last_good_point_is_recovered_until_a_person_accepts(small) -> None:
    # fault 50
    operator, here, (*_, good) = small
    for path in sorted((operator.root / "eu" / "pages").glob("*.txt"))[2:]:
        path.unlink()
    code, hit, said = here("protect")
    assert (code, hit["components"]["pages"]["suspect"]) == (1, ["shrank"])
    assert "lost half or more" in said
    assert here("plan", "--to", "us")[1]["point"] == good
    assert here("points", "forget")[0] == 3
    assert here("points", "forget", "--override", "source_shrank")[0] == 0
    assert here("plan", "--to", "us")[1]["point"] == hit["point"]
    assert here("protect")[0] == 0


# --------------------------------------------------------------------------------------- days that do no harm


def appended(folder: Path, day: int) -> None:
    """A log that grows by a third a day."""
    with (folder / "log.jsonl").open("a") as log:
        log.write(prose(f"log {day}", 1500))


def checkpoints(folder: Path, day: int) -> None:
    """A series of checkpoints, of which the last two are kept: every file is new."""
    tensors(folder / f"step-{day}.safetensors", day)
    (folder / f"step-{day - 2}.safetensors").unlink(missing_ok=True)


def retrained(folder: Path, day: int) -> None:
    """The same model from another seed, in the same file: served for two days, then all of it is new."""
    if day in (0, 2):
        tensors(folder / "model.safetensors", 100 + day)


def gzipped(folder: Path, day: int) -> None:
    """Archives that are put in place of those of the day before."""
    for number in range(12):
        content = gzip.compress(prose(f"archive {number} {day}", 300).encode(), mtime=0)
        (folder / f"{number}.jsonl.gz").write_bytes(content)


def compacted(folder: Path, day: int) -> None:
    """Parquet with zstd: a part a day, of which a compaction makes one that is sorted."""
    for part in range(4):
        chance = numpy.random.default_rng(10 * day + part)
        ids = chance.integers(0, 10_000, 4000)
        table = pyarrow.table({"id": ids, "score": chance.normal(size=4000).astype("float32")})
        pyarrow.parquet.write_table(table, folder / f"part-{day}-{part}.parquet", compression="zstd")
    if day % 2:
        parts = sorted(folder.glob("*.parquet"))
        whole = pyarrow.concat_tables([pyarrow.parquet.read_table(path) for path in parts]).sort_by("id")
        for path in parts:
            path.unlink()
        pyarrow.parquet.write_table(whole, folder / f"whole-{day}.parquet", compression="zstd")


def rebuilt(folder: Path, day: int) -> None:
    """An index of the same vectors in another order, with other neighbours: nothing lies where it lay."""
    vectors = numpy.random.default_rng(7).normal(size=(4000, 32)).astype("float32")
    order = numpy.random.default_rng(day).permutation(len(vectors))
    neighbours = numpy.random.default_rng(day).integers(0, len(vectors), (len(vectors), 8)).astype("int32")
    (folder / "vectors.bin").write_bytes(vectors[order].tobytes())
    (folder / "graph.bin").write_bytes(neighbours.tobytes())


def tensors(path: Path, seed: int) -> None:
    """Weights of 32 bits as safetensors."""
    shape, layers = (256, 256), 6
    size = 4 * shape[0] * shape[1]
    header = json.dumps(
        {
            f"layer.{n}": {
                "dtype": "F32",
                "shape": list(shape),
                "data_offsets": [n * size, n * size + size],
            }
            for n in range(layers)
        }
    ).encode()
    weights = numpy.random.default_rng(seed).normal(0, 0.02, (layers, *shape)).astype("<f4")
    path.write_bytes(len(header).to_bytes(8, "little") + header + weights.tobytes())


HARMLESS = (appended, checkpoints, retrained, gzipped, compacted, rebuilt)


@pytest.fixture(scope="module")
def harmless(operator_of: Callable[[Path], Any], ask: Any) -> Iterator[list[tuple[int, dict[str, Any], str]]]:
    """What `protect` said on each day, of a pipeline with a component of each kind of work."""
    with folder_in_memory() as folder, pytest.MonkeyPatch.context() as patch:
        operator = operator_of(folder / "world")
        head = operator.manifest.read_text().partition("components:")[0]
        parts = [
            f"  {work.__name__}: {{kind: files, with: {{path: {folder / work.__name__}}}}}"
            for work in HARMLESS
        ]
        operator.manifest.write_text("\n".join([head + "components:", *parts, ""]))
        patch.setenv("HOME", str(operator.home))
        patch.setenv("REFLOAT_KEY_FILE", str(operator.key))
        assert ask("-f", str(operator.manifest), "vault", "init", "--key", str(operator.key))[0] == 0
        said = []
        for day in range(DAYS):
            for work in HARMLESS:
                (folder / work.__name__).mkdir(exist_ok=True)
                work(folder / work.__name__, day)
            said.append(ask("-f", str(operator.manifest), "protect"))
        yield said


@pytest.mark.parametrize("work", [work.__name__ for work in HARMLESS])
def test_daily_work_raises_no_alarm_however_much_of_it_is_new(harmless, work) -> None:  # faults 49, 50
    parts = [made["components"][work] for _, made, _ in harmless]
    assert [part["suspect"] for part in parts] == [[]] * DAYS
    assert [code for code, _, _ in harmless] == [0] * DAYS
    assert any(part["stored_bytes"] for part in parts[1:]), "nothing changed, which says nothing"
