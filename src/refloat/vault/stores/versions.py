"""What obstore has no calls for: an S3 bucket's object lock and the versions of its objects, through ``botocore``.

It comes with ``boto3``, which the extra ``aws`` names, and is loaded only where a bucket keeps versions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import IO, Any
from urllib.parse import urlsplit

from refloat.errors import StoreError
from refloat.manifest.address import Access, access_of
from refloat.vault.stores.failures import typed
from refloat.vault.stores.patience import Patience

REQUESTS_AT_ONCE = 16  # of all threads, to one bucket
ATTEMPTS_MAX = 8  # botocore's own, whose waits are up to 20 s
_COMPLIANCE = "COMPLIANCE"  # the mode in which nobody shortens a lock, not the owner of the account either
_NO_LOCK = ("ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed")


@dataclass(frozen=True)
class Version:
    """One version of an object. ``mark`` is equal exactly where the bytes are: its entity tag."""

    id: str
    size: int
    written_at: datetime
    mark: str


@dataclass(frozen=True)
class Versions:
    """All that is kept under one name: versions, the first one first, and delete markers, with what is on top."""

    versions: tuple[Version, ...] = ()
    markers: tuple[str, ...] = ()
    top: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """Everything there, versions and markers."""
        return (*(one.id for one in self.versions), *self.markers)


@dataclass
class VersionedBucket:
    """Requests to a bucket below a prefix. Every method raises ``StoreError``, and ``Missing`` for what is gone."""

    client: Any
    url: str
    bucket: str
    prefix: str
    errors: tuple[type[Exception], type[Exception]]

    @classmethod
    def open(cls, url: str, patience: Patience) -> VersionedBucket:
        """The bucket at ``s3://``, configured by its access, else the environment. ``ImportError``: no ``boto3``."""
        import botocore.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        access = access_of(url)
        config = Config(
            connect_timeout=patience.connect_s,
            read_timeout=patience.silence_s,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
            max_pool_connections=REQUESTS_AT_ONCE,
            proxies={"http": access.proxy, "https": access.proxy} if access.proxy else None,
            s3={"addressing_style": "path" if access.path_style else "virtual"} if access.endpoint else None,
        )
        # a session of its own: boto3's default one stays for good with the credentials that it found first
        session = botocore.session.Session()
        session.register_component("data_loader", _what_s3_is())
        client = session.create_client(
            "s3",
            endpoint_url=access.endpoint or os.environ.get("AWS_ENDPOINT") or None,
            region_name=access.region or os.environ.get("AWS_REGION") or None,
            aws_access_key_id=access.access_key_id or None,
            aws_secret_access_key=access.secret_access_key or None,
            aws_session_token=access.session_token or None,
            verify=_bundle(access),
            config=config,
        )
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        below = f"{prefix}/" if prefix else ""
        return cls(client, url, parts.netloc, below, (ClientError, BotoCoreError))

    def locks(self) -> bool | None:
        """Whether the bucket has object lock; None where these credentials may not ask."""
        with self._asking("ask for the object lock of", self.bucket):
            try:
                told = self.client.get_object_lock_configuration(Bucket=self.bucket)
            except self.errors[0] as error:
                if _code(error) in _NO_LOCK:
                    return False
                if _code(error) == "AccessDenied":
                    return None
                raise
        return bool(told["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled")

    def default_days(self) -> int:
        """For how many days a new object is locked at once, in compliance mode; 0 for not at all."""
        with self._asking("ask for the object lock of", self.bucket):
            told = self.client.get_object_lock_configuration(Bucket=self.bucket)["ObjectLockConfiguration"]
        rule = told.get("Rule", {}).get("DefaultRetention", {})
        days = int(rule.get("Days", 0)) + 365 * int(rule.get("Years", 0))
        return days if rule.get("Mode") == _COMPLIANCE else 0

    def set_default_days(self, days: int) -> None:
        """Let every new object be locked for so many days in compliance mode."""
        rule = {"DefaultRetention": {"Mode": _COMPLIANCE, "Days": days}}
        with self._asking("set the object lock of", self.bucket):
            self.client.put_object_lock_configuration(
                Bucket=self.bucket,
                ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},
            )

    def all_below(self, prefix: str) -> dict[str, Versions]:
        """Everything under names that start with ``prefix``, what delete markers hide, too."""
        found: dict[str, Versions] = {}
        for name, versions in self._pages(prefix):
            before = found.get(name, Versions())
            # a bucket lists the newest first, and one name may go over the end of a page
            found[name] = Versions(
                (*versions.versions, *before.versions),
                (*before.markers, *versions.markers),
                before.top or versions.top,
            )
        return found

    def all_of(self, name: str) -> Versions:
        """Everything under just this name."""
        found = Versions()
        for other, versions in self._pages(name):
            if other != name:  # names come in order, and a name is the first that starts with it
                break
            found = replace(
                found,
                versions=(*versions.versions, *found.versions),
                markers=(*found.markers, *versions.markers),
                top=found.top or versions.top,
            )
        return found

    def _pages(self, prefix: str) -> Iterator[tuple[str, Versions]]:
        """By name, what one page of the listing says of it."""
        pages = self.client.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix
        )
        with self._asking("list the versions of", prefix or "."):
            for page in pages:
                yield from sorted(_by_name(page, len(self.prefix)).items())

    def put_locked(self, name: str, content: bytes, until: datetime) -> str:
        """Write an object that is locked from the start; its version."""
        with self._asking("write", name):
            put = self.client.put_object(
                **self._named(name),
                Body=content,
                ObjectLockMode=_COMPLIANCE,
                ObjectLockRetainUntilDate=until,
            )
        return str(put.get("VersionId", ""))

    def locked_until(self, name: str, version: str) -> datetime | None:
        """Until when a version is locked in compliance mode; None for not at all."""
        with self._asking("look at", name):
            told = self.client.head_object(**self._named(name), VersionId=version)
        until: datetime | None = told.get("ObjectLockRetainUntilDate")
        return until if told.get("ObjectLockMode") == _COMPLIANCE else None

    def lock(self, name: str, version: str, until: datetime) -> None:
        """Lock a version in compliance mode."""
        retention = {"Mode": _COMPLIANCE, "RetainUntilDate": until}
        with self._asking("lock", name):
            self.client.put_object_retention(**self._named(name), VersionId=version, Retention=retention)

    def remove(self, name: str, version: str) -> None:
        """Remove one version, or one delete marker."""
        with self._asking("remove a version of", name):
            self.client.delete_object(**self._named(name), VersionId=version)

    def refuses(self, action: Callable[[], None]) -> bool:
        """Whether the bucket refuses what ``action`` asks of it."""
        try:
            action()
        except StoreError:
            return True
        return False

    def _named(self, name: str) -> Mapping[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + name}

    @contextmanager
    def _asking(self, verb: str, name: str) -> Iterator[None]:
        answered, unheard = self.errors
        try:
            yield
        except answered as error:
            raise typed(self.url, verb, name, _as_told(error)) from None
        except unheard as error:
            raise typed(self.url, verb, name, error) from None


def _bundle(access: Access) -> str | None:
    """A file of the certificates to trust; None for those that ``botocore`` finds itself."""
    return _kept_file(access.ca).name if access.ca else None


@cache
def _kept_file(content: str) -> IO[str]:
    """A file that lives as long as this process: ``botocore`` reads it whenever it connects."""
    file = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115  # it is closed, and gone, with the process
    file.write(content)
    file.flush()
    return file


@cache
def _what_s3_is() -> Any:
    """The descriptions of S3's requests, read once for all buckets: that takes longer than most requests do."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def _by_name(page: Mapping[str, Any], skipped: int) -> dict[str, Versions]:
    found: dict[str, Versions] = {}
    for one in reversed(page.get("Versions", [])):
        name = one["Key"][skipped:]
        before = found.get(name, Versions())
        version = Version(one["VersionId"], one["Size"], one["LastModified"], one["ETag"])
        top = version.id if one["IsLatest"] else before.top
        found[name] = replace(before, versions=(*before.versions, version), top=top)
    for one in page.get("DeleteMarkers", []):
        name = one["Key"][skipped:]
        before = found.get(name, Versions())
        top = one["VersionId"] if one["IsLatest"] else before.top
        found[name] = replace(before, markers=(*before.markers, one["VersionId"]), top=top)
    return found


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _as_told(error: Any) -> Exception:
    """An answer in the words of ``failures``, without what it quotes of the request."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = _code(error)
    text = f"status code: {status}" + (f" <Code>{code}</Code>" if code.isalpha() else "")
    return FileNotFoundError(text) if status == 404 else RuntimeError(text)
