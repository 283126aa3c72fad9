"""The build of a region from nothing: one durable step after the other, each safe to repeat."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydocs_assistant import features, golden, passages, prompts
from pydocs_assistant.paths import Region, folder_digest, write_whole
from pydocs_assistant.settings import Settings
from pydocs_assistant.state import State

Step = Callable[[], str]
"""Makes one part of the region and returns the digest of what it made."""


def build(root: Path, *, dimension: int) -> int:
    """Do every step that is not done yet, print how long each took, and return the exit code."""
    region = Region.at(root)
    state = State(region.state)
    for name, step in _steps(region, dimension):
        began = time.monotonic()
        done_now = state.run(name, step)
        print(
            f"{name:12} {time.monotonic() - began:6.2f} s" if done_now else f"{name:12}   done before",
            flush=True,
        )
    return 0


def rebuild_index(root: Path, *, dimension: int | None) -> int:
    """Build the index again by the champion, or with ``dimension`` by another embedder that stays a challenger.

    The latter is a mistake that real pipelines make: the champion and the index then do not belong together.
    """
    from pydocs_assistant import index, training

    region = Region.at(root)
    if dimension is None:
        print(_build_index(region))
        return 0
    challenger, embedder = training.train_challenger(region, dimension=dimension)
    index.build(region, challenger, embedder)
    print(f"index built by version {challenger.version} of the embedder, dimension {dimension}")
    return 0


def _steps(region: Region, dimension: int) -> Iterator[tuple[str, Step]]:
    """The steps in their order; the heavy libraries are imported by the first step that needs them."""
    yield "code", lambda: install_code(region)
    yield "passages", lambda: passages.write(region)
    yield "features", lambda: features.write(region)
    yield "golden", lambda: golden.write(region)
    yield "registry", lambda: _create_registry(region)
    yield "training", lambda: _train(region, dimension)
    yield "index", lambda: _build_index(region)
    yield "prompts", lambda: prompts.write(region, dimension=dimension)
    yield "flags", lambda: prompts.write_flags(region)
    yield "predictions", lambda: _begin_log(region)


def install_code(region: Region) -> str:
    """Put the program's own code and settings into the region, to run from there; return their digest."""
    package = Path(__file__).parent
    beside = region.root / ".app.new"
    if package.parent != region.app:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(package, beside / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        Settings().write(beside / "settings.json")
        shutil.rmtree(region.app, ignore_errors=True)
        beside.rename(region.app)
    return folder_digest(region.app)


def _create_registry(region: Region) -> str:
    """Start from an empty registry: a database whose creation was cut short cannot be carried on with."""
    shutil.rmtree(region.artifacts.parent, ignore_errors=True)
    from pydocs_assistant import registry

    return registry.create(region)


def _train(region: Region, dimension: int) -> str:
    from pydocs_assistant import training

    return training.train(region, dimension=dimension)


def _build_index(region: Region) -> str:
    from pydocs_assistant import index, registry

    champion = registry.champion(registry.client_of(region), "embedder")
    return index.build(region, champion, registry.load_model(champion))


def _begin_log(region: Region) -> str:
    if not region.predictions.exists():
        write_whole(region.predictions, b"")
    return folder_digest(region.predictions.parent)
