"""Who is waited for when several regions are asked at once: by events, since a silent one says nothing for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refloat.clock import Clock
from refloat.contracts import ObjectInfo
from refloat.errors import Retry, StoreError
from refloat.testing.world import World
from refloat.vault import first_word
from refloat.vault import vault as vaults
from refloat.vault.first_word import Answering, Asking, answers, silent
from refloat.vault.stores.memory import MemoryStore
from refloat.vault.vault import Vault


class FarStore(MemoryStore):
    """One that says its first word when ``end`` is set; ``looked`` hears that somebody asks whether it said one."""

    def __init__(self, *, spoke: bool = False, looked: Callable[[], None] = lambda: None) -> None:
        super().__init__("far")
        self.end = threading.Event()
        self._spoke = spoke
        self._looked = looked

    @property
    def has_answered(self) -> bool:
        self._looked()
        return self._spoke

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        self.end.wait()
        return super().get(name, start, length)

    def size(self, name: str) -> int | None:
        self.end.wait()
        return super().size(name)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self.end.wait()
        return super().list(prefix)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_word, "FIRST_WORD_S", 0.0)


def asked(far: FarStore) -> dict[str, Asking[bool]]:
    """A well region, and one that answers when it speaks."""
    return {"well": Asking(MemoryStore(), lambda: True), "far": Asking(far, far.end.wait)}


def is_well(answer: bool) -> bool:
    return answer


def test_one_that_says_nothing_holds_up_nobody_and_is_named_as_not_heard() -> None:
    # fault 8
    far = FarStore()
    assert isinstance(far, Answering)
    found = answers(asked(far), is_well, awaited=())
    error = found["far"]
    assert found["well"] is True and isinstance(error, StoreError)
    assert (error.region, error.retry, error.file) == ("far", Retry.LATER, "vault.json")
    assert error.next and "far was not heard" in error.message and "well had answered" in error.message
    far.end.set()


@pytest.mark.parametrize(("spoke", "awaited"), [(True, ()), (False, ("far",)), (False, None)])
def test_one_that_spoke_or_is_needed_is_waited_for_as_long_as_its_store_is(
    spoke: bool, awaited: tuple[str, ...] | None
) -> None:
    far = FarStore(spoke=spoke, looked=lambda: far.end.set())  # it answers only once its time was over
    assert answers(asked(far), is_well, awaited=awaited) == {"well": True, "far": True}


def test_nobody_is_left_out_before_another_one_is_well() -> None:
    far = FarStore()

    def is_well_at_last(answer: bool) -> bool:
        far.end.set()
        return answer

    both = {"ill": Asking(MemoryStore(), lambda: False), "far": Asking(far, far.end.wait)}
    assert answers(both, is_well_at_last, awaited=()) == {"ill": False, "far": True}


def test_where_others_are_open_already_a_silent_one_is_not_waited_for_either() -> None:
    far = FarStore()
    found = answers({"far": Asking(far, far.end.wait)}, is_well, awaited=(), beside=["eu"])
    assert isinstance(found["far"], StoreError) and "eu had answered" in found["far"].message
    far.end.set()


def test_a_store_that_cannot_tell_whether_it_spoke_is_waited_for() -> None:
    end = threading.Event()

    def is_well_and_ends_it(answer: bool) -> bool:
        end.set()
        return answer

    both = {"well": Asking(MemoryStore(), lambda: True), "disk": Asking(MemoryStore(), end.wait)}
    assert answers(both, is_well_and_ends_it, awaited=()) == {"well": True, "disk": True}


def test_what_an_asking_raises_comes_out() -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answers({"eu": Asking(MemoryStore(), broken)}, is_well)


def test_the_silent_ones_among_stores_are_known_before_more_is_asked_of_them() -> None:
    far = FarStore()
    found = silent({"eu": MemoryStore(), "far": far})
    assert list(found) == ["far"]
    far.end.set()


def test_a_vault_is_open_though_one_region_never_says_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fault 8
    world, far = World.small(tmp_path), FarStore()
    stores = {"eu": world.stores["eu"], "us": far}
    monkeypatch.setattr(vaults, "open_store", lambda url: stores[url])
    clock: Clock = world.clock
    opened = Vault.open({"us": "us", "eu": "eu"}, world.key_file, clock, awaited=())
    assert list(opened.replicas) == ["eu"]
    assert "us was not heard" in opened.unreachable["us"].message
    far.end.set()
