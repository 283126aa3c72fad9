"""Disks that are full, read-only or failing, and folders that hold whatever a folder can: real ones, real commands."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refloat.testing.disk import folder_in_memory

pytestmark = pytest.mark.slow

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL_DISK = 2 * MIB
LARGE_DISK = 256 * MIB
MEMORY_MAX = 1 * GIB  # of one command, whatever it captures
COUNT, SPARSE_BYTES = 5_000, 1 * GIB
COUNT_SOAK, SPARSE_BYTES_SOAK = 100_000, 20 * GIB
COMMAND_SECONDS_MAX = 1800.0  # of one command, with as much to do as that


class Machine:
    """A mount namespace of its own, in which disks can be mounted that nobody else sees."""

    def __init__(self) -> None:
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "echo here; exec cat"]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # until we are gone, and it with us
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except FileNotFoundError:
            pytest.skip("REAL DISK NOT TRIED: there is no unshare here to mount one with")
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if said != "here\n":
            self.end()
            pytest.skip(f"REAL DISK NOT TRIED: user namespaces are forbidden here: {said.strip()}")

    @property
    def inside(self) -> tuple[str, ...]:
        """The words before a command that is to run there."""
        return ("nsenter", "--preserve-credentials", "-U", "-m", "-t", str(self.process.pid))

    def seen(self, path: Path) -> Path:
        """A path as it is there."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def mount(self, place: Path, size: int, option: str = "rw") -> None:
        """A disk of ``size`` bytes at ``place``, which hides what is there."""
        place.mkdir(parents=True, exist_ok=True)
        self.do("mount", "-t", "tmpfs", "-o", f"size={size},{option}", "disk", str(place))

    def change(self, place: Path, size: int, option: str = "rw") -> None:
        """The same disk with another size, or read-only."""
        self.do("mount", "-o", f"remount,size={size},{option}", str(place))

    def do(self, *command: str) -> None:
        subprocess.run([*self.inside, *command], check=True)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def machine() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.end()


@pytest.fixture
def desk(tmp_path: Path, operator_of: Callable[[Path], Any]) -> Iterator[Any]:
    """An operator whose pipeline has a manifest, and no vault yet."""
    operator = operator_of(tmp_path)
    yield operator
    operator.end()


@pytest.fixture
def quick_desk(operator_of: Callable[[Path], Any]) -> Iterator[Any]:
    """The same on a disk in memory, where the sync of each of many files costs nothing."""
    with folder_in_memory() as folder:
        operator = operator_of(folder)
        yield operator
        operator.end()


def prepare(desk: Any) -> Any:
    desk.here("vault", "init", "--key", str(desk.key))
    return desk


def on(machine: Machine, desk: Any) -> Any:
    """The operator, at work on that machine."""
    desk.inside = machine.inside
    return desk


def grow(desk: Any, size: int) -> None:
    """Another release, with a page that cannot be compressed."""
    desk.release(2)
    (desk.root / "eu" / "pages" / "large.bin").write_bytes(os.urandom(size))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def objects(vault: Path) -> set[str]:
    return {path.relative_to(vault).as_posix() for path in vault.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every path below a folder: what it is, its time and mode, and its bytes or target."""
    found: dict[str, tuple[object, ...]] = {}
    for above, below, files, handle in os.fwalk(folder):
        for name in below + files:
            status = os.lstat(name, dir_fd=handle)
            kind, content = stat.S_IFMT(status.st_mode), b""
            if kind == stat.S_IFLNK:
                found[f"{above}/{name}".removeprefix(str(folder))] = (kind, os.readlink(name, dir_fd=handle))
                continue
            if kind == stat.S_IFREG:
                with open(os.open(name, os.O_RDONLY, dir_fd=handle), "rb") as file:  # noqa: PTH123
                    content = file.read()
            found[f"{above}/{name}".removeprefix(str(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


# ------------------------------------------------------------------------------------------ disks that are full


def test_a_region_whose_disk_is_full_stays_behind_and_catches_up_when_there_is_room(  # fault 13
    machine: Machine, desk: Any
) -> None:
    vault = desk.root / "us" / "vault"
    machine.mount(vault, SMALL_DISK)
    prepare(on(machine, desk))
    first = desk.here("protect")["point"]
    grow(desk, 4 * MIB)
    left = []
    for _ in range(2):
        made = desk.here("protect", exits=1)
        assert (made["regions"]["eu"]["complete"], made["regions"]["us"]["complete"]) == (True, False)
        assert "No space left" in made["regions"]["us"]["error"]
        left.append(objects(machine.seen(vault)))
        assert not [name for name in left[-1] if name.endswith("~")]
        (desk.root / "eu" / "pages" / "large.bin").write_bytes(os.urandom(4 * MIB))
    assert left[0] == left[1]
    assert desk.refloat("vault", "check", "--vault", str(vault), "--read-data")["ok"]
    assert [point["point"] for point in desk.refloat("points", "list", "--vault", str(vault))["points"]] == [
        first
    ]
    machine.change(vault, LARGE_DISK)
    assert desk.here("protect")["regions"]["us"]["complete"]
    assert desk.refloat("vault", "check", "--vault", str(vault), "--read-data")["ok"]


@pytest.mark.parametrize("why", ["full", "read-only"])
def test_a_target_without_room_is_left_as_it_was_and_taken_once_there_is_some(  # faults 13, 44
    machine: Machine, desk: Any, why: str
) -> None:
    prepare(desk)
    grow(desk, 4 * MIB)
    desk.here("protect")
    shutil.copytree(desk.root / "us" / "vault", desk.root / "far")
    target = desk.root / "us"
    machine.mount(target, SMALL_DISK)
    on(machine, desk)
    (machine.seen(target) / "pages").mkdir()
    (machine.seen(target) / "pages" / "old.txt").write_text("still live")
    machine.do("cp", "-r", str(desk.root / "far"), str(desk.root / "us2"))
    manifest = desk.manifest.read_text().replace("us/vault", "us2")
    desk.manifest.write_text(manifest)
    if why == "read-only":
        machine.change(target, SMALL_DISK, "ro")
    before = names(machine.seen(target))
    recover = ("recover", "--to", "us", "--override", "target_foreign")
    foreseen = desk.here(*recover, exits=3)
    assert (foreseen["state"], foreseen["error"]["rule"]) == ("blocked", "target_full")
    assert names(machine.seen(target)) == before
    failed = desk.here(*recover, "--override", "target_full", exits=1)
    error = failed["error"]
    assert ("No space" if why == "full" else "Read-only") in error["message"]
    assert error["next"] and error["component"] == "pages" and failed["state"] in ("blocked", "rolled_back")
    assert names(machine.seen(target)) == before
    assert (machine.seen(target) / "pages" / "old.txt").read_text() == "still live"
    machine.change(target, LARGE_DISK)
    desk.here(*recover)
    shutil.copytree(machine.seen(target), desk.root / "seen")
    assert desk.live("seen") == desk.live("eu")


def test_a_full_disk_for_temporary_files_is_told_and_passes(machine: Machine, desk: Any) -> None:  # fault 13
    prepare(desk)
    desk.here("protect")
    for version in range(2, 400):
        desk.answer(f"b{version}")
    grow(desk, 10)
    machine.mount(desk.temporary, 4 * KIB)
    on(machine, desk)
    made = desk.here("protect", exits=1)
    assert "full" in str(made) or "No space" in str(made)
    machine.change(desk.temporary, LARGE_DISK)
    assert not list(machine.seen(desk.temporary).iterdir())
    desk.here("protect")


def test_a_page_that_cannot_be_kept_is_a_warning_and_no_failed_recovery(  # fault 13
    machine: Machine, desk: Any
) -> None:
    prepare(desk)
    desk.here("protect")
    machine.mount(desk.home / ".local", 64 * KIB, "ro")
    code, recovered, said = on(machine, desk).run("-f", str(desk.manifest), "recover", "--to", "us")
    assert (code, recovered["state"]) == (0, "done")
    assert "Read-only" in said or "evidence" in said


def test_a_vault_on_a_read_only_disk_stays_behind_and_says_so(machine: Machine, desk: Any) -> None:
    vault = desk.root / "us" / "vault"
    machine.mount(vault, LARGE_DISK)
    prepare(on(machine, desk))
    desk.here("protect")
    machine.change(vault, LARGE_DISK, "ro")
    desk.release(2)
    made = desk.here("protect", exits=1)
    assert made["regions"]["eu"]["complete"]
    assert "Read-only" in made["regions"]["us"]["error"]
    assert desk.refloat("vault", "check", "--vault", str(vault))["ok"]


# ------------------------------------------------------------------------------------------ disks that fail

FSYNC_FAILS = "fsync,fdatasync,syncfs:error=EIO"


def failing(injected: str, nth: str) -> tuple[str, ...]:
    """The words before a command whose ``nth`` call of a thread fails."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip(
            "FAILING SYNC NOT TRIED: strace is not installed: apt-get install strace; its in-process twins have run"
        )
    calls = injected.partition(":")[0]
    probe = [strace, "-o", "/dev/null", "-e", f"trace={calls}", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("FAILING SYNC NOT TRIED: strace may not trace here; its in-process twins have run")
    return (
        strace,
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={injected}:when={nth}",
    )


def test_what_an_fsync_refused_is_never_called_protected(desk: Any) -> None:  # fault 14
    prepare(desk)
    for nth in ("1+", "5"):
        desk.inside = failing(FSYNC_FAILS, nth)
        code, made, _ = desk.run("-f", str(desk.manifest), "protect")
        desk.inside = ()
        complete = [name for name, region in made.get("regions", {}).items() if region["complete"]]
        assert code == 0 or "Input/output error" in str(made)
        assert nth != "1+" or (code, complete) == (1, [])
        for region in complete:
            assert desk.refloat("vault", "check", "--vault", desk.vault(region), "--read-data")["ok"]
    desk.here("protect")


def test_what_an_fsync_refused_is_never_made_live(desk: Any) -> None:  # faults 14, 44
    prepare(desk)
    desk.here("protect")
    shutil.copytree(desk.root / "us", desk.root / "before")
    before = names(desk.root / "us")
    # The journal lies in a vault, whose own writes would fail first: so only calls that staging makes.
    desk.inside = failing("syncfs:error=EIO", "1+")
    failed = desk.here("recover", "--to", "us", exits=1)
    desk.inside = ()
    assert "Input/output error" in failed["error"]["message"]
    assert {name for name in names(desk.root / "us") - before if not name.startswith("vault/")} == set()
    desk.here("recover", "--to", "us")
    assert desk.live("us") == desk.live("eu")


# ------------------------------------------------------------------------------------------ folders of every kind


def fill_oddly(folder: Path) -> None:
    """Everything that a folder can hold and that can be brought back."""
    odd = [
        "new\nline",
        "-rf",
        "--help",
        " ",
        "trailing ",
        "snow\u2603\U0001f600",
        "n" * 255,
        "\x01\x7f",
        "~",
        "*",
        "a\\b",
    ]
    for name in [*odd, "Case", "case", b"\xff\xfe".decode("utf-8", "surrogateescape")]:
        (folder / name).write_text(f"in {name!r}")
    (folder / "empty").mkdir(mode=0o500)
    (folder / "nothing").touch(mode=0o400)
    (folder / "one").write_text("one")
    (folder / "other").hardlink_to(folder / "one")
    for link, target in {
        "absolute": "/etc/hostname",
        "dangling": "no/where",
        "loop": "loop",
        "up": "../..",
    }.items():
        (folder / link).symlink_to(target)
    above = os.open(folder, os.O_RDONLY)
    for depth in range(100):  # a path of 25,000 characters: longer than any system call takes
        name = f"{depth:03d}".ljust(250, "d")
        os.mkdir(name, dir_fd=above)
        below = os.open(name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    with open(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=above), "w") as file:  # noqa: PTH123
        file.write("here it ends")
    os.close(above)


def test_whatever_a_folder_holds_comes_back_as_it_was(desk: Any) -> None:  # fault 60
    pages = desk.root / "eu" / "pages"
    fill_oddly(pages)
    outside = desk.root / "eu" / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (pages / "out").symlink_to(outside)
    kept = contents(outside)
    prepare(desk)
    desk.here("protect")
    desk.here("recover", "--to", "us")
    found, wanted = contents(desk.root / "us" / "pages"), contents(pages)
    assert found == wanted
    assert contents(outside) == kept
    desk.refloat("recover", "--vault", desk.vault("eu"), "--into", str(desk.root / "out"))
    assert contents(desk.root / "out" / "pages" / "content") == wanted


def test_what_may_not_be_read_is_named_and_nothing_is_called_protected(desk: Any) -> None:
    prepare(desk)
    ordinary = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if subprocess.run([*ordinary, "true"], capture_output=True, check=False).returncode:
        pytest.skip(
            "UNREADABLE FILE NOT TRIED: user namespaces are forbidden here, and whoever runs this may read everything"
        )
    desk.inside = ordinary
    for closed in (desk.root / "eu" / "pages" / "current.json", desk.root / "eu" / "pages" / "deep"):
        mode = closed.stat().st_mode
        closed.chmod(0)
        failed = desk.here("protect", exits=1)["error"]
        assert (failed["component"], "Permission denied" in failed["message"]) == ("pages", True)
        assert closed.name in failed["file"] and "user who may read" in failed["next"]
        closed.chmod(mode)
    desk.here("protect")


# ------------------------------------------------------------------------------------------ many files, large files

LONE = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {{vault: "{root}/eu/vault"}}
components:
  pages:
    kind: files
    with: {{path: "{root}/eu/pages"}}
"""


def alone(desk: Any) -> Any:
    """The same operator with one component and one region."""
    shutil.rmtree(desk.root / "eu" / "pages")
    (desk.root / "eu" / "pages").mkdir()
    desk.manifest.write_text(LONE.format(root=desk.root))
    return prepare(desk)


def there_and_back(desk: Any, out: Path) -> dict[str, float]:
    """Protect and bring the bytes; how many seconds each took."""
    took = {}
    for arguments in (("protect",), ("recover", "--into", str(out))):
        begun = time.monotonic()
        process = desk.start("-f", str(desk.manifest), *arguments)
        said = process.communicate(timeout=COMMAND_SECONDS_MAX)
        assert process.returncode == 0, said
        took[arguments[0]] = round(time.monotonic() - begun, 1)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB < MEMORY_MAX
    return took


def many_files(desk: Any, count: int) -> None:
    pages = alone(desk).root / "eu" / "pages"
    for number in range(count):
        if number % 1000 == 0:
            (folder := pages / f"{number // 1000:03d}").mkdir()
        (folder / f"{number}.txt").write_bytes(b"page %d\n" % number)
    took = there_and_back(desk, desk.root / "out")
    print(f"{count} files: {took}")
    found = {path.name: path.read_bytes() for path in (desk.root / "out").glob("pages/content/*/*")}
    assert found == {f"{number}.txt": b"page %d\n" % number for number in range(count)}


def sparse_file(desk: Any, size: int) -> None:
    big = alone(desk).root / "eu" / "pages" / "big.img"
    parts = {size // 10 * part + 12_345: os.urandom(MIB) for part in range(10)}
    with big.open("wb") as file:
        file.truncate(size)
        for at, part in parts.items():
            file.seek(at)
            file.write(part)
    took = there_and_back(desk, desk.root / "out")
    print(f"{size} sparse bytes: {took}")
    back = desk.root / "out" / "pages" / "content" / "big.img"
    assert (back.stat().st_size, back.stat().st_blocks * 512 < 16 * MIB) == (size, True)
    with back.open("rb") as file:
        for at, part in parts.items():
            file.seek(at - 100)
            assert file.read(MIB + 200) == bytes(100) + part + bytes(100)


def test_many_small_files_come_back(quick_desk: Any) -> None:
    many_files(quick_desk, COUNT)


@pytest.mark.soak
def test_a_hundred_thousand_small_files_come_back(desk: Any) -> None:
    many_files(desk, COUNT_SOAK)


def test_a_sparse_file_comes_back_sparse(desk: Any) -> None:
    sparse_file(desk, SPARSE_BYTES)


@pytest.mark.soak
def test_a_sparse_file_of_20_gib_comes_back_sparse(desk: Any) -> None:
    sparse_file(desk, SPARSE_BYTES_SOAK)
