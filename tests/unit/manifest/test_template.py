"""What ``refloat init`` writes can be read again, whatever the paths are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from refloat import registry
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.manifest.template import Start, quoted, template

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


def test_the_template_is_a_manifest():
    text = template(
        "chat", {"eu": "s3://eu/chat", "us": "/srv/vault"}, "eu", [Start("docs", "files", "/srv/docs")]
    )
    manifest = parse(text.encode())
    assert manifest.pipeline == "chat"
    assert {name: region.vault for name, region in manifest.regions.items()} == {
        "eu": "s3://eu/chat",
        "us": "/srv/vault",
    }
    assert manifest.components["docs"].with_ == {"path": "/srv/docs"}


def test_one_region_is_enough():
    assert (
        parse(template("chat", {"here": "/v"}, "here", [Start("docs", "files", "/d")]).encode()).primary
        == "here"
    )


@pytest.mark.parametrize("kind", sorted(registry.names(registry.CONNECTORS)))
def test_what_it_writes_for_a_kind_is_what_the_kind_takes(kind: str):
    text = template("chat", {"here": "/v"}, "here", [Start("part", kind, "/srv/part")])
    schema = registry.connector(kind).spec.settings
    Resolver({}, str).settings(parse(text.encode()), "part", "here", schema)


def test_a_process_gets_its_command_in_words():
    text = template("chat", {"here": "/v"}, "here", [Start("web", "process", "serve 'a b' --port 1")])
    assert parse(text.encode()).components["web"].with_["command"] == ["serve", "a b", "--port", "1"]


def test_uncommented_its_advice_is_a_manifest_too():
    text = template(
        "chat",
        {"eu": "/e", "us": "/u"},
        "eu",
        [Start("registry", "mlflow", "/m"), Start("web", "process", "serve")],
    )
    advice = [
        line.removeprefix("# ") if line.startswith(("# groups", "#  ", "# verify")) else line
        for line in text.splitlines()
    ]
    manifest = parse("\n".join(advice).replace("#   ", "  ").encode())
    assert manifest.groups["serving"].members == ("registry", "web")
    assert set(manifest.verify) == {"web"}


@given(TEXT)
def test_any_path_survives_quoting(path: str):
    assert YAML(typ="safe", pure=True).load(quoted(path)) == path


@given(TEXT.filter(lambda vault: "://" not in vault), TEXT)
def test_any_vault_and_path_survive_the_template(vault: str, path: str):
    manifest = parse(template("chat", {"eu": vault}, "eu", [Start("docs", "files", path)]).encode())
    assert manifest.regions["eu"].vault == vault
    assert manifest.components["docs"].with_ == {"path": path}
