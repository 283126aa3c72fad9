"""Who holds keys of a vault: holders are added and removed in every region, and a content key is replaced.

Order of writes in each region when one is added, so that a cut leaves what was there, or all of what was asked for:

1. content keys wrapped for their readers, which count for nothing until their writer is vouched for;
2. certificates: from here on the new holder counts, and whatever it needs is there;
3. what the holder is called.

All of it may be done again: what some region has already is taken as it is, and brought to the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from refloat.errors import Damaged, Missing, RefloatError, StoreError, UsageError, WrongKey
from refloat.vault import layout
from refloat.vault.keyfile import BULK, KeyFile, content_key_id, lacks, signer_id
from refloat.vault.keyobjects import (
    CERTIFIED,
    certificate,
    holder_object,
    operator_removal_objects,
    publics_of,
    removal_object,
    wrap_content_key,
    wrapped_by,
)
from refloat.vault.keys import Keyring, Known, Role
from refloat.vault.replica import Replica
from refloat.vault.vault import Vault
from refloat.vault.wraps import (
    Kept,
    LetGo,
    Objects,
    Way,
    by_name,
    keeping,
    kept,
    key_objects_of,
    put,
)
from refloat.vault.wraps import remove as remove_way

FINGERPRINT_LENGTH_MIN = 8  # digits that name a key; fewer are as soon a slip as a choice


@dataclass(frozen=True)
class Holder:
    """Somebody the admin vouches for, and the regions where that is on record."""

    known: Known
    regions: tuple[str, ...]


@dataclass(frozen=True)
class SharedKey:
    """A content key: what it seals, and by signer id the readers who may open it in every region that has it."""

    id: bytes
    affinity: str
    readers: frozenset[str]
    regions: tuple[str, ...]


# -------------------------------------------------------------------------------------------------- looking


def holders(replicas: Sequence[Replica]) -> list[Holder]:
    """Everybody that some region vouches for, by role and signer id."""
    found: dict[tuple[Role, str], Known] = {}
    where: dict[tuple[Role, str], list[str]] = {}
    for replica in replicas:
        for known in replica.keyring.known():
            key = (known.role, known.id)
            found[key] = _newer(found.get(key), known)
            where.setdefault(key, []).append(replica.region)
    order = sorted(found, key=lambda key: (CERTIFIED.index(key[0]), key[1]))
    return [Holder(found[key], tuple(where[key])) for key in order]


def content_keys(replicas: Sequence[Replica]) -> list[SharedKey]:
    """Every content key that some region has, by id."""
    found: dict[bytes, SharedKey] = {}
    for replica in replicas:
        for id, (affinity, readers) in replica.keyring.content_keys().items():
            before = found.get(id)
            both = readers if before is None else readers & before.readers
            regions = () if before is None else before.regions
            found[id] = SharedKey(id, affinity, both, (*regions, replica.region))
    return [found[id] for id in sorted(found)]


def named(replicas: Sequence[Replica], fingerprint: str) -> Holder | Kept:
    """The one holder, or the one way to open the vault, whose fingerprint begins so. Raises ``UsageError``."""
    found: list[Holder | Kept] = [one for one in holders(replicas) if one.known.id.startswith(fingerprint)]
    found += [one for one in kept(replicas) if one.told.id.startswith(fingerprint)]
    if len(fingerprint) < FINGERPRINT_LENGTH_MIN or len(found) != 1:
        raise UsageError(
            f"{len(found)} keys begin with {fingerprint!r}",
            next=f"give at least {FINGERPRINT_LENGTH_MIN} digits of a fingerprint of `refloat vault keys list`",
        )
    return found[0]


def _newer(before: Known | None, known: Known) -> Known:
    if before is None or before.since is None:
        return known
    return before if known.since is None or known.since < before.since else known


# --------------------------------------------------------------------------------------------------- adding


def _require_not_removed(replicas: Sequence[Replica], made: KeyFile) -> None:
    for replica in replicas:
        for role, public in publics_of(made).items():
            if replica.keyring.removal(role, signer_id(public)) is not None:
                raise WrongKey(
                    f"this {role} was removed, and a key that was removed never counts again",
                    next="make a new key: name another place with --key FILE",
                )


@dataclass(frozen=True)
class Added:
    """How many objects each region took, and the errors of those that did not take all."""

    written: Mapping[str, int]
    lagging: Mapping[str, RefloatError]


def add(
    vault: Vault, own: KeyFile, made: KeyFile, name: str, now: datetime, *, ways: Sequence[Way] = ()
) -> Added:
    """Vouch for the holder of ``made`` in every region that answers, and keep it there, sealed for each of ``ways``.

    A new reader is given every content key of the vault, and a new writer's content key goes to every reader.
    Raises ``WrongKey`` where ``own`` is no admin, or is no reader and writer though a reader is to be added.
    """
    if Role.ADMIN not in own.roles:
        raise lacks(Role.ADMIN)
    replicas = list(vault.replicas.values())
    _require_not_removed(replicas, made)
    there, known = key_objects_of(replicas)
    wanted = {
        **_keeping(own, made, ways, name, now, replicas, known),
        **_wrapped(replicas, own, made, known),
        **by_name(certificate(own, role, public) for role, public in publics_of(made).items()),
        **_named(replicas, own, made, name, now, known),
    }
    return _put_everywhere(vault, wanted, there)


def keep(vault: Vault, own: KeyFile, name: str, now: datetime, ways: Sequence[Way]) -> Added:
    """Let passphrases and recipients open ``own`` from the vault in every region that answers.

    Raises ``WrongKey`` where ``own`` is no admin, ``UsageError`` where the recipient opens another key file here.
    """
    if Role.ADMIN not in own.roles:
        raise lacks(Role.ADMIN)
    replicas = list(vault.replicas.values())
    there, known = key_objects_of(replicas)
    return _put_everywhere(vault, _keeping(own, own, ways, name, now, replicas, known), there)


def _keeping(
    own: KeyFile,
    made: KeyFile,
    ways: Sequence[Way],
    name: str,
    now: datetime,
    replicas: Sequence[Replica],
    known: Objects,
) -> dict[str, bytes]:
    wanted: dict[str, bytes] = {}
    for way in ways:
        wanted |= keeping(own, made, way, name, now, replicas, known)
    return wanted


def _put_everywhere(vault: Vault, wanted: Objects, there: Mapping[str, Objects]) -> Added:
    written: dict[str, int] = {}
    lagging: dict[str, RefloatError] = dict(vault.unreachable)
    for replica in vault.replicas.values():
        try:
            written[replica.region] = put(replica, wanted, there[replica.region])
        except StoreError as error:
            lagging[replica.region] = error
    return Added(written, lagging)


def remove(vault: Vault, own: KeyFile, holder: Holder, now: datetime) -> dict[str, int]:
    """Let a key count no more, in every region; how many objects each took.

    What a writer has signed in a log of points until now stays good, and what an operator has in any other: the
    slot and the hash up to which that is are in the admin's word, so that whoever has the key can put nothing
    before them. A new content key is not given to a reader that was removed.

    Raises ``WrongKey`` where ``own`` is no admin, the error of a region that does not answer, and ``Damaged`` where
    a log of points is: what was good in it would be good no more. Of another log that is damaged, what comes
    behind the damage counts no more, as it did not before.
    """
    replicas = _all_replicas(vault, own)
    there, known = key_objects_of(replicas)
    role, id = holder.known.role, holder.known.id
    before = next((one for r in replicas if (one := r.keyring.removal(role, id)) is not None), None)
    if before is not None and all(name in known for name in before.objects):
        wanted = {name: known[name] for name in before.objects}
    elif role is Role.OPERATOR:
        wanted = by_name(operator_removal_objects(own, id, now, _signed(replicas, id)))
    else:
        wanted = by_name(
            [removal_object(own, role, id, now, _heads(replicas) if role is Role.WRITER else {})]
        )
    return {replica.region: put(replica, wanted, there[replica.region]) for replica in replicas}


def let_go(vault: Vault, own: KeyFile, way: Kept, now: datetime) -> dict[str, LetGo]:
    """Remove a way to open the vault from every region, as far as nothing is locked there.

    Whoever kept a copy of the object still opens it. Raises ``WrongKey`` where ``own`` is no admin, and the error
    of a region that does not answer.
    """
    return remove_way(own, way, now, _all_replicas(vault, own))


def _all_replicas(vault: Vault, own: KeyFile) -> list[Replica]:
    if Role.ADMIN not in own.roles:
        raise lacks(Role.ADMIN)
    for error in vault.unreachable.values():
        raise error
    return list(vault.replicas.values())


def _signed(replicas: Sequence[Replica], operator: str) -> dict[tuple[str, str], tuple[int, str]]:
    """By region and log: the last entry that an operator signed, as far as the log is what was written."""
    found = {}
    for replica in replicas:
        for stream in replica.streams():
            if stream.partition("/")[0] in layout.OPERATOR_STREAMS:
                with suppress(Damaged, Missing):
                    for entry in replica.log(stream, Role.OPERATOR).entries():
                        if entry.signer == operator:
                            found[replica.region, stream] = (entry.slot, entry.hash)
    return found


def _heads(replicas: Sequence[Replica]) -> dict[str, tuple[int, str]]:
    """How each region's log of points ends, after all of it was verified."""
    ends = {replica.region: replica.entries()[-1:] for replica in replicas}
    return {region: (last[0].slot, last[0].hash) for region, last in ends.items() if last}


def rotate(replicas: Sequence[Replica], own: KeyFile) -> KeyFile:
    """``own`` with another content key, which every reader can open in every one of the regions by then.

    Whoever has the old one still reads what it seals, and whoever has ``own`` as it was still writes with the old
    one. Raises ``WrongKey`` where ``own`` is no writer or a region does not vouch for it, and ``StoreError``.
    """
    fresh = own.with_new_content_key()
    _require_vouched(replicas)
    secret = Keyring(fresh).content_key().secret
    readers = _readers(replicas)
    wanted = by_name(wrap_content_key(fresh, BULK, secret, public) for public in readers.values())
    for replica in replicas:
        put(replica, wanted, {})
    return fresh


def _require_vouched(replicas: Sequence[Replica]) -> None:
    """The writer's word for a content key counts in every region, or it would be given to readers in vain."""
    for replica in replicas:
        try:
            replica.keyring.sign(Role.WRITER, b"")
        except WrongKey as error:
            raise error.at(region=replica.region) from error


def own_content_key(key_file: KeyFile) -> bytes | None:
    """The id of the key that the holder's contents are sealed with; None for no writer."""
    return Keyring(key_file).content_key().id if Role.WRITER in key_file.roles else None


def is_begun(own: KeyFile, made: KeyFile, roles: frozenset[Role]) -> bool:
    """Whether ``made`` is a key file of this vault with just these roles, as a command that was cut has left it."""
    same = (made.vault, made.pipeline, made.admin_public, made.catalogue_key)
    return same == (own.vault, own.pipeline, own.admin_public, own.catalogue_key) and made.roles == roles


# ------------------------------------------------------------------------------------------------- what is put


def _readers(replicas: Sequence[Replica]) -> dict[str, bytes]:
    """The public keys of all readers that count, by signer id."""
    found = [one.known for one in holders(replicas) if one.known.role is Role.READER]
    return {known.id: known.public for known in found if known.removed_at is None}


def _wrapped(replicas: Sequence[Replica], own: KeyFile, made: KeyFile, known: Objects) -> dict[str, bytes]:
    """Content keys for their new readers; those that were wrapped before are taken as they are."""
    before = wrapped_by(own, known.items()) | wrapped_by(made, known.items())
    wanted: dict[str, bytes] = {}
    for signer, affinity, secret, reader in _to_wrap(replicas, own, made):
        found = before.get((content_key_id(secret), signer_id(reader)))
        wanted |= dict([found]) if found else by_name([wrap_content_key(signer, affinity, secret, reader)])
    return wanted


def _to_wrap(
    replicas: Sequence[Replica], own: KeyFile, made: KeyFile
) -> Iterator[tuple[KeyFile, str, bytes, bytes]]:
    """Whose word, affinity, secret and reader's public key of everything that must be wrapped."""
    new_reader = publics_of(made).get(Role.READER)
    if made.writer is not None:
        readers = {*_readers(replicas).values(), *([new_reader] if new_reader else [])}
        for affinity, secret in sorted(made.writer.content.items()):
            for reader in sorted(readers):
                yield made, affinity, bytes.fromhex(secret), reader
    if new_reader is not None:
        _require_vouched(replicas)
        for key in content_keys(replicas):
            if own_content_key(made) != key.id:
                yield own, key.affinity, _opened(replicas, own, key.id), new_reader


def _opened(replicas: Sequence[Replica], own: KeyFile, id: bytes) -> bytes:
    """A content key's secret, from the first region where this reader can open it."""
    if Role.READER not in own.roles:
        raise lacks(Role.READER)
    for replica in replicas:
        with suppress(Missing):
            return replica.keyring.open_content_key(id)
    raise Missing(
        f"the content key {id.hex()} is in no region for this reader, so it can be given to no other",
        file=layout.KEYS,
        next="refloat vault repair, or let another reader's key file add the holder",
    )


def _named(
    replicas: Sequence[Replica], own: KeyFile, made: KeyFile, name: str, now: datetime, known: Objects
) -> dict[str, bytes]:
    """What the new holder is called in each of its roles, unless that is on record somewhere."""
    wanted: dict[str, bytes] = {}
    for role, public in publics_of(made).items():
        told = [one for one in _told(replicas, role, public) if one.name == name and one.object in known]
        if told:
            wanted[told[0].object] = known[told[0].object]
        else:
            wanted |= by_name([holder_object(own, role, public, name, now)])
    return wanted


def _told(replicas: Sequence[Replica], role: Role, public: bytes) -> Iterator[Known]:
    for replica in replicas:
        for one in replica.keyring.known():
            if (one.role, one.public) == (role, public):
                yield one
