"""Vaults lie apart from each other, from components, and from what this machine keeps, however they are spelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat.errors import ManifestError
from refloat.flows.apart import in_one_place, lived_in, overlaps, require_apart
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


def components(content: bytes) -> Components:
    return Components(parse(content), Resolver({}, lambda path: Path(path).read_text()))


def in_two_regions(content: bytes) -> list[tuple[str, str]]:
    told = in_one_place(components(content))
    assert all("`at: {us: …}` below pages" in (one.next or "") for one in told)
    return [(".".join(map(str, one.path)), one.message.replace(f"{Path.cwd()}/", "")) for one in told]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"there": "eu/pages"}, "pages has one place in eu and us: eu/pages"),
        ({"there": "us/../eu//pages/"}, "pages has one place in eu and us: eu/pages"),
        ({"pages": "data", "there": "data/us"}, "pages in us (data/us) lies in pages in eu (data)"),
        ({"pages": "data/eu", "there": "data"}, "pages in eu (data/eu) lies in pages in us (data)"),
    ],
)
def test_what_has_one_place_in_two_regions_is_named(places: dict[str, str], said: str) -> None:
    content = written(**places)
    assert in_two_regions(content) == [("components.pages.with", said)]
    assert overlaps(components(content)) == []
    assert lived_in(components(content), "us", {"eu"}).get("pages") == "eu"
    assert "pages" not in lived_in(components(content), "us", {"us"})
    assert "unknown" not in lived_in(components(content), "us", {"eu"})


def test_a_place_of_another_component_is_one_as_well() -> None:
    other = '  more:\n    kind: files\n    with: {path: "us/pages/more"}\n    at: {us: {path: "more"}}\n'
    content = written() + other.encode()
    said = f"more in eu ({Path.cwd()}/us/pages/more) lies in pages in us ({Path.cwd()}/us/pages)"
    assert [one.message for one in in_one_place(components(content))] == [said]
    assert lived_in(components(content), "us", {"eu"}).get("pages") == "eu"
    assert "more" not in lived_in(components(content), "us", {"eu"})


@pytest.mark.parametrize(
    ("eu", "us", "told"),
    [
        ("{site: fra}", "{site: iad}", False),
        ("{site: fra, provider: aws}", "{account: b, provider: gcp}", False),
        ("{site: fra}", "{site: fra}", True),
        ("{site: fra, provider: aws}", "{provider: aws}", True),
        ("{site: fra}", "{provider: aws}", True),
        ("{site: fra}", "{}", True),
    ],
)
def test_one_path_on_two_machines_is_two_places(eu: str, us: str, told: bool) -> None:
    content = written(there="eu/pages").decode()
    for region, domain in (("eu", eu), ("us", us)):
        content = content.replace(f'vaults/{region}"', f'vaults/{region}", domain: {domain}')
    assert bool(in_two_regions(content.encode())) is told
    assert (lived_in(components(content.encode()), "us", {"eu"}).get("pages") == "eu") is told


def test_places_that_lie_apart_are_nobody_elses() -> None:
    assert in_two_regions(written()) == []
    assert "pages" not in lived_in(components(written()), "us", {"eu"})
