"""What lies in a place where a vault is to be made: nothing, or what a making with the same key that was cut has left.

Keys come first and a region's descriptor last, so what was cut left some of the keys, or all of them and perhaps a
descriptor; nothing else. What is there already is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from refloat.contracts import Store
from refloat.digest import object_name
from refloat.errors import Missing, Refused, StoreError, UsageError, VaultError, WrongKey
from refloat.units import format_duration
from refloat.vault import layout
from refloat.vault.keyfile import KEY_OBJECT_BYTES_MAX, KeyFile
from refloat.vault.keyobjects import DescriptorNote, LockTerm, key_objects, lock_object, parsed_key_object
from refloat.vault.keys import Keyring, Role, Signature
from refloat.vault.layout import Descriptor
from refloat.vault.lock import view
from refloat.vault.recipients import told_of

_ASIDE = (layout.TRIAL, layout.PROOF)


@dataclass(frozen=True)
class Found:
    """What lies in a region's place: key objects of the vault, its descriptor, and the name of anything else."""

    region: str
    url: str
    keys: Mapping[str, bytes] = field(default_factory=dict)
    descriptor: Descriptor | None = None
    other: str | None = None

    @property
    def begun(self) -> bool:
        """Whether a making with this key wrote there."""
        return bool(self.keys) or self.descriptor is not None

    @property
    def used(self) -> bool:
        """Whether the vault is there, and something was written to it since it was made."""
        return self.descriptor is not None and self.other is not None

    def require_free(self) -> None:
        """Raises ``Refused`` (``vault_exists``) for a place that holds what the making of the vault does not write."""
        if self.other is not None:
            raise Refused(
                "vault_exists",
                f"{self.url} is not empty: it holds {self.other}",
                region=self.region,
                next="choose an empty place, or use the vault that is there with its own key",
            )


def look(region: str, store: Store, vault: str) -> Found:
    """What lies in a place where the vault with this id is to be made. Raises ``StoreError``."""
    keys = dict[str, bytes]()
    try:
        there = view(store)
        descriptor, other = _descriptor(there, vault), None
        for name in _names(there) if descriptor is None or descriptor.vault == vault else [layout.VAULT]:
            if not name.startswith(layout.KEYS) or not _is_of(stored := _read(there, name), name, vault):
                other = name
                break
            keys[name] = stored
    except StoreError as error:
        error.at(region=region)
        raise
    return Found(region, store.url, keys, None if other == layout.VAULT else descriptor, other)


def _descriptor(store: Store, vault: str) -> Descriptor | None:
    """The descriptor; one that is not to be read is that of some other vault."""
    try:
        return layout.read_descriptor(store)
    except Missing:
        return None
    except VaultError:
        return Descriptor(vault=f"not {vault}"[:128], replica="?", pipeline="")


def _names(store: Store) -> Iterator[str]:
    for info in store.list(""):
        if info.name != layout.VAULT and not info.name.startswith(_ASIDE):
            yield info.name


def _read(store: Store, name: str) -> bytes:
    return store.get(name, 0, KEY_OBJECT_BYTES_MAX + 1)


def _is_of(stored: bytes, name: str, vault: str) -> bool:
    with suppress(VaultError):
        named = layout.key_name(object_name(stored)) == name
        return named and layout.plain_object(stored, name, KEY_OBJECT_BYTES_MAX).get("vault") == vault
    return False


def objects_of(
    key_file: KeyFile, lock: timedelta | None, passphrase: str | None, found: Iterable[Found]
) -> list[bytes]:
    """What a new vault holds under ``keys/``: as it was ``found`` where it is there, and made where it is lacking.

    Raises ``UsageError`` where the vault was begun with another lock.
    """
    there = {name: stored for one in found for name, stored in one.keys.items()}
    _require_same_lock(there, lock)
    keys = key_objects(key_file, there.items())
    if lock is not None:
        keys.append(lock_object(key_file, int(lock.total_seconds())))
    if passphrase:
        keys.append(_sealed(there.values(), key_file, passphrase) or key_file.wrapped(passphrase))
    return keys


def noted_of(key_file: KeyFile, pipeline: str, found: Iterable[Found]) -> dict[str, Descriptor]:
    """By region the descriptors that a making that was cut has signed already."""
    described: dict[str, Descriptor] = {}
    for name, stored in (one for there in found for one in there.keys.items()):
        told = parsed_key_object(name, stored)
        if isinstance(told, DescriptorNote) and told.descriptor.pipeline == pipeline:
            with suppress(VaultError):
                signature = Signature(told.signer, bytes.fromhex(told.signature))
                Keyring(key_file).verify(Role.ADMIN, told.message(), signature)
                described[told.descriptor.region] = told.descriptor
    return described


def _require_same_lock(there: Mapping[str, bytes], lock: timedelta | None) -> None:
    for name, stored in there.items():
        told = parsed_key_object(name, stored)
        if isinstance(told, LockTerm) and (lock is None or told.seconds != int(lock.total_seconds())):
            term = format_duration(told.seconds)
            raise UsageError(
                f"the vault was begun with --lock {term}, and its making goes on with nothing else",
                next=f"refloat vault init --lock {term}",
            )


def _sealed(stored: Iterable[bytes], key_file: KeyFile, passphrase: str) -> bytes | None:
    """The key file as it is sealed for the passphrase already."""
    told = [one for one in stored if (wrap := told_of(one)) is not None and wrap.kind == "passphrase"]
    for one in told:
        with suppress(WrongKey):
            if KeyFile.unwrap(one, passphrase) == key_file:
                return one
    return None
