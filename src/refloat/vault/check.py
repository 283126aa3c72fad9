"""Is everything there that the points of a replica need, and is it still what was written?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from refloat.contracts import Progress, Silent
from refloat.digest import object_name
from refloat.errors import Damaged, Missing, VaultError, WrongKey
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.keys import Role
from refloat.vault.layout import damaged
from refloat.vault.pack import PackRecord, can_open, open_directory, open_records
from refloat.vault.points import roots
from refloat.vault.replica import POINTS_STREAM, Replica, committed
from refloat.vault.tree import chunk_names


@dataclass(frozen=True)
class Damage:
    """One object that is not what it must be, why, and the points that use it."""

    object: str
    region: str
    affects: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What a check saw. ``packs_unopened`` match their names, but this key does not open their records."""

    packs: int
    chunks: int
    bytes_read: int
    damaged: tuple[Damage, ...] = ()
    points: int = 0
    packs_unopened: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damaged


def check(replica: Replica, *, read_data: bool, progress: Progress | None = None) -> CheckReport:
    """Check the structure of a replica and, with ``read_data``, every byte of every pack.

    Structure: the log's chain, every point's seal, every folder, every chunk placed by the index, every pack
    there in its full size. Bytes: each pack's name computed anew, each record opened where the key allows.
    Raises ``StoreError`` where the store does not answer.
    """
    run = _Check(replica, progress or Silent())
    run.keys()
    run.points()
    run.packs()
    if read_data:
        run.read()
    return run.report()


@dataclass
class _Findings:
    """What one tree needs, and what is wrong with it."""

    packs: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)


class _Check:
    def __init__(self, replica: Replica, progress: Progress) -> None:
        self._replica = replica
        self._progress = progress
        self._reasons: dict[str, str] = {}
        self._affects: dict[str, set[str]] = {}
        self._users: dict[str, set[str]] = {}
        self._unlisted: set[str] = set()
        self._trees: dict[str, _Findings] = {}
        self._points = 0
        self._bytes_read = 0
        self._unopened = 0
        replica.recover_index()
        self._sizes = {entry.name: entry.size for entry in replica.store.list(layout.PACKS)}

    def report(self) -> CheckReport:
        region = self._replica.region
        found = tuple(
            Damage(name, region, tuple(sorted(self._affects.get(name, ()))), reason)
            for name, reason in sorted(self._reasons.items())
        )
        index = self._replica.index
        return CheckReport(
            len(index.packs), len(index), self._bytes_read, found, self._points, self._unopened
        )

    def _blame(self, name: str, reason: str, points: set[str] | None = None) -> None:
        self._reasons.setdefault(name, reason)
        self._affects.setdefault(name, set()).update(points or ())

    def keys(self) -> None:
        names = [entry.name for entry in self._replica.store.list(layout.KEYS)]
        damaged_names = [name for name in names if not self._is_named(name)]
        for name in damaged_names:
            self._blame(name, "its bytes do not match its name")
        if not damaged_names:
            self._lacking_keys()

    def _lacking_keys(self) -> None:
        """A key object that is gone leaves no name behind, only what can no longer be signed or opened."""
        for role in self._replica.keyring.unvouched():
            self._blame(layout.KEYS, f"no certificate there vouches for this key as {role}")
        for key_id in {pack.key_id for pack in self._replica.index.packs}:
            try:
                can_open(self._replica.keyring, key_id)
            except VaultError as error:
                self._blame(layout.KEYS, error.message)

    def _is_named(self, name: str) -> bool:
        content = self._replica.store.get(name, 0, OBJECT_BYTES_MAX + 1)
        self._bytes_read += len(content)
        return object_name(content) == name.rpartition("/")[2]

    def points(self) -> None:
        for point in self._committed():
            self._points += 1
            try:
                trees = roots(self._replica.read_point(point))
            except WrongKey:
                raise  # it is the key that lacks something, not the vault
            except (VaultError, ValueError) as error:
                self._blame(layout.point_name(point), str(error), {point})
                continue
            for tree in trees:
                self._tree(tree, point)

    def _committed(self) -> Iterator[str]:
        log = self._replica.log(POINTS_STREAM, Role.WRITER)
        try:
            for entry in log.entries():
                yield committed(entry).name
        except VaultError as error:
            self._blame(error.file or layout.stream_prefix(POINTS_STREAM), error.message)

    def _tree(self, tree: str, point: str) -> None:
        if tree not in self._trees:
            self._trees[tree] = self._walk(tree)
        findings = self._trees[tree]
        self._unlisted |= findings.unlisted
        for pack in findings.packs:
            self._users.setdefault(pack, set()).add(point)
        for name, reason in findings.faults.items():
            self._blame(name, reason, {point})

    def _walk(self, tree: str) -> _Findings:
        found = _Findings()
        try:
            for name in chunk_names(bytes.fromhex(tree), self._replica.read_chunk):
                places = list(self._replica.index.locations(name))
                found.packs.update(place.pack.name for place in places)
                if not any(place.pack.writer for place in places):
                    found.unlisted.update(place.pack.name for place in places)
                if not places:
                    found.faults[f"chunk {name.hex()}"] = "it is in no pack"
        except WrongKey:
            raise
        except (VaultError, ValueError) as error:
            where = error.file if isinstance(error, VaultError) and error.file else f"tree {tree}"
            found.faults[where] = str(error)
        return found

    def packs(self) -> None:
        for pack in self._replica.index.packs:
            name = layout.pack_name(pack.name)
            size = self._sizes.get(name)
            size = self._replica.store.size(name) if size is None else size  # a listing may lag
            if size != pack.size:
                found = "it is not there" if size is None else f"it has {size} bytes, not {pack.size}"
                self._blame(name, found, self._users.get(pack.name))
            elif pack.name in self._unlisted:
                self._blame(name, "no index object lists it; its own directory was used")
        for name, error in self._replica.index_damage.items():
            self._blame(name, error.message, self._users.get(name.rpartition("/")[2]))

    def read(self) -> None:
        packs = self._replica.index.packs
        self._progress.start("check", sum(pack.size for pack in packs))
        for pack in packs:
            try:
                self._read_pack(pack)
            except (Damaged, Missing) as error:
                self._blame(layout.pack_name(pack.name), error.message, self._users.get(pack.name))
            self._progress.advance("check", pack.size)
        self._progress.finish("check")

    def _read_pack(self, pack: PackRecord) -> None:
        what = layout.pack_name(pack.name)
        stored = self._replica.store.get(what)
        self._bytes_read += len(stored)
        if object_name(stored) != pack.name:
            raise damaged(what, "its bytes do not match its name")
        keyring = self._replica.keyring
        directory = open_directory(
            keyring, lambda start, length: stored[start : start + length], len(stored), what=what
        )
        if can_open(keyring, directory.key_id):
            open_records(keyring, stored, directory, what=what)
        else:
            self._unopened += 1
