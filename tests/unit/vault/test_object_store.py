"""The store in a bucket, without a server: the contract on obstore's memory, addresses, what a failure means."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError, UnauthenticatedError
from obstore.store import MemoryStore as Backend

from refloat.contracts import Put, Store
from refloat.errors import DeadlineExceeded, Missing, Retry, StoreError, UsageError
from refloat.limits import MIB
from refloat.testing.store_contract import StoreContract
from refloat.testing.toxic import Line, Reply, Toxic, ToxicProxy, answer, hang
from refloat.vault.stores import open_store
from refloat.vault.stores.failures import may_have_landed, status_of, typed
from refloat.vault.stores.object import ObjectStore, open_bucket
from refloat.vault.stores.patience import Patience, Retries

SECRET = "very/secret/access/key"
PATIENT = Patience(wait_first_s=0.001, wait_max_s=0.004)  # as a user's store, but for the waits


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")


class TestObjectStoreInMemory(StoreContract):
    def make(self, tmp_path: Path) -> Store:
        return ObjectStore(Backend(), "memory://obstore")


@pytest.mark.parametrize(
    "address", ["s3://key:secret@bucket/x", "s3://bucket/x?token=1", "s3://bucket#x", "s3:///x", "gs://"]
)
def test_an_address_never_carries_credentials(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(address)
    assert "secret" not in caught.value.message and "environment" in (caught.value.next or "")


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
    for backend in (store._backend, store._bulk):
        options = dict(getattr(backend, "client_options", None) or {})
        assert str(options["allow_http"]).lower() == str(allowed).lower()


def test_a_plain_http_endpoint_elsewhere_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "http://s3.example.com")
    with pytest.raises(StoreError, match="plain http") as caught:
        open_store("s3://bucket/v").get("a")
    assert caught.value.retry is Retry.NEVER and "https" in (caught.value.next or "")


def test_a_server_that_is_not_there_is_an_error_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"connection refused at 127\.0\.0\.1:1$") as caught:
        open_bucket("s3://bucket/v", PATIENT).get("a")
    assert caught.value.retry is Retry.LATER


# -------------------------------------------------------------------------------- what a failure means


def xml(status: int, code: str) -> GenericError:
    return GenericError(
        f"Server returned non-2xx status code: {status} X: <Error><Code>{code}</Code></Error>"
    )


@pytest.mark.parametrize(
    ("error", "says", "advises"),
    [
        (xml(403, "InvalidAccessKeyId"), "credentials are wrong", "AWS_ACCESS_KEY_ID"),
        (xml(403, "SignatureDoesNotMatch"), "credentials are wrong", "AWS_ACCESS_KEY_ID"),
        (xml(400, "ExpiredToken"), "have expired", "get new ones"),
        (xml(403, "RequestTimeTooSkewed"), "clock is wrong", "set the clock"),
        (xml(403, "AccessDenied"), "may not", "policy"),
        (PermissionDeniedError("status code: 403 Forbidden"), "may not", "policy"),
        (
            GenericError("DeleteObjects request failed: Access Denied. (code: AccessDenied)"),
            "may not",
            "policy",
        ),
        (xml(404, "NoSuchBucket"), "bucket does not exist", "make the bucket"),
        (xml(301, "PermanentRedirect"), "another region", "AWS_REGION"),
        (GenericError("Received redirect without LOCATION"), "another region", "AWS_REGION"),
        (xml(400, "AuthorizationHeaderMalformed"), "another region", "AWS_REGION"),
        (xml(501, "NotImplemented"), "does not know how", "conditional"),
        (xml(400, "InvalidBucketName"), "InvalidBucketName", "check the address"),
        (GenericError("PUT http://169.254.169.254/latest"), "no credentials", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_another_try_cannot_help_says_what_to_do(error: Exception, says: str, advises: str) -> None:
    found = typed("s3://bucket", "write", "a", error)
    assert says in found.message and advises in (found.next or "")
    assert isinstance(found, StoreError) and found.retry is Retry.NEVER


AZURE_SAYS = (
    "Server failed to authenticate the request. Make sure the value of the Authorization header is right."
)


def azure(status: int, code: str, message: str = "", detail: str = "") -> GenericError:
    return GenericError(
        f"status code: {status} X: <Error><Code>{code}</Code><Message>{message}</Message>"
        f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail></Error>"
    )


@pytest.mark.parametrize(
    ("url", "error", "says", "advises"),
    [
        ("az://c", azure(403, "AuthenticationFailed", AZURE_SAYS), "are wrong", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("az://c", azure(403, "AuthorizationFailure", AZURE_SAYS), "are wrong", "AZURE_STORAGE_ACCOUNT_KEY"),
        (
            "az://c",
            azure(403, "AuthorizationFailure", "This request is not authorized."),
            "may not",
            "policy",
        ),
        (
            "az://c",
            azure(
                403,
                "AuthenticationFailed",
                AZURE_SAYS,
                "Signature not valid in the specified time frame: Start",
            ),
            "have expired",
            "AZURE_STORAGE_SAS_TOKEN",
        ),
        ("az://c", xml(404, "ContainerNotFound"), "bucket does not exist", "make the bucket"),
        ("gs://b", xml(401, "AuthenticationRequired"), "are wrong", "GOOGLE_SERVICE_ACCOUNT"),
        ("gs://b", UnauthenticatedError("status code: 401"), "are wrong", "GOOGLE_SERVICE_ACCOUNT"),
        ("gs://b", xml(403, "AccessDenied"), "may not", "policy"),
        (
            "gs://b",
            GenericError("GET http://metadata.google.internal/computeMetadata/v1"),
            "no credentials",
            "GOOGLE_SERVICE_ACCOUNT",
        ),
    ],
)
def test_what_azure_and_google_say_is_understood_in_their_own_terms(
    url: str, error: Exception, says: str, advises: str
) -> None:
    # fault 66
    found = typed(url, "write", "a", error)
    assert says in found.message and advises in (found.next or "")
    assert isinstance(found, StoreError) and found.retry is Retry.NEVER


def test_a_delete_in_a_container_that_is_not_there_is_not_an_absent_object() -> None:
    told = "Bulk delete request failed for key a: The specified container does not exist. (code: 404)"
    assert "bucket does not exist" in typed("az://c", "delete", "a", FileNotFoundError(told)).message
    absent = "Bulk delete request failed for key a: The specified blob does not exist. (code: 404)"
    assert isinstance(typed("az://c", "delete", "a", FileNotFoundError(absent)), Missing)


def test_a_delete_that_a_busy_server_refused_in_a_batch_is_worth_another_try() -> None:
    # fault 7
    told = GenericError("Bulk delete request failed for key a: The server is busy. (code: 503)")
    assert typed("az://c", "delete", "a", told).retry is Retry.LATER
    assert status_of(str(told)) == 503


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (xml(503, "SlowDown"), "503 SlowDown"),
        (xml(429, "TooManyRequests"), "429"),
        (xml(409, "OperationAborted"), "409"),
        (xml(507, "InsufficientStorage"), "is full"),
        (GenericError("Generic { kind: Timeout }"), "did not answer in time"),
        (GenericError("Generic { kind: Connect }"), "cannot be reached"),
        (
            GenericError('kind: Connect, ConnectError( "dns error", Custom { kind: Uncategorized } )'),
            "cannot be reached: its name leads to no address",
        ),
        (
            GenericError(
                'kind: Connect, ConnectError(\n "tcp connect error",\n [::1]:9,\n Os { code: 113,\n '
                'kind: HostUnreachable,\n message: "No route to host" } )'
            ),
            "no route to host at [::1]:9",
        ),
        (DeadlineExceeded("took longer"), "did not answer in time"),
    ],
)
def test_what_passes_is_worth_another_try(error: Exception, says: str) -> None:
    found = typed("s3://bucket", "write", "a", error)
    assert says in found.message and found.next
    assert isinstance(found, StoreError) and found.retry is Retry.LATER


def test_no_error_quotes_a_signed_address_or_what_the_server_says_of_the_request() -> None:  # fault 66
    signed = "Error performing GET http://s3/b?X-Amz-Signature=5ec4e7 - error sending request"
    assert "5ec4e7" not in typed("s3://bucket", "read", "a", GenericError(signed)).message
    told = "status code: 400 Bad Request: <Error><Code>ExpiredToken</Code><Token-0>5ec4e7</Token-0></Error>"
    assert "5ec4e7" not in typed("s3://bucket", "read", "a", GenericError(told)).message


def test_only_what_nobody_answered_or_a_broken_server_did_may_have_landed() -> None:
    assert may_have_landed(GenericError("error sending request"))
    assert may_have_landed(xml(503, "SlowDown"))
    assert not may_have_landed(xml(403, "AccessDenied"))


# ------------------------------------------------------------------------------------------- patience


def test_retries_run_out_and_each_success_gives_one_back() -> None:
    retries = Retries(2)
    assert [retries.take() for _ in range(3)] == [True, True, False]
    retries.give_back()
    assert [retries.take() for _ in range(2)] == [True, False]
    for _ in range(9):
        retries.give_back()
    assert [retries.take() for _ in range(3)] == [True, True, False]


@pytest.fixture
def nobody() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as listening:
        yield listening


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_a_store_that_hangs(
    monkeypatch: pytest.MonkeyPatch, nobody: socket.socket
) -> None:
    use_endpoint(monkeypatch, f"http://127.0.0.1:{nobody.getsockname()[1]}")
    store = open_bucket("s3://bucket/v", Patience(silence_s=3600.0, request_s=3600.0, call_s=1.0))
    heard, hangs = threading.Event(), threading.Event()

    def interrupt(*_: object) -> None:
        if not heard.is_set():  # one that comes late must not end what comes after
            heard.set()
            raise KeyboardInterrupt

    def press() -> None:
        for _ in range(600):  # again: one that comes just before the wait begins wakes nobody
            if heard.wait(0.1):
                return
            os.kill(os.getpid(), signal.SIGINT)
        hangs.set()
        nobody.close()  # it would never end

    before = signal.signal(signal.SIGINT, interrupt)  # in the background it is ignored
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.get("a")
    finally:
        heard.set()
        pressing.join()
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert not hangs.is_set()


class _Bucket(http.server.BaseHTTPRequestHandler):
    """A bucket in which every object is one byte, and every name is free."""

    def do_GET(self) -> None:
        self._reply(b"1")

    def do_HEAD(self) -> None:
        self._reply(b"")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(b"")

    def _reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def proxy() -> Iterator[ToxicProxy]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with ToxicProxy(f"http://127.0.0.1:{server.server_port}") as proxy:
        yield proxy
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shop(proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    use_endpoint(monkeypatch, proxy.url)
    return open_bucket("s3://bucket/v", PATIENT)


def waits_of(store: ObjectStore) -> list[float]:
    waits: list[float] = []
    store._sleep = waits.append
    return waits


def test_a_store_that_is_busy_is_asked_again_after_growing_waits(
    shop: ObjectStore, proxy: ToxicProxy
) -> None:
    waits = waits_of(shop)
    shop.get("a")  # one that never answered is not asked so often
    proxy.poison(answer(503, "SlowDown"), method="GET", times=5)
    assert shop.get("a") == b"1"
    assert len(waits) == 5
    assert all(0 <= wait <= PATIENT.wait_max_after(number) for number, wait in enumerate(waits, 1))


class _Hours:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


def test_an_outage_of_seconds_is_waited_out_and_the_waits_are_thrown_over_all_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hours, back_s, first = _Hours(), 0.0, []
    backend = Backend()

    def head(*_: object) -> dict[str, int]:
        if hours.now_s < back_s:
            raise xml(503, "SlowDown")
        return {"size": 1}

    monkeypatch.setattr("obstore.head", head)
    for seed in range(60):
        store = ObjectStore(backend, "s3://b", sleep=hours.sleep, monotonic=hours.monotonic, seed=seed)
        back_s = 0.0
        assert store.size("a") == 1
        hours.now_s, hours.waits, back_s = 0.0, [], 4.0
        assert store.size("a") == 1
        assert hours.now_s <= Patience().call_s
        first.append(hours.waits[0] / Patience().wait_first_s)
    assert min(first) < 0.05 and max(first) > 0.95  # a whole fleet does not come back at one moment


def test_an_outage_of_seconds_at_the_very_first_request_is_waited_out_however_the_dice_fall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # fault 7
    hours, back_s = _Hours(), 8.0
    backend = Backend()

    def head(*_: object) -> dict[str, int]:
        if hours.now_s < back_s:
            raise xml(503, "SlowDown")
        return {"size": 1}

    monkeypatch.setattr("obstore.head", head)
    for seed in range(60):
        hours.now_s = 0.0
        store = ObjectStore(backend, "s3://b", sleep=hours.sleep, monotonic=hours.monotonic, seed=seed)
        assert store.size("a") == 1
        assert hours.now_s <= Patience().first_call_s


def test_a_store_that_stays_busy_is_not_asked_for_ever(shop: ObjectStore, proxy: ToxicProxy) -> None:
    # fault 7
    proxy.poison(answer(503, "SlowDown"))
    with pytest.raises(StoreError, match="SlowDown") as caught:
        shop.get("a")
    assert caught.value.retry is Retry.LATER
    assert proxy.count("GET") == PATIENT.attempts_max


def test_what_another_try_cannot_help_is_not_tried_again(shop: ObjectStore, proxy: ToxicProxy) -> None:
    waits = waits_of(shop)
    proxy.poison(answer(403, "AccessDenied"))
    with pytest.raises(StoreError, match="may not"):
        shop.create("a", b"1")
    assert [seen.method for seen in proxy.seen] == ["PUT"] and waits == []


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "OperationAborted"])
def test_a_conflict_with_another_write_is_not_a_name_that_is_taken(
    shop: ObjectStore, proxy: ToxicProxy, code: str
) -> None:
    # fault 10
    proxy.poison(answer(409, code), method="PUT", times=1)
    assert shop.create("a", b"1") is Put.CREATED
    proxy.poison(answer(409, code), method="PUT")
    with pytest.raises(StoreError, match="409") as caught:
        shop.create("a", b"1")
    assert caught.value.retry is Retry.LATER


def test_the_size_of_nothing_is_none_but_a_bucket_that_is_not_there_is_an_error(
    shop: ObjectStore, proxy: ToxicProxy
) -> None:
    proxy.poison(answer(404, "NoSuchBucket"))
    with pytest.raises(StoreError, match="bucket does not exist"):
        shop.size("a")
    proxy.heal()
    proxy.poison(answer(404, "NoSuchKey"))
    assert shop.size("a") is None
    asked = len(proxy.seen)
    assert shop.size("b") is None
    assert len(proxy.seen) == asked + 1  # that the bucket is there is known by now


def test_a_size_that_is_refused_says_why(shop: ObjectStore, proxy: ToxicProxy) -> None:
    proxy.poison(answer(403, "SignatureDoesNotMatch"))
    with pytest.raises(StoreError, match="credentials are wrong"):
        shop.size("a")


def test_missing_needs_no_retry(shop: ObjectStore, proxy: ToxicProxy) -> None:
    waits = waits_of(shop)
    proxy.poison(answer(404, "NoSuchKey"))
    shop.delete("none")
    with pytest.raises(Missing):
        shop.get("none")
    assert waits == []


# ---------------------------------------------------------------------------------- a store that says nothing

HASTY = Patience(
    silence_s=0.5,
    again_s=0.3,
    bytes_per_s_min=10**9,
    request_s=3600.0,
    call_s=3600.0,
    wait_first_s=0.001,
)
"""Waits for a word only so long, and for the end of a call longer than any test runs."""
HEARING = replace(HASTY, again_s=30.0)
"""As long as it takes for a word that is said on a busy machine."""


def test_a_store_that_never_answered_is_given_up_at_the_first_silence(
    proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 8
    use_endpoint(monkeypatch, proxy.url)
    proxy.poison(hang)
    with pytest.raises(StoreError, match="did not answer in time") as caught:
        open_bucket("s3://bucket/v", HASTY).get("a")
    assert caught.value.retry is Retry.LATER
    assert len(proxy.seen) == 1


def test_a_store_that_falls_silent_is_given_up_where_it_does_not_answer_something_small(
    proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 8
    use_endpoint(monkeypatch, proxy.url)
    store = open_bucket("s3://bucket/v", HASTY)
    assert store.get("a") == b"1"
    proxy.seen.clear()
    proxy.poison(hang)
    with pytest.raises(StoreError):
        store.get("a")
    assert (proxy.count("GET"), proxy.count("HEAD")) == (1, 1)


def test_one_answer_that_does_not_come_is_asked_for_again_where_the_store_answers_else(
    proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 8
    use_endpoint(monkeypatch, proxy.url)
    store = open_bucket("s3://bucket/v", HEARING)
    assert store.get("a") == b"1"
    proxy.seen.clear()
    proxy.poison(hang, method="GET")
    with pytest.raises(StoreError, match="did not answer in time"):
        store.get("a")
    assert (proxy.count("GET"), proxy.count("HEAD")) == (HASTY.silences_max, HASTY.silences_max - 1)


@pytest.mark.parametrize(
    ("toxic", "questions"), [(hang, 1), (answer(503, "SlowDown"), 5)], ids=["hang", "busy"]
)
def test_a_dead_store_is_asked_for_few_of_many_things(
    proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch, toxic: Toxic, questions: int
) -> None:
    # faults 7, 8
    use_endpoint(monkeypatch, proxy.url)
    store, hours = open_bucket("s3://bucket/v", HASTY), _Hours()
    monkeypatch.setattr(store, "_monotonic", hours.monotonic)
    monkeypatch.setattr(store, "_sleep", lambda seconds: None)
    assert store.get("a") == b"1"
    proxy.poison(toxic)
    with pytest.raises(StoreError) as first:
        store.get("a")
    proxy.seen.clear()
    for _ in range(5):
        with pytest.raises(StoreError, match="cannot read b ") as caught:
            store.get("b")
        assert caught.value.retry is Retry.LATER
        assert caught.value.message == first.value.message.replace("read a", "read b")
    assert [seen.method for seen in proxy.seen] == ["HEAD"] * questions
    proxy.heal()
    hours.sleep(HASTY.again_s)
    assert store.get("b") == b"1"


TRICKLES: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("a"),
    "list": lambda store: list(store.list("")),
}


@pytest.mark.parametrize("ask", TRICKLES)
def test_an_answer_that_trickles_is_given_up(
    proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    # fault 8
    use_endpoint(monkeypatch, proxy.url)
    store = open_bucket("s3://bucket/v", HEARING)
    assert store.get("a") == b"1"
    proxy.seen.clear()
    proxy.poison(trickle, method="GET")
    with pytest.raises(StoreError, match="did not answer in time") as caught:
        TRICKLES[ask](store)
    assert caught.value.retry is Retry.LATER
    assert proxy.count("GET") == HASTY.silences_max


def trickle(line: Line) -> None:
    """A byte now and then, so often that nobody is silent, of more than anybody waits for."""
    much = b" " * 2_000
    told = (("ETag", '"1"'), ("Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT"))
    line.head(Reply(200, told, much, len(much)), length=len(much))
    while line.wait(0.05):
        line.wfile.write(b" ")


def test_what_is_larger_may_take_longer_up_to_a_limit() -> None:
    patience = Patience()
    assert patience.limit_s(0) == patience.silence_s
    assert patience.limit_s(100_000) < 12 < patience.limit_s(MIB) < 30
    assert patience.limit_s(64 * MIB) == patience.request_s


def test_much_that_is_being_written_is_given_up_where_nobody_says_a_word_meanwhile(
    shop: ObjectStore, proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 8
    use_endpoint(monkeypatch, proxy.url)
    store = open_bucket("s3://bucket/v", HASTY)
    proxy.poison(hang)
    with pytest.raises(StoreError, match=r"cannot write packs/a .*did not answer in time"):
        store.create("packs/a", bytes(2_000_000))
    assert proxy.count("PUT") == 1


def test_much_that_is_being_written_slowly_is_waited_for_while_the_store_answers(
    proxy: ToxicProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_endpoint(monkeypatch, proxy.url)
    store = open_bucket("s3://bucket/v", HASTY)
    asked = threading.Event()

    def slowly(line: Line) -> None:
        """The write goes on until the store was asked, and has answered, something small."""
        line.take(line.length)
        assert asked.wait(60)
        line.reply(line.forward())

    def small(line: Line) -> None:
        line.reply(line.forward())
        asked.set()

    proxy.poison(slowly, method="PUT")
    proxy.poison(small, method="HEAD")
    assert store.create("packs/a", bytes(2_000_000)) is Put.CREATED
    assert proxy.count("PUT") == 1
