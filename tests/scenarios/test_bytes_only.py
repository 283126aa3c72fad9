"""The bytes alone, on a machine with nothing but a key: killed in the middle, and on a disk that is full.

Real processes; the disk is a tmpfs of one MiB in a mount namespace of its own.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from placed import Place

pytestmark = pytest.mark.slow

SECONDS_MAX = 50.0  # only what never ends takes as long
FILES = 150  # enough that the kill lands among them: each is synced on its own
FULL = """\
mount -t tmpfs -o size=1m none "$1" || exit 99
refloat() { "$PYTHON" -m refloat --json -q recover --vault "$@"; echo "exit $?" >&2; }
refloat "$2" --into "$1"
mkdir "$1/roomy" "$1/closed"
refloat "$2" --into "$1/roomy/out"
refloat "$2" --into "$1/roomy/out" --override target_full
ls -A "$1/roomy" >&2
mount -o remount,ro "$1" || exit 99
refloat "$2" --into "$1/closed/out" --override target_full
ls -A "$1/closed" >&2
"""


@pytest.fixture(scope="module")
def lost(operator) -> Iterator[Any]:
    """A pipeline whose region and desk are gone; of it, one vault and the key are left."""
    pages = operator.root / "eu" / "pages"
    for number in range(FILES):
        (pages / f"{number}.txt").write_text(f"page {number}\n")
    (pages / "large.bin").write_bytes(random.Random(1).randbytes(3 * 1024 * 1024))
    operator.point = operator.here("protect")["point"]
    operator.captured = {path.name: path.read_bytes() for path in pages.iterdir() if path.is_file()}
    operator.lose("eu")
    yield operator


def test_killed_in_the_middle_it_is_never_taken_for_whole_and_the_same_command_brings_it(lost) -> None:
    # fault 18
    out, partial = lost.root / "out", lost.root / ".out.refloat-partial"
    command = ("recover", "--vault", lost.vault("us"), "--into", str(out))

    amid = ((f"{partial}/pages/content/*.txt", FILES // 5),)
    code, said = lost.interrupted(*command, place=Place(signal.SIGTERM, there=amid))
    assert code == 143 and json.loads(said)["error"]["code"] == "interrupted"
    assert partial.is_dir() and not out.exists()
    further = ((f"{partial}/pages/content/*.txt", FILES // 2),)
    assert lost.interrupted(*command, place=Place(there=further)) == (-signal.SIGKILL, "")
    assert partial.is_dir() and not out.exists()
    done = lost.refloat(*command)
    assert done["components"]["pages"]["files"] == len(list(out.rglob("pages/content/**/*.*")))
    assert {path.name: path.read_bytes() for path in (out / "pages/content").glob("*.*")} == lost.captured
    assert not partial.exists()


def test_a_full_disk_and_one_that_may_only_be_read_are_told_and_nothing_is_left(lost) -> None:  # fault 13
    disk = lost.root / "disk"
    disk.mkdir()
    try:
        ended = subprocess.run(
            ["unshare", "-Urm", "sh", "-c", FULL, "sh", str(disk), lost.vault("us")],
            env={**lost.environment(), "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("REAL FULL DISK NOT TRIED: there is no unshare here")
    if "unshare" in ended.stderr.splitlines()[0] or ended.returncode == 99:
        pytest.skip(f"REAL FULL DISK NOT TRIED: {ended.stderr.splitlines()[0]}")
    mounted, foreseen, full, closed = (json.loads(line)["error"] for line in ended.stdout.splitlines())
    told = [line for line in ended.stderr.splitlines() if not line.startswith("warning:")]
    assert told == ["exit 2", "exit 3", "exit 1", "exit 1"], "no line of `ls` between: nothing is left"
    assert foreseen["rule"] == "target_full" and "1.0 MiB free" in foreseen["message"]
    assert "No space left on device" in full["message"] and full["component"] == "pages"
    assert full["next"] and full["file"].startswith(str(disk / "roomy"))
    assert "mounted" in mounted["message"] and f"--into {disk}/recovered" in mounted["next"]
    assert "Read-only file system" in closed["message"] and closed["file"] == str(disk / "closed" / "out")


def test_what_it_brings_can_be_read_on_through_a_pipe(lost, tmp_path: Path) -> None:
    script = '"$PYTHON" -m refloat vault cat "$1" pages content/large.bin --vault "$2" | head -c 5'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", lost.point[:8], lost.vault("us")],
        env={**lost.environment(), "PYTHON": sys.executable},
        capture_output=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == (lost.captured["large.bin"][:5], b"")
