"""Each region's bucket with a server, credentials and an authority of its own, named in the manifest by reference."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import azurite as azure
import gcs as google
import pytest
import tls

from refloat.cli.main import run
from refloat.contracts import Versioned
from refloat.manifest.address import Access, Address
from refloat.vault.stores import open_store

MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu:
    vault: {eu}
    store:
      endpoint: "{plain}"
      region: us-east-1
      access_key_id: eu-only
      secret_access_key: "${{env:EU_SECRET}}"
  us:
    vault: {us}
    store:
      endpoint: "{front}"
      region: us-east-1
      access_key_id: "${{env:US_KEY}}"
      secret_access_key: "${{file:us.secret}}"
      ca: "${{file:{ca}}}"
components:
  pages:
    kind: files
    with: {{path: "{root}/${{region}}/pages"}}
"""
SECRETS = ("the-secret-of-eu-alone", "the-secret-of-us-alone")


@dataclass
class Office:
    """An operator's folder, the two addresses, and the TLS front before one of them."""

    root: Path
    eu: str
    us: str
    front: tls.Front
    capture: pytest.CaptureFixture[str]
    said: str = ""

    def ask(self, *arguments: str, exits: int = 0) -> Any:
        code = run(["--json", "--debug", *arguments])
        out, err = self.capture.readouterr()
        self.said += out + err
        assert code == exits, (out, err)
        return json.loads(out)

    def error(self, *arguments: str, exits: int) -> Any:
        return self.ask(*arguments, exits=exits)["error"]

    def change(self, old: str, new: str) -> None:
        path = self.root / "refloat.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def office(
    seaweedfs: Any,
    use: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Office]:
    """A pipeline in eu, whose manifest says how each region's bucket is reached; the environment says nothing."""
    use({})
    assert not [name for name in os.environ if name.startswith("AWS_")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(tmp_path / "small.key"))
    monkeypatch.setenv("EU_SECRET", SECRETS[0])
    monkeypatch.setenv("US_KEY", "us-only")
    (tmp_path / "us.secret").write_text(f"{SECRETS[1]}\n")
    (tmp_path / "eu" / "pages").mkdir(parents=True)
    (tmp_path / "eu" / "pages" / "1.txt").write_text("what page 1 says\n" * 50)
    eu, us = seaweedfs.place("of-eu"), seaweedfs.place("of-us")
    with tls.front(seaweedfs.endpoint, tmp_path) as front:
        named = {
            "eu": eu,
            "us": us,
            "plain": seaweedfs.endpoint,
            "front": front.endpoint,
            "ca": front.ca.name,
        }
        (tmp_path / "refloat.yaml").write_text(MANIFEST.format(**named, root=tmp_path))
        yield Office(tmp_path, eu, us, front, capsys)


def test_a_pipeline_is_protected_and_recovered_over_two_servers(office: Office, seaweedfs: Any) -> None:
    office.ask("vault", "init")
    assert office.ask("check")["regions"]["us"]["reachable"] is True
    protected = office.ask("protect")
    assert all(region["complete"] for region in protected["regions"].values()), protected
    (office.root / "eu").rename(office.root / "lost")
    assert office.ask("recover", "--to", "us")["state"] == "done"
    assert (office.root / "us" / "pages" / "1.txt").read_text() == "what page 1 says\n" * 50

    for place in (office.eu, office.us):
        bucket = place.removeprefix("s3://").partition("/")[0]
        client = seaweedfs.client()
        stored = b"".join(
            client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in seaweedfs.keys(place)
        )
        assert not [secret for secret in SECRETS if secret.encode() in stored]
    assert not [secret for secret in SECRETS if secret in office.said]


CLOUDS = """\
version: 1
pipeline: small
primary: eu
regions:
  eu:
    vault: {eu}
    store: {{endpoint: "{azure}", account: writer, {secret}: "${{env:EU_SECRET}}"}}
  us:
    vault: {us}
    store: {{endpoint: "{google}", service_account_key: "${{file:us.json}}"}}
components:
  pages:
    kind: files
    with: {{path: "{root}/${{region}}/pages"}}
"""


@pytest.fixture(params=["account_key", "sas_token"])
def two_clouds(
    request: pytest.FixtureRequest,
    office: Office,
    azurite: Any,
    gcs: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Any, list[str]]:
    """The same operator with one region in Azure and one in Google's cloud; both servers, and every secret."""
    token = azure.signature("of-eu")
    held = {"account_key": azure.KEY, "sas_token": token}[request.param]
    monkeypatch.setenv("EU_SECRET", held)
    shutil.copy(gcs.accounts.file(google.WRITER), office.root / "us.json")
    office.eu, office.us = azurite.place("of-eu"), gcs.place("of-us")
    named = {"eu": office.eu, "us": office.us, "secret": request.param, "root": office.root}
    named |= {"azure": f"{azurite.endpoint}/{azure.ACCOUNT}", "google": gcs.endpoint}
    (office.root / "refloat.yaml").write_text(CLOUDS.format(**named))
    return (azurite, gcs), [held, *gcs.accounts.secrets(google.WRITER)]


def test_regions_in_two_clouds_are_reached_by_what_the_manifest_says_of_each(
    office: Office, two_clouds: tuple[Any, list[str]]
) -> None:
    servers, secrets = two_clouds
    office.ask("vault", "init")
    protected = office.ask("protect")
    assert all(region["complete"] for region in protected["regions"].values()), protected
    assert office.ask("vault", "check", "--read-data")["ok"]
    servers[0].wipe(office.eu)
    shutil.rmtree(office.root / "eu")
    assert office.ask("recover", "--to", "us")["state"] == "done"
    assert (office.root / "us" / "pages" / "1.txt").read_text() == "what page 1 says\n" * 50
    assert not [secret for secret in secrets if secret in office.said]


def test_what_does_not_serve_in_one_cloud_is_said_of_its_region_alone(
    office: Office, two_clouds: tuple[Any, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secrets = two_clouds
    office.ask("vault", "init")
    key = "account_key" in (office.root / "refloat.yaml").read_text()
    wrong = azure.WRONG_KEY if key else azure.signature("of-eu", until="2020-01-01T00:00:00Z")
    monkeypatch.setenv("EU_SECRET", wrong)
    regions = office.ask("protect", exits=1)["regions"]
    assert regions["us"] == {"complete": True, "error": None}
    assert "credentials" in regions["eu"]["error"], regions
    assert not [secret for secret in (*secrets, wrong) if secret in office.said]


def test_the_page_for_a_bare_machine_names_each_server_and_no_secret(office: Office) -> None:
    office.ask("vault", "init")
    office.ask("protect")
    office.ask("vault", "kit", "--to", "page.txt")
    page = (office.root / "page.txt").read_text()
    assert f"us: {office.us}, of the server {office.front.endpoint}\n" in page
    assert not [secret for secret in SECRETS if secret in page]


def test_a_bucket_with_object_lock_is_asked_for_its_versions_in_the_same_way(
    seaweedfs: Any, use: Any, tmp_path: Path
) -> None:
    use({})
    bucket = "locked-behind-tls"
    seaweedfs.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    variables = seaweedfs.environment()
    with tls.front(seaweedfs.endpoint, tmp_path) as front:
        named = {
            "access_key_id": variables["AWS_ACCESS_KEY_ID"],
            "secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
        }
        access = Access(endpoint=front.endpoint, region="us-east-1", ca=front.ca.read_text(), **named)
        store = open_store(Address(f"s3://{bucket}/v", access))
        assert isinstance(store, Versioned)
        store.create("a", b"1")
        kept = store.kept("a")
        assert kept is not None and kept.get("a") == b"1"


def test_each_region_has_only_its_own_credentials(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.ask("vault", "init")
    monkeypatch.setenv("US_KEY", "eu-only")
    (office.root / "us.secret").write_text(SECRETS[0])
    problem = next(p for p in office.ask("check", exits=1)["problems"] if p["where"] == "regions.us")
    assert "these credentials may not" in problem["message"]
    (office.root / "us.secret").write_text("another-secret")
    problem = next(p for p in office.ask("check", exits=1)["problems"] if p["where"] == "regions.us")
    assert "credentials are wrong" in problem["message"]
    assert problem["next"] == "correct the credentials that `store` of the region names in the manifest"


def test_what_the_environment_holds_for_others_is_not_mixed_in(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another account")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "others-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    office.ask("vault", "init")
    assert office.ask("check")["regions"]["eu"]["exists"] is True


def test_a_server_of_an_authority_that_nobody_named_is_refused(office: Office) -> None:
    office.ask("vault", "init")
    office.change('      ca: "${file:ca.pem}"\n', "")
    problem = next(p for p in office.ask("check", exits=1)["problems"] if p["where"] == "regions.us")
    assert "certificate" in problem["message"] and "`ca`" in problem["next"]


def test_a_region_whose_credentials_went_with_another_keeps_no_region_from_a_recovery(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.ask("vault", "init")
    office.ask("protect")
    monkeypatch.delenv("EU_SECRET")
    (office.root / "eu").rename(office.root / "lost")
    assert office.ask("recover", "--to", "us")["state"] == "done"


def test_a_bare_machine_is_told_by_its_environment(
    office: Office, seaweedfs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.ask("vault", "init")
    office.ask("protect")
    (office.root / "refloat.yaml").unlink()
    for gone in ("EU_SECRET", "US_KEY"):
        monkeypatch.delenv(gone)
    (office.root / "us.secret").unlink()
    (office.root / "eu").rename(office.root / "lost")
    recover = ("recover", "--vault", office.us, "--to", "us")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    variables = {"AWS_ENDPOINT_URL": office.front.endpoint, "AWS_CA_BUNDLE": str(office.front.ca)}
    variables |= {"AWS_ACCESS_KEY_ID": "us-only", "AWS_SECRET_ACCESS_KEY": "wrong", "AWS_REGION": "us-east-1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = office.error(*recover, exits=1)
    assert "credentials are wrong" in error["message"] and "AWS_ACCESS_KEY_ID" in error["next"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS[1])
    assert office.ask(*recover)["state"] == "done"
    assert (office.root / "us" / "pages" / "1.txt").exists()
