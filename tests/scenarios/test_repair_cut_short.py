"""A repair that is cut off between taking a bad object away and writing the good one: the next one finds what it was.

Where the index is lost as well, nothing in the region names a pack that is gone; only its points know that it lacks.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refloat.testing.disk import folder_in_memory
from refloat.vault.stores.local import LocalStore

pytestmark = pytest.mark.slow

REPAIRS_MAX = 3  # a key that was mended shows more


def spoil(vault: Path) -> None:
    """Every pack with a flipped bit, and every point and index object gone."""
    for pack in vault.glob("packs/*/*"):
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        pack.write_bytes(content)
    for path in [*vault.glob("points/*"), *vault.glob("index/*")]:
        path.unlink()


def test_a_repair_that_is_cut_off_after_any_removal_is_finished_by_the_next(
    operator_of: Callable[[Path], Any], ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # faults 2, 18
    with folder_in_memory() as folder:
        operator = operator_of(folder / "world")
        manifest = operator.manifest
        manifest.write_text(manifest.read_text().partition("groups:")[0])
        monkeypatch.setenv("HOME", str(operator.home))
        monkeypatch.setenv("REFLOAT_KEY_FILE", str(operator.key))
        assert ask("-f", str(manifest), "vault", "init", "--key", str(operator.key))[0] == 0
        for version in (2, 3):
            operator.release(version, pages=8)
            assert ask("-f", str(manifest), "protect")[0] == 0
        spoil(operator.root / "us" / "vault")
        shutil.copytree(operator.root, folder / "spoilt")
        for nth in itertools.count(1):
            shutil.rmtree(operator.root)
            shutil.copytree(folder / "spoilt", operator.root)
            removed = cut_off(nth, ask, manifest, monkeypatch)
            if not removed:
                break
            finish(ask, manifest, removed)
        assert nth > 2, "nothing was ever removed"


def cut_off(nth: int, ask: Any, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Repair, and be stopped right after the ``nth`` removal; what was removed."""
    removed: list[str] = []
    delete = LocalStore.delete

    def deleted(store: LocalStore, name: str) -> None:
        delete(store, name)
        removed.append(name)
        if len(removed) == nth:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", deleted)
        code, _, _ = ask("-f", str(manifest), "vault", "repair", "--read-data")
    assert code == 130 or len(removed) < nth
    return removed[-1] if code == 130 else ""


def finish(ask: Any, manifest: Path, removed: str) -> None:
    repairing = ("-f", str(manifest), "vault", "repair", "--read-data")
    codes = []
    while len(codes) < REPAIRS_MAX and codes[-1:] != [0]:
        code, repaired, err = ask(*repairing)
        assert code in (0, 1), (removed, repaired, err)
        codes.append(code)
    code, checked, _ = ask("-f", str(manifest), "vault", "check", "--read-data")
    assert (code, checked["damaged"]) == (0, []), (removed, codes)
