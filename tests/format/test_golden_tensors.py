"""The golden vault of tensors is read by this refloat and by the second reader, to the last bit."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from refloat.cli.system import SystemClock
from refloat.contracts import Facts
from refloat.vault.check import check
from refloat.vault.keys import KeyFile
from refloat.vault.replica import Replica
from refloat.vault.stores.local import LocalStore

TESTS = Path(__file__).parent.parent
GOLDEN = TESTS / "golden" / "vault-1-tensors"
EXPECTED: dict[str, dict[str, str]] = json.loads((GOLDEN / "expected.json").read_text())


def digests(folder: Path) -> dict[str, str]:
    return {
        base64.b64encode(os.fsencode(path.relative_to(folder))).decode(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(path for path in folder.rglob("*") if path.is_file())
    }


@pytest.fixture(scope="module")
def replica() -> Replica:
    key_file = KeyFile.load(GOLDEN / "key")
    return Replica.open("eu", LocalStore(GOLDEN / "eu"), key_file, SystemClock())


@pytest.mark.parametrize("point", EXPECTED)
def test_each_point_gives_back_its_files(replica: Replica, point: str, tmp_path: Path) -> None:
    tree = replica.read_point(point)["components"]["model"]["tree"]  # type: ignore[index,call-overload]
    replica.source(tree, Facts()).fetch_all(tmp_path / "all")
    assert digests(tmp_path / "all" / "content") == EXPECTED[point]


@pytest.mark.parametrize("point", EXPECTED)
def test_the_second_reader_gives_back_the_same(point: str, tmp_path: Path) -> None:
    reader = [sys.executable, str(TESTS / "format" / "reader.py"), "--key", str(GOLDEN / "key")]
    command = [*reader, "restore", str(GOLDEN / "eu"), point, str(tmp_path / "all")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "all" / "components" / "model" / "content") == EXPECTED[point]


def test_it_holds_every_codec_and_every_segmenter_but_torchs(replica: Replica) -> None:
    assert check(replica, read_data=True).ok
    last = replica.points()[-1]
    tree = replica.read_point(last.name)["components"]["model"]["tree"]  # type: ignore[index,call-overload]
    source = replica.source(tree, Facts())
    nodes = [source._file(entry.path) for entry in source.entries() if entry.type == "file"]
    assert {node.segmenter for node in nodes} == {1, 2, 4, 5, 6}
    places = [replica.index.lookup(name) for node in nodes for name in node.chunks]
    assert {place.codec for place in places if place} >= {1, 2, 3}
