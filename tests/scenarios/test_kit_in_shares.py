"""The key is lost with everything else: three of five people bring their pages, and the pipeline comes back.

And before it is lost: it is rotated while one recovers and another protects.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMAND_SECONDS_MAX = 120.0
KIT = ("vault", "kit", "--shares", "5", "--threshold", "3", "--to")


def typed(page: str, *words: str) -> str:
    """What somebody types from a page: the lines that begin with one of ``words``, in their own way."""
    lines = [line for line in page.splitlines() if re.match(rf"({'|'.join(words)}) +\d+ .*=", line)]
    chance = Random(page)
    ways = (str.upper, str.lower, str.title, lambda line: line.replace(" ", "   "))
    return "\n".join(chance.choice(ways)(line).replace(" =", "=") for line in lines)


def to_type(page: str, region: str) -> list[str]:
    """The commands that a page says, but the installation: those for everybody, and where ``region`` is left."""
    everybody, *places = page.split("\nWhere ")
    (place,) = (place for place in places if place.startswith(f"{region} is left"))
    lines = [line.strip() for part in (everybody, place) for line in part.splitlines()]
    install, *commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    assert install == "pip install refloat"
    return commands


def in_a_shell(operator, commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Type commands in the operator's home, where ``refloat`` is installed and nothing else of theirs is."""
    installed = operator.root / "bin"
    installed.mkdir(exist_ok=True)
    command = installed / "refloat"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m refloat "$@"\n')
    command.chmod(0o755)
    return subprocess.run(
        ["bash", "-eu"],
        input="\n".join(commands) + "\n",
        cwd=operator.home,
        env={**operator.environment(), "PATH": f"{installed}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )


def test_everything_comes_back_from_any_three_of_five_pages(operator) -> None:  # fault 58
    operator.here("protect")
    folder = operator.root / "drawer"
    told = operator.here(*KIT, str(folder))
    pages = [Path(path).read_text() for path in told["shares"]["pages"]]
    operator.here("vault", "keys", "rotate")
    operator.release(2)
    operator.here("protect")
    live = operator.live("eu")

    operator.lose("eu")
    shutil.rmtree(folder)
    shutil.rmtree(operator.key.parent)
    operator.has_key = False

    restore, *others = to_type(pages[1], "us")
    assert "--key small.key" in restore
    (operator.home / "share-2.txt").write_text(typed(pages[1], "share", "key"))
    (operator.home / "share-4.txt").write_text(typed(pages[3], "share"))
    refused = in_a_shell(operator, [restore])
    assert refused.returncode == 2 and "3 shares" in refused.stderr and "bring 1 more" in refused.stderr
    assert sorted(path.name for path in operator.home.iterdir()) == ["share-2.txt", "share-4.txt"]

    (operator.home / "share-5.txt").write_text(typed(pages[4], "share"))
    done = in_a_shell(operator, [restore, *others])
    assert done.returncode == 0, done.stderr
    assert (operator.home / "small.key").stat().st_mode & 0o077 == 0
    assert operator.live("us") == live


def test_a_key_is_rotated_while_one_recovers_and_another_protects(
    tmp_path: Path, operator_of, ask, monkeypatch: pytest.MonkeyPatch
) -> None:  # fault 58
    operator = operator_of(tmp_path)
    keys = {name: str(operator.key.with_name(name)) for name in ("writer", "before", "reader")}
    monkeypatch.setenv("HOME", str(operator.home))

    def by(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.setenv("REFLOAT_KEY_FILE", keys[name])
        code, document, said = ask("-f", str(operator.manifest), *arguments)
        assert code == 0, (document, said)
        told: dict[str, Any] = document
        return told

    by("writer", "vault", "init", "--key", keys["writer"])
    by("writer", "vault", "keys", "add", "--role", "reader", "--name", "auditor", "--key", keys["reader"])
    large = Random(7).randbytes(2_000_000)  # more than a pipe holds
    (operator.root / "eu" / "pages" / "large").write_bytes(large)
    point = by("writer", "protect")["point"]
    shutil.copy(keys["writer"], keys["before"])

    command = (sys.executable, "-m", "refloat", "-q", "-f", str(operator.manifest), "vault", "export")
    with subprocess.Popen(
        [*command, point, "--tar", "-"],
        env={**operator.environment(), "REFLOAT_KEY_FILE": keys["reader"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as exporting:
        assert exporting.stdout is not None
        begun = exporting.stdout.read(1)  # and as long as nobody reads on, it is at its work
        rotated = by("writer", "vault", "keys", "rotate")
        operator.release(2)
        assert by("writer", "protect")["grade"] == "exact"
        assert exporting.poll() is None
        brought = begun + exporting.stdout.read()
    assert exporting.returncode == 0
    with tarfile.open(fileobj=io.BytesIO(brought)) as archive:
        found = archive.extractfile("pages/content/large")
        assert found is not None and found.read() == large

    operator.release(3)
    assert by("before", "protect")["grade"] == "exact", "a writer that has not heard of it goes on, too"
    by("reader", "recover", "--into", str(tmp_path / "brought"))
    assert (tmp_path / "brought" / "pages" / "content" / "current.json").read_text() == '{"version": 3}'
    sealed_with = {one["id"] for one in by("writer", "vault", "keys", "list")["content_keys"]}
    assert {rotated["before"], rotated["after"]} <= sealed_with
