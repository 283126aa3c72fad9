"""The recipe of `vault-1-tensors`: run once, on 2026-11-25, with refloat 0.1.0 and Python 3.11; tests never run it.

``python tests/golden/make_vault_1_tensors.py`` saves two steps of a small model as safetensors, an index as npy, a
table as Parquet and one as SQLite, protects them after each step with the real command, and writes the replica, its key
and ``expected.json``: what each point must give back. Weights have few digits, so that the vault is small.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "vault-1-tensors"
MANIFEST = """\
version: 1
pipeline: golden
primary: eu
regions:
  eu: {vault: vault-1-tensors/eu}
components:
  model:
    kind: files
    with: {path: "${region}/model"}
"""


def save_step(folder: Path, number: int, weights: np.ndarray) -> None:
    """One checkpoint: a tensor of 1.5 MiB, one of 1.5 MiB and a few bytes, and a small one."""
    tensors = {"embed": weights[: 1536 * 256], "up": weights[: 1536 * 256 + 3], "bias": weights[:64]}
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": [len(tensor)], "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    raw = json.dumps(header).encode()
    path = folder / f"step-{number}" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"".join(t.tobytes() for t in tensors.values()))


def save_others(folder: Path) -> None:
    """Files of the other formats, each above the least size that is cut."""
    np.save(folder / "vectors.npy", np.arange(300_000, dtype="<f4"))
    column = pa.array([f"passage {n * n}" for n in range(60_000)])
    pq.write_table(
        pa.table({"text": column, "n": list(range(60_000))}), folder / "table.parquet", compression="none"
    )
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as database, database:
        database.execute("CREATE TABLE row (n INTEGER, text TEXT)")
        database.executemany("INSERT INTO row VALUES (?, ?)", ((n, "x" * 80) for n in range(14_000)))
    (folder / "notes.txt").write_bytes(bytes(range(256)) * 8192)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        desk = Path(place)
        folder = desk / "eu" / "model"
        folder.mkdir(parents=True)
        (desk / "refloat.yaml").write_text(MANIFEST)
        key = desk / "vault-1-tensors" / "key"
        key.parent.mkdir()
        environment = {**os.environ, "REFLOAT_KEY_FILE": str(key)}

        def refloat(*words: str) -> dict[str, object]:
            command = [sys.executable, "-m", "refloat", "--json", *words]
            done = subprocess.run(command, cwd=desk, env=environment, check=True, stdout=subprocess.PIPE)
            return dict(json.loads(done.stdout))

        refloat("vault", "init")
        dice = np.random.default_rng(1)
        weights = (dice.integers(-8, 8, 1536 * 256 + 3) / 64).astype("<f4")
        save_others(folder)
        expected = {}
        for number in (100, 200):
            save_step(folder, number, weights)
            point = str(refloat("protect")["point"])
            expected[point] = {
                base64.b64encode(os.fsencode(path.relative_to(folder))).decode(): hashlib.sha256(
                    path.read_bytes()
                ).hexdigest()
                for path in sorted(path for path in folder.rglob("*") if path.is_file())
            }
            weights = (weights.view("<i4") + dice.integers(-3, 4, len(weights), dtype="<i4")).view("<f4")
        text = json.dumps(expected, indent=1)
        (desk / "vault-1-tensors" / "expected.json").write_text(text + "\n")
        shutil.copytree(desk / "vault-1-tensors", GOLDEN)


if __name__ == "__main__":
    main()
