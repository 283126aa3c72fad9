"""Ransomware and a mass deletion in a real folder: the point says so, and is not recovered by itself."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from refloat.errors import Refused
from refloat.flows.forget import forget, plan_forget
from refloat.flows.into import bring, choose
from refloat.flows.prepare import Wanted, prepare
from refloat.flows.status import status
from refloat.manifest.parse import parse
from refloat.testing.world import World

BLOCK = 16 * 1024


def pipeline(root: Path) -> tuple[World, list[str]]:
    """Three days of work on thirty documents of text."""
    world = World.small(root, group="")
    for number in range(30):
        text = "".join(f"line {line} of document {number} says {line * number}\n" for line in range(1500))
        (root / "eu" / "pages" / f"{number}.txt").write_text(text)
    names = [world.protect().name]
    for day in (2, 3):
        world.release(day)
        made = world.protect()
        assert made.ok and made.suspect == {}
        names.append(made.name)
    return world, names


def encrypt(path: Path, every: int) -> None:
    """Each block of so many that follow one another, and a new suffix."""
    content = bytearray(path.read_bytes())
    noise = hashlib.shake_256(path.name.encode()).digest(len(content) + BLOCK)
    for start in range(0, len(content), BLOCK * every):
        end = min(start + BLOCK, len(content))
        content[start:end] = noise[start:end]
    path.with_suffix(".locked").write_bytes(bytes(content) + noise[-48:])
    path.unlink()


@pytest.mark.parametrize("every", [1, 2], ids=["whole files", "every other block"])
def test_encrypted_files_are_suspect_until_they_are_back_or_accepted(
    tmp_path: Path, every: int
) -> None:  # fault 49
    world, names = pipeline(tmp_path)
    pages = tmp_path / "eu" / "pages"
    for path in pages.rglob("*.txt"):
        encrypt(path, every)
    hit = world.protect()
    assert not hit.ok and hit.suspect.keys() == {"pages"} and "dense" in hit.suspect["pages"]
    assert world.protect().suspect == hit.suspect, "also where nothing has changed since"
    vault = world.vault()
    replicas = list(vault.replicas.values())
    chosen = choose(replicas)
    assert chosen.name == names[-1] and [p.name for p in chosen.suspects][-1] == hit.name
    assert world.prepared(vault).choice.point == names[-1]
    with pytest.raises(Refused) as raised:
        prepare(vault.replicas["us"], Wanted("us", hit.name), world.resolver)
    assert raised.value.rule == "point_suspect" and "--override point_suspect" in str(raised.value.next)
    assert choose(replicas, point=hit.name, overrides={"point_suspect"}).name == hit.name
    assert status(world.manifest, vault, world.clock).components["pages"].as_of == (
        chosen.point.components["pages"].as_of
    )
    keep = parse(world.text + b"keep: {last: 1, daily: 0, monthly: 0}\n")
    plan = plan_forget(keep, vault, world.clock)
    assert names[-1] not in plan.goes and [it.rule for it in plan.objections] == ["source_rewritten"]
    bring(chosen, tmp_path / "back", world.clock)
    shutil.rmtree(pages)
    shutil.copytree(tmp_path / "back" / "pages" / "content", pages)
    healed = world.protect()
    assert healed.ok and healed.suspect == {}
    assert world.prepared(world.vault()).choice.point == healed.name


def test_a_person_accepts_what_a_mass_deletion_left(tmp_path: Path) -> None:  # fault 50
    world, names = pipeline(tmp_path)
    for path in list((tmp_path / "eu" / "pages").glob("*.txt"))[:28]:
        path.unlink()
    hit = world.protect()
    assert hit.suspect == {"pages": ("shrank",)} and not hit.ok
    assert world.prepared(world.vault()).choice.point == names[-1]
    keep = parse(world.text + b"keep: {last: 1, daily: 0, monthly: 0}\n")
    vault = world.vault()
    with pytest.raises(Refused):
        forget(vault, plan_forget(keep, vault, world.clock))
    forget(vault, plan_forget(keep, vault, world.clock, overrides={"source_shrank"}))
    after = world.protect()
    assert after.ok and world.prepared(world.vault()).choice.point == after.name
