"""Objects in a bucket of S3, Google Cloud Storage or Azure, through obstore.

Creating uses the store's own conditional put (``If-None-Match: *`` on S3). obstore's retries are off: only
whoever retries knows that an "already exists" may be the echo of its own lost reply.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from refloat.contracts import Keeping, ObjectInfo, Put
from refloat.deadline import Watch, within
from refloat.digest import may_be_named
from refloat.errors import DeadlineExceeded, Missing, RefloatError, Retry, StoreError, UsageError
from refloat.limits import KIB
from refloat.manifest.address import Address
from refloat.vault.stores.failures import (
    credentials_advice,
    is_silence,
    may_have_landed,
    may_only_create,
    missing,
    name_is_taken,
    reason_of,
    status_of,
    typed,
)
from refloat.vault.stores.names import checked, checked_prefix, is_name
from refloat.vault.stores.patience import Patience, Retries
from refloat.vault.stores.reached import reach

if TYPE_CHECKING:  # obstore has these names for type checkers alone
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ClientConfig
    from obstore.store import ObjectStore as Backend

BULK_BYTES = 256 * KIB  # sending more may take longer than a server may be silent
BACKSTOP_S = 10.0  # what an attempt may take beyond obstore's own limit, before it is given up from outside

_BEYOND_THE_END = ("status code: 416", "Invalid range", "Wanted range starting at")
VAULT = "vault.json"  # asked for where any answer will do
_BARE_STATUS = (400, 401, 403)  # a HEAD that fails so does not say why: its answer has no body

T = TypeVar("T")


def open_bucket(url: str, patience: Patience | None = None, *, checksums: bool = False) -> ObjectStore:
    """The bucket at ``s3://``, ``gs://`` or ``az://``, configured by its access, else from the usual environment.

    With ``checksums``, which S3 demands of what it is to lock, the SHA-256 of what is written is sent along.

    Raises ``UsageError`` for an address with credentials or a query in it, or without a bucket.
    """
    parts = urlsplit(url)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"the address of a store must be {parts.scheme}://bucket/prefix and nothing more",
            next=credentials_advice(url),
        )
    plain = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    address = url.at(plain) if isinstance(url, Address) else plain
    patience = patience or Patience()
    # obstore counts the time that sending takes as silence, so large writes have a client of their own
    sending = replace(patience, silence_s=patience.request_s)
    made, bulk = (_backend(address, patience=one, checksums=checksums) for one in (patience, sending))
    return ObjectStore(made, address, bulk=bulk, patience=patience)


def _backend(address: str, patience: Patience, *, checksums: bool) -> Backend:
    reached = reach(address)
    config = {**reached.config, **({"checksum_algorithm": "SHA256"} if checksums else {})}
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=patience.connect_s),
        "read_timeout": timedelta(seconds=patience.silence_s),
        "timeout": timedelta(seconds=patience.request_s),
        **reached.options,
    }
    make: Callable[..., Backend] = from_url  # its overloads are one a kind of store, and this is any of them
    try:
        return make(
            str(address),
            config=config,
            client_options=options,
            retry_config={"max_retries": 0},
            credential_provider=reached.credentials,
        )
    except (BaseError, ValueError) as error:
        raise UsageError(
            f"cannot use {address}: {reason_of(error)}",
            next="check the address, and how it is reached: `store` in the manifest, or the environment",
        ) from None


class ObjectStore:
    """A bucket, or the part of one below a prefix. ``bulk`` sends what is large, where that is another client.

    ``sleep`` and ``seed`` are there for tests.
    """

    def __init__(
        self,
        backend: Backend,
        url: str,
        *,
        bulk: Backend | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        seed: int | None = None,
    ) -> None:
        self.url = url
        self._backend = backend
        self._bulk = bulk or backend
        self._patience = patience or Patience()
        self._retries = Retries(self._patience.retries_saved_max)
        self._sleep = sleep
        self._dice = random.Random(seed)
        self._bucket_seen = False
        self._is_silent = False
        self._keeping: Keeping | None = None

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Write ``content`` unless the name is taken; a reply that was lost is settled by reading back."""
        checked(name)
        content = bytes(content)  # obstore's memory would keep a view of a buffer that is reused
        backend = self._bulk if len(content) > BULK_BYTES else self._backend
        lost = False

        def attempt() -> Put:
            nonlocal lost
            try:
                obstore.put(backend, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if not name_is_taken(str(error)):
                    raise
                return Put.EXISTS
            except BaseError as error:
                if may_only_create(str(error)) and self._is_there(name):
                    return Put.EXISTS
                lost = lost or may_have_landed(error)
                raise
            return Put.CREATED

        try:
            put = self._call("write", name, attempt, bulk=backend is self._bulk)
        except StoreError:
            with suppress(StoreError):  # it says no more than that nobody answers
                if lost and self._holds(name, content):
                    return Put.CREATED
            raise
        return Put.CREATED if lost and put is Put.EXISTS and self._holds(name, content) else put

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """``length`` bytes from ``start``, fewer where the object ends. Raises ``Missing``."""
        checked(name)
        if length == 0:
            self._size_of(name)
            return b""
        return self._call("read", name, lambda: self._read(name, start, length))

    def size(self, name: str) -> int | None:
        """The object's size in bytes, or None."""
        checked(name)
        try:
            return self._call("look at", name, lambda: self._head(name))["size"]
        except Missing:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below ``prefix``; what is no object of ours stays unseen."""
        folder = checked_prefix(prefix).rpartition("/")[0]
        found = self._call("list", prefix or ".", lambda: self._listing(folder))
        return (info for info in found if info.name.startswith(prefix) and is_name(info.name))

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        checked(name)
        with suppress(Missing):
            self._call("delete", name, lambda: obstore.delete(self._backend, name))

    # ------------------------------------------------------------------------------------------- versions

    def kept(self, witness: str) -> Keeping | None:
        """The bucket as its object lock keeps it; None where it has none, and where ``boto3`` is not there to ask."""
        if self._keeping is None:  # what locks once locks for good
            self._keeping = self._as_kept(witness)
        return None if self._keeping is None else self._keeping.judged(may_be_named)

    def _as_kept(self, witness: str) -> Keeping | None:
        if not self.url.startswith("s3://"):
            return None
        with suppress(Missing):  # where it is not there, a delete marker may hide it
            if self._call("look at", witness, lambda: self._head(witness)).get("version") is None:
                return None
        from refloat.vault.stores.kept import open_kept

        return open_kept(self.url, self._patience)

    def get_version(self, name: str, version: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start`` of one version, which has so many. Raises ``Missing``."""
        options: GetOptions = {"version": version, "range": (start, start + length)}
        return self._call(
            "read", name, lambda: bytes(obstore.get(self._backend, name, options=options).bytes())
        )

    def put_over(self, name: str, content: bytes) -> None:
        """Write another version, whatever is there."""
        backend = self._bulk if len(content) > BULK_BYTES else self._backend
        self._call(
            "write",
            name,
            lambda: obstore.put(backend, name, content, use_multipart=False),
            bulk=backend is self._bulk,
        )

    def _read(self, name: str, start: int, length: int | None) -> bytes:
        try:
            if length is not None:
                return bytes(obstore.get_range(self._backend, name, start=start, length=length))
            if start:
                return bytes(obstore.get(self._backend, name, options={"range": {"offset": start}}).bytes())
            return bytes(obstore.get(self._backend, name).bytes())
        except BaseError as error:
            beyond = any(mark in str(error) for mark in _BEYOND_THE_END)
            if beyond and start >= self._size_of(name):
                return b""
            raise

    def _head(self, name: str) -> ObjectMeta:
        """What is known of an object. What a HEAD cannot say for want of a body, a read of the same object does."""
        try:
            return obstore.head(self._backend, name)
        except FileNotFoundError:
            if not self._bucket_seen:  # is it the object that is not there, or the bucket?
                obstore.get_range(self._backend, name, start=0, length=1)
            raise
        except BaseError as error:
            if status_of(str(error)) in _BARE_STATUS:
                obstore.get_range(self._backend, name, start=0, length=1)
            raise

    def _is_there(self, name: str) -> bool:
        with suppress(BaseError, FileNotFoundError):
            obstore.head(self._backend, name)
            return True
        return False

    def _size_of(self, name: str) -> int:
        size = self.size(name)
        if size is None:
            raise missing(self.url, name)
        return size

    def _listing(self, folder: str) -> tuple[ObjectInfo, ...]:
        batches = obstore.list(self._backend, folder or None)
        return tuple(ObjectInfo(meta["path"], meta["size"]) for batch in batches for meta in batch)

    def _holds(self, name: str, content: bytes) -> bool:
        """Whether exactly our bytes are under the name. Raises ``StoreError`` where that cannot be told."""
        with suppress(Missing):
            return self.get(name, 0, len(content) + 1) == content
        return False

    def _call(self, verb: str, name: str, action: Callable[[], T], *, bulk: bool = False) -> T:
        """The result of ``action``, tried again with jittered waits while that can help."""
        patience = self._patience
        give_up = time.monotonic() + patience.call_s
        attempt = silences = 0
        self._require_a_word(verb, name)
        while True:
            attempt += 1
            failure: RefloatError
            try:
                result = self._attempt(verb, name, action, bulk=bulk)
            except (BaseError, FileNotFoundError, DeadlineExceeded) as error:
                failure = typed(self.url, verb, name, error)
                silences += is_silence(error) * (patience.silences_max if bulk else 1)
                self._is_silent = silences >= (patience.silences_max if self._bucket_seen else 1)
            else:
                self._answered()
                return result
            if isinstance(failure, Missing):
                self._answered()
            wait_s = self._dice.uniform(0.5, 1.0) * min(
                patience.wait_first_s * 2 ** (attempt - 1), patience.wait_max_s
            )
            late = attempt == patience.attempts_max or time.monotonic() + wait_s > give_up or self._is_silent
            if failure.retry is Retry.NEVER or late or not self._retries.take():
                raise failure from None  # the cause's text may quote a signed address
            self._sleep(wait_s)

    def _attempt(self, verb: str, name: str, action: Callable[[], T], *, bulk: bool) -> T:
        """One attempt, in a thread of its own: waiting for a thread ends at once on Ctrl-C, obstore does not."""
        patience = self._patience
        watch = Watch(patience.silence_s, lambda: self._says_a_word(patience.silence_s)) if bulk else None
        return within(patience.request_s + BACKSTOP_S, self._told(verb, name), action, watch=watch)

    def _require_a_word(self, verb: str, name: str) -> None:
        """Raises ``StoreError`` where the store was silent, and is so still."""
        if self._is_silent and not self._says_a_word(self._patience.again_s):
            raise typed(self.url, verb, name, DeadlineExceeded(self._told(verb, name)))
        self._is_silent = False

    def _says_a_word(self, seconds: float) -> bool:
        """Whether the store answers anything at all to a small question."""
        try:
            within(seconds, self._told("look at", VAULT), lambda: obstore.head(self._backend, VAULT))
        except (BaseError, FileNotFoundError, DeadlineExceeded) as error:
            return not is_silence(error)
        return True

    def _told(self, verb: str, name: str) -> str:
        return f"to {verb} {name} in {self.url}"

    def _answered(self) -> None:
        self._bucket_seen = True
        self._retries.give_back()
