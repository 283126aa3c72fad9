"""Key files that the vault itself keeps, sealed for a passphrase or a recipient: what opens from a bare machine.

Each way to open one has an id that stays when the key file is sealed anew: the salt of a passphrase, the signer id of
a recipient's public key. Order of writes, so that whoever dies in between leaves something that opens the vault:

- kept: the object in every region, then the admin's note on it;
- sealed anew after a rotation: in every region the writer's word that the new object counts in the place of the old
  one, then the new one; then the old one is removed from each;
- let go: the admin's note on that in every region, then the objects are removed.

What is locked stays when it should go, until its lock is over; the note or the word says that it counts no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from refloat.contracts import Store
from refloat.digest import object_name
from refloat.errors import Missing, RefloatError, StoreError, UsageError, VaultError
from refloat.units import format_time
from refloat.vault import layout
from refloat.vault.keyfile import (
    KEY_OBJECT_BYTES_MAX,
    KeyFile,
    signer_id,
)
from refloat.vault.keyobjects import WrapTold, publics_of, wrap_note
from refloat.vault.keys import KEY_OBJECTS_MAX, Noted, last_notes
from refloat.vault.lock import removable_from
from refloat.vault.recipients import RecipientKey, for_recipient, open_key_file, seal_key_file, told_of
from refloat.vault.replica import Replica
from refloat.vault.replicate import store_checked
from refloat.vault.resealed import outdated, resealed_in, resealed_object

LOOK = "see what the vault keeps: refloat vault keys list"

Secret = str | RecipientKey
"""What opens a key file that a vault keeps: a passphrase, or the private key of a recipient."""

Way = str | bytes
"""What a key file is to be sealed for: a passphrase, or the public key of a recipient."""

Objects = Mapping[str, bytes]
"""Objects under ``keys/`` by name."""


@dataclass(frozen=True)
class Kept:
    """A way to open the vault: what it is, what the admin says of it, and the regions where it lies."""

    told: WrapTold
    noted: Noted | None
    regions: tuple[str, ...]


# -------------------------------------------------------------------------------------------------- looking


def opened(stored: bytes, secret: Secret) -> KeyFile:
    """The key file in an object. Raises ``WrongKey`` where it is for somebody else, ``Damaged`` for junk."""
    if isinstance(secret, RecipientKey):
        return open_key_file(stored, secret)
    return KeyFile.unwrap(stored, secret)


def may_open(stored: bytes, secret: Secret) -> bool:
    """Whether a secret is of the kind that an object is sealed for, and where that shows, the very one."""
    told = told_of(stored)
    if isinstance(secret, RecipientKey):
        return told is not None and told.recipient == secret.public
    return told is not None and told.recipient is None


def kept(replicas: Sequence[Replica]) -> list[Kept]:
    """Every way to open the vault that some region keeps, or that the admin says is gone, by kind and id."""
    where: dict[str, tuple[WrapTold, list[str]]] = {}
    notes = _notes(replicas)
    for noted in notes.values():
        where.setdefault(noted.told.id, (noted.told, []))
    for replica in replicas:
        for told in {told for stored in key_objects_in(replica.store).values() if (told := told_of(stored))}:
            where.setdefault(told.id, (told, []))[1].append(replica.region)
    found = [Kept(told, notes.get(id), tuple(regions)) for id, (told, regions) in where.items()]
    return sorted(found, key=lambda one: (one.told.kind, one.told.id))


def key_objects_in(store: Store) -> dict[str, bytes]:
    """The objects under ``keys/`` that are what they are named after."""
    found = {}
    for entry in islice(store.list(layout.KEYS), KEY_OBJECTS_MAX):
        with suppress(VaultError):
            content = store.get(entry.name, 0, KEY_OBJECT_BYTES_MAX + 1)
            if layout.key_name(object_name(content)) == entry.name:
                found[entry.name] = content
    return found


def key_objects_of(replicas: Iterable[Replica]) -> tuple[dict[str, Objects], Objects]:
    """The objects under ``keys/`` of each region, and of all regions together."""
    there: dict[str, Objects] = {replica.region: key_objects_in(replica.store) for replica in replicas}
    return there, {name: content for objects in there.values() for name, content in objects.items()}


# -------------------------------------------------------------------------------------------------- keeping


def keeping(
    own: KeyFile,
    made: KeyFile,
    way: Way,
    name: str,
    now: datetime,
    replicas: Sequence[Replica],
    known: Objects,
) -> dict[str, bytes]:
    """What is to be written so that a way opens ``made``: the sealed key file, and the admin's note on it.

    What some region has already is taken as it is. Raises ``WrongKey`` where ``own`` is no admin, ``UsageError``
    where the recipient opens another key file here.
    """
    stored = _sealed(made, way, replicas, known)
    told = told_of(stored)
    assert told is not None  # it was sealed a moment ago
    ids = holder_ids(made)
    noted = _note(replicas, told.id)
    if noted is not None and _says(noted, ids, name) and noted.object in known:
        note = known[noted.object]
    else:
        note = wrap_note(own, told, holders=ids, name=name, since=format_time(now))
    return by_name([stored, note])


def _sealed(made: KeyFile, way: Way, replicas: Sequence[Replica], known: Objects) -> bytes:
    if isinstance(way, str):
        return _for_passphrase(made, way, known)
    told = for_recipient(way)
    noted = _note(replicas, told.id)
    if noted is None or noted.removed_at is not None:
        return seal_key_file(made, way)
    if noted.holders != holder_ids(made):
        raise UsageError(
            f"recipient {told.id} opens another key file here",
            next=f"refloat vault keys remove {told.id}, or let somebody else's recipient be added",
        )
    there = [content for content in known.values() if told_of(content) == told]
    words = [word for content in known.values() if (word := resealed_in(content)) is not None]
    old = outdated(words, there, lambda stored: made)  # the note says that it is this holder's
    return next((content for content in there if content not in old), None) or seal_key_file(made, way)


def _for_passphrase(made: KeyFile, passphrase: str, known: Objects) -> bytes:
    for content in known.values():
        if may_open(content, passphrase):
            with suppress(VaultError):
                if KeyFile.unwrap(content, passphrase).model_copy(update={"heads": made.heads}) == made:
                    return content
    return made.wrapped(passphrase)


def _note(replicas: Sequence[Replica], id: str) -> Noted | None:
    """The latest that the admin says of a way, in any region."""
    return _notes(replicas).get(id)


def _notes(replicas: Iterable[Replica]) -> dict[str, Noted]:
    return last_notes(noted for replica in replicas for noted in replica.keyring.notes().values())


def _says(noted: Noted, holders: frozenset[str], name: str) -> bool:
    return noted.removed_at is None and (noted.holders, noted.name) == (holders, name)


def holder_ids(key_file: KeyFile) -> frozenset[str]:
    """The signer ids of whoever holds a key file."""
    return frozenset(signer_id(public) for public in publics_of(key_file).values())


def by_name(objects: Iterable[bytes]) -> dict[str, bytes]:
    """Key objects under their names."""
    return {layout.key_name(object_name(content)): content for content in objects}


def put(replica: Replica, wanted: Objects, there: Objects) -> int:
    """Write what a region lacks, in order; how many objects that were."""
    lacking = {name: content for name, content in wanted.items() if name not in there}
    for name, content in lacking.items():
        try:
            store_checked(replica.store, name, content)
        except StoreError as error:
            raise error.at(region=replica.region) from error
    return len(lacking)


# ------------------------------------------------------------------------------------- sealed anew, and let go


@dataclass(frozen=True)
class LetGo:
    """What became of a way, or of a key file that was sealed anew, in one region: objects written and deleted there.

    ``locked_until`` is when the lock ends of what nobody can delete before; None where nothing is left.
    """

    written: int
    deleted: int
    locked_until: datetime | None


def replace(replicas: Sequence[Replica], fresh: KeyFile, secret: Secret, now: datetime) -> dict[str, LetGo]:
    """Let ``secret`` open ``fresh`` in every region, and no key file any more that the same holder had before.

    The old one is removed when the new one is in every region, so that one of both opens whatever happens; where it
    is locked it stays, and counts no more. Raises ``WrongKey`` where ``fresh`` is no writer's, and ``StoreError``;
    then both may lie there, and to rotate again leaves one.
    """
    there, known = key_objects_of(replicas)
    old = {
        content: told
        for content in known.values()
        if _is_of(content, fresh, secret) and (told := told_of(content)) is not None
    }
    if not old:
        raise Missing("the vault no longer keeps the key file that was opened", file=layout.KEYS, next=LOOK)
    anew = {told: _anew(fresh, told, secret) for told in dict.fromkeys(old.values())}
    words = [resealed_object(fresh, content, anew[told]) for content, told in old.items()]
    wanted = by_name([*words, *anew.values()])
    written = {replica.region: put(replica, wanted, there[replica.region]) for replica in replicas}
    return {
        replica.region: _taken_away(replica, by_name(old), written[replica.region], there, now)
        for replica in replicas
    }


def _is_of(content: bytes, key_file: KeyFile, secret: Secret) -> bool:
    with suppress(VaultError):
        return may_open(content, secret) and publics_of(opened(content, secret)) == publics_of(key_file)
    return False


def _anew(fresh: KeyFile, told: WrapTold, secret: Secret) -> bytes:
    return fresh.wrapped(secret, told.id) if isinstance(secret, str) else seal_key_file(fresh, secret.public)


def is_opened_by(replicas: Iterable[Replica], way: Kept, secret: Secret) -> bool:
    """Whether a secret opens what some region keeps for a way."""
    for content in {one for replica in replicas for one in key_objects_in(replica.store).values()}:
        with suppress(VaultError):
            if told_of(content) == way.told and may_open(content, secret):
                opened(content, secret)
                return True
    return False


def remove(own: KeyFile, way: Kept, now: datetime, replicas: Sequence[Replica]) -> dict[str, LetGo]:
    """Let a way open nothing here any more, by region.

    Whoever kept a copy of the object, or reads it where it is locked, still opens it with a program of their own.
    Raises ``WrongKey`` where ``own`` is no admin, ``StoreError``.
    """
    there, known = key_objects_of(replicas)
    noted = way.noted
    if noted is not None and noted.removed_at is not None and noted.object in known:
        wanted = {noted.object: known[noted.object]}
    else:
        since = format_time(noted.since) if noted is not None and noted.since is not None else ""
        told = (noted.holders, noted.name) if noted is not None else (frozenset[str](), "")
        note = wrap_note(
            own, way.told, holders=told[0], name=told[1], since=since, removed_at=format_time(now)
        )
        wanted = by_name([note])
    written = {replica.region: put(replica, wanted, there[replica.region]) for replica in replicas}
    old = {name: content for name, content in known.items() if told_of(content) == way.told}
    return {
        replica.region: _taken_away(replica, old, written[replica.region], there, now) for replica in replicas
    }


def _taken_away(
    replica: Replica, old: Objects, written: int, there: Mapping[str, Objects], now: datetime
) -> LetGo:
    """Delete from a region what of the ``old`` objects is there and not locked."""
    names = [name for name in there[replica.region] if name in old]
    ends = removable_from(replica.store, names)
    locked = {name: until for name, until in ends.items() if until > now}
    free = [name for name in names if name not in locked]
    _delete(replica, free)
    return LetGo(written, len(free), max(locked.values(), default=None))


def _delete(replica: Replica, names: Iterable[str]) -> None:
    for name in names:
        try:
            replica.store.delete(name)
        except RefloatError as error:
            raise error.at(region=replica.region) from error
