"""The ``files`` connector keeps the contract, and captures exactly what it says it captured."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from refloat.connectors import files
from refloat.connectors.beside import Beside
from refloat.connectors.files import Files, FilesSettings
from refloat.contracts import Facts, Health, Op, Place, Settings
from refloat.digest import Json, listing_digest
from refloat.errors import ConnectorError
from refloat.testing.connector_contract import ActingSink, ConnectorContract
from refloat.testing.memory_snapshot import MemorySink


class TestFolder(ConnectorContract):
    connector = Files()

    def make_live(self, tmp_path: Path) -> Settings:
        root = tmp_path / "prompts"
        (root / "deep" / "er").mkdir(parents=True)
        (root / "empty").mkdir(mode=0o750)
        (root / "active.json").write_text(json.dumps({"version": 3, "model": "embedder"}))
        (root / "deep" / "er" / "answer.txt").write_text("Answer in one sentence.\n")
        (root / "run.sh").write_text("#!/bin/sh\n")
        (root / "run.sh").chmod(0o755)
        (root / "latest").symlink_to("deep/er/answer.txt")
        (root / "nothing").touch()
        return FilesSettings(path=str(root), expose={"active": "active.json"})

    def mutate(self, settings: Settings) -> None:
        self.change_identity(settings)

    def change_identity(self, settings: Settings) -> None:
        root = Path(settings.path)  # type: ignore[attr-defined]
        with (root / "deep" / "er" / "answer.txt").open("a") as file:
            file.write("Name the source.\n")

    def empty_target(self, tmp_path: Path) -> Settings:
        return FilesSettings(path=str(tmp_path / "prompts"), expose={"active": "active.json"})

    def fill_foreign(self, settings: Settings) -> None:
        root = Path(settings.path)  # type: ignore[attr-defined]
        root.mkdir()
        (root / "theirs.txt").write_text("not ours")


class TestSingleFile(TestFolder):
    connector = Files()

    def make_live(self, tmp_path: Path) -> Settings:
        path = tmp_path / "flags.yaml"
        path.write_text("rerank: true\n")
        return FilesSettings(path=str(path), expose={"flags": "flags.yaml"})

    def change_identity(self, settings: Settings) -> None:
        path = Path(settings.path)  # type: ignore[attr-defined]
        path.write_text(path.read_text() + "boost: 2\n" if "boost" not in path.read_text() else "boost: 3\n")

    def empty_target(self, tmp_path: Path) -> Settings:
        return FilesSettings(path=str(tmp_path / "flags.yaml"), expose={"flags": "flags.yaml"})

    def fill_foreign(self, settings: Settings) -> None:
        Path(settings.path).write_text("theirs: true\n")  # type: ignore[attr-defined]


def place(settings: Settings) -> Place:
    return Place("part", "eu", settings)


def op(settings: Settings, tmp_path: Path) -> Op:
    return Op(place(settings), run="r", token="t", epoch=1, scratch=tmp_path / "scratch")


def capture(settings: Settings, tmp_path: Path, sink: MemorySink | None = None) -> tuple[MemorySink, Facts]:
    sink = sink or MemorySink()
    return sink, Files().capture(sink, op(settings, tmp_path))


def tree(tmp_path: Path, **files: str | bytes) -> Path:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def test_the_digest_is_what_sha256sum_prints(tmp_path: Path) -> None:
    root = tree(tmp_path, b__a_txt="one", a_txt="two", ab_txt="three")
    (root / "link").symlink_to("a.txt")
    recipe = "find . -type f -printf '%P\\0' | sort -z | xargs -0 sha256sum | sha256sum"
    printed = subprocess.run(
        recipe, shell=True, cwd=root, env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=True
    )
    facts = Files().inspect(place(FilesSettings(path=str(root))))
    assert facts.identity["digest"] == f"sha256:{printed.stdout.split()[0].decode()}"
    assert (facts.identity["files"], facts.identity["bytes"]) == (3, 11)


def test_the_digest_of_one_file_is_its_own(tmp_path: Path) -> None:
    path = tree(tmp_path, a_txt="one") / "a.txt"
    digest = hashlib.sha256(b"one").hexdigest()
    assert Files().inspect(place(FilesSettings(path=str(path)))).identity["digest"] == f"sha256:{digest}"


def test_only_what_is_included_is_captured_with_the_folders_above_it(tmp_path: Path) -> None:
    root = tmp_path / "live"
    for path in ("a/x.bin", "a/y.txt", "b/z.txt", "c/d/e.bin", "models/f.txt", "models/old/g.bin", "-h.bin"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    os.mkfifo(root / "b" / "pipe")  # what is not included need not be brought back
    locked = root / "models" / "old"
    settings = FilesSettings(path=str(root), include=("*.bin", "models"), exclude=("models/old",))
    sink, facts = capture(settings, tmp_path)
    found = {entry.path for entry in sink.source(facts).entries()}
    files = {"a", "a/x.bin", "c", "c/d", "c/d/e.bin", "models", "models/f.txt", "-h.bin"}
    assert found == {"content", *(f"content/{path}" for path in files)}
    assert facts.identity["files"] == 4
    (root / "b" / "z.txt").write_text("changed")
    (locked / "g.bin").write_text("changed")
    assert capture(settings, tmp_path)[1].identity == facts.identity, "what is not captured does not count"


@pytest.mark.parametrize("pattern", ["", "models/", "/models"])
def test_an_include_that_could_match_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="matches nothing"):
        FilesSettings(path=str(tmp_path), include=(pattern,))


def test_excluded_names_and_paths_are_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path, a_py="", a_pyc="", cache__x="", deep__cache__y="", deep__a_pyc="", deep__z="")
    settings = FilesSettings(path=str(root), exclude=("*.pyc", "cache", "deep/z*"))
    sink, facts = capture(settings, tmp_path)
    assert set(sink.held.entries) == {"content", "content/a.py", "content/deep"}
    assert facts.identity["files"] == 1


def test_what_refloat_put_beside_other_components_is_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one")
    beside = Beside(root / "a.txt", "t9")
    beside.stage(lambda path: path.write_text("staged") and None)
    beside.switch({"epoch": 1, "run": "r"})
    sink, _ = capture(FilesSettings(path=str(root)), tmp_path)
    assert set(sink.held.stored) == {"content/a.txt"}


def test_a_device_is_refused_by_name_until_it_is_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one", odd="two")
    lstat = os.lstat

    def as_device(path: Any, **options: Any) -> Any:
        found = lstat(path, **options)
        if path != "odd":
            return found
        return SimpleNamespace(st_mode=stat.S_IFCHR | 0o600, st_ctime_ns=found.st_ctime_ns)

    monkeypatch.setattr(files.os, "lstat", as_device)
    settings = FilesSettings(path=str(root))
    for act in (lambda: Files().inspect(place(settings)), lambda: capture(settings, tmp_path)):
        with pytest.raises(ConnectorError, match="a device cannot be brought back") as caught:
            act()
        assert (caught.value.file, caught.value.next) == ("odd", "add its name to `exclude`")
    sink, _ = capture(FilesSettings(path=str(root), exclude=("odd",)), tmp_path)
    assert set(sink.held.stored) == {"content/a.txt"}


def test_a_socket_is_left_out_and_the_facts_say_so(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "odd"))
    settings = FilesSettings(path=str(root))
    sink, facts = capture(settings, tmp_path)
    assert set(sink.held.entries) == {"content", "content/a.txt"}
    assert facts.position == {"left_out": {"sockets": 1, "names": ["odd"]}}
    assert facts == Files().inspect(place(settings))
    (root / "odd").unlink()
    assert Files().inspect(place(settings)).identity == facts.identity


def test_a_pipe_is_a_fact_and_nothing_of_it_is_read(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one")
    settings = FilesSettings(path=str(root))
    before = Files().inspect(place(settings))
    os.mkfifo(root / "pipe", 0o640)
    sink, facts = capture(settings, tmp_path)
    assert sink.held.entries["content/pipe"].type == "fifo" and facts == Files().inspect(place(settings))
    assert facts.identity == {**before.identity, "pipes": listing_digest([("pipe", "")])}
    assert (facts.token == before.token) is False


def test_links_are_stored_and_never_followed(tmp_path: Path) -> None:
    root, outside = tree(tmp_path, a_txt="one"), tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (root / "folder").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    (root / "gone").symlink_to("/nowhere")
    sink, facts = capture(FilesSettings(path=str(root)), tmp_path)
    assert set(sink.held.stored) == {"content/a.txt"}
    assert sink.held.entries["content/folder"].target == str(outside)
    (root / "gone").unlink()
    (root / "gone").symlink_to("/elsewhere")
    assert Files().inspect(place(FilesSettings(path=str(root)))).identity_digest() != facts.identity_digest()


def test_a_link_to_a_name_that_is_no_text_is_captured_and_carried(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one")
    (root / "odd").symlink_to(os.fsdecode(b"to \xff"))
    sink, facts = capture(FilesSettings(path=str(root)), tmp_path)
    assert os.fsencode(sink.held.entries["content/odd"].target) == b"to \xff"
    assert facts.token is not None
    assert Files().inspect(place(FilesSettings(path=str(root)))) == facts


def test_the_configured_path_itself_may_be_a_link(tmp_path: Path) -> None:
    root = tree(tmp_path, a_json='{"v": 1}')
    (tmp_path / "current").symlink_to(root)
    (tmp_path / "flags.json").symlink_to(root / "a.json")
    folder, _ = capture(FilesSettings(path=str(tmp_path / "current")), tmp_path)
    assert set(folder.held.stored) == {"content/a.json"}
    settings = FilesSettings(path=str(tmp_path / "flags.json"), expose={"flags": "flags.json"})
    file, facts = capture(settings, tmp_path)
    assert (set(file.held.stored), facts.identity["flags"]) == ({"content"}, {"v": 1})


def test_a_folder_swapped_for_a_link_while_it_is_read_leads_nowhere(tmp_path: Path) -> None:
    root, outside = tree(tmp_path, a_txt="one", b__secret="ours"), tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("theirs")

    def swap() -> None:
        shutil.rmtree(root / "b")
        (root / "b").symlink_to(outside)

    sink, _ = capture(FilesSettings(path=str(root)), tmp_path, ActingSink(swap))
    assert b"theirs" not in sink.held.stored.values()


def test_facts_are_of_the_stored_bytes_when_a_file_is_written_meanwhile(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one", b_txt="two")
    settings, connector = FilesSettings(path=str(root)), Files()
    before = connector.inspect(place(settings))
    sink = ActingSink(lambda: [(root / name).write_text("new") for name in ("a.txt", "b.txt")] and None)
    facts = connector.capture(sink, op(settings, tmp_path))
    stored = [(path.removeprefix("content/"), content) for path, content in sink.held.stored.items()]
    digests = [(path, hashlib.sha256(content).hexdigest()) for path, content in stored]
    assert facts.identity["digest"] == listing_digest(digests)
    assert facts.identity_digest() != before.identity_digest()
    again, _ = capture(settings, tmp_path, MemorySink(sink))
    assert set(again.held.stored.values()) == {b"new"}


def between_look_and_open(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something after a file was looked at and before it is opened for the first time."""
    opened, acts = files._opened, [act]

    def act_then_open(found: files._Found) -> AbstractContextManager[int | None]:
        if acts:
            acts.pop()()
        return opened(found)

    monkeypatch.setattr(files, "_opened", act_then_open)


def test_a_file_written_between_look_and_open_is_not_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one")
    settings, first = FilesSettings(path=str(root)), MemorySink()
    Files().capture(first, op(settings, tmp_path))
    between_look_and_open(monkeypatch, lambda: (root / "a.txt").write_text("two"))
    sink, facts = capture(settings, tmp_path, MemorySink(first))
    digest = hashlib.sha256(sink.held.stored["content/a.txt"]).hexdigest()
    assert facts.identity["digest"] == listing_digest([("a.txt", digest)])


def test_a_file_swapped_for_a_link_between_look_and_open_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one")
    (tmp_path / "secret").write_text("theirs")

    def swap() -> None:
        (root / "a.txt").unlink()
        (root / "a.txt").symlink_to(tmp_path / "secret")

    between_look_and_open(monkeypatch, swap)
    sink, facts = capture(FilesSettings(path=str(root)), tmp_path)
    assert (sink.held.stored, facts.identity["files"]) == ({}, 0)


def test_a_file_that_vanishes_meanwhile_is_neither_stored_nor_in_the_facts(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one", b_txt="two", c__d_txt="three")

    def vanish() -> None:
        (root / "b.txt").unlink()
        shutil.rmtree(root / "c")

    sink, facts = capture(FilesSettings(path=str(root)), tmp_path, ActingSink(vanish))
    assert set(sink.held.stored) == {"content/a.txt"}
    assert facts.identity["files"] == 1


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("swap", [_fifo, _socket, _folder], ids=["pipe", "socket", "folder"])
def test_a_file_swapped_for_something_else_between_look_and_open_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path], None]
) -> None:
    root = tree(tmp_path, a_txt="one", b_txt="two")
    between_look_and_open(monkeypatch, lambda: swap(root / "a.txt"))
    sink, facts = capture(FilesSettings(path=str(root)), tmp_path)
    assert (set(sink.held.stored), facts.identity["files"]) == ({"content/b.txt"}, 1)


def test_a_file_that_grows_as_fast_as_it_is_read_comes_to_an_end(tmp_path: Path) -> None:
    root = tree(tmp_path, a_log=b"x" * 100)

    class Growing(MemorySink):
        def file(self, path: str, content: Path | BinaryIO, **named: Any) -> int:
            assert not isinstance(content, Path)
            for _ in range(50):
                with (root / "a.log").open("ab") as log:
                    log.write(b"y" * 100)
                content.read(10)
            return super().file(path, io.BytesIO(content.read()), **named)

    _, facts = capture(FilesSettings(path=str(root)), tmp_path, Growing())
    assert (root / "a.log").stat().st_size == 5100
    digest = hashlib.sha256(b"x" * 100).hexdigest()
    assert facts.identity["digest"] == listing_digest([("a.log", digest)])


@pytest.mark.parametrize("settled", [True, False], ids=["inspected", "captured"])
def test_a_file_of_which_the_disk_gives_only_a_part_is_no_snapshot(  # fault 41
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: bool
) -> None:
    root = tree(tmp_path, a_bin=b"x" * 5000)
    settings = FilesSettings(path=str(root))
    monkeypatch.setattr(files, "_TICK_NS", 0 if settled else 10**18)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    real = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda handle, buffers, at: 0 if at else real(handle, [buffers[0][:4096]], 0)
    )
    for act in (lambda: Files().inspect(place(settings)), lambda: capture(settings, tmp_path)):
        with pytest.raises(ConnectorError, match="4096 of its 5000 bytes"):
            act()


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one", b_txt="two", c_txt="three")
    settings, connector = FilesSettings(path=str(root)), Files()
    first = MemorySink()
    connector.capture(first, op(settings, tmp_path))
    (root / "b.txt").write_text("TWO")
    (root / "c.txt").chmod(0o600)
    second = MemorySink(first)
    facts = connector.capture(second, op(settings, tmp_path))
    assert (second.held.read, second.held.carried) == (["content/b.txt", "content/c.txt"], ["content/a.txt"])
    assert facts == Files().inspect(place(settings))


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one")
    settings, connector = FilesSettings(path=str(root)), Files()
    first = MemorySink()
    before = connector.capture(first, op(settings, tmp_path))
    found = (root / "a.txt").stat()
    (root / "a.txt").write_text("eno")
    os.utime(root / "a.txt", ns=(found.st_atime_ns, found.st_mtime_ns))
    second = MemorySink(first)
    after = connector.capture(second, op(settings, tmp_path))
    assert second.held.stored["content/a.txt"] == b"eno"
    assert after.token != before.token


def test_a_file_stamped_in_the_running_tick_has_no_token_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one")
    monkeypatch.setattr(files, "_TICK_NS", 10**18)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    sink, facts = capture(FilesSettings(path=str(root)), tmp_path)
    assert facts.token is None
    assert sink.held.entries["content/a.txt"].token == ""


def test_the_next_command_reads_nothing_of_what_did_not_change_but_what_is_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one", b_json='{"c": 1}')
    settings = FilesSettings(path=str(root), expose={"b": "b.json"})
    first, facts = capture(settings, tmp_path)
    really, opened = files._opened, []
    monkeypatch.setattr(files, "_opened", lambda found: (opened.append(found.path), really(found))[1])
    connector, second = Files(), MemorySink(first)
    assert connector.token(place(settings)) == facts.token and opened == []
    assert connector.capture(second, op(settings, tmp_path)) == connector.inspect(place(settings)) == facts
    assert (opened, second.held.read) == (["b.json"], [])


def test_what_is_stored_is_not_read_again_to_see_that_it_stayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one")
    settings, connector = FilesSettings(path=str(root)), Files()
    facts = connector.capture(MemorySink(), op(settings, tmp_path))
    monkeypatch.setattr(files, "_opened", lambda found: pytest.fail(f"{found.path} was opened"))
    assert connector.inspect(place(settings)) == facts


def test_other_documents_to_expose_make_another_token(tmp_path: Path) -> None:
    root = tree(tmp_path, a_json="{}", b_json="{}")
    told = {
        Files().token(place(FilesSettings(path=str(root), expose={"x": name})))
        for name in ("a.json", "b.json")
    }
    assert len(told) == 2


def test_asking_again_does_not_read_what_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, a_txt="one", b_json="{}")
    settings, connector = FilesSettings(path=str(root), expose={"b": "b.json"}), Files()
    first = connector.inspect(place(settings))
    monkeypatch.setattr(files, "_opened", lambda found: pytest.fail(f"{found.path} was opened"))
    assert connector.inspect(place(settings)) == first


def test_folders_come_back_with_their_modes_and_times(tmp_path: Path) -> None:
    root = tree(tmp_path, deep__a_txt="one")
    (root / "empty").mkdir()
    for path, mode in ((root / "empty", 0o555), (root / "deep", 0o711), (root, 0o750)):
        path.chmod(mode)
        os.utime(path, ns=(10**18, 10**18))
    sink, facts = capture(FilesSettings(path=str(root)), tmp_path)
    target = op(FilesSettings(path=str(tmp_path / "us" / "root")), tmp_path)
    Files().stage(sink.source(facts), target)
    Files().activate(target)
    for name, mode in (("empty", 0o555), ("deep", 0o711), ("", 0o750)):
        found = (tmp_path / "us" / "root" / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (mode, 10**18), name


def test_a_snapshot_of_something_else_is_refused(tmp_path: Path) -> None:
    sink = MemorySink()
    sink.file("database.sqlite", io.BytesIO(b"x"))
    with pytest.raises(ConnectorError, match="content"):
        Files().stage(sink.source(Facts()), op(FilesSettings(path=str(tmp_path / "root")), tmp_path))


def test_folders_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "/".join(["d"] * 130)).mkdir(parents=True)
    with pytest.raises(ConnectorError, match="nested deeper"):
        Files().inspect(place(FilesSettings(path=str(root))))


# ----------------------------------------------------------------------------------------- documents


def exposed(tmp_path: Path, name: str, content: str | bytes) -> Json:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    settings = FilesSettings(path=str(root), expose={"document": name})
    return Files().inspect(place(settings)).identity["document"]


def test_exposed_documents_become_plain_json(tmp_path: Path) -> None:
    assert exposed(tmp_path, "a.json", '{"a": [1, 2.5, null, true]}') == {"a": [1, 2.5, None, True]}
    text = "when: 2026-11-01\nat: 2026-11-01T12:00:00Z\n7: seven\nshared: &x [1]\nagain: *x\n"
    assert exposed(tmp_path, "a.yaml", text) == {
        "when": "2026-11-01",
        "at": "2026-11-01T12:00:00+00:00",
        "7": "seven",
        "shared": [1],
        "again": [1],
    }


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in itertools.pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "{"),
        ("a.json", '{"a": NaN}'),
        ("a.json", "[" * 100_000),
        ("a.json", "[" * 40 + "]" * 40),
        ("a.json", b"\xff\xfe\x00"),
        ("a.json", '"' + "x" * 300_000 + '"'),
        ("a.yaml", "a: [1"),
        ("a.yaml", "a: 1\na: 2\n"),
        ("a.yaml", "a: .inf"),
        ("a.yaml", "? [1, 2]\n: 3\n"),
        ("a.yaml", "!!python/object/apply:os.system [touch /tmp/x]"),
        ("a.yaml", BOMB),
        ("a.yaml", "a: &a [*a]"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_document_that_cannot_be_exposed_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: str | bytes
) -> None:
    with pytest.raises(ConnectorError, match="`expose`") as caught:
        exposed(tmp_path, name, content)
    assert caught.value.file == name
    assert len(caught.value.message) < 300


def test_an_exposed_document_must_be_there(tmp_path: Path) -> None:
    settings = FilesSettings(path=str(tree(tmp_path, a_txt="one")), expose={"flags": "flags.json"})
    with pytest.raises(ConnectorError, match="not there"):
        Files().inspect(place(settings))
    assert Files().health(place(settings)) is Health.SICK


@pytest.mark.parametrize(
    "expose",
    [
        {"digest": "a.json"},
        {"position": "a.json"},
        {"a-b": "a.json"},
        {"a": "/etc/passwd"},
        {"a": "../a.json"},
    ],
    ids=str,
)
def test_exposed_names_collide_with_nothing_and_stay_below_the_folder(expose: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        FilesSettings(path="root", expose=expose)


def test_an_exposed_link_is_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    root = tree(tmp_path, a_txt="one")
    (tmp_path / "secret.json").write_text('{"key": 1}')
    (root / "flags.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ConnectorError, match="not there"):
        Files().inspect(place(FilesSettings(path=str(root), expose={"flags": "flags.json"})))


def test_a_missing_folder_is_sick(tmp_path: Path) -> None:
    assert Files().health(place(FilesSettings(path=str(tmp_path / "gone")))) is Health.SICK


# ----------------------------------------------------------------------------------------- any tree

NAMES = st.sampled_from(["a", "b.txt", "ü", "sp ace", "new\nline", "\udcff", ".hidden", "-x", "content"])
TREES = st.recursive(
    st.binary(max_size=40) | st.text(st.sampled_from("ab/."), min_size=1, max_size=6),
    lambda children: st.dictionaries(NAMES, children, max_size=4),
    max_leaves=8,
)


def grow(path: Path, node: bytes | str | dict[str, object]) -> None:
    match node:
        case bytes():
            path.write_bytes(node)
        case str():
            path.symlink_to(node)
        case dict():
            path.mkdir()
            for name, child in node.items():
                grow(path / name, child)  # type: ignore[arg-type]


def shape(path: Path) -> object:
    if path.is_symlink():
        return str(path.readlink())
    if path.is_dir():
        return {child.name: shape(child) for child in path.iterdir()}
    return path.read_bytes()


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(node=st.dictionaries(NAMES, TREES, max_size=4) | st.binary(max_size=40))
def test_any_tree_comes_back_as_it_was(tmp_path: Path, node: dict[str, object] | bytes) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_TICK_NS", 0)
        live, target = Path(folder) / "live", op(FilesSettings(path=f"{folder}/us/live"), tmp_path)
        grow(live, node)
        settings = FilesSettings(path=str(live))
        sink, facts = capture(settings, tmp_path)
        assert facts.identity == Files().inspect(place(settings)).identity
        Files().stage(sink.source(facts), target)
        Files().activate(target)
        assert shape(Path(folder) / "us" / "live") == shape(live)
        assert Files().inspect(target.place).identity == facts.identity
