"""Long work that is stopped halfway: what was done by then is done once, be it stored, fetched or written."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from placed import Place

from refloat.limits import MIB, PACK_BYTES_MAX
from refloat.testing.disk import folder_in_memory

pytestmark = pytest.mark.slow

SECONDS_MAX = 50.0  # only what never ends takes as long
FILES, FILE_BYTES = 40, MIB
LARGE_BYTES = 80 * MIB  # with the files more than fits one pack
SOME = 6  # of the files, by when it is stopped


@pytest.fixture(scope="module")
def world(operator_of: Callable[[Path], Any]) -> Iterator[Callable[[str], Any]]:
    """Makes somebody whose vault is empty, and who has a good deal to protect."""
    made = []
    with folder_in_memory() as folder:

        def make(name: str) -> Any:
            operator = operator_of(folder / name)
            made.append(operator)
            operator.here("vault", "init", "--key", str(operator.key))
            for number in range(FILES):
                page = operator.root / "eu" / "pages" / f"{number:02}.bin"
                page.write_bytes(os.urandom(FILE_BYTES))
            return operator

        yield make
        for operator in made:
            operator.end()


@pytest.fixture(scope="module")
def operator(world: Callable[[str], Any]) -> Any:
    """Somebody with a point in both regions."""
    operator = world("protected")
    operator.here("protect")
    return operator


def stopped(
    operator: Any, *argv: str, there: tuple[tuple[str, int], ...], seen: Callable[[], Any]
) -> tuple[Any, Any]:
    """Ctrl-C for a command that stands still as soon as so many paths are ``there``.

    What was to be ``seen`` at that moment, and the command's document.
    """
    process = operator.stopped(*argv, place=Place(signal.SIGSTOP, there=there))
    found = seen()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 128 + signal.SIGINT, (out, err)
    return found, json.loads(out)


def files_in(folder: Path) -> dict[str, int]:
    """The files of the pages that are whole in there, and which inode each has."""
    return {path.name: path.stat().st_ino for path in folder.glob("**/*.bin")}


def packs(operator: Any) -> dict[str, int]:
    """The packs that both regions have, and how large they are."""
    found = [
        {path.name: path.stat().st_size for path in Path(operator.vault(region)).glob("packs/*/*")}
        for region in ("eu", "us")
    ]
    return {name: size for name, size in found[0].items() if name in found[1] and not name.endswith("~")}


def test_a_capture_does_not_store_again_what_it_had_stored(world: Callable[[str], Any]) -> None:  # fault 31
    operator = world("empty")
    large = operator.root / "eu" / "pages" / "large.bin"
    large.write_bytes(os.urandom(LARGE_BYTES))
    protect = ("-f", str(operator.manifest), "protect")
    a_pack_in_each = tuple((f"{operator.vault(region)}/packs/*/*[!~]", 1) for region in ("eu", "us"))
    before, _ = stopped(operator, *protect, there=a_pack_in_each, seen=lambda: packs(operator))
    stored = sum(before.values())
    assert stored > PACK_BYTES_MAX / 2, "a pack was full"
    pages = operator.refloat(*protect)["components"]["pages"]
    assert pages["bytes"] > FILES * FILE_BYTES + LARGE_BYTES
    assert pages["new_bytes"] <= pages["bytes"] - stored + MIB
    assert operator.here("vault", "check", "--read-data")["ok"]


@pytest.mark.parametrize("how", ["recover", "export"])
def test_bytes_that_were_brought_are_not_fetched_again(operator: Any, tmp_path: Path, how: str) -> None:
    # fault 31
    point, *_ = operator.here("points", "list")["points"]  # a recovery has made one as well
    into = tmp_path / "out"
    command = ("recover",) if how == "recover" else ("vault", "export", point["point"])
    being_filled = tmp_path / ".out.refloat-partial" if how == "recover" else into

    def there() -> dict[str, int]:
        return files_in(being_filled / "pages")

    before, document = stopped(
        operator,
        *("-f", str(operator.manifest), *command, "--into", str(into)),
        there=((f"{being_filled}/pages/**/*.bin", SOME),),
        seen=there,
    )
    assert how == "export" or not into.exists()
    program, *again = shlex.split(document["error"]["next"])
    assert program == "refloat"
    done = operator.refloat(*[word for word in again if word not in ("--json", "--quiet")])
    assert SOME <= len(before) <= done["components"]["pages"]["kept"]
    after = files_in(into)
    assert len(after) == FILES and before.items() <= after.items(), "they are the very same files"
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not list(into.glob(".refloat-*"))
    for name in after:
        (brought,) = into.glob(f"pages/**/{name}")
        assert brought.read_bytes() == (operator.root / "eu" / "pages" / name).read_bytes()


def test_what_a_recovery_has_staged_is_not_fetched_again(operator: Any) -> None:  # fault 31
    us = operator.root / "us"
    recover = ("--vault", operator.vault("us"), "--to", "us")

    def staged() -> dict[str, int]:
        return {
            name: inode for folder in us.glob(".pages.refloat-*") for name, inode in files_in(folder).items()
        }

    some = ((f"{us}/.pages.refloat-*/**/*.bin", SOME),)
    before, document = stopped(operator, "recover", *recover, there=some, seen=staged)
    assert not (us / "pages").exists()
    program, *again = shlex.split(document["error"]["next"])
    assert program == "refloat"
    done = operator.refloat(*again)
    assert done["state"] == "done"
    after = files_in(us / "pages")
    assert len(after) == FILES and before.items() <= after.items(), "they are the very same files"
    assert operator.live("us") == operator.live("eu")
