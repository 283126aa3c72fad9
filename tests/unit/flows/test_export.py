"""Files of a point into a folder: in the order of need, each one whole when it is there, and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from refloat.contracts import Silent
from refloat.errors import ConnectorError, Refused, StoreError
from refloat.flows.export import Export, Exported, Ready, export, parts_of
from refloat.flows.filled_with import MARKER
from refloat.flows.into import bring, choose
from refloat.patterns import EVERYTHING, Selection
from refloat.testing.world import World
from refloat.vault.anywhere import Anywhere
from refloat.vault.stores.faulty import FaultyStore, Operation
from refloat.vault.vault import Vault

PRIORITY = """\
  models:
    kind: files
    tier: critical
    priority: [config.json, "*.json"]
    with: {{path: "{root}/eu/models"}}
"""
LARGE = 400_000  # bytes; more than a store is asked for ahead of need


class ModelWorld(World):
    """The small pipeline, and models of which small files have priority. They are captured after all else."""

    @property
    def text(self) -> bytes:
        head, groups, rest = super().text.decode().partition("groups:")
        return (head + PRIORITY.format(root=self.root) + groups + rest).encode()


@pytest.fixture
def world(tmp_path: Path) -> ModelWorld:
    world = ModelWorld.small(tmp_path / "world")
    models = tmp_path / "world" / "eu" / "models"
    (models / "deep").mkdir(parents=True)
    for path, content in {
        "a.bin": os.urandom(LARGE),
        "deep/b.bin": os.urandom(LARGE),
        "deep/config.json": b"{}",
        "z.json": b"[]",
    }.items():
        (models / path).write_bytes(content)
    (world.root / "eu" / "pages" / "large.bin").write_bytes(os.urandom(LARGE))
    world.protect()
    return world


def exported(
    world: World,
    into: Path,
    vault: Vault | None = None,
    *,
    component: str | None = None,
    selection: Selection = EVERYTHING,
    ready=lambda told: None,
) -> dict[str, Exported]:
    replica = (vault or world.vault()).replicas["us"]
    name = replica.points()[-1].name
    body = world.vault().replicas["us"]
    from refloat.flows import points

    parts = parts_of(points.read(body, name), world.manifest, component)
    return export(Export(name, parts, selection), Anywhere([replica]), into, world.clock, ready=ready)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def live(world: World, component: str) -> dict[str, bytes]:
    return files(world.root / "eu" / component)


def test_everything_is_there_as_captured_and_nothing_else(world: ModelWorld, tmp_path: Path) -> None:
    done = exported(world, tmp_path / "out")
    assert list(done) == ["pages", "models", "ledger", "answers", "manifest"], "critical before the rest"
    for name in ("pages", "models"):
        assert files(tmp_path / "out" / name / "content") == live(world, name)
        assert (done[name].files, done[name].kept) == (len(live(world, name)), 0)
        assert done[name].bytes == sum(map(len, live(world, name).values()))
    assert not (tmp_path / "out" / MARKER).exists()
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    with pytest.raises(Refused):
        exported(world, tmp_path / "out")


def test_a_reader_begins_with_the_first_component_while_the_store_still_delivers_the_rest(
    world: ModelWorld, tmp_path: Path
) -> None:
    begun, served = threading.Event(), threading.Event()
    found: dict[str, bytes] = {}
    out = tmp_path / "out"

    def slow(operation: Operation) -> None:
        if begun.is_set() and operation.op == "get":  # whatever comes after the first component
            assert served.wait(60), "the reader never served"

    def reader() -> None:
        begun.wait(60)
        found["ready"] = json.loads((out / MARKER).read_bytes())["ready"]
        found.update(files(out / "pages" / "content"))
        found["rest"] = b"models" if (out / "models" / "content" / "a.bin").exists() else b""
        served.set()

    def ready(told: Ready) -> None:
        if told == Ready("pages", None, told.files, told.bytes):
            begun.set()

    serving = threading.Thread(target=reader)
    serving.start()
    vault = world.vault({"us": FaultyStore(world.stores["us"], at_each=slow)})
    exported(world, out, vault, ready=ready)
    serving.join(60)
    assert found.pop("ready") == ["pages"]
    assert found.pop("rest") == b"", "the rest came before it was served"
    assert found == live(world, "pages")
    assert files(out / "models" / "content") == live(world, "models")


def test_files_with_priority_are_whole_before_any_other_in_the_order_of_their_patterns(
    world: ModelWorld, tmp_path: Path
) -> None:
    told: list[tuple[str | None, set[str]]] = []

    def ready(one: Ready) -> None:
        told.append((one.path, set(files(tmp_path / "out" / "models"))))

    exported(world, tmp_path / "out", component="models", ready=ready)
    config, other = "content/deep/config.json", "content/z.json"
    assert [path for path, _ in told] == [config, other, None]
    assert told[0][1] == {config}
    assert told[1][1] == {config, other}
    assert (tmp_path / "out/models/content/deep").stat().st_mode == (
        world.root / "eu/models/deep"
    ).stat().st_mode


def test_only_what_is_selected_is_written_and_only_its_chunks_are_read(
    world: ModelWorld, tmp_path: Path
) -> None:
    read: list[Operation] = []
    vault = world.vault({"us": FaultyStore(world.stores["us"], at_each=read.append)})
    exported(world, tmp_path / "out", vault, component="models", selection=Selection(exclude=("*.bin",)))
    assert set(files(tmp_path / "out" / "models" / "content")) == {"deep/config.json", "z.json"}
    few = sum(operation.name.startswith("packs/") for operation in read)
    read.clear()
    vault = world.vault({"us": FaultyStore(world.stores["us"], at_each=read.append)})
    exported(world, tmp_path / "all", vault, component="models")
    assert sum(operation.name.startswith("packs/") for operation in read) > few
    chosen = Selection(include=("deep",), paths=("content/deep/b.bin",))
    exported(world, tmp_path / "one", component="models", selection=chosen)
    assert set(files(tmp_path / "one")) == {"models/content/deep/b.bin"}


def test_an_export_that_was_stopped_goes_on_and_keeps_only_what_is_as_stored(
    world: ModelWorld, tmp_path: Path
) -> None:  # fault 18
    out = tmp_path / "out"
    with pytest.raises(StoreError):
        exported(world, out, ready=cut_after_pages)
    assert (out / MARKER).exists()
    page = out / "pages" / "content" / "current.json"
    was = page.stat()
    page.write_bytes(page.read_bytes()[::-1])  # same length, same time: somebody wrote into it
    os.utime(page, ns=(was.st_mtime_ns, was.st_mtime_ns))
    torn = out / "pages" / "content" / f".refloat-{'0' * 16}.part"
    torn.write_bytes(b"half")  # as a SIGKILL leaves it
    done = exported(world, out)
    assert files(out / "pages" / "content") == live(world, "pages")
    assert files(out / "models" / "content") == live(world, "models")
    assert done["pages"].kept == done["pages"].files - 1
    assert not (out / MARKER).exists()


def cut_after_pages(told: Ready) -> None:
    if (told.component, told.path) == ("pages", None):
        raise StoreError("the line is cut", next="try again")


def test_a_folder_that_holds_anything_else_is_refused_and_left_alone(
    world: ModelWorld, tmp_path: Path
) -> None:  # fault 43
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(Refused) as refused:
        exported(world, out)
    assert refused.value.rule == "into_occupied"
    assert files(out) == {"mine": b"mine"}
    shutil.rmtree(out)
    with pytest.raises(StoreError):
        exported(world, out, ready=cut_after_pages)
    before = files(out)
    with pytest.raises(Refused, match="something else"):
        exported(world, out, selection=Selection(exclude=("*.bin",)))
    assert files(out) == before


def test_a_link_that_lies_in_a_folder_that_was_begun_leads_nobody_outside(
    world: ModelWorld, tmp_path: Path
) -> None:  # fault 60
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(StoreError):
        exported(world, out, ready=cut_after_pages)
    shutil.rmtree(out / "models", ignore_errors=True)
    (out / "models").symlink_to(outside)
    with pytest.raises(ConnectorError):
        exported(world, out)
    assert files(outside) == {}


def test_into_brings_what_is_needed_first_first_and_priority_files_before_the_rest(
    world: ModelWorld, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    partial = tmp_path / ".out.refloat-partial"
    begun: list[tuple[str, set[str]]] = []

    class Watch(Silent):
        def start(self, task: str, total: int | None = None, unit: str = "bytes") -> None:
            begun.append((task, set()))

        def advance(self, task: str, amount: int = 1) -> None:
            if amount == LARGE:
                begun[-1][1].update(files(partial / task / "content"))

    bring(choose([world.vault().replicas["us"]]), out, world.clock, progress=Watch())
    assert [task for task, _ in begun] == ["pages", "models", "ledger", "answers"]
    assert {"deep/config.json", "z.json"} <= dict(begun)["models"]
