"""What stands for Google Cloud Storage, which cannot be had on this machine.

No server that can be had keeps Google's promise on the interface that obstore speaks: the known emulator takes the
condition of a create on the JSON interface, and ignores it on the XML one. So this speaks the part of the XML
interface that obstore uses, and keeps objects in SeaweedFS: ``x-goog-if-generation-match: 0`` becomes
``If-None-Match: *``, which SeaweedFS honours, and everything else is the same request in S3's words. Who asks is
known by what a service account's key signed (RS256), as at Google, and may do what SeaweedFS lets it.

It was written from Google's reference and obstore's source. That Google does the same is not shown here.
"""

from __future__ import annotations

import base64
import http.server
import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

CONDITION = "x-goog-if-generation-match"
PAGE = 10  # objects; Google's has 1000
WRITER, READER, STRANGER = "writer", "reader", "stranger"

Headers = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What is answered to a request."""

    status: int
    headers: Headers = field(default_factory=dict)
    body: bytes = b""


def refused(status: int, code: str) -> Answer:
    """An error, in Google's words."""
    error = ElementTree.Element("Error")
    for name in ("Code", "Message"):
        ElementTree.SubElement(error, name).text = code
    return Answer(status, {"Content-Type": "application/xml; charset=UTF-8"}, ElementTree.tostring(error))


class Accounts:
    """Service accounts: a file of each, as Google gives it to a person. ``STRANGER``'s key is not the one on record."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys = {name: generate_private_key(65537, 2048) for name in (WRITER, READER)}
        for name, key in self._keys.items():
            self._write(name, name, key)
        self._write(STRANGER, WRITER, generate_private_key(65537, 2048))

    def file(self, name: str) -> Path:
        """The account's file."""
        return self._folder / f"{name}.json"

    def secrets(self, name: str) -> list[str]:
        """Parts of the account's key, any of which would give it away."""
        return [
            line for line in json.loads(self.file(name).read_text())["private_key"].split("\n")[1:-2] if line
        ]

    def asking(self, authorization: str) -> str | None:
        """Whose signature a request carries; None where it is nobody's, or too old."""
        scheme, _, token = authorization.partition(" ")
        signed, _, signature = token.rpartition(".")
        try:
            claims = json.loads(_decoded(signed.partition(".")[2]))
            name = str(claims["iss"]).partition("@")[0]
            self._keys[name].public_key().verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
        except (ValueError, KeyError, InvalidSignature):
            return None
        return name if scheme == "Bearer" and claims["exp"] > time.time() else None

    def _write(self, name: str, called: str, key: RSAPrivateKey) -> None:
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        told = {
            "type": "service_account",
            "client_email": f"{called}@refloat.example",
            "private_key_id": called,
            "private_key": pem,
        }
        self.file(name).write_text(json.dumps(told))


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# ---------------------------------------------------------------------------------- each request in S3's words


@dataclass(frozen=True)
class Asked:
    """One request; ``s3`` asks SeaweedFS as whoever asks. Without ``name`` it is about the bucket."""

    s3: Any
    bucket: str
    name: str
    query: dict[str, str]
    headers: Headers
    body: bytes

    @property
    def object(self) -> dict[str, str]:
        """How S3 calls the object."""
        return {"Bucket": self.bucket, "Key": self.name}


def put(asked: Asked) -> Answer:
    """Write an object; with the condition that no generation of it is there, only where its name is free."""
    condition = asked.headers.get(CONDITION)
    if condition not in (None, "0"):
        return refused(501, "NotImplemented")
    told = asked.s3.put_object(**asked.object, Body=asked.body, **({"IfNoneMatch": "*"} if condition else {}))
    return Answer(200, {"ETag": told["ETag"], "x-goog-generation": str(time.time_ns() // 1000)})


def get(asked: Asked) -> Answer:
    """Read an object, or a part of it."""
    part = {"Range": asked.headers["range"]} if "range" in asked.headers else {}
    told = asked.s3.get_object(**asked.object, **part)
    spans = {"Content-Range": told["ContentRange"]} if part else {}
    return Answer(206 if part else 200, _described(told) | spans, told["Body"].read())


def head(asked: Asked) -> Answer:
    """Say how large an object is."""
    told = asked.s3.head_object(**asked.object)
    return Answer(200, _described(told) | {"Content-Length": str(told["ContentLength"])})


def delete(asked: Asked) -> Answer:
    """Remove an object. Google says where there is none; S3 does not."""
    asked.s3.head_object(**asked.object)
    asked.s3.delete_object(**asked.object)
    return Answer(204)


def list_page(asked: Asked) -> Answer:
    """One page of the objects whose names start with a prefix."""
    names = {"prefix": "Prefix", "continuation-token": "ContinuationToken"}
    if not set(asked.query) <= {"list-type", *names}:
        return refused(501, "NotImplemented")
    chosen = {names[name]: value for name, value in asked.query.items() if name in names}
    told = asked.s3.list_objects_v2(Bucket=asked.bucket, MaxKeys=PAGE, **chosen)
    page = ElementTree.Element("ListBucketResult")
    for found in told.get("Contents", ()):
        entry = ElementTree.SubElement(page, "Contents")
        for name in ("Key", "Size", "ETag"):
            ElementTree.SubElement(entry, name).text = str(found[name])
        ElementTree.SubElement(entry, "LastModified").text = found["LastModified"].strftime(
            "%Y-%m-%dT%H:%M:%S.%fZ"
        )
    if "NextContinuationToken" in told:
        ElementTree.SubElement(page, "NextContinuationToken").text = told["NextContinuationToken"]
    return Answer(200, {"Content-Type": "application/xml; charset=UTF-8"}, ElementTree.tostring(page))


ANSWERS: dict[tuple[str, bool], Callable[[Asked], Answer]] = {
    ("PUT", True): put,
    ("GET", True): get,
    ("HEAD", True): head,
    ("DELETE", True): delete,
    ("GET", False): list_page,
}
"""By method, and whether an object is named."""


def _described(told: dict[str, Any]) -> Headers:
    changed = format_datetime(told["LastModified"].astimezone(UTC), usegmt=True)
    return {"ETag": told["ETag"], "Last-Modified": changed}


# ---------------------------------------------------------------------------------------------- the server


class _Line(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # whoever sends it has gone
            self.close_connection = True
            return
        answer = self.server.gcs.answer(
            self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body
        )
        self.send_response_only(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - http.server looks for these names

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    gcs: Gcs

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where whoever asked has gone; anything else is a mistake of ours."""
        if not isinstance(sys.exception(), OSError):
            traceback.print_exc()


class Gcs:
    """The stand-in before ``s3``, a server as the fixture ``seaweedfs`` gives it, for ``accounts``."""

    def __init__(self, s3: Any, accounts: Accounts, who: dict[str, tuple[str, str]]) -> None:
        self.accounts = accounts
        self._s3 = s3
        self._clients = {name: s3.client(secret) for name, secret in who.items()}
        self._server = _Server(("127.0.0.1", 0), _Line)
        self._server.gcs = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, endpoint: str | None = None, *, who: str = WRITER) -> dict[str, str]:
        """The variables with which ``open_store`` reaches it."""
        return {
            "GOOGLE_BASE_URL": endpoint or self.endpoint,
            "GOOGLE_SERVICE_ACCOUNT": str(self.accounts.file(who)),
        }

    def place(self, bucket: str = "refloat") -> str:
        """The address of a place that nothing is in yet."""
        return str(self._s3.place(bucket)).replace("s3://", "gs://")

    def keys(self, address: str) -> list[str]:
        """Every object below an address, as the server names it."""
        return list(self._s3.keys(address.replace("gs://", "s3://")))

    def wipe(self, address: str) -> None:
        """Delete every object below an address."""
        self._s3.wipe(address.replace("gs://", "s3://"))

    def answer(self, method: str, path: str, headers: Headers, body: bytes) -> Answer:
        """What Google would answer."""
        who = self.accounts.asking(headers.get("authorization", ""))
        if who is None:
            return refused(401, "AuthenticationRequired")
        parts = urlsplit(path)
        bucket, _, name = parts.path.removeprefix("/").partition("/")
        answer = ANSWERS.get((method, bool(name)))
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if answer is None or (name and query):
            return refused(501, "NotImplemented")
        try:
            return answer(Asked(self._clients[who], unquote(bucket), unquote(name), query, headers, body))
        except ClientError as error:
            return refused(
                error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
            )

    @contextmanager
    def running(self) -> Iterator[Gcs]:
        """Answer requests until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
