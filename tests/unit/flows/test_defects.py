"""What a plug-in raises that is not ours is named, and ends nothing but what it was asked for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from refloat.connectors.files import Files
from refloat.connectors.process import Process
from refloat.contracts import Health
from refloat.errors import ConnectorError
from refloat.flows import prepare, verify
from refloat.flows.components import Components
from refloat.manifest.parse import parse
from refloat.testing.world import World

SERVER = """\
  server:
    kind: process
    with: {command: [python3], health: "http://127.0.0.1:9/health"}
"""


def raising(*_: object, **__: object) -> None:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.small(tmp_path, group="")


def test_who_inspects_is_told_which_component_has_the_defect(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Files, "inspect", raising)
    with pytest.raises(
        ConnectorError, match="inspecting pages failed unexpectedly: OperationalError"
    ) as error:
        verify.identities(world.components(), "pages", "eu")
    assert (error.value.component, error.value.region) == ("pages", "eu")


def test_a_holder_that_cannot_be_told_counts_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare.beside(world.components(), "us", ["ledger", "answers"]) == []
    monkeypatch.setattr(Files, "holder", raising)
    assert prepare.beside(world.components(), "us", ["ledger", "answers"]) == ["pages"]


def test_a_health_that_cannot_be_told_is_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    components = Components(parse(world.text + SERVER.encode()), world.resolver())
    monkeypatch.setattr(Process, "health", raising)
    assert prepare.source_health(components, "eu") == {"server": Health.UNKNOWN}
