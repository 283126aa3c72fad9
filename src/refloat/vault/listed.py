"""What the index objects of a region say of packs, and which of them a prune can do without.

An index object that lists packs that go beside packs that stay is made superfluous first: another one is written
that leaves out what goes (``index.reduced_index``), and from then on it goes as whatever no point needs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from refloat.contracts import Progress
from refloat.digest import object_name
from refloat.limits import OBJECT_BYTES_MAX
from refloat.vault import layout
from refloat.vault.index import LEFT_OUT_BYTES, REDUCED_BYTES_MORE, open_index, reduced_index
from refloat.vault.indexrun import told
from refloat.vault.replica import Replica
from refloat.vault.replicate import store_checked

Word = tuple[str, bytes]
"""A pack, by the name of its object, and the digest of what is said of it and by which writer."""


@dataclass(frozen=True)
class Listed:
    """By the name of each index object of a region: what it says of packs, and its size in bytes."""

    said: Mapping[str, frozenset[Word]]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, replica: Replica, progress: Progress) -> Listed:
        """As the index objects stand there, each read whole. Raises ``Damaged``, ``StoreError``."""
        sizes = layout.objects(replica.store, layout.INDEX)
        task = f"read the index of {replica.region}"
        progress.start(task, len(sizes), "objects")
        said = {}
        for name in sizes:
            said[name] = _said_by(replica, name)
            progress.advance(task)
        progress.finish(task)
        return cls(said, sizes)

    def without(self, names: Collection[str]) -> Listed:
        """The same when these index objects are gone."""
        return Listed({name: words for name, words in self.said.items() if name not in names}, self.sizes)

    @cached_property
    def _by_pack(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, words in self.said.items():
            for pack, _ in words:
                found.setdefault(pack, set()).add(name)
        return found

    def listing(self, pack: str) -> Set[str]:
        """The index objects that list a pack."""
        return self._by_pack.get(pack, set())

    def packs(self, names: Iterable[str]) -> set[str]:
        """The packs that these index objects list."""
        return {pack for name in names for pack, _ in self.said[name]}

    def pinned(self, needed: Collection[str]) -> set[str]:
        """The packs that an index object lists beside a needed one, and that is too large to be replaced."""
        large = (self.packs([name]) for name in self.said if self._replaced_bytes(name) > OBJECT_BYTES_MAX)
        return set().union(*(packs for packs in large if not packs.isdisjoint(needed)))

    def _replaced_bytes(self, name: str) -> int:
        """How many bytes what replaces an index object has, at most."""
        return self.sizes[name] + len(self.said[name]) * LEFT_OUT_BYTES + REDUCED_BYTES_MORE

    def dispensable(self, needed: set[str], last: Collection[str]) -> set[str]:
        """Those that list a pack that is not needed, and those that say only what others say, ``last`` ones first."""
        lists_more = {name for name in self.said if not self.packs([name]) <= needed}
        order = sorted(self.said, key=lambda name: (name in lists_more, name in last, name))
        return lists_more | self.superfluous(order, needed.__contains__)

    def superfluous(self, asked: Collection[str], counts: Callable[[str], bool]) -> set[str]:
        """Those ``asked`` that say nothing of packs that count which no other says that stays. The first asked stay."""
        said = set[Word]().union(*self.without(frozenset(asked)).said.values())
        found = set()
        for name in asked:
            words = {word for word in self.said[name] if counts(word[0])}
            if words <= said:
                found.add(name)
            said |= words
        return found

    def going(self, ripe: Collection[str], aged: Collection[str]) -> set[str]:
        """What goes now of the ``ripe`` index objects and packs.

        An index object goes where each pack that it lists is ``aged``, or another one that stays says the same; a
        pack, where none that stays lists it.
        """
        asked = sorted(name for name in ripe if name in self.said)
        goes = self.superfluous(asked, lambda pack: pack not in aged)
        listed = self.packs(self.said.keys() - goes)
        return goes | {name for name in ripe if name not in self.said and name not in listed}

    def replaced(self, marked: Collection[str]) -> dict[str, frozenset[str]]:
        """The marked index objects that are not superfluous, and which marked packs what replaces each leaves out."""
        asked = sorted(name for name in self.said if name in marked)
        kept = set(asked) - self.superfluous(asked, lambda pack: pack not in marked)
        left_out = {
            name: frozenset(pack for pack in self.packs([name]) if pack in marked) for name in sorted(kept)
        }
        return {name: packs for name, packs in left_out.items() if packs}


def replace_index(replica: Replica, name: str, packs: Iterable[str]) -> None:
    """Write the index object that counts in the place of another and leaves these packs out.

    Where it is there already, as after a cut, nothing changes. Raises ``Damaged``, ``StoreError``.
    """
    stored = replica.store.get(name, 0, OBJECT_BYTES_MAX + 1)
    names = [pack.rpartition("/")[2] for pack in packs]
    made = reduced_index(replica.keyring, name.removeprefix(layout.INDEX), stored, names, what=name)
    store_checked(replica.store, layout.index_name(object_name(made)), made)


def _said_by(replica: Replica, index: str) -> frozenset[Word]:
    stored = replica.store.get(index, 0, OBJECT_BYTES_MAX + 1)
    packs = open_index(replica.keyring, index.removeprefix(layout.INDEX), stored, what=index)
    return frozenset(
        (layout.pack_name(record.name), told(record, directory, "").digest) for record, directory in packs
    )
