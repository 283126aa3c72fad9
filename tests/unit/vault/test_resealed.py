"""The writer's word on which of its sealed key files counts."""

from __future__ import annotations

from functools import partial

import pytest

from refloat.errors import WrongKey
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.keyobjects import key_objects
from refloat.vault.recipients import RecipientKey, seal_key_file
from refloat.vault.resealed import Resealed, outdated, resealed_in, resealed_object
from refloat.vault.wraps import opened

OWN = RecipientKey.create()
KEY = KeyFile.create("5ma11" * 4, "small")
SEALED = [seal_key_file(KEY.with_new_content_key(), OWN.public) for _ in range(4)]
FIRST, SECOND, THIRD, FOURTH = SEALED


def word(old: bytes, new: bytes, by: KeyFile = KEY) -> Resealed:
    told = resealed_in(resealed_object(by, old, new))
    assert told is not None
    return told


def gone(*words: Resealed, sealed: list[bytes] = SEALED) -> list[int]:
    """Which of the sealed key files count no more, by number."""
    return [n for n, one in enumerate(sealed) if one in outdated(words, sealed, lambda one: opened(one, OWN))]


def test_the_newest_counts_and_none_before_it() -> None:  # fault 58
    assert gone() == []
    assert gone(word(FIRST, SECOND)) == [0]
    assert gone(word(FIRST, SECOND), word(SECOND, THIRD), word(FIRST, THIRD)) == [0, 1]


def test_what_is_not_there_or_does_not_open_takes_nobodys_place() -> None:
    told = word(FIRST, SECOND)
    assert gone(told, sealed=[FIRST, THIRD]) == gone(told, sealed=[SECOND, THIRD]) == []
    for closed in (FIRST, SECOND):
        opening = partial(opened_unless, closed)
        assert outdated([told], SEALED, opening) == frozenset()


def opened_unless(closed: bytes, one: bytes) -> KeyFile | None:
    return None if one == closed else opened(one, OWN)


def test_only_the_writer_whose_key_it_is_says_so_and_of_its_own_alone() -> None:  # fault 58
    other = KEY.for_another(Role.WRITER, Role.READER)
    assert gone(word(FIRST, SECOND, by=other)) == []
    others = seal_key_file(other, OWN.public)
    sealed = [FIRST, others]
    assert (
        gone(word(FIRST, others), sealed=sealed) == gone(word(FIRST, others, by=other), sealed=sealed) == []
    )
    elsewhere = KEY.model_copy(update={"vault": "another"})
    assert gone(word(FIRST, SECOND, by=elsewhere)) == []
    reader = seal_key_file(KEY.for_roles(Role.READER), OWN.public)
    again = seal_key_file(KEY.for_roles(Role.READER), OWN.public)
    assert gone(word(reader, again), sealed=[reader, again]) == []
    with pytest.raises(WrongKey, match="writer"):
        resealed_object(KEY.for_roles(Role.READER), FIRST, SECOND)


def test_words_that_go_round_in_a_circle_keep_nobody_out() -> None:  # fault 58
    circle = word(FIRST, SECOND), word(SECOND, THIRD), word(THIRD, FIRST)
    assert gone(*circle) == gone(word(FIRST, FIRST)) == []
    assert gone(*circle, word(SECOND, FOURTH)) == [0, 1, 2]


def test_what_is_none_says_nothing() -> None:
    stored = resealed_object(KEY, FIRST, SECOND)
    assert resealed_in(stored) == word(FIRST, SECOND)
    for other in (FIRST, *key_objects(KEY), stored[:-1], stored.replace(b'"old":"', b'"old":"x'), b"junk"):
        assert resealed_in(other) is None
