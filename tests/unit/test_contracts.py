"""The small values that plug-ins exchange."""

from __future__ import annotations

import pytest

from refloat.contracts import Place, Settings


class Folder(Settings):
    path: str


class Database(Settings):
    path: str


def test_a_place_gives_its_settings_to_its_own_connector_alone() -> None:
    place = Place("index", "eu", Folder(path="/srv/index"))
    assert place.settings_as(Folder).path == "/srv/index"
    with pytest.raises(TypeError, match="index has Folder, not Database"):
        place.settings_as(Database)
