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
PAGE_BYTES = 256 * KIB  # a listing comes in pages of at most a thousand names
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

    ``sleep``, ``monotonic`` and ``seed`` are there for tests.
    """

    def __init__(
        self,
        backend: Backend,
        url: str,
        *,
        bulk: Backend | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self.url = url
        self._backend = backend
        self._bulk = bulk or backend
        self._patience = patience or Patience()
        self._retries = Retries(self._patience.retries_saved_max)
        self._sleep = sleep
        self._monotonic = monotonic
        self._dice = random.Random(seed)
        self._bucket_seen = False
        self._in_vain: Exception | None = None
        self._rests_until = 0.0
        self._keeping: Keeping | None = None

    @property
    def has_answered(self) -> bool:
        """Whether the store has said a word yet, be it that something is missing."""
        return self._bucket_seen

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Write ``content`` unless the name is taken; a reply that was lost is settled by reading back."""
        checked(name)
        content = bytes(content)  # obstore's memory would keep a view of a buffer that is reused
        backend = self._bulk if len(content) > BULK_BYTES else self._backend
        lost = False

        def attempt() -> Put:
            nonlocal lost
            try:
                self._send(name, content, lambda: _put_new(backend, name, content))
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
            put = self._call("write", name, attempt, silences=self._silences(content))
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
            self._call(
                "delete",
                name,
                lambda: self._answer("delete", name, lambda: obstore.delete(self._backend, name)),
            )

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
        return self._call("read", name, lambda: self._fetch(name, options))

    def put_over(self, name: str, content: bytes) -> None:
        """Write another version, whatever is there."""
        backend = self._bulk if len(content) > BULK_BYTES else self._backend
        self._call(
            "write",
            name,
            lambda: self._send(
                name, content, lambda: obstore.put(backend, name, content, use_multipart=False)
            ),
            silences=self._silences(content),
        )

    def _read(self, name: str, start: int, length: int | None) -> bytes:
        options: GetOptions = {}
        if length is not None:
            options = {"range": (start, start + length)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            return self._fetch(name, options)
        except BaseError as error:
            beyond = any(mark in str(error) for mark in _BEYOND_THE_END)
            if beyond and start >= self._size_of(name):
                return b""
            raise

    def _head(self, name: str) -> ObjectMeta:
        """What is known of an object. What a HEAD cannot say for want of a body, a read of the same object does."""
        try:
            return self._answer("look at", name, lambda: obstore.head(self._backend, name))
        except FileNotFoundError:
            if not self._bucket_seen:  # is it the object that is not there, or the bucket?
                self._fetch(name, {"range": (0, 1)})
            raise
        except BaseError as error:
            if status_of(str(error)) in _BARE_STATUS:
                self._fetch(name, {"range": (0, 1)})
            raise

    def _is_there(self, name: str) -> bool:
        with suppress(BaseError, FileNotFoundError, DeadlineExceeded):
            self._answer("look at", name, lambda: obstore.head(self._backend, name))
            return True
        return False

    def _size_of(self, name: str) -> int:
        size = self.size(name)
        if size is None:
            raise missing(self.url, name)
        return size

    def _holds(self, name: str, content: bytes) -> bool:
        """Whether exactly our bytes are under the name. Raises ``StoreError`` where that cannot be told."""
        with suppress(Missing):
            return self.get(name, 0, len(content) + 1) == content
        return False

    def _call(self, verb: str, name: str, action: Callable[[], T], *, silences: int | None = None) -> T:
        """The result of ``action``, tried again with jittered waits while that can help; it bears so many silences."""
        patience = self._patience
        seen = self._bucket_seen
        silences_left = (patience.silences_max if silences is None else silences) if seen else 1
        give_up = self._monotonic() + (patience.call_s if seen else patience.first_call_s)
        attempt = 0
        self._require_a_word(verb, name)
        while True:
            attempt += 1
            failure: RefloatError
            try:
                result = action()
            except (BaseError, FileNotFoundError, DeadlineExceeded) as error:
                failure, why = typed(self.url, verb, name, error), error
            else:
                self._answered()
                return result
            if isinstance(failure, Missing):
                self._answered()
            if failure.retry is Retry.NEVER:
                raise failure from None  # the cause's text may quote a signed address
            silences_left -= is_silence(why)
            left_s = give_up - self._monotonic()
            wait_s = min(self._dice.uniform(0.0, patience.wait_max_after(attempt)), left_s)
            late = attempt == patience.attempts_max or left_s <= 0
            if late or self._is_mute(why, silences_left) or not self._retries.take():
                self._in_vain = why
                raise failure from None
            self._sleep(wait_s)

    # ------------------------------------------------------------------------------ how long is waited for what

    def _answer(self, verb: str, name: str, action: Callable[[], T]) -> T:
        """What is as good as no bytes, in a thread of its own: waiting for a thread ends at once on Ctrl-C."""
        return within(self._word_s, self._told(verb, name), action)

    @property
    def _word_s(self) -> float:
        """How long an answer may take to begin, before it is given up from outside."""
        patience = self._patience
        by_itself = patience.silence_s + BACKSTOP_S
        return by_itself if self._bucket_seen else min(patience.first_word_s, by_itself)

    def _fetch(self, name: str, options: GetOptions) -> bytes:
        """An object's bytes, as long as they do not trickle."""
        told = self._told("read", name)
        begun = within(self._word_s, told, lambda: obstore.get(self._backend, name, options=options))
        start, end = begun.range
        return within(self._patience.limit_s(end - start), told, lambda: bytes(begun.bytes()))

    def _send(self, name: str, content: bytes, action: Callable[[], T]) -> T:
        """Send an object. While that takes long, something small is asked: who answers is only slow."""
        patience = self._patience
        watch = Watch(patience.silence_s, lambda: not is_silence(self._why_mute(patience.silence_s)))
        much = len(content) > BULK_BYTES
        seconds = patience.limit_s(len(content)) + BACKSTOP_S if self._bucket_seen else self._word_s
        return within(seconds, self._told("write", name), action, watch=watch if much else None)

    def _silences(self, content: bytes) -> int:
        """How often sending may meet silence: what is large is not sent again to somebody who said nothing."""
        return 1 if len(content) > BULK_BYTES else self._patience.silences_max

    def _listing(self, folder: str) -> tuple[ObjectInfo, ...]:
        """What is below a folder, as long as one page comes after the other."""
        found: list[ObjectInfo] = []
        had = -1

        def collect() -> tuple[ObjectInfo, ...]:
            for batch in obstore.list(self._backend, folder or None):
                found.extend(ObjectInfo(meta["path"], meta["size"]) for meta in batch)
            return tuple(found)

        def goes_on() -> bool:
            nonlocal had
            before, had = had, len(found)
            return had > max(before, 0)

        patience = self._patience
        page_s = patience.limit_s(PAGE_BYTES) if self._bucket_seen else self._word_s
        seconds, watch = patience.request_s + BACKSTOP_S, Watch(page_s, goes_on)
        return within(seconds, self._told("list", folder), collect, watch=watch)

    # ------------------------------------------------------------------------------------ who says nothing

    def _is_mute(self, error: Exception, silences_left: int) -> bool:
        """Whether there is nobody to ask again: too often silent, or silent to something small as well."""
        if not is_silence(error):
            return False
        return silences_left <= 0 or is_silence(self._why_mute(self._patience.again_s))

    def _require_a_word(self, verb: str, name: str) -> None:
        """Raises ``StoreError`` where the last call ended in vain, and the store has not come back since."""
        why = self._in_vain
        if why is None:
            return
        again_s = self._patience.again_s
        if self._monotonic() >= self._rests_until:
            now = self._why_mute(again_s)
            if now is None or typed(self.url, verb, name, now).retry is Retry.NEVER:
                self._in_vain = None
                return
            if is_silence(now):
                self._rests_until = self._monotonic() + again_s
        raise typed(self.url, verb, name, why) from None

    def _why_mute(self, seconds: float) -> Exception | None:
        """What a small question meets; None where it is answered."""
        try:
            within(seconds, self._told("look at", VAULT), lambda: obstore.head(self._backend, VAULT))
        except (BaseError, FileNotFoundError, DeadlineExceeded) as error:
            return error
        return None

    def _told(self, verb: str, name: str) -> str:
        return f"to {verb} {name} in {self.url}"

    def _answered(self) -> None:
        self._bucket_seen = True
        self._retries.give_back()


def _put_new(backend: Backend, name: str, content: bytes) -> None:
    obstore.put(backend, name, content, mode="create", use_multipart=False)
