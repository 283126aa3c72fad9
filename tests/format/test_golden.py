"""Old bytes stay readable: by a second reader that knows docs/FORMAT.md alone, and by refloat."""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.main import run
from refloat.digest import canonical_json, json_digest
from refloat.errors import Damaged
from refloat.flows import protect as protecting
from refloat.flows.forget import forget, plan_forget
from refloat.limits import PRUNE_GRACE_S
from refloat.manifest.parse import parse
from refloat.testing.world import World
from refloat.vault.forgotten import write_forgotten
from refloat.vault.keys import KeyFile, Keyring, Role
from refloat.vault.prune import plan_prune, prune
from refloat.vault.replica import create_vault
from refloat.vault.stores.local import LocalStore
from refloat.vault.tree import chunk_names
from refloat.vault.writer import Writer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GOLDEN = ROOT / "tests" / "golden" / "vault-1"
KEY = GOLDEN / "vault-1.key"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
POINTS: dict[str, Any] = EXPECTED["points"]
REGIONS = ("eu", "us")

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(HERE)
    from objects import Key, Refused
    from reader import Replica


def golden(region: str = "us") -> Replica:
    return Replica(GOLDEN / region, Key.load(KEY))


# ------------------------------------------------------------------------------------------- what comes back


def found_below(folder: Path) -> dict[str, dict[str, Any]]:
    """Everything below a folder, as ``expected.json`` says it: by the base64 of its path."""
    found = {}
    for path in folder.rglob("*"):
        said: dict[str, Any] = {"path": base64.b64encode(os.fsencode(path.relative_to(folder))).decode()}
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            said |= {"type": "symlink", "target": base64.b64encode(os.fsencode(path.readlink())).decode()}
        else:
            said |= {"mode": stat.S_IMODE(status.st_mode), "mtime_ns": status.st_mtime_ns}
            said["type"] = "directory" if path.is_dir() else "file"
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                said |= {"size": status.st_size, "sha256": digest}
        found[said["path"]] = said
    return found


def require_as_captured(point: str, folders: dict[str, Path]) -> None:
    """Refuse a restored point that is not what its sources were. ``folders``: of ``manifest`` and components."""
    expected = POINTS[point]
    assert folders.keys() == {"manifest", *expected["components"], *expected["rows"]}
    for name, entries in expected["components"].items():
        assert found_below(folders[name]) == {one["path"]: one for one in entries}, name
    found = found_below(folders["manifest"])
    assert found.keys() == {one["path"] for one in expected["manifest"]}
    for one in expected["manifest"]:  # the files of the manifest are kept by their bytes alone
        assert all(found[one["path"]].get(key) == one.get(key) for key in ("type", "size", "sha256"))
    for name, rows in expected["rows"].items():
        with contextlib.closing(sqlite3.connect(folders[name] / "database.sqlite")) as database:
            assert list(database.iterdump()) == rows


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("point", POINTS)
def test_the_second_reader_restores_every_component_of_every_point(
    point: str, region: str, tmp_path: Path
) -> None:
    golden(region).restore(point, tmp_path / "out")
    folders = {path.name: path for path in (tmp_path / "out" / "components").iterdir()}
    require_as_captured(point, {"manifest": tmp_path / "out" / "manifest", **folders})


@pytest.mark.parametrize("point", POINTS)
def test_refloat_brings_the_same_bytes_of_the_same_points(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = REGIONS[list(POINTS).index(point) % 2]
    vault = shutil.copytree(GOLDEN / region, tmp_path / "vault", symlinks=True)
    with_golden_key(tmp_path, monkeypatch)
    broken = ["--override", "group_broken"] if POINTS[point]["grade"] == "broken" else []
    into = tmp_path / "out"
    assert run(["-q", "recover", "--vault", str(vault), "--point", point, "--into", str(into), *broken]) == 0
    require_as_captured(point, {path.name: path for path in into.iterdir()})


def with_golden_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands use a copy of the golden key, since they may note in it what they saw."""
    key = folder / "vault-1.key"
    shutil.copy(KEY, key)
    key.chmod(0o600)
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(key))
    monkeypatch.delenv("REFLOAT_PASSPHRASE", raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("region", REGIONS)
def test_refloat_finds_every_byte_of_the_golden_vault_in_order(
    region: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = shutil.copytree(GOLDEN / region, tmp_path / "vault", symlinks=True)
    with_golden_key(tmp_path, monkeypatch)
    code = run(["--json", "-q", "vault", "check", "--vault", str(vault), "--read-data"])
    said = json.loads(capsys.readouterr().out)
    read = golden(region).check()
    assert (code, said["ok"], said["damaged"]) == (0, True, [])
    assert (said["chunks"], said["packs"]) == (read["chunks"], len(list(vault.glob("packs/*/*"))))


def test_both_readers_say_the_same_of_every_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = shutil.copytree(GOLDEN / "eu", tmp_path / "vault", symlinks=True)
    with_golden_key(tmp_path, monkeypatch)
    bodies = golden("eu").points
    assert bodies.keys() == POINTS.keys()
    for point, body in bodies.items():
        assert run(["--json", "points", "show", point, "--vault", str(vault)]) == 0
        said = json.loads(capsys.readouterr().out)
        for name, snapshot in body["components"].items():
            assert {key: said["components"][name][key] for key in snapshot} == snapshot
        assert {name: group["grade"] for name, group in said["groups"].items()} == {
            name: group["grade"] for name, group in body["groups"].items()
        }
        carried = sorted(name for name, one in body["components"].items() if one["carried"])
        assert carried == POINTS[point]["carried"]


def test_the_other_logs_tell_one_story() -> None:
    replica = golden("us")
    logs = {stream: replica.log(stream) for stream in replica.streams()}
    (of_run,) = [stream for stream in logs if stream.startswith("runs/")]
    assert logs.keys() == {"points", "baselines", "evidence", "targets/us", of_run}
    told = [entry.body["record"] for entry in logs[of_run]]
    assert (told[0]["type"], told[-1]["type"], told[-1]["state"]) == ("started", "finished", "done")
    assert told[0]["plan"]["point"] in POINTS
    claims = [entry.body for entry in logs["targets/us"]]
    assert [claim["type"] for claim in claims] == ["claimed", "begun", "released"]
    assert {f"runs/{claim['run']}" for claim in claims} == {of_run}
    assert logs["evidence"][-1].body["run"] == claims[0]["run"]
    assert len(logs["baselines"]) == 2 and len(logs["points"]) == len(POINTS)


def test_every_region_has_seen_the_log_of_the_other_as_it_is() -> None:
    logs = {region: golden(region).commits for region in REGIONS}
    for region, other in (("eu", "us"), ("us", "eu")):
        seen = [entry.body["heads"][other] for entry in logs[region] if other in entry.body["heads"]]
        assert len(seen) == len(POINTS) - 1
        for head in seen:
            entry = logs[other][head["slot"]]
            assert (entry.hash, entry.body["point"]) == (head["hash"], head["point"])


# ------------------------------------------------------------------------------------------- the reader itself


def test_the_reader_imports_nothing_of_refloat() -> None:
    allowed = {*sys.stdlib_module_names, "blake3", "blosc2", "cryptography", "numpy", "zstandard", "objects"}
    for file in ("reader.py", "objects.py"):
        for node in ast.walk(ast.parse((HERE / file).read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "refloat"] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed
        assert "__import__" not in (HERE / file).read_text()


REFUSING = """\
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] != "refloat", f"the reader asks for {name}"
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
del sys.argv[:1]
runpy.run_path(sys.argv[0] + "/reader.py", run_name="__main__")
"""


def spoken(*arguments: object, said: str = "") -> subprocess.CompletedProcess[str]:
    """The reader's command in a process where refloat cannot be had."""
    command = [sys.executable, "-I", "-c", REFUSING, str(HERE), *map(str, arguments)]
    return subprocess.run(command, input=said, capture_output=True, text=True, timeout=250, check=False)


def test_the_reader_restores_by_the_passphrase_where_refloat_cannot_be_imported(tmp_path: Path) -> None:
    point = next(iter(POINTS))
    done = spoken("restore", GOLDEN / "eu", point, tmp_path / "out", said=EXPECTED["passphrase"] + "\n")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"restored": point}
    assert (tmp_path / "out" / "components" / "settings" / "content").read_text() == '{"temperature": 0.2}\n'


def test_another_passphrase_opens_nothing() -> None:
    with pytest.raises(Refused, match="seal does not hold"):
        Key.unwrapped(GOLDEN / "eu", "another")


def test_the_short_reader_of_the_manual_restores_files_of_the_golden_vault(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "FORMAT.md").read_text(), re.DOTALL)
    newest = POINTS[list(golden().points)[-1]]["components"]
    files = [
        ("settings", "content"),
        ("pages", "content/large.txt"),
        ("pages", "content/deep/deeper/page.txt"),
    ]
    for component, path in files:
        command = [sys.executable, "-I", "-c", script, str(KEY), str(GOLDEN / "eu"), component, path]
        read = subprocess.run(command, capture_output=True, timeout=250, check=False)
        assert read.returncode == 0, read.stderr.decode()
        shown = base64.b64encode(path.encode()).decode()
        (expected,) = [one for one in newest[component] if one["path"] == shown]
        assert hashlib.sha256(read.stdout).hexdigest() == expected["sha256"]


# ------------------------------------------------------------------------------------------- what is refused


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A copy of the golden replica of ``us``, to be spoiled."""
    return shutil.copytree(GOLDEN / "us", tmp_path / "us", symlinks=True)


def require_refused(vault: Path, what: str, key: Key | None = None) -> None:
    with pytest.raises(Refused, match=what):
        Replica(vault, key or Key.load(KEY)).check()


def objects(vault: Path, pattern: str) -> list[Path]:
    return sorted(path for path in vault.glob(pattern) if not path.is_symlink() and path.name.isalnum())


KINDS = (
    "keys/*",
    "log/points/*",
    "log/runs/*/*0",
    "log/targets/*/*",
    "log/evidence/*",
    "log/baselines/*",
    "points/*",
    "index/*",
    "packs/*/*",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_in_every_kind_of_object(kind: str, vault: Path) -> None:  # fault 2
    spoiled = objects(vault, kind)[-2:]
    assert spoiled
    for path in spoiled:
        whole = path.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            require_refused(vault, path.name)
        path.write_bytes(whole)
    assert Replica(vault, Key.load(KEY)).check() == golden().check()


def test_a_vault_that_says_that_it_is_another_is_refused(vault: Path) -> None:
    whole = (vault / "vault.json").read_text()
    said = json.loads(whole)
    others = {"vault": "0" * 32, "pipeline": "another", "format": 2, "region": 7, "chunking": {}, "more": 1}
    for field, value in others.items():
        other = json.dumps({**said, field: value}, sort_keys=True, separators=(",", ":"))
        (vault / "vault.json").write_text(other)
        require_refused(vault, "vault.json")
    own, at = said["replica"][:32], whole.index(said["replica"])
    plain = {**said, "replica": own}
    summed = canonical_json({**plain, "replica": own + json_digest(plain)})
    (vault / "vault.json").write_bytes(summed)
    assert Replica(vault, Key.load(KEY)).check() == golden().check()
    for byte in (at, at + 95, summed.index(b"max") + 5):
        (vault / "vault.json").write_bytes(summed[:byte] + bytes([summed[byte] ^ 1]) + summed[byte + 1 :])
        require_refused(vault, "vault.json")
    for other in (whole + " ", whole.replace(",", ", ", 1), whole[:-1], "[" * 100_000):
        (vault / "vault.json").write_text(other)
        require_refused(vault, "vault.json")


def test_exchanged_slots_are_refused(vault: Path) -> None:  # fault 5
    one, two = vault / "log/points/0000000000000001", vault / "log/points/0000000000000002"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    require_refused(vault, "0000000000000001: belongs elsewhere")


@pytest.mark.parametrize(
    ("change", "role", "what"),
    [
        ({"previous": "0" * 64}, Role.WRITER, "another than it was"),
        ({"refs": []}, Role.WRITER, "refs do not name its point"),
        ({"refs": ["../points"]}, Role.WRITER, "refs are no names"),
        ({"time": "yesterday"}, Role.WRITER, "its time"),
        ({"more": 1}, Role.WRITER, "more than the fields"),
        ({"format": 2}, Role.WRITER, "a newer refloat is needed"),
        ({}, Role.OPERATOR, "nobody vouches as a writer"),
    ],
)
def test_an_entry_that_is_well_signed_and_still_wrong_is_refused(
    change: dict[str, Any], role: Role, what: str, vault: Path
) -> None:  # fault 53
    path = vault / "log" / "points" / "0000000000000004"
    keyring = Keyring.open(KeyFile.load(KEY), LocalStore(vault))
    entry = {**json.loads(path.read_text()), **change, "signer": keyring.signer(role)}
    del entry["signature"]
    message = b"slot:" + canonical_json({**entry, "vault": keyring.vault})
    path.write_bytes(canonical_json({**entry, "signature": keyring.sign(role, message).value.hex()}))
    require_refused(vault, what)


FILE = {"name": "YQ==", "type": "file", "size": 0, "chunks": "", "segmenter": 0, "token": ""}
FILE |= {"mode": 0o644, "mtime_ns": 0}
LINK = {"name": "Yg==", "target": "dA==", "type": "symlink"}


@pytest.mark.parametrize(
    "entries",
    [
        [LINK, FILE],
        [FILE, FILE],
        *([{**FILE, **change}] for change in (
            {"name": "Li4="}, {"name": "Lg=="}, {"name": "YS9i"}, {"name": "YQBi"}, {"name": ""}, {"name": "YR=="},
            {"mode": 0o4755}, {"mode": -1}, {"mode": True}, {"size": 1}, {"size": -1}, {"mtime_ns": 1 << 63},
            {"chunks": "YWJj", "size": 3}, {"segmenter": 256}, {"type": "device"}, {"more": 1}, {"token": None},
        )),
        *([{**LINK, "target": target}] for target in ("", "YQBi", "a", base64.b64encode(b"x" * 4097).decode())),
        [None],
        [{"mode": 0o755, "mtime_ns": 0, "name": "YQ==", "tree": "AB" * 32, "type": "directory"}],
        [{"mode": 0o755, "mtime_ns": 0, "name": "YQ==", "tree": "ab" * 32, "type": "directory"}],  # in itself
    ],
)  # fmt: skip
def test_a_folder_that_no_capture_makes_is_refused_by_both_readers(entries: list[Any]) -> None:  # fault 60
    stored = canonical_json({"format": 1, "entries": entries, "next": None})
    replica = golden()
    replica.chunk = lambda chunk, *, page=False: stored  # type: ignore[method-assign]
    with pytest.raises(Refused):
        replica.tree("ab" * 32)
    with pytest.raises(Damaged):
        list(chunk_names(b"\xab" * 32, lambda name: stored))


def test_a_log_with_a_gap_and_one_that_was_rolled_back_are_refused(vault: Path) -> None:  # fault 54
    slots = objects(vault, "log/points/*")[Key.load(KEY).heads["us"]["slot"] :]
    stored = [path.read_bytes() for path in slots]
    for path in reversed(slots):
        path.unlink()
    require_refused(vault, "rolled back")
    for path, whole in zip(slots, stored, strict=True):
        path.write_bytes(whole)
    (vault / "log/points/0000000000000001").unlink()
    require_refused(vault, "later ones are there")


OTHER_KEYS = {
    "vault": "vault.json",
    "pipeline": "vault.json",
    "admin": "keys/: set aside",
    "catalogue": "its seal does not hold",
    "chunk_name": "not what its name says",
    "opening": "a key that this reader was not given",
}


@pytest.mark.parametrize(("field", "what"), OTHER_KEYS.items())
def test_another_key_is_refused(field: str, what: str, vault: Path) -> None:  # fault 58
    own = getattr(Key.load(KEY), field)
    other = "another" if isinstance(own, str) else bytes([own[0] ^ 64]) + own[1:]
    require_refused(vault, what, replace(Key.load(KEY), **{field: other}))


@pytest.mark.parametrize(
    "spoil", [lambda whole: whole[:-1], lambda whole: whole[:100], lambda whole: whole + b"x"]
)
def test_a_truncated_or_overlong_pack_is_refused(
    spoil: Callable[[bytes], bytes], vault: Path
) -> None:  # fault 6
    for path in objects(vault, "packs/*/*")[:2]:
        whole = path.read_bytes()
        path.write_bytes(spoil(whole))
        require_refused(vault, path.name)
        path.write_bytes(whole)


def test_nothing_is_written_where_an_object_is_missing(vault: Path, tmp_path: Path) -> None:  # fault 3
    point = golden().commits[0].body["point"]
    for kind in ("points/*", "packs/*/*"):
        path = vault / "points" / point if kind == "points/*" else max(objects(vault, kind), key=size_of)
        path.rename(path.with_name("away~"))
        with pytest.raises(Refused, match=path.name):
            Replica(vault, Key.load(KEY)).restore(point, tmp_path / kind[:3])
        path.with_name("away~").rename(path)
    assert not (tmp_path / "poi").exists()


def size_of(path: Path) -> int:
    return path.stat().st_size


def test_a_vault_that_lost_its_index_is_read_by_its_packs(vault: Path) -> None:
    for path in objects(vault, "index/*"):
        path.unlink()
    assert Replica(vault, Key.load(KEY)).check() == golden().check()


# ------------------------------------------------------------------------------------------- what refloat writes now


def test_the_second_reader_reads_what_refloat_writes_today(tmp_path: Path) -> None:
    stores = {region: LocalStore(tmp_path / f"vault-{region}") for region in REGIONS}
    world = World(tmp_path, "", stores=dict(stores))
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    odd = tmp_path / "eu" / "pages" / os.fsdecode(b"\xff\n")
    odd.mkdir(0o2750)
    (odd / "noise").write_bytes(os.urandom(2_000_000))
    (odd / "link").symlink_to("noise")
    (odd / "another").symlink_to(os.fsdecode(b"to \xff"))
    world.answer("cut \ud800")
    first = world.protect().name
    world.release(2)
    second = world.protect().name
    assert world.recover().ok
    live = found_below(tmp_path / "eu" / "pages")
    world.key_file.save(tmp_path / "small.key")
    for region in REGIONS:
        replica = Replica(tmp_path / f"vault-{region}", Key.load(tmp_path / "small.key"))
        assert replica.check()["points"] >= 2 and list(replica.points)[:2] == [first, second]
        replica.restore(second, tmp_path / f"out-{region}")
        restored = found_below(tmp_path / f"out-{region}" / "components" / "pages" / "content")
        assert restored == live
        answers = tmp_path / f"out-{region}" / "components" / "answers" / "log.jsonl"
        assert answers.read_bytes() == (tmp_path / "eu" / "answers.jsonl").read_bytes()


def test_the_second_reader_passes_over_what_is_forgotten_and_gone(tmp_path: Path) -> None:
    stores = {region: LocalStore(tmp_path / f"vault-{region}") for region in REGIONS}
    world = World(tmp_path, "", stores=dict(stores))
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    names = []
    for version in (2, 3, 4):
        world.release(version)
        names.append(world.protect().name)
    manifest = parse(world.text + b"keep: {last: 1, daily: 0, monthly: 0}\n")
    forget(world.vault(), plan_forget(manifest, world.vault(), world.clock))
    world.key_file.save(tmp_path / "small.key")
    for _ in range(2):
        replica = Replica(tmp_path / "vault-us", Key.load(tmp_path / "small.key"))
        assert list(replica.points) == names[2:]
        assert replica.forgotten == dict.fromkeys(names[:2], "beyond last 1")
        assert replica.check()["logs"]["forgotten"] == 1
        for plan in plan_prune(vault := world.vault(), world.clock.now()):
            prune(vault.replicas[plan.region], plan)
        world.clock.sleep(PRUNE_GRACE_S)
    assert not (tmp_path / "vault-us" / "points" / names[0]).exists()
    assert Replica(tmp_path / "vault-us", Key.load(tmp_path / "small.key")).check()["points"] == 1


def test_the_second_reader_reads_an_index_object_that_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protecting, "Writer", partial(Writer, pack_bytes_max=4096))
    world = World(tmp_path, "", stores={r: LocalStore(tmp_path / f"vault-{r}") for r in REGIONS})
    world.release(1)
    create_vault(world.stores, world.key_file, world.clock, "small")
    passing = tmp_path / "eu" / "pages" / "passing.bin"
    passing.write_bytes(os.urandom(8192))
    first = world.protect().name
    passing.unlink()
    second = world.protect().name
    for replica in world.vault().replicas.values():
        write_forgotten(replica, 0, {first: "beyond last 1"}, seen=1)
    world.key_file.save(tmp_path / "small.key")
    for name in ("marked", "gone"):
        for plan in plan_prune(vault := world.vault(), world.clock.now()):
            prune(vault.replicas[plan.region], plan)
        reader = Replica(tmp_path / "vault-us", Key.load(tmp_path / "small.key"))
        assert reader.check()["points"] == 1
        reader.restore(second, tmp_path / name)
        restored = found_below(tmp_path / name / "components" / "pages" / "content")
        assert restored == found_below(tmp_path / "eu" / "pages")
        world.clock.sleep(PRUNE_GRACE_S)
    index = [path.read_bytes() for path in (tmp_path / "vault-us" / "index").iterdir()]
    assert sorted(stored[9] for stored in index) == [1, 2]
    places = [place for some in reader.index.values() for place in some]
    assert all((tmp_path / "vault-us" / "packs" / one.pack[:2] / one.pack).exists() for one in places)
