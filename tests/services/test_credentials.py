"""Credentials and buckets that do not serve: a clear error, nothing half made, and no secret in what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.main import run
from refloat.contracts import Store
from refloat.errors import Retry, StoreError
from refloat.testing.toxic import ToxicProxy, answer
from refloat.vault.stores import open_store

pytestmark = pytest.mark.slow

WRITER = ("writer", "the-writers-very-secret-key")
READER = ("reader", "the-readers-very-secret-key")
WRONG = ("writer", "a-wrong-and-very-secret-key")
NOBODY = ("nobody", "nobodys-very-secret-key")
SECRETS = [secret for _, secret in (WRITER, READER, WRONG, NOBODY)] + ["very-secret-token"]
ASKS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create("a", b"1"),
    "get": lambda store: store.get("a"),
    "size": lambda store: store.size("a"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("a"),
}


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("who", [WRONG, NOBODY], ids=["wrong secret", "unknown id"])
def test_wrong_credentials_are_said_to_be_wrong_whatever_is_asked(
    seaweedfs: Any, use: Any, ask: str, who: tuple[str, str]
) -> None:
    # fault 66
    use(seaweedfs.environment(who))
    with pytest.raises(StoreError, match="the credentials are wrong") as caught:
        ASKS[ask](open_store(seaweedfs.place()))
    error = caught.value
    assert error.retry is Retry.NEVER and "AWS_ACCESS_KEY_ID" in (error.next or "")
    assert not any(secret in f"{error!r} {error.next} {error.__cause__!r}" for secret in SECRETS)


@pytest.mark.parametrize("ask", ["create", "delete"])
def test_who_may_only_read_is_told_so_at_once(seaweedfs: Any, proxy: ToxicProxy, use: Any, ask: str) -> None:
    use(seaweedfs.environment(READER, proxy.url))
    with pytest.raises(StoreError, match="may not") as caught:
        ASKS[ask](open_store(seaweedfs.place()))
    assert caught.value.retry is Retry.NEVER and "policy" in (caught.value.next or "")
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("ask", ASKS)
def test_a_bucket_that_does_not_exist_is_not_an_absent_object(seaweedfs: Any, use: Any, ask: str) -> None:
    use(seaweedfs.environment())
    with pytest.raises(StoreError, match="bucket does not exist") as caught:
        ASKS[ask](open_store("s3://no-such-bucket/v"))
    assert caught.value.retry is Retry.NEVER


def test_a_prefix_keeps_two_vaults_of_one_bucket_apart(seaweedfs: Any, use: Any) -> None:
    use(seaweedfs.environment())
    place = seaweedfs.place()
    open_store(f"{place}/a").create("x", b"1")
    assert open_store(f"{place}/b").size("x") is None
    assert open_store(place).get("a/x") == b"1"
    assert [found.name for found in open_store(f"{place}/a").list("")] == ["x"]


def test_an_object_that_another_program_left_under_a_foreign_name_is_not_listed(
    seaweedfs: Any, use: Any
) -> None:
    use(seaweedfs.environment())
    place = seaweedfs.place()
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    seaweedfs.client().put_object(Bucket=bucket, Key=f"{prefix}/Foreign Näme", Body=b"x")
    store = open_store(place)
    store.create("ours", b"1")
    assert [found.name for found in store.list("")] == ["ours"]


# ---------------------------------------------------------------------------------- refloat vault init


@dataclass(frozen=True)
class Case:
    """What is wrong with a region's store, and what must be said of it."""

    says: str
    advises: str
    who: tuple[str, str] | None = WRITER
    more: dict[str, str] = field(default_factory=dict)
    answered: tuple[int, str] | None = None
    bucket: str | None = None


CASES = {
    "wrong secret": Case("credentials are wrong", "AWS_ACCESS_KEY_ID", WRONG),
    "unknown id": Case("credentials are wrong", "AWS_ACCESS_KEY_ID", NOBODY),
    "none": Case("there are no credentials", "AWS_ACCESS_KEY_ID", None),
    "read-only": Case("may not", "policy", READER),
    "expired": Case(
        "have expired",
        "get new ones",
        more={"AWS_SESSION_TOKEN": SECRETS[-1]},
        answered=(400, "ExpiredToken"),
    ),
    "clock": Case("clock is wrong", "set the clock", answered=(403, "RequestTimeTooSkewed")),
    "elsewhere": Case("another region", "AWS_REGION", answered=(301, "PermanentRedirect")),
    "no bucket": Case("bucket does not exist", "make the bucket", bucket="no-such-bucket"),
}


@pytest.mark.parametrize("name", CASES)
def test_init_on_a_store_that_does_not_serve_leaves_nothing_half_made(
    seaweedfs: Any,
    proxy: ToxicProxy,
    use: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    # fault 66
    case = CASES[name]
    place = seaweedfs.place()
    address = place if case.bucket is None else f"s3://{case.bucket}/v"
    use(seaweedfs.environment(case.who or WRITER, proxy.url) | case.more)
    if case.who is None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if case.answered:
        proxy.poison(answer(*case.answered))
    manifest = tmp_path / "refloat.yaml"
    manifest.write_text(
        f"version: 1\npipeline: small\nprimary: eu\nregions:\n  eu: {{vault: '{tmp_path}/eu'}}\n"
        f"  us: {{vault: '{address}'}}\ncomponents:\n  pages: {{kind: files, with: {{path: '{tmp_path}/pages'}}}}\n"
    )
    monkeypatch.chdir(tmp_path)

    code = run(["-f", str(manifest), "--json", "--debug", "vault", "init", "--key", "small.key"])

    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert code == 1 and (error["code"], error["retry"], error["region"]) == ("store", "never", "us")
    assert case.says in error["message"] and case.advises in error["next"]
    assert not any(secret in said.out + said.err for secret in SECRETS)
    assert not (tmp_path / "small.key").exists()
    assert not [path for path in (tmp_path / "eu").rglob("*") if path.is_file()]
    assert seaweedfs.keys(place) == []


# ------------------------------------------------------------- refloat protect and recover, one region shut out


@pytest.fixture
def bucket(seaweedfs: Any, use: Any) -> str:
    """A place in a bucket, which whoever works here may write to."""
    use(seaweedfs.environment())
    return str(seaweedfs.place())


def shut_out(
    case: Case, seaweedfs: Any, proxy: ToxicProxy, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From here on the bucket is not to be had."""
    use(seaweedfs.environment(case.who or WRITER, proxy.url) | case.more)
    if case.who is None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if case.answered:
        proxy.poison(answer(*case.answered))


SHUT_OUT = ("wrong secret", "unknown id", "none", "read-only", "expired")


@pytest.mark.parametrize("name", SHUT_OUT)
def test_a_region_whose_credentials_do_not_serve_keeps_no_other_from_a_point(
    desk: Any,
    bucket: str,
    seaweedfs: Any,
    proxy: ToxicProxy,
    use: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    # faults 7, 66
    case = CASES[name]
    desk.release(1)
    desk.write_manifest(us=bucket)
    desk.ask("vault", "init", "--key", "small.key")
    desk.ask("protect")
    kept = seaweedfs.keys(bucket)
    desk.release(2)
    shut_out(case, seaweedfs, proxy, use, monkeypatch)
    made = desk.ask("protect", exits=1)
    assert made["regions"]["eu"] == {"complete": True, "error": None}
    assert made["regions"]["us"]["complete"] is False
    assert case.says in made["regions"]["us"]["error"] and case.advises in made["regions"]["us"]["error"]
    assert made["components"]["pages"]["error"] is None
    assert seaweedfs.keys(bucket) == kept, "nothing was written there"
    assert not any(secret in desk.said for secret in SECRETS)

    proxy.heal()
    use(seaweedfs.environment())
    assert desk.ask("protect")["regions"]["us"] == {"complete": True, "error": None}
    assert desk.complete()[0] == ["eu", "us"]
    assert desk.ask("vault", "check", "--read-data")["ok"]


@pytest.mark.parametrize("name", ["none", "expired"])
def test_what_a_region_that_shuts_us_out_holds_is_recovered_from_the_one_that_is_left(
    desk: Any,
    bucket: str,
    seaweedfs: Any,
    proxy: ToxicProxy,
    use: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    # faults 7, 66
    desk.release(1)
    desk.write_manifest(eu=bucket)
    desk.ask("vault", "init", "--key", "small.key")
    desk.ask("protect")
    shut_out(CASES[name], seaweedfs, proxy, use, monkeypatch)
    done = desk.ask("recover", "--to", "us")
    assert (done["state"], done["evidence"].keys()) == ("done", {"us"})
    assert "unprotected" in done["flags"], "the new point is in one region of two"
    assert desk.live("us") == desk.live("eu")
    refused = desk.ask("plan", "--to", "eu", exits=1)["error"]
    assert refused["region"] == "eu"
    assert CASES[name].says in refused["message"] and CASES[name].advises in refused["next"]
    assert not any(secret in desk.said for secret in SECRETS)
