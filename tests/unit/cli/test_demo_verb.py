"""``refloat demo`` without what it is made of says how to get that, before it begins."""

from __future__ import annotations

import importlib.metadata
import json

import pytest

from refloat.cli.demo import lacking_extras
from refloat.cli.main import run


def test_what_is_lacking_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("fastapi", "scikit-learn"):
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert run(["demo", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"].endswith("not installed: fastapi, scikit-learn")
    assert error["next"].endswith("-m pip install 'refloat[demo]'")


def test_nothing_is_lacking_where_its_extras_are_installed() -> None:
    assert lacking_extras() == []
