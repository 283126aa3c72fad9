"""The sources of `bench-vault`, made by real training: checkpoints, bf16 weights, and the files that lie beside them.

Everything below one folder is kept and used again, as long as it is what was made. torch lives in an environment of
its own there, since nothing of refloat needs it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tree
from measure import CommandFailed

TORCH = "torch==2.13.0"
TORCH_BUILDS = (f"{TORCH}+cpu", TORCH)  # the first is smaller by gigabytes, and not in every index
SEED = 7
TRAINING_SECONDS_MAX, INSTALL_SECONDS_MAX = 1800.0, 900.0
BYTES_MIN = 2_000_000_000  # what the sources of a whole run must have together
MOVED_MIN = 0.95  # of Adam's first moments; less, and the optimizer's state would be easier than a real one's
MADE = "made.json"
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "pydocs_assistant"
TRANSFORMER = Path(__file__).with_name("transformer.py")

SERIES, WEIGHTS, MIXED = "series", "weights", "mixed"
BASE, TUNED = f"{WEIGHTS}/base", f"{WEIGHTS}/tuned"
SHARD_BYTES = 4 * 1024 * 1024  # of the index; one of them is the 4 MB file that is asked for alone
DOCUMENT_CHARS, STRIDE_CHARS = 640, 320
ROW_GROUP_ROWS = 4096


@dataclass(frozen=True)
class Plan:
    """How much is trained. A checkpoint has twelve bytes a parameter: a weight and Adam's two moments."""

    width: int
    layers: int
    steps: tuple[int, int, int]
    large_width: int
    large_steps: int
    documents: int
    bytes_min: int
    threads: int

    def document(self, work: Path, out: Path) -> dict[str, Any]:
        """The plan as ``transformer.py`` reads it."""
        return {
            "out": str(out),
            "corpus": str(work / "corpus.txt"),
            "documents": str(work / "documents.json"),
            "seed": SEED,
            "threads": self.threads,
            "steps": self.steps,
            "more_steps": 12,
            "small": {"width": self.width, "layers": self.layers, "batch": 2},
            "large": {
                "width": self.large_width,
                "layers": self.layers,
                "batch": 1,
                "steps": self.large_steps,
            },
            "tuned": {"learning_rate": 1e-5, "steps": 5},
        }


FULL = Plan(512, 8, (100, 103, 118), 1024, 40, 40_000, BYTES_MIN, 2)  # 25 and 101 million parameters
QUICK = Plan(128, 2, (40, 43, 58), 192, 30, 8_400, 20_000_000, 1)


@dataclass(frozen=True)
class Sources:
    """What was made: every file's SHA-256 by its path below ``root``, and what training says of itself."""

    root: Path
    steps: tuple[int, ...]
    digests: Mapping[str, str]
    told: Mapping[str, Any]

    @property
    def shard(self) -> str:
        """One shard of the index, from the middle: the file that is asked for alone."""
        shards = sorted(path for path in self.digests if path.startswith(f"{MIXED}/index/"))
        return shards[len(shards) // 2]

    def size(self, below: str = "") -> int:
        """Bytes of everything, or of what lies below a folder."""
        return tree.size(self.root / below)


def sources(folder: Path, *, quick: bool, say: Callable[[str], None]) -> Sources:
    """The sources below ``folder``: those that are there, if they are what was made, else new ones.

    Raises ``CommandFailed`` where they cannot be made.
    """
    plan, work = (QUICK, folder / "quick") if quick else (FULL, folder / "full")
    found = _found(work, plan)
    if found is not None:
        say(f"using the sources in {work}")
        return found
    shutil.rmtree(work, ignore_errors=True)
    (work / "made").mkdir(parents=True)
    python = _environment(folder / "environment", say)
    say("training, a few minutes" if not quick else "training")
    documents = _texts(work, plan.documents)
    told = _train(python, work, plan)
    say("writing Parquet, JSONL, SQLite and an index")
    _make_mixed(work / "made" / MIXED, documents, work / "made" / "embeddings.f32", plan.width)
    _check(work / "made", plan, told)
    made = Sources(work / "made", plan.steps, tree.digests(work / "made"), told)
    record = {"plan": plan.document(work, work / "made"), "digests": made.digests, "told": told}
    (work / MADE).write_text(json.dumps(record, indent=1))
    return made


def _found(work: Path, plan: Plan) -> Sources | None:
    """What an earlier run made, where every byte of it is still there."""
    try:
        record = json.loads((work / MADE).read_text())
    except FileNotFoundError:
        return None
    same = record["plan"] == json.loads(json.dumps(plan.document(work, work / "made")))
    if not same or tree.digests(work / "made") != record["digests"]:
        return None
    return Sources(work / "made", plan.steps, record["digests"], record["told"])


# ------------------------------------------------------------------------------------------- torch


def _environment(folder: Path, say: Callable[[str], None]) -> Path:
    """A Python that has torch; made where it is not there yet."""
    python = folder / "bin" / "python"
    if (folder / MADE).exists() and json.loads((folder / MADE).read_text()) == TORCH:
        return python
    say(f"installing {TORCH} into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    _first_that_installs(pip, TORCH_BUILDS)
    try:
        _ran([*pip, "safetensors"], INSTALL_SECONDS_MAX)
    except CommandFailed:
        say("safetensors cannot be installed; transformer.py writes the format itself")
    (folder / MADE).write_text(json.dumps(TORCH))
    return python


def _first_that_installs(pip: list[str], builds: tuple[str, ...]) -> None:
    """Install one of several builds, with numpy. Raises ``CommandFailed`` where none installs."""
    for build in builds:
        try:
            _ran([*pip, build, "numpy"], INSTALL_SECONDS_MAX)
        except CommandFailed:
            if build == builds[-1]:
                raise
        else:
            return


def _train(python: Path, work: Path, plan: Plan) -> dict[str, Any]:
    (work / "plan.json").write_text(json.dumps(plan.document(work, work / "made")))
    told = _ran([str(python), str(TRANSFORMER), str(work / "plan.json")], TRAINING_SECONDS_MAX)
    answer: dict[str, Any] = json.loads(told)
    return answer


def _ran(command: list[str], seconds_max: float) -> str:
    """What a command prints. Raises ``CommandFailed`` where it fails or is not done in time."""
    named = " ".join(Path(part).name for part in command)
    # what turns pip stays, and what turns our own Python does not
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        ran = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=seconds_max, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"`{named}` was not done within {seconds_max:g} s") from error
    if ran.returncode != 0:
        raise CommandFailed(f"`{named}` ended with {ran.returncode}: {ran.stderr.strip()[-2000:]}")
    return ran.stdout


# ------------------------------------------------------------------------------------------- texts


def _texts(work: Path, count: int) -> list[str]:
    """Write what is trained on and what is embedded: Python's documentation, and pieces of its library."""
    sys.path.append(str(EXAMPLE))
    try:
        from pydocs_assistant import passages
    finally:
        sys.path.remove(str(EXAMPLE))
    corpus = "\n\n".join(f"{passage.title}\n{passage.text}" for passage in passages.collect())
    (work / "corpus.txt").write_text(corpus)
    documents = _pieces(count)
    (work / "documents.json").write_text(json.dumps(documents))
    return documents


def _pieces(count: int) -> list[str]:
    """Overlapping pieces of the library's source files, as a search index has them."""
    library, pieces = Path(sysconfig.get_path("stdlib")), []
    for path in sorted(library.rglob("*.py")):
        if "site-packages" in path.parts:
            continue
        text = path.read_text(errors="replace")
        starts = range(0, max(1, len(text) - STRIDE_CHARS), STRIDE_CHARS)
        pieces += [text[start : start + DOCUMENT_CHARS] for start in starts if text[start:].strip()]
        if len(pieces) >= count:
            return pieces[:count]
    raise CommandFailed(f"{library} has only {len(pieces)} pieces of text, not {count}")


# ------------------------------------------------------------------------------------------- mixed


def _make_mixed(folder: Path, documents: list[str], embeddings: Path, width: int) -> None:
    """Beside the checkpoint that training left there: a data set in three formats, and a vector index."""
    vectors = np.fromfile(embeddings, dtype=np.float32).reshape(len(documents), width)
    embeddings.unlink()
    for name in ("index", "dataset", "logs", "store"):
        (folder / name).mkdir()
    rows = SHARD_BYTES // vectors[0].nbytes
    for number, start in enumerate(range(0, len(vectors), rows)):
        np.save(folder / "index" / f"shard-{number:03d}.npy", vectors[start : start + rows])
    tokens = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) for text in documents]
    table = pa.table(
        {
            "id": pa.array(range(len(documents))),
            "text": pa.array(documents),
            "tokens": pa.array(tokens),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), width),
        }
    )
    pq.write_table(table, folder / "dataset" / "part-0.parquet", row_group_size=ROW_GROUP_ROWS)
    with (folder / "logs" / "documents.jsonl").open("w") as file:
        for number, (text, numbers) in enumerate(zip(documents, tokens, strict=True)):
            line = {"id": number, "sha256": _sha256(text), "tokens": numbers.tolist(), "text": text}
            file.write(json.dumps(line) + "\n")
    with closing(sqlite3.connect(folder / "store" / "documents.db")) as database, database:
        database.execute(
            "CREATE TABLE documents (id INTEGER PRIMARY KEY, sha256 TEXT, text TEXT, vector BLOB)"
        )
        database.execute("CREATE INDEX by_digest ON documents (sha256)")
        database.executemany(
            "INSERT INTO documents VALUES (?, ?, ?, ?)",
            (
                (number, _sha256(text), text, vectors[number].tobytes())
                for number, text in enumerate(documents)
            ),
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------------------- checking


def _check(root: Path, plan: Plan, told: Mapping[str, Any]) -> None:
    """See that what was made is what it is taken for. Raises ``CommandFailed``."""
    checkpoints = [root / SERIES / f"step-{step}" / "checkpoint.pt" for step in plan.steps]
    parameters = told["parameters"]
    for path in checkpoints:
        with zipfile.ZipFile(path) as archive:
            stored = sum(info.file_size for info in archive.infolist() if "/data/" in info.filename)
        _require(12 * parameters["small"] <= stored, f"{path} lacks weights or moments")
    for folder in (BASE, TUNED):
        path = root / folder / "model.safetensors"
        _require(_tensor_bytes(path) == 2 * parameters["large"], f"{path} lacks weights")
    for name, losses in told["losses"].items():
        tenth = max(1, len(losses) // 10)
        learnt = sum(losses[-tenth:]) < sum(losses[:tenth])
        _require(learnt, f"the {name} model learnt nothing: {losses[0]} to {losses[-1]}")
    _require(told["shares"]["moments that are not zero"] >= MOVED_MIN, "most of Adam's moments are zero")
    size = tree.size(root)
    _require(size >= plan.bytes_min, f"the sources have {size} bytes, and should have {plan.bytes_min}")


def _tensor_bytes(path: Path) -> int:
    """How many bytes the tensors of a safetensors file have, by its header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    spans = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
    return sum(end - start for start, end in spans)


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise CommandFailed(f"training made something else than it should: {otherwise}")
