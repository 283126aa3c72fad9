"""A vault: its replicas, one in each region, as far as they can be reached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from refloat.clock import Clock
from refloat.contracts import Store
from refloat.errors import (
    Damaged,
    Missing,
    RefloatError,
    StoreError,
    UsageError,
    VaultError,
    WrongKey,
    most_hopeful,
)
from refloat.vault.first_word import Asking, answers
from refloat.vault.keys import KeyFile
from refloat.vault.layout import VAULT, Descriptor
from refloat.vault.replica import Replica
from refloat.vault.stores import open_store

T = TypeVar("T")


class Vault:
    """The replicas that answered, and for each other region the error that it gave.

    Two regions with one replica are one copy, and the first of them has it. One that says for which region it was made
    is no other region's in any case (``Replica.open``).
    """

    def __init__(self, replicas: Mapping[str, Replica], unreachable: Mapping[str, RefloatError]) -> None:
        shared = _shared(replicas)
        self.replicas = {region: one for region, one in replicas.items() if region not in shared}
        self.unreachable = {**unreachable, **shared}
        removals = [one for replica in self.replicas.values() for one in replica.keyring.removals()]
        notes = [one for replica in self.replicas.values() for one in replica.keyring.notes().values()]
        described = {
            name: note
            for replica in self.replicas.values()
            for name, note in replica.keyring.descriptor_notes().items()
        }
        for replica in self.replicas.values():
            replica.keyring.adopt(removals)
            replica.keyring.adopt_notes(notes)
            replica.keyring.adopt_descriptors(described)
        locks = [lock for replica in self.replicas.values() if (lock := replica.keyring.lock) is not None]
        for replica in self.replicas.values() if locks else ():
            replica.keyring.adopt_lock(max(locks))
        self._leave_out_wrong()

    def _leave_out_wrong(self) -> None:
        """Leave out each region whose descriptor is not the one that was signed for it, as another region tells.

        Raises ``Damaged`` where no region is left.
        """
        for region, replica in list(self.replicas.items()):
            try:
                replica.keyring.require_described(region, replica.descriptor)
            except Damaged as error:
                self.unreachable[region] = error
                del self.replicas[region]
                if not self.replicas:
                    raise _none_answers(self.unreachable) from error

    @classmethod
    def open(
        cls,
        urls: Mapping[str, str],
        key_file: KeyFile,
        clock: Clock,
        cache: Path | None = None,
        awaited: Collection[str] | None = None,
        beside: Collection[str] = (),
    ) -> Vault:
        """Open every region's replica, at the same time; a region that is not to be had is no error here.

        So one that was lost to somebody else, or to a flipped bit, keeps no other from a recovery. Nor does one that
        is silent hold up the others, or those ``beside`` them, for long, but for the ``awaited``: see ``answers``.
        Raises ``WrongKey`` where the key opens none, ``StoreError`` where none answers, ``VaultError`` where none is
        whole.
        """
        replicas: dict[str, Replica] = {}
        unreachable: dict[str, RefloatError] = {}
        opening: dict[str, Asking[Replica | RefloatError]] = {}
        for region, url in urls.items():
            try:
                store = open_store(url)
            except RefloatError as error:
                unreachable[region] = error.at(region=region)
            else:
                opening[region] = Asking(store, partial(_open, region, store, key_file, clock, cache))
        for region, result in answers(opening, _is_open, awaited, beside).items():
            if isinstance(result, Replica):
                replicas[region] = result
            else:
                unreachable[region] = result
        if not replicas:
            raise _none_answers(unreachable)
        for region, met in unreachable.items():
            if isinstance(met, Missing) and met.file == VAULT:
                met.next = f"refloat vault add-region {region}"
        return cls(replicas, unreachable)

    def each(self, ask: Callable[[Replica], T]) -> dict[str, T]:
        """What ``ask`` says of each region; one that falls silent meanwhile is ``unreachable`` from then on.

        Raises ``StoreError`` where none is left.
        """
        said: dict[str, T] = {}
        for region, replica in list(self.replicas.items()):
            try:
                said[region] = ask(replica)
            except StoreError as error:
                self.unreachable[region] = error.at(region=region)
                del self.replicas[region]
        if not self.replicas:
            raise _none_answers(self.unreachable)
        return said

    def sound(self) -> Vault:
        """The same without the regions whose log of points cannot be read: one that is damaged stops no other.

        Raises ``VaultError`` or ``StoreError`` where none is left.
        """
        replicas, unreachable = dict(self.replicas), dict(self.unreachable)
        for region, replica in self.replicas.items():
            try:
                replica.points()
            except (VaultError, StoreError) as error:
                unreachable[region] = error.at(region=region)
                del replicas[region]
        if not replicas:
            raise _none_answers(unreachable)
        return Vault(replicas, unreachable)


def _shared(replicas: Mapping[str, Replica]) -> dict[str, RefloatError]:
    """Each region whose place is that of one before it, by what lies there: addresses have many spellings."""
    first: dict[Descriptor, str] = {}
    for region, replica in replicas.items():
        first.setdefault(replica.descriptor, region)
    return {
        region: UsageError(
            f"{replica.store.url} holds the replica of region {first[replica.descriptor]!r}: both are one copy",
            region=region,
            next="give each region a `vault` of its own",
        )
        for region, replica in replicas.items()
        if first[replica.descriptor] != region
    }


def _none_answers(unreachable: Mapping[str, RefloatError]) -> RefloatError:
    """The one region's own error, or one that names every region's and hopes for what the most hopeful one does."""
    first = most_hopeful(unreachable.values())
    wrong = next((error for error in unreachable.values() if isinstance(error, WrongKey)), None)
    if wrong is not None or len(unreachable) == 1:
        return wrong or first
    told = "; ".join(f"{region}: {error.message}" for region, error in unreachable.items())
    for kind in (UsageError, VaultError):
        if all(isinstance(error, kind) for error in unreachable.values()):
            return kind(f"no region's vault can be opened: {told}", file=first.file, next=first.next)
    return StoreError(
        f"no region's vault answers: {told}", file=first.file, retry=first.retry, next=first.next
    )


def _is_open(opened: Replica | RefloatError) -> bool:
    return isinstance(opened, Replica)


def _open(
    region: str, store: Store, key_file: KeyFile, clock: Clock, cache: Path | None
) -> Replica | RefloatError:
    try:
        return Replica.open(region, store, key_file, clock, cache)
    except RefloatError as error:
        return error.at(region=region)
