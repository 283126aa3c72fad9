"""Texts of SQLite, which keeps whatever bytes a program called a text; those that are not UTF-8 are surrogates here."""

from __future__ import annotations


def decoded(stored: bytes) -> str:
    """A text as the ``text_factory`` of a connection: SQLite's own driver refuses the whole row."""
    return stored.decode("utf-8", "surrogateescape")


def bindable(text: str) -> str | bytes:
    """The text, or where the driver does not take it its bytes, for ``CAST(? AS TEXT)``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")
    return text
