"""Objects in a bucket of S3, Google Cloud Storage or Azure, through obstore.

Creating uses the store's own conditional put (``If-None-Match: *`` on S3). obstore's retries are off: only
whoever retries knows that an "already exists" may be the echo of its own lost reply.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from refloat.contracts import ObjectInfo, Put
from refloat.errors import Missing, RefloatError, Retry, StoreError, UsageError
from refloat.vault.stores.names import checked, checked_prefix, is_name

if TYPE_CHECKING:  # obstore has these names for type checkers alone
    from obstore.store import ClientConfig
    from obstore.store import ObjectStore as Backend

ATTEMPTS_MAX = 5  # a request that fails this often will not be helped by a sixth
BUDGET_S = 60.0  # all attempts of one call together, with their waits
WAIT_FIRST_S = 0.2
WAIT_MAX_S = 8.0
CONNECT_S = 10.0
REQUEST_S = 300.0  # a 64 MiB pack over a slow line (about 2 Mbit/s)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")
_ADDRESS_QUERY = re.compile(r"\?[^\s\"'<>]*")  # signed addresses carry their signature there
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_BAD_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_NO_CREDENTIALS = "169.254.169.254"  # the machine's own credentials were asked for: none were given
_BEYOND_THE_END = ("status code: 416", "Invalid range")
_TRANSIENT_STATUS = (408, 409, 429)  # and everything from 500 up
_CREDENTIALS_ADVICE = "set the credentials in the environment (AWS_ACCESS_KEY_ID and the like)"

T = TypeVar("T")


def open_bucket(url: str) -> ObjectStore:
    """The bucket at ``s3://``, ``gs://`` or ``az://``, configured from the usual environment.

    Raises ``UsageError`` for an address with credentials or a query in it, or without a bucket.
    """
    parts = urlsplit(url)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"the address of a store must be {parts.scheme}://bucket/prefix and nothing more",
            next=_CREDENTIALS_ADVICE,
        )
    address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(seconds=REQUEST_S),
        "allow_http": _endpoint_is_loopback(),
    }
    try:
        backend = from_url(address, client_options=options, retry_config={"max_retries": 0})
    except (BaseError, ValueError) as error:
        raise UsageError(
            f"cannot use {address}: {_reason(error)}", next="check the address and the environment"
        ) from None
    return ObjectStore(backend, address)


def _endpoint_is_loopback() -> bool:
    endpoints = [os.environ[name] for name in _ENDPOINTS if os.environ.get(name)]
    return any(urlsplit(endpoint).hostname in _LOOPBACK for endpoint in endpoints)


class ObjectStore:
    """A bucket, or the part of one below a prefix. ``sleep`` and ``seed`` are there for tests."""

    def __init__(
        self,
        backend: Backend,
        url: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        seed: int | None = None,
    ) -> None:
        self.url = url
        self._backend = backend
        self._sleep = sleep
        self._dice = random.Random(seed)

    def create(self, name: str, content: bytes | memoryview) -> Put:
        """Write ``content`` unless the name is taken; a reply that was lost is settled by reading back."""
        checked(name)
        content = bytes(content)  # obstore's memory would keep a view of a buffer that is reused
        lost = False

        def attempt() -> Put:
            nonlocal lost
            try:
                obstore.put(self._backend, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if "ConditionalRequestConflict" in str(error):
                    raise  # S3: another write to the name is under way, and may yet fail
                return Put.CREATED if lost and self._holds(name, content) else Put.EXISTS
            except BaseError:
                lost = True
                raise
            return Put.CREATED

        try:
            return self._call("write", name, attempt)
        except StoreError:
            if lost and self._holds(name, content):
                return Put.CREATED
            raise

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
            return self._call("look at", name, lambda: obstore.head(self._backend, name)["size"])
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

    def _size_of(self, name: str) -> int:
        size = self.size(name)
        if size is None:
            raise _missing(self.url, name)
        return size

    def _listing(self, folder: str) -> tuple[ObjectInfo, ...]:
        batches = obstore.list(self._backend, folder or None)
        return tuple(ObjectInfo(meta["path"], meta["size"]) for batch in batches for meta in batch)

    def _holds(self, name: str, content: bytes | memoryview) -> bool:
        """Whether exactly our bytes are under the name; False where that cannot be told."""
        with suppress(StoreError, Missing):
            return self.get(name, 0, len(content) + 1) == content
        return False

    def _call(self, verb: str, name: str, action: Callable[[], T]) -> T:
        """The result of ``action``, tried again with jittered waits while that can help."""
        give_up = time.monotonic() + BUDGET_S
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return action()
            except (BaseError, FileNotFoundError) as error:
                failure = _typed(self.url, verb, name, error)
            wait_s = self._dice.uniform(0.5, 1.0) * min(WAIT_FIRST_S * 2 ** (attempt - 1), WAIT_MAX_S)
            if failure.retry is Retry.NEVER or time.monotonic() + wait_s > give_up:
                break
            if attempt < ATTEMPTS_MAX:
                self._sleep(wait_s)
        raise failure from None  # the cause's text may quote a signed address


def _typed(url: str, verb: str, name: str, error: Exception) -> RefloatError:
    text = str(error)
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text and verb != "write":
        return _missing(url, name)
    retry, reason, advice = _judge(error, text)
    return StoreError(f"cannot {verb} {name} in {url}: {reason}", file=name, retry=retry, next=advice)


def _judge(error: Exception, text: str) -> tuple[Retry, str, str]:
    """Whether to try again, why it failed, and what to do."""
    code, status = _CODE.search(text), _STATUS.search(text)
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text or "ContainerNotFound" in text:
        return Retry.NEVER, "the bucket does not exist", "make the bucket, or correct its name"
    if _NO_CREDENTIALS in text:
        return Retry.NEVER, "there are no credentials", _CREDENTIALS_ADVICE
    if isinstance(error, UnauthenticatedError) or (code and code[1] in _BAD_CREDENTIALS):
        return Retry.NEVER, f"the credentials are wrong ({_reason(error)})", _CREDENTIALS_ADVICE
    if isinstance(error, PermissionDeniedError):
        return Retry.NEVER, "these credentials may not", "allow it in the bucket's policy, or use others"
    if status and int(status[1]) < 500 and int(status[1]) not in _TRANSIENT_STATUS:
        return Retry.NEVER, _reason(error), "check the address, the region and the bucket"
    return Retry.LATER, _reason(error), "see whether the store can be reached, and try again"


def _missing(url: str, name: str) -> Missing:
    return Missing(f"{name} is not in {url}", file=name)


def _reason(error: Exception) -> str:
    """One line without queries: they may be signed."""
    text = str(error)
    code = _CODE.search(text)
    status = _STATUS.search(text)
    if code and status:
        return f"{status[1]} {code[1]}"
    return _ADDRESS_QUERY.sub("?…", text.strip().split("\n", 1)[0])[:300]
