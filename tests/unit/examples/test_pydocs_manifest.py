"""The example's manifest against a real region: what it reads there, and what breaks its invariants."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pydocs_assistant.build import rebuild_index
from pydocs_assistant.paths import Region
from pydocs_region import EXAMPLE
from refloat import registry
from refloat.contracts import Facts, Place
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.point.evaluate import evaluate, syntax_error

pytestmark = pytest.mark.slow


def _manifest(region: Region) -> Manifest:
    text = (EXAMPLE / "refloat.yaml").read_text("utf-8").replace("/srv/pydocs/eu", str(region.root))
    return parse(text.encode(), syntax=syntax_error)


def _resolver() -> Resolver:
    return Resolver({}, lambda path: Path(path).read_text("utf-8"))


def _facts(manifest: Manifest, *, names: tuple[str, ...]) -> dict[str, Facts]:
    found = {}
    for name in names:
        connector = registry.connector(manifest.components[name].kind)
        settings = _resolver().settings(manifest, name, "eu", connector.spec.settings)
        found[name] = connector.inspect(Place(name, "eu", settings))
    return found


def test_every_component_of_the_manifest_is_there_to_be_read(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(sys.executable).parent  # the command begins with `python`, which is looked up on the path
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    manifest = _manifest(region)
    facts = _facts(manifest, names=tuple(manifest.components))

    assert all(known.identity for known in facts.values())
    assert not any(str(region.root) in str(known.scope()) for known in facts.values())


def test_everything_in_the_region_belongs_to_a_component(region: Region) -> None:
    manifest = _manifest(region)
    settings = str(
        _resolver().value([dict(each.with_) for each in manifest.components.values()], manifest, "eu")
    )
    unprotected = [entry.name for entry in region.root.iterdir() if str(entry) not in settings]

    assert unprotected == []


def test_all_invariants_hold_in_a_region_that_was_just_built(region: Region) -> None:
    manifest = _manifest(region)
    group = manifest.groups["serving"]
    verdicts = evaluate(group.must, _facts(manifest, names=group.members))

    assert [verdict.must for verdict in verdicts if verdict.holds is not True] == []


def test_an_index_by_another_embedder_breaks_the_invariants_that_speak_of_it(
    copied: Region, learning: None
) -> None:
    assert rebuild_index(copied.root, dimension=32) == 0
    manifest = _manifest(copied)
    group = manifest.groups["serving"]
    verdicts = evaluate(group.must, _facts(manifest, names=group.members))

    assert [verdict.must for verdict in verdicts if verdict.holds is not True] == [
        "registry.models.embedder.champion.digest == index.tables.passages.embedder",
        "registry.models.embedder.champion.dimension == index.tables.passages.dimension",
    ]


@pytest.mark.parametrize("name", ["eu", "us"])
def test_the_endpoint_of_each_region_gets_its_own_root_and_port(region: Region, name: str) -> None:
    manifest = _manifest(region)
    connector = registry.connector("process")
    settings = _resolver().settings(manifest, "assistant", name, connector.spec.settings).model_dump()
    root, port = manifest.regions[name].vars["root"], int(manifest.regions[name].vars["port"])

    assert settings["ports"] == (port,)
    assert settings["command"][4:8] == ("--root", root, "--port", str(port))
    assert settings["fence_file"] == f"{root}/FENCE"
