"""A bucket in this process that speaks as much of S3 as obstore asks of it, to stand behind a toxic proxy."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

NAME = "bucket"
_NO_KEY = b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"
_TAKEN = b"<?xml version='1.0'?><Error><Code>PreconditionFailed</Code></Error>"
_NO_LOCK = b"<?xml version='1.0'?><Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Bucket:
    """Objects by key, and where they are asked for. Two writes of one key are one after the other."""

    objects: dict[str, bytes] = field(default_factory=dict)
    endpoint: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def serving(self) -> Iterator[Bucket]:
        """Listen on a free port of this machine."""
        server = _Server(("127.0.0.1", 0), _Asked)
        server.bucket = self
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    bucket: Bucket

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who asks may leave."""


class _Asked(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{NAME}").lstrip("/")

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "object-lock" in query:
            self._answer(404, _NO_LOCK)
            return
        if "list-type" in query:
            self._answer(200, self._listing(query.get("prefix", [""])[0]))
            return
        content = self.server.bucket.objects.get(self.key)
        if content is None:
            self._answer(404, _NO_KEY)
            return
        asked = _RANGE.match(self.headers.get("Range", ""))
        if asked is None:
            self._answer(200, content)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first >= len(content):
            self._answer(416)
            return
        self._answer(206, content[first : last + 1], span=f"bytes {first}-{last}/{len(content)}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bucket = self.server.bucket
        with bucket.lock:
            taken = self.headers.get("If-None-Match") == "*" and self.key in bucket.objects
            if not taken:
                bucket.objects[self.key] = content
        self._answer(412, _TAKEN) if taken else self._answer(200)

    def do_POST(self) -> None:
        """Several are deleted at once, which is how obstore deletes one."""
        told = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        gone = re.findall(r"<Key>(.*?)</Key>", told)
        with self.server.bucket.lock:
            for key in gone:
                self.server.bucket.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in gone)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _listing(self, prefix: str) -> bytes:
        with self.server.bucket.lock:
            found = [(key, len(of)) for key, of in sorted(self.server.bucket.objects.items())]
        told = "".join(
            f'<Contents><Key>{key}</Key><Size>{size}</Size><ETag>"1"</ETag>'
            "<LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
            for key, size in found
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{told}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes = b"", span: str = "") -> None:
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""
