"""Vaults lie apart from each other, from components, and from what this machine keeps, however they are spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.errors import ManifestError
from refloat.flows.apart import overlaps, require_apart
from refloat.flows.components import Components
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver

MANIFEST = """\
version: 1
pipeline: small
regions:
  eu: {{vault: "{eu}"}}
  us: {{vault: "{us}"{store}}}
primary: eu
components:
  pages:
    kind: files
    with: {{path: "{pages}"}}
    at: {{us: {{path: "{there}"}}}}
  unknown:
    kind: files
    with: {{path: "${{env:NOT_HERE}}"}}
"""
APART = {"eu": "vaults/eu", "us": "vaults/us", "pages": "eu/pages", "there": "us/pages", "store": ""}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("vaults/eu")


def found(content: bytes, state: str = "state") -> list[tuple[str, str]]:
    components = Components(parse(content), Resolver({}, lambda path: Path(path).read_text()))
    told = overlaps(components, Path(state))
    if told:
        with pytest.raises(ManifestError) as caught:
            require_apart(components, content, "refloat.yaml", Path(state))
        assert (caught.value.exit_code, caught.value.file) == (2, "refloat.yaml")
        assert caught.value.line and caught.value.column
    return [(".".join(map(str, one.path)), one.message.replace(f"{Path.cwd()}/", "")) for one in told]


def written(**places: str) -> bytes:
    return MANIFEST.format(**{**APART, **places}).encode()


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"eu": "./vault-eu", "us": "./vault-us", "pages": "./vault", "there": "./data"},
        {"eu": "eu/vault", "us": "us/vault"},
        {"eu": "s3://one/chat", "us": "s3://one/chats"},
        {"eu": "s3://one/chat", "us": "gs://one/chat"},
        {"eu": "s3://one", "us": "s3://one-more/chat"},
        {
            "eu": "s3://one/chat",
            "us": "s3://one/chat",
            "store": ', store: {endpoint: "https://other.example"}',
        },
        {"eu": "memory://one", "us": "memory://one/more"},
        {"eu": "${env:NOT_HERE}"},
    ],
)
def test_what_lies_apart_is_left_alone(places: dict[str, str]) -> None:
    assert found(written(**places)) == []


@pytest.mark.parametrize(
    "spelling",
    ["vaults/eu", "vaults/eu/", "vaults/../vaults/./eu", "file://{here}/vaults/eu", "link", "{here}/link"],
)
def test_one_place_in_any_spelling(spelling: str, tmp_path: Path) -> None:
    assert found(written(us=spelling.format(here=tmp_path))) == [
        ("regions.us.vault", "the regions eu and us have one place: vaults/eu")
    ]


@pytest.mark.parametrize(
    ("places", "where", "said"),
    [
        (
            {"us": "link/us"},
            "regions.us.vault",
            "the vault of us (vaults/eu/us) lies in the vault of eu (vaults/eu)",
        ),
        (
            {"us": "vaults"},
            "regions.eu.vault",
            "the vault of eu (vaults/eu) lies in the vault of us (vaults)",
        ),
        (
            {"eu": "s3://b", "us": "s3://b/x"},
            "regions.us.vault",
            "the vault of us (s3://b/x) lies in the vault of eu (s3://b)",
        ),
        (
            {"pages": "link"},
            "components.pages.with",
            "pages in eu (vaults/eu) lies in the vault of eu (vaults/eu)",
        ),
        (
            {"there": "vaults/eu/x"},
            "components.pages.with",
            "pages in us (vaults/eu/x) lies in the vault of eu (vaults/eu)",
        ),
        ({"pages": "vaults"}, "regions.eu.vault", "the vault of eu (vaults/eu) lies in pages in eu (vaults)"),
        ({"there": "."}, "regions.us.vault", "the vault of us (vaults/us) lies in pages in us ()"),
    ],
)
def test_one_in_another_is_named_with_both_places(places: dict[str, str], where: str, said: str) -> None:
    told = dict(found(written(**places)))
    assert told[where].replace(f"({Path.cwd()})", "()") == said


def test_what_a_machine_keeps_does_not_lie_in_a_vault() -> None:
    assert found(written(), state="link/state") == [
        ("regions.eu.vault", "what this machine keeps (vaults/eu/state) lies in the vault of eu (vaults/eu)")
    ]
