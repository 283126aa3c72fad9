"""A disk that dies: every change below a folder is stopped at a chosen call, or recorded and replayed in part.

``CutDisk`` kills the process at one system call, ``torn`` in the middle of one create. ``Recorder`` writes
down what was changed and what was synced, and ``crash_states`` gives the folders that a loss of power may leave:
every prefix of the changes, with those dropped that were not yet synced. The model is that of ALICE (Pillai et
al., OSDI 2014), and harsh:

- a file's bytes are durable after ``fsync`` of that file, a name after ``fsync`` of the folder that holds it,
  everything after ``syncfs``; nothing else makes anything durable;
- whatever is not durable may be lost or kept, each change for itself; only changes of one name, or of where
  one inode is named, keep their order, as in every journal: with one of them all later ones are lost;
- a rename or an exchange happens whole or not at all; bytes may be lost, or cut in the middle.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from refloat.connectors import beside
from refloat.vault.stores.faulty import Crash

DROPPED_MAX = 2  # unsynced changes lost together; the next hundred-fold of states has found nothing more

LOOKS_MAX = 100  # at a folder in which something vanishes between its listing and a look at it

_REAL_PWRITE = os.pwrite  # not the one that is watched
_BY_PATH = ("open", "unlink", "remove", "mkdir", "rmdir", "symlink")
_BY_TWO_PATHS = ("link", "rename", "replace")
_BY_DESCRIPTOR = ("write", "pwrite", "ftruncate", "fsync", "fdatasync")

Do = Callable[[], Any]


@dataclass(frozen=True)
class Call:
    """One system call that may change what lies below the folder; ``content`` is what a ``write`` got."""

    name: str
    path: Path
    descriptor: int = -1
    content: bytes = b""

    def __str__(self) -> str:
        return f"{self.name} {self.path.name}"


@contextmanager
def watched(root: Path, around: Callable[[Call, Do], Any]) -> Iterator[None]:
    """Let ``around`` do every call of this process that changes something below ``root``, one at a time."""
    root = root.absolute()
    lock = threading.RLock()

    def through(call: Call, do: Do) -> Any:
        if root != call.path and root not in call.path.parents:
            return do()
        with lock:
            return around(call, do)

    with ExitStack() as stack:
        for name, stand_in in _stand_ins(through).items():
            stack.enter_context(mock.patch.object(os, name, stand_in))
        for name in ("_exchange", "_sync_file_system"):
            stack.enter_context(mock.patch.object(beside, name, _whole(name, through)))
        yield


def _stand_ins(through: Callable[[Call, Do], Any]) -> Mapping[str, Callable[..., Any]]:
    """What stands in for each function of ``os`` meanwhile."""

    def by_path(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if name == "open" and not _creates(rest, more):
                return real(path, *rest, **more)
            named = rest[0] if name == "symlink" else path
            return through(Call(name, _resolved(named, more)), lambda: real(path, *rest, **more))

        return call

    def by_two_paths(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(source: Any, target: Any, *rest: Any, **more: Any) -> Any:
            return through(Call(name, _resolved(target, more)), lambda: real(source, target, *rest, **more))

        return call

    def by_descriptor(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(descriptor: int, *rest: Any) -> Any:
            content = bytes(rest[0]) if name in ("write", "pwrite") else b""
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            return through(Call(name, path, descriptor, content), lambda: real(descriptor, *rest))

        return call

    made = {name: by_path(name) for name in _BY_PATH}
    made |= {name: by_two_paths(name) for name in _BY_TWO_PATHS}
    return made | {name: by_descriptor(name) for name in _BY_DESCRIPTOR}


def _whole(name: str, through: Callable[[Call, Do], Any]) -> Callable[..., Any]:
    real = getattr(beside, name)
    return lambda *paths: through(Call(name.strip("_"), paths[-1]), lambda: real(*paths))


def _creates(rest: tuple[Any, ...], more: Mapping[str, Any]) -> bool:
    flags = rest[0] if rest else more.get("flags", 0)
    return bool(flags & (os.O_CREAT | os.O_TRUNC))


def _resolved(path: Any, more: Mapping[str, Any]) -> Path:
    folder = more.get("dir_fd", more.get("dst_dir_fd"))
    within = Path() if folder is None else Path(f"/proc/self/fd/{folder}").readlink()
    return (within / os.fsdecode(path)).absolute()


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """An empty folder for as long as the context is open, in memory where the machine has such a place.

    Syncs cost nothing there; killing processes and replaying recorded writes need no more.
    """
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="refloat-", dir=place) as folder:
        yield Path(folder)


# --------------------------------------------------------------------------------------------- killed


HALF = 0.5


def changes(call: Call) -> bool:
    """Whether something else lies on the disk after it: what a sync does only a loss of power can tell."""
    return call.name not in ("fsync", "fdatasync", "sync_file_system")


def writes(call: Call) -> bool:
    """Whether it may be torn."""
    return call.name == "write"


class CutDisk:
    """Kills the process (``Crash``) at call number ``at`` of those that count, from 1, before it takes effect.

    ``torn`` is the share of that call that has happened where it is a ``write``: never nothing of it, never all.
    The dead process changes nothing more. ``calls`` are those that counted.
    """

    def __init__(
        self,
        at: int | None = None,
        *,
        torn: float | None = None,
        counts: Callable[[Call], bool] = lambda call: True,
    ) -> None:
        self.calls: list[Call] = []
        self.dead = False
        self._at = at
        self._torn = torn
        self._counts = counts

    def __call__(self, call: Call, do: Do) -> Any:
        """One call of a process that may be dead."""
        if self.dead:
            raise Crash(call)
        if not self._counts(call):
            return do()
        self.calls.append(call)
        if len(self.calls) != self._at:
            return do()
        self.dead = True
        if self._torn is not None and writes(call):
            _write_some(call, self._torn)
        raise Crash(call)


def torn(folder: Path) -> Callable[[Callable[[], object]], None]:
    """What ``FaultyStore`` takes as its ``torn`` for a store in ``folder``: half of the first write has happened."""

    def create(action: Callable[[], object]) -> None:
        with suppress(Crash), watched(folder, CutDisk(1, torn=HALF, counts=writes)):
            action()

    return create


def _write_some(call: Call, share: float) -> None:
    length = len(call.content)
    some = min(max(int(length * share), 1), length - 1)
    _REAL_PWRITE(call.descriptor, call.content[:some], 0)


# --------------------------------------------------------------------------------------------- recorded


@dataclass(frozen=True)
class Bytes:
    """A file, told by its inode, got other bytes."""

    file: int
    content: bytes


@dataclass(frozen=True)
class Names:
    """Names that changed together: (folder, name, what it names now or None), and all inodes concerned."""

    changed: tuple[tuple[int, str, int | None], ...]
    inodes: frozenset[int]

    def follows(self, earlier: Names) -> bool:
        """Whether this cannot be on the disk without that."""
        names = {(folder, name) for folder, name, _ in self.changed}
        return bool(names & {(f, n) for f, n, _ in earlier.changed} or self.inodes & earlier.inodes)


@dataclass(frozen=True)
class Synced:
    """What became durable: one inode's own, or everything where it is None."""

    inode: int | None


@dataclass(frozen=True)
class Told:
    """What somebody was told, and may rely on from here on."""

    what: str


Event = Bytes | Names | Synced | Told


@dataclass
class Tree:
    """A folder as inodes: what each folder names, what each file holds, where each link points."""

    root: int
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)
    links: dict[int, str] = field(default_factory=dict)
    modes: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Tree:
        """Another one that may be changed by itself."""
        folders = {inode: dict(names) for inode, names in self.folders.items()}
        return Tree(self.root, folders, dict(self.files), dict(self.links), dict(self.modes))


class Recorder:
    """Writes down, in order, how what lies below ``root`` is changed and synced while it is recorded.

    Before each call the folder is looked at anew, so that changes are found that no call here has made.
    ``fingerprints`` maps each inode to what ``beside.fingerprint`` says of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.fingerprints: dict[int, str] = {}
        self._held: list[int] = []
        self._tree = self._look()
        self.first = self._tree.copy()  # later also every inode that comes, named by nothing yet

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record while the context is open."""
        try:
            with watched(self.root, self._around):
                yield
                self._compare()
        finally:
            for descriptor in self._held:
                os.close(descriptor)

    def tell(self, what: str) -> None:
        """Somebody is told this now."""
        self._compare()
        self.events.append(Told(what))

    def _around(self, call: Call, do: Do) -> Any:
        self._compare()
        found = do()
        self._compare()
        if call.name in ("fsync", "fdatasync"):
            self.events.append(Synced(os.fstat(call.descriptor).st_ino))
        elif call.name == "sync_file_system":
            self.events.append(Synced(None))
        return found

    def _compare(self) -> None:
        before, self._tree = self._tree, self._look()
        self.events += _differences(before, self._tree)
        self.first.folders = {**{inode: {} for inode in self._tree.folders}, **self.first.folders}
        self.first.links |= self._tree.links
        self.first.modes |= self._tree.modes

    def _look(self) -> Tree:
        for _ in range(LOOKS_MAX):
            with suppress(FileNotFoundError):
                return self._look_once()
        raise OSError(f"{self.root} is never the same for the time of a look")

    def _look_once(self) -> Tree:
        tree = Tree(self._known(self.root))
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            names = tree.folders[self._known(folder)] = {}
            for entry in sorted(folder.iterdir()):
                found = entry.lstat()
                names[entry.name] = self._known(entry)
                tree.modes[found.st_ino] = stat.S_IMODE(found.st_mode)
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(entry)
                elif stat.S_ISLNK(found.st_mode):
                    tree.links[found.st_ino] = str(entry.readlink())
                else:
                    tree.files[found.st_ino] = entry.read_bytes()
        return tree

    def _known(self, path: Path) -> int:
        """Its inode, held open so that no other file gets the same number meanwhile."""
        inode = path.lstat().st_ino
        if inode not in self.fingerprints:
            self._held.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))
            self.fingerprints[inode] = beside.fingerprint(path) or ""
        return inode


def _differences(before: Tree, after: Tree) -> list[Event]:
    """What changed: new bytes first, then names, those of one inode together."""
    changed: list[Event] = [
        Bytes(inode, content) for inode, content in after.files.items() if before.files.get(inode) != content
    ]
    names = [
        (folder, name, before.folders.get(folder, {}).get(name), after.folders.get(folder, {}).get(name))
        for folder in {**before.folders, **after.folders}
        for name in {**before.folders.get(folder, {}), **after.folders.get(folder, {})}
    ]
    moved = [entry for entry in names if entry[2] != entry[3]]
    return changed + [_together(entries) for entries in _joined(moved)]


def _together(entries: list[_Moved]) -> Names:
    inodes = {inode for entry in entries for inode in entry[2:] if inode is not None}
    return Names(tuple((folder, name, now) for folder, name, _, now in entries), frozenset(inodes))


_Moved = tuple[int, str, int | None, int | None]


def _joined(moved: Iterable[_Moved]) -> list[list[_Moved]]:
    """Entries that share an inode are one rename or one exchange; a link beside its other name is none."""
    groups: list[tuple[set[int], list[_Moved]]] = []
    for entry in moved:
        inodes = {inode for inode in entry[2:] if inode is not None}
        mine = [group for group in groups if group[0] & inodes]
        rest = [group for group in groups if not group[0] & inodes]
        joined = (inodes.union(*(g[0] for g in mine)), [e for g in mine for e in g[1]] + [entry])
        groups = [*rest, joined]
    return [entries for _, entries in groups]


# --------------------------------------------------------------------------------------------- replayed


@dataclass(frozen=True)
class CrashState:
    """What may lie there after the power went: ``tree``, and what had been told by then."""

    tree: Tree
    told: tuple[str, ...]
    prefix: int
    lost: tuple[str, ...]

    def __str__(self) -> str:
        return f"after change {self.prefix}, without {', '.join(self.lost) or 'nothing'}; told: {self.told}"

    def key(self, ignored: Callable[[str], bool] = lambda name: False) -> tuple[Any, ...]:
        """Equal for states that look the same, apart from names that are ``ignored``."""

        def look(inode: int) -> Any:
            if inode in self.tree.folders:
                names = sorted(self.tree.folders[inode].items())
                return (inode, *((name, look(below)) for name, below in names if not ignored(name)))
            return (inode, self.tree.links.get(inode) or self.tree.files.get(inode, b""))

        return (self.told, look(self.tree.root))

    def write(self, root: Path) -> dict[int, int]:
        """Make ``root`` look like that, whatever was there; the inode that each new one stands for."""
        if root.exists():
            shutil.rmtree(root)
        stands_for: dict[int, int] = {}
        self._write(self.tree.root, root, stands_for)
        return stands_for

    def _write(self, inode: int, path: Path, stands_for: dict[int, int]) -> None:
        if inode in self.tree.folders:
            path.mkdir()
            for name, below in self.tree.folders[inode].items():
                self._write(below, path / name, stands_for)
        elif inode in self.tree.links:
            path.symlink_to(self.tree.links[inode])
        else:
            path.write_bytes(self.tree.files.get(inode, b""))
            path.chmod(self.tree.modes.get(inode, 0o644))
        stands_for[path.lstat().st_ino] = inode


def crash_states(
    recorder: Recorder, *, ignored: Callable[[str], bool] = lambda name: False
) -> Iterator[CrashState]:
    """Every state that a loss of power may leave, each once; names that are ``ignored`` make none of their own.

    All prefixes; in each, nothing is lost, or everything unsynced, or up to ``DROPPED_MAX`` of it. A file's
    last bytes may also be half there.
    """
    seen = set()
    # how it looked before the first change that a loss can still take
    settled, before = recorder.first.copy(), 0
    for prefix in range(len(recorder.events) + 1):
        if prefix and isinstance(recorder.events[prefix - 1], Synced):
            continue  # what is possible after a sync was possible before it
        unsynced = _unsynced(recorder.events[:prefix])
        firm = min(unsynced, default=prefix)
        _replay(settled, ((event, False) for event in recorder.events[before:firm]), torn=False)
        before = firm
        for state in _states_after(recorder, prefix, unsynced, settled, before):
            key = state.key(ignored)
            if key not in seen:
                seen.add(key)
                yield state


def _states_after(
    recorder: Recorder, prefix: int, unsynced: list[int], settled: Tree, before: int
) -> Iterator[CrashState]:
    events = recorder.events[:prefix]
    told = tuple(event.what for event in events if isinstance(event, Told))
    few = [set(some) for count in range(DROPPED_MAX + 1) for some in itertools.combinations(unsynced, count)]
    chosen = [*few, *([set(unsynced)] if len(unsynced) > DROPPED_MAX else [])]
    for lost in [_with_followers(events, some, unsynced) for some in chosen]:
        later = [(event, number in lost) for number, event in enumerate(events[before:], before)]
        said = tuple(_said(events[number], recorder) for number in sorted(lost))
        yield CrashState(_replay(settled.copy(), later, torn=False), told, prefix, said)
        if any(isinstance(events[number], Bytes) for number in lost):
            yield CrashState(_replay(settled.copy(), later, torn=True), told, prefix, ("half of", *said))


def _with_followers(events: list[Event], lost: set[int], unsynced: list[int]) -> set[int]:
    """What is lost with it: the later changes of a name that is lost, or of where an inode is named."""
    found = set(lost)
    for number in unsynced:
        event = events[number]
        earlier = (events[other] for other in found if other < number)
        if isinstance(event, Names) and any(event.follows(e) for e in earlier if isinstance(e, Names)):
            found.add(number)
    return found


def _unsynced(events: list[Event]) -> list[int]:
    """The numbers of the changes that no later sync made durable."""
    waiting: dict[int, Bytes | Names] = {}
    for number, event in enumerate(events):
        if isinstance(event, Bytes | Names):
            waiting[number] = event
        elif isinstance(event, Synced):
            waiting = {n: w for n, w in waiting.items() if not _covers(event, w)}
    return list(waiting)


def _covers(sync: Synced, change: Bytes | Names) -> bool:
    if sync.inode is None:
        return True
    if isinstance(change, Bytes):
        return change.file == sync.inode
    return any(folder == sync.inode for folder, _, _ in change.changed)


def _replay(tree: Tree, events: Iterable[tuple[Event, bool]], *, torn: bool) -> Tree:
    """Change a tree as it was changed, but for what is lost."""
    for event, lost in events:
        if isinstance(event, Bytes):
            if lost and not torn:
                tree.files.setdefault(event.file, b"")
            else:
                tree.files[event.file] = event.content[: len(event.content) // 2] if lost else event.content
        elif isinstance(event, Names) and not lost:
            _rename(tree, event)
    return tree


def _rename(tree: Tree, event: Names) -> None:
    for folder, name, now in event.changed:
        names = tree.folders.setdefault(folder, {})
        if now is None:
            names.pop(name, None)
        else:
            names[name] = now


def _said(event: Event, recorder: Recorder) -> str:
    if isinstance(event, Names):
        return " and ".join(f"{'+' if now else '-'}{name}" for _, name, now in event.changed)
    return f"bytes of inode {event.file}" if isinstance(event, Bytes) else str(event)
