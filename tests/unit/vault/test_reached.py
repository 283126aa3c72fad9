"""A bucket is reached by what its address says, and by the environment where it says nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from refloat.errors import UsageError
from refloat.manifest.address import Access, Address, access_of
from refloat.vault.stores import open_store
from refloat.vault.stores.reached import reach

S3 = "s3://bucket/v"
KEYS = {"access_key_id": "me", "secret_access_key": "hunter2222", "region": "r"}


@pytest.fixture(autouse=True)
def _says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)


def address(url: str = S3, **access: Any) -> Address:
    return Address(url, Access(**access))


def test_an_address_is_its_url_wherever_it_is_written() -> None:
    one = address(endpoint="https://a", **KEYS)
    assert (f"{one}", str(one), repr(one)) == (S3, S3, repr(S3))
    assert type(str(one)) is str
    assert "hunter2222" not in repr(one.access)


def test_buckets_of_two_servers_are_two_places_though_they_have_one_name() -> None:
    one, other = address(endpoint="https://a"), address(endpoint="https://b")
    assert one != other and one != S3 and len({one, other}) == 2
    assert one == address(endpoint="https://a")
    assert access_of(one.at("s3://bucket/w")) == one.access


@pytest.mark.parametrize(
    ("access", "variables", "allowed"),
    [
        ({"endpoint": "http://minio.internal:9000"}, {}, False),
        ({"endpoint": "http://minio.internal:9000", "allow_http": True}, {}, True),
        ({"endpoint": "http://127.0.0.1:9000"}, {}, True),
        ({"endpoint": "http://minio.internal:9000"}, {"AWS_ALLOW_HTTP": "true"}, True),
        ({"endpoint": "http://minio.internal:9000"}, {"AWS_ALLOW_HTTP": "false"}, False),
        ({"endpoint": "http://minio.internal:9000"}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}, False),
    ],
)
def test_plain_http_is_spoken_elsewhere_only_where_somebody_said_so(
    monkeypatch: pytest.MonkeyPatch, access: dict[str, Any], variables: dict[str, str], allowed: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert reach(address(**access)).options["allow_http"] is allowed


def test_a_bucket_may_be_named_by_its_host() -> None:
    assert reach(address()).config == {}
    assert reach(address(path_style=False)).config == {"virtual_hosted_style_request": True}


@pytest.mark.parametrize(
    ("url", "access", "config", "credentials"),
    [
        ("az://c/v", {"endpoint": "https://a/x", "account": "x", "account_key": "k"},
         {"endpoint": "https://a/x", "account_name": "x"}, {"access_key": "k", "expires_at": None}),
        ("az://c/v", {"account": "x", "sas_token": "t"}, {"account_name": "x"}, {"sas_token": "t", "expires_at": None}),
        ("gs://b/v", {"endpoint": "https://a", "service_account_key": "{}"},
         {"base_url": "https://a", "service_account_key": "{}"}, None),
    ],
)  # fmt: skip
def test_azure_and_google_are_reached_by_the_same_keys(
    url: str, access: dict[str, Any], config: dict[str, object], credentials: dict[str, object] | None
) -> None:
    reached = reach(address(url, **access))
    assert reached.config == config
    assert (reached.credentials and reached.credentials()) == credentials


@pytest.mark.parametrize(
    ("url", "access", "words"),
    [
        (S3, {"account": "x"}, "`account` of `store` is for az://"),
        ("gs://b/v", KEYS, "is for s3://"),
        ("/srv/vault", {}, "is no bucket"),
        (S3, {"ca": "not PEM"}, "`ca` of `store` is no certificate"),
    ],
)
def test_what_a_store_does_not_take_is_refused(url: str, access: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(address(url, **access))
    assert words in caught.value.message and "hunter2222" not in caught.value.told


def test_a_bundle_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(UsageError, match="AWS_CA_BUNDLE cannot be read"):
        open_store(S3)


# ---------------------------------------------------------------------------------------------- proxies


class Proxy(ThreadingHTTPServer):
    """Knows nothing, and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Nothing)
        self.asked: list[str] = []


class Nothing(BaseHTTPRequestHandler):
    server: Proxy

    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("said_by", ["manifest", "environment"])
def test_a_proxy_is_asked_for_the_server(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, said_by: str) -> None:
    url = f"http://127.0.0.1:{proxy.server_port}"
    named = {"proxy": url} if said_by == "manifest" else {}
    if said_by == "environment":
        monkeypatch.setenv("HTTP_PROXY", url)
    store = open_store(address(endpoint="http://minio.internal:9000", allow_http=True, **named, **KEYS))
    assert store.size("x") is None
    assert proxy.asked[0] == "http://minio.internal:9000/bucket/v/x"
