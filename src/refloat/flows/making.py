"""Make a vault: the key file first, then its replicas; the same command goes on with one that was killed meanwhile.

A small file beside the key says from before the key is there until all is made which vault that is. So a key of a
vault that is whole, or of another one, is never taken for that of a vault that is still to be made.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Store
from refloat.durable import name_beside
from refloat.errors import RefloatError, Retry, UsageError
from refloat.vault.begun import Found, look
from refloat.vault.keyfile import KeyFile, Role, unwritable
from refloat.vault.replica import Begun, Replica, create_vault
from refloat.vault.seen import load_seen

VAULT_ID_BYTES_MAX = 128


@dataclass(frozen=True)
class Wanted:
    """What is to be made: whose vault, where its key goes, for how long points are locked, and what else opens it."""

    pipeline: str
    path: Path
    lock: timedelta | None = None
    passphrase: str | None = None


def make_vault(
    wanted: Wanted,
    stores: Mapping[str, Store],
    clock: Clock,
    state: Path,
    *,
    going_on: Callable[[], None],
    begun: Begun,
) -> tuple[KeyFile, dict[str, Replica]]:
    """The key of a new vault, durable at its path, and a replica in every region; ``going_on`` is told of a cut one.

    Where it fails, the key goes with what is taken back, and stays where ``begun`` says that something is left.
    ``state`` is where this machine keeps what it saw of vaults. Raises ``UsageError`` where the path has a file that
    is not the key of a vault still to be made, or another making is at work; and as ``create_vault``.
    """
    there = _key_there(wanted) if wanted.path.exists() else None
    with _marked(wanted.path) as mark:
        keys = there or KeyFile.create(uuid.uuid4().hex, wanted.pipeline)
        if there is not None:
            found = [look(region, store, keys.vault) for region, store in stores.items()]
            pinned = bool(keys.heads or load_seen(state, keys.vault))
            marked = mark.vault == keys.vault
            if (wrong := _made(wanted.path, found, pinned=pinned, marked=marked)) is not None:
                mark.remove()
                raise wrong
            going_on()
        try:
            if there is None:
                mark.say(keys.vault)
                keys.save(wanted.path)
            made = create_vault(
                stores, keys, clock, wanted.pipeline, wanted.lock, begun, passphrase=wanted.passphrase
            )
        except (RefloatError, KeyboardInterrupt):
            if there is None and not begun.left:
                _take_back(wanted.path, keys)
                mark.remove()
            raise
        mark.remove()
    return keys, made


def _key_there(wanted: Wanted) -> KeyFile:
    """The file in place, where it may be the key of this pipeline's vault. Raises ``UsageError``."""
    with suppress(RefloatError):
        keys = KeyFile.load(wanted.path)
        if keys.pipeline == wanted.pipeline and keys.roles == frozenset(Role):
            return keys
    raise _taken(wanted.path)


def _made(path: Path, found: Sequence[Found], *, pinned: bool, marked: bool) -> UsageError | None:
    """Why the making of a vault does not go on with a key that is there already; None where it does."""
    lacking = [one.region for one in found if one.descriptor is None]
    if pinned or any(one.used for one in found) or not (lacking or marked):
        next = f"refloat vault add-region {lacking[0]}" if lacking else "refloat protect"
        return UsageError("the vault is made already, and this is its key", file=str(path), next=next)
    return None if marked or any(one.begun for one in found) else _taken(path)


def _taken(path: Path) -> UsageError:
    return UsageError("a file is there already", file=str(path), next="name another place with --key FILE")


def _take_back(path: Path, keys: KeyFile) -> None:
    """Remove the key, where it is ours: without a vault it opens nothing and stands in the way of the next try."""
    with suppress(OSError):
        if path.read_bytes() == keys.to_bytes():
            path.unlink()


# ------------------------------------------------------------------------------------------------------ the mark


@dataclass
class _Mark:
    """The file that says which vault is being made; it is locked while somebody does that."""

    path: Path
    descriptor: int
    vault: str

    def say(self, vault: str) -> None:
        """Keep the vault's id, durably: before its key is there."""
        self.vault = vault
        os.ftruncate(self.descriptor, 0)
        os.write(self.descriptor, vault.encode())
        os.fsync(self.descriptor)

    def remove(self) -> None:
        """All is made, or nothing is."""
        self.path.unlink(missing_ok=True)


@contextmanager
def _marked(key: Path) -> Iterator[_Mark]:
    """The mark beside a key, ours alone. Raises ``UsageError`` where it cannot be written, or somebody else has it."""
    path = key.absolute().with_name(name_beside(key, "making"))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(key, error, "the key file") from error
    try:
        _lock(descriptor, key)
        mark = _Mark(path, descriptor, os.read(descriptor, VAULT_ID_BYTES_MAX).decode("ascii", "replace"))
        try:
            yield mark
        finally:
            if not mark.vault:
                mark.remove()
    finally:
        os.close(descriptor)


def _lock(descriptor: int, key: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            "another `refloat vault init` with this key is at work",
            file=str(key),
            retry=Retry.LATER,
            next="wait until it has ended",
        ) from error
    except OSError:  # a network file system may not lock at all
        pass
