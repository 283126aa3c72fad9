"""The store in a bucket: the contract on obstore's memory and on moto's S3, and what each failure becomes.

moto honours ``If-None-Match: *`` on a put (seen with 5.2.5), so the race of the contract is run against it.
"""

from __future__ import annotations

import http.server
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import MemoryStore as Backend

from refloat.contracts import Put, Store
from refloat.errors import Missing, Retry, StoreError, UsageError
from refloat.testing.store_contract import StoreContract
from refloat.vault.stores import open_store
from refloat.vault.stores.object import ATTEMPTS_MAX, ObjectStore

SECRET = "very/secret/access/key"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    use_endpoint(monkeypatch, s3)
    name = f"b-{uuid.uuid4().hex}"
    assert httpx.put(f"{s3}/{name}").status_code == 200
    return name


class TestObjectStoreInMemory(StoreContract):
    def make(self, tmp_path: Path) -> Store:
        return ObjectStore(Backend(), "memory://obstore")


class TestS3(StoreContract):
    @pytest.fixture(autouse=True)
    def _bucket(self, bucket: str) -> None:
        self.bucket = bucket

    def make(self, tmp_path: Path) -> Store:
        return open_store(f"s3://{self.bucket}/support/vault/")


def test_a_prefix_keeps_two_vaults_of_one_bucket_apart(bucket: str) -> None:
    open_store(f"s3://{bucket}/a").create("x", b"1")
    assert open_store(f"s3://{bucket}/b").size("x") is None
    assert open_store(f"s3://{bucket}").get("a/x") == b"1"
    assert [found.name for found in open_store(f"s3://{bucket}/a").list("")] == ["x"]


def test_an_object_that_another_program_left_under_a_foreign_name_is_not_listed(s3: str, bucket: str) -> None:
    httpx.put(f"{s3}/{bucket}/v/Foreign Name", content=b"x")
    store = open_store(f"s3://{bucket}/v")
    store.create("ours", b"1")
    assert [found.name for found in store.list("")] == ["ours"]


@pytest.mark.parametrize("operation", ["create", "get", "list", "delete"])
def test_a_bucket_that_does_not_exist_is_not_an_absent_object(
    s3: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    use_endpoint(monkeypatch, s3)
    store = open_store("s3://no-such-bucket/v")
    asks: dict[str, Callable[[], object]] = {
        "create": lambda: store.create("a", b"1"),
        "get": lambda: store.get("a"),
        "list": lambda: list(store.list("")),
        "delete": lambda: store.delete("a"),
    }
    with pytest.raises(StoreError, match="bucket does not exist") as caught:
        asks[operation]()
    assert caught.value.retry is Retry.NEVER


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/x", "s3://bucket/x?token=1", "s3://bucket#x", "s3:///x", "gs://"]
)
def test_an_address_never_carries_credentials(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(address)
    assert "secret" not in caught.value.message and "environment" in (caught.value.next or "")


# ----------------------------------------------------------------------------------------------- failures


class Front(http.server.BaseHTTPRequestHandler):
    """A front of the S3 server that answers some requests itself, or loses the reply to them."""

    protocol_version = "HTTP/1.1"
    backend = ""
    answers: list[tuple[str, int, str]]  # method, status (0: forward, and cut the line), code
    seen: list[str]

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append(self.command)
        planned = next((answer for answer in self.answers if answer[0] == self.command), None)
        if planned is None:
            self._forward(body)
            return
        self.answers.remove(planned)
        if planned[1] == 0:
            self._ask(body)
            self.close_connection = True
        else:
            self._reply(planned[1], f"<Error><Code>{planned[2]}</Code></Error>".encode(), {})

    def _ask(self, body: bytes) -> httpx.Response:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        return httpx.request(self.command, self.backend + self.path, content=body, headers=headers)

    def _forward(self, body: bytes) -> None:
        answer = self._ask(body)
        kept = {
            name: answer.headers[name]
            for name in ("etag", "last-modified", "content-range")
            if name in answer.headers
        }
        self._reply(answer.status_code, answer.content, kept)

    def _reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


class Shop:
    """A store behind a front, and what the front is to answer."""

    def __init__(self, store: ObjectStore, front: type[Front]) -> None:
        self.store = store
        self.waits: list[float] = []
        self._front = front
        store._sleep = self.waits.append

    def plan(self, method: str, status: int, code: str = "InternalError", times: int = 1) -> None:
        self._front.answers += [(method, status, code)] * times

    def lose_reply(self, method: str, times: int = 1) -> None:
        self.plan(method, 0, times=times)

    def seen(self, method: str) -> int:
        return self._front.seen.count(method)


@pytest.fixture
def shop(s3: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    front = type("ThisFront", (Front,), {"backend": s3, "answers": [], "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), front)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    store = open_store(f"s3://{bucket}/v")
    assert isinstance(store, ObjectStore)
    yield Shop(store, front)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_lost_reply_to_our_own_write_is_a_creation(shop: Shop) -> None:
    shop.lose_reply("PUT")
    assert shop.store.create("a", b"ours") is Put.CREATED
    assert shop.seen("PUT") == 2


def test_losing_every_reply_is_settled_by_reading_back(shop: Shop) -> None:
    shop.lose_reply("PUT", times=ATTEMPTS_MAX)
    assert shop.store.create("a", b"ours") is Put.CREATED


def test_a_lost_reply_does_not_turn_somebody_elses_object_into_ours(shop: Shop) -> None:
    shop.store.create("a", b"theirs")
    shop.lose_reply("PUT")
    assert shop.store.create("a", b"ours") is Put.EXISTS
    assert shop.store.get("a") == b"theirs"


def test_equal_bytes_that_were_there_before_any_failure_exist(shop: Shop) -> None:
    shop.store.create("a", b"same")
    assert shop.store.create("a", b"same") is Put.EXISTS
    assert shop.seen("GET") == 0


def test_a_store_that_is_busy_is_asked_again_after_growing_waits(shop: Shop) -> None:
    shop.plan("GET", 503, "SlowDown", times=3)
    shop.store.create("a", b"1")
    assert shop.store.get("a") == b"1"
    assert len(shop.waits) == 3
    assert 0 < shop.waits[0] < shop.waits[1] < shop.waits[2]


def test_a_store_that_stays_down_is_an_error_worth_another_try_later(shop: Shop) -> None:
    shop.plan("GET", 503, "SlowDown", times=50)
    with pytest.raises(StoreError, match="SlowDown") as caught:
        shop.store.get("a")
    assert caught.value.retry is Retry.LATER
    assert shop.seen("GET") == ATTEMPTS_MAX


def test_two_writes_at_the_same_moment_are_tried_again_and_not_taken_for_a_loss(shop: Shop) -> None:
    shop.plan("PUT", 409, "ConditionalRequestConflict")
    assert shop.store.create("a", b"1") is Put.CREATED


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "InvalidAccessKeyId", "credentials are wrong"),
        (403, "SignatureDoesNotMatch", "credentials are wrong"),
        (400, "ExpiredToken", "credentials are wrong"),
        (403, "AccessDenied", "may not"),
        (400, "AuthorizationHeaderMalformed", "AuthorizationHeaderMalformed"),
    ],
)
def test_what_another_try_cannot_help_is_not_tried_again(
    shop: Shop, status: int, code: str, says: str
) -> None:
    shop.plan("GET", status, code, times=50)
    with pytest.raises(StoreError, match=says) as caught:
        shop.store.get("a")
    assert caught.value.retry is Retry.NEVER and caught.value.next
    assert shop.seen("GET") == 1 and shop.waits == []


def test_no_error_shows_the_secret_key(shop: Shop) -> None:
    shop.plan("PUT", 403, "SignatureDoesNotMatch")
    with pytest.raises(StoreError) as caught:
        shop.store.create("a", b"1")
    error = caught.value
    assert SECRET not in f"{error!r} {error.message} {error.next} {error.__cause__!r}"


def test_a_server_that_is_not_there_is_an_error_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    store = open_store("s3://bucket/v")
    assert isinstance(store, ObjectStore)
    store._sleep = lambda seconds: None
    with pytest.raises(StoreError) as caught:
        store.get("a")
    assert caught.value.retry is Retry.LATER


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000", True),
        ("http://[::1]:9000", True),
        ("http://s3.example.com", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_plain_http_is_for_loopback_alone(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, allowed: bool
) -> None:
    use_endpoint(monkeypatch, endpoint)
    store = open_store("s3://bucket/v")
    assert isinstance(store, ObjectStore)
    options = dict(getattr(store._backend, "client_options", None) or {})
    assert str(options["allow_http"]).lower() == str(allowed).lower()


def test_a_truncated_listing_page_is_followed_to_its_end(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    store = open_store(f"s3://{bucket}/v")
    for number in range(5):
        store.create(f"index/{number}", b"1")
    assert len(list(store.list("index/"))) == 5


def test_deleting_needs_no_object_and_missing_needs_no_retry(shop: Shop) -> None:
    shop.store.delete("none")
    with pytest.raises(Missing):
        shop.store.get("none")
    assert shop.waits == []
