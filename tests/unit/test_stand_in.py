"""Stand-ins are there while a library is imported, and gone afterwards."""

from __future__ import annotations

import importlib
import sys

import pytest

from refloat.stand_in import stand_ins


def test_a_stand_in_has_the_names_that_are_asked_of_it_and_is_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "xml.sax.saxutils", raising=False)
    with stand_ins({"xml.sax.saxutils": ["XMLGenerator"]}):
        light = importlib.import_module("xml.sax.saxutils")
        assert light.XMLGenerator.__mro__[1:] == (object,)
        with pytest.raises(AttributeError):
            _ = light.escape
    assert importlib.import_module("xml.sax.saxutils").escape("<") == "&lt;"


def test_what_is_loaded_already_stays_as_it_is() -> None:
    import json

    with stand_ins({"json": ["JSONDecoder"]}):
        assert importlib.import_module("json") is json
    assert sys.modules["json"] is json


def test_a_failed_import_leaves_no_stand_in_either() -> None:
    with pytest.raises(ImportError), stand_ins({"no_such.part": []}):
        importlib.import_module("no_such_library")
    assert "no_such.part" not in sys.modules
