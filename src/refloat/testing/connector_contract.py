"""The suites that every connector must pass; a third party subclasses one and fills in the hooks.

class TestWeaviate(ConnectorContract):
    connector = Weaviate()

    def make_live(self, tmp_path): ...
"""

# A test is named by the promise that it checks, and needs no docstring.
# ruff: noqa: D102

from __future__ import annotations

import hashlib
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from refloat.contracts import (
    Connector,
    Facts,
    Holding,
    Instance,
    Observed,
    Occupied,
    Op,
    Place,
    Runnable,
    Settings,
    Staging,
    Tokened,
)
from refloat.deadline import require_wanted
from refloat.digest import Json, canonical_json
from refloat.errors import ConnectorError, DeadlineExceeded
from refloat.holding import shared
from refloat.testing.memory_snapshot import MemorySink, MemorySource

SOURCE, TARGET = "eu", "us"


class Cut(Exception):
    """The process dies here: what a test throws in the middle of an operation."""


class CutSource(MemorySource):
    """A source whose ``limit``-th file is never delivered."""

    limit: list[int]

    @classmethod
    def after(cls, source: MemorySource, files: int) -> CutSource:
        """The same snapshot, cut after ``files`` files; every view of it counts together."""
        cut = cls(source._entries, source._stored, source.facts)
        cut.limit = [files]
        return cut

    def _content(self, path: str) -> bytes:
        if self.limit[0] == 0:
            raise Cut(path)
        self.limit[0] -= 1
        return super()._content(path)


class CancellingSource(MemorySource):
    """A source whose operation is called off with the first file that it gives; as a vault's, it gives no more."""

    cancelled: threading.Event

    @classmethod
    def of(cls, source: MemorySource, op: Op) -> CancellingSource:
        """The same snapshot for ``op``."""
        calling_off = cls(source._entries, source._stored, source.facts)
        calling_off.cancelled = op.cancelled
        return calling_off

    def _content(self, path: str) -> bytes:
        require_wanted(self.cancelled, "reading the snapshot")
        self.cancelled.set()
        return super()._content(path)


class ActingSink(MemorySink):
    """A sink that does something to what is live before, or after, it takes in the first file."""

    def __init__(self, before: Callable[[], object], after: Callable[[], object] | None = None) -> None:
        super().__init__()
        self._before = [before]
        self._after = [after] if after else []

    def file(self, path: str, content: Path | BinaryIO, **entry: Any) -> int:
        """Keep the file, acting around the first one of all views."""
        _act_once(self._before)
        size = super().file(path, content, **entry)
        _act_once(self._after)
        return size

    def under(self, prefix: str) -> MemorySink:
        """A view that acts too."""
        view = ActingSink.__new__(ActingSink)
        view.__dict__.update(super().under(prefix).__dict__, _before=self._before, _after=self._after)
        return view


class _Hooks(ABC):
    """What both suites ask of a subclass."""

    connector: Connector

    @abstractmethod
    def make_live(self, tmp_path: Path) -> Settings:
        """Make a real component, holding something, in ``tmp_path``; its settings."""

    def parts(self) -> Mapping[str, Connector]:
        """The connectors that the engine would supply, by the roles of ``spec.parts``."""
        return {}

    def op(
        self,
        settings: Settings,
        tmp_path: Path,
        *,
        token: str = "token-1",
        run: str = "run-1",
        epoch: int = 1,
        region: str = TARGET,
        addresses: Mapping[str, str] | None = None,
        identity: Mapping[str, Json] | None = None,
    ) -> Op:
        """An operation as the engine would make it; the point's name is in its memory."""
        scratch = tmp_path / "scratch" / token
        scratch.mkdir(parents=True, exist_ok=True)
        return Op(
            place=Place("part", region, settings, addresses=addresses or {}),
            run=run,
            token=token,
            epoch=epoch,
            scratch=scratch,
            deadline_s=60.0,
            parts=self.parts(),
            memory={"point": f"point-of-{run}"},
            source_identity=identity or {},
        )

    def test_the_connector_meets_the_protocol_and_says_what_it_is(self) -> None:
        assert isinstance(self.connector, Connector)
        spec = self.connector.spec
        assert spec.kind and spec.summary and issubclass(spec.settings, Settings)
        assert set(self.parts()) == set(spec.parts)

    def test_settings_are_frozen_and_refuse_unknown_keys(self) -> None:
        config = self.connector.spec.settings.model_config
        assert config.get("frozen") is True
        assert config.get("extra") == "forbid"


class ConnectorContract(_Hooks):
    """The promises of a connector that captures and restores. Subclass it and fill in the hooks."""

    @abstractmethod
    def mutate(self, settings: Settings) -> None:
        """Change what is live as its users do: its position moves on; its identity may move too."""

    @abstractmethod
    def change_identity(self, settings: Settings) -> None:
        """Change what is live so that its identity is another."""

    @abstractmethod
    def empty_target(self, tmp_path: Path) -> Settings:
        """Settings of the same component in a region, below ``tmp_path``, where nothing is live."""

    @abstractmethod
    def fill_foreign(self, settings: Settings) -> None:
        """Put something into an empty target that refloat did not put there."""

    def addresses(self, source: Settings, target: Settings) -> Mapping[str, str]:
        """The addresses of the source region and their counterparts in the target."""
        return {}

    def live_paths(self, settings: Settings) -> list[Path]:
        """Every path that belongs to what is live; for comparing it byte for byte."""
        return [Path(cast("str | Path", getattr(settings, "path")))]  # noqa: B009 - settings differ by connector

    # --------------------------------------------------------------------------- how the tests act

    def bytes_live(self, settings: Settings) -> dict[str, str]:
        """Everything that is live, as one comparable value; empty where nothing is."""
        found: dict[str, str] = {}
        for number, root in enumerate(self.live_paths(settings)):
            found.update({f"{number}:{path}": state for path, state in _tree(root).items()})
        return found

    def here(self, tmp_path: Path) -> Settings:
        """A live component in the source region."""
        return self.make_live(_folder(tmp_path, SOURCE))

    def there(self, tmp_path: Path) -> Settings:
        """The empty target in the other region."""
        return self.empty_target(_folder(tmp_path, TARGET))

    def inspect(self, settings: Settings, region: str = SOURCE) -> Facts:
        """Facts of what is live."""
        return self.connector.inspect(Place("part", region, settings))

    def capture(
        self, settings: Settings, tmp_path: Path, sink: MemorySink | None = None
    ) -> tuple[MemorySource, MemorySink]:
        """A snapshot of what is live."""
        sink = sink or MemorySink()
        facts = self.connector.capture(
            sink, self.op(settings, tmp_path, token="capture", run="", region=SOURCE)
        )
        return sink.source(facts), sink

    def arrival(
        self, tmp_path: Path, *, foreign: bool = False, token: str = "token-1"
    ) -> tuple[MemorySource, Op]:
        """A snapshot from the source region and an operation that brings it to the target."""
        here, there = self.here(tmp_path), self.there(tmp_path)
        source, _ = self.capture(here, tmp_path)
        if foreign:
            self.fill_foreign(there)
        op = self.op(
            there,
            tmp_path,
            token=token,
            addresses=self.addresses(here, there),
            identity=source.facts.identity,
        )
        return source, op

    def next_op(self, op: Op, **changes: str | int) -> Op:
        """The operation of another run on the same place."""
        values: dict[str, str | int] = {"token": "token-2", "run": "run-2", "epoch": op.epoch + 1, **changes}
        scratch = op.scratch.parent / str(values["token"])
        scratch.mkdir(exist_ok=True)
        return Op(
            place=op.place,
            run=str(values["run"]),
            token=str(values["token"]),
            epoch=int(values["epoch"]),
            scratch=scratch,
            deadline_s=op.deadline_s,
            parts=op.parts,
            memory={"point": f"point-of-{values['run']}"},
            source_identity=op.source_identity,
        )

    def holder(self, settings: Settings) -> str | None:
        """Who put there what is live; skips where the connector cannot say."""
        if not isinstance(self.connector, Occupied):
            pytest.skip("this connector cannot say who put there what is live")
        return self.connector.holder(Place("part", TARGET, settings))

    # --------------------------------------------------------------------------- facts

    def test_inspect_changes_nothing_and_says_the_same_twice(self, tmp_path: Path) -> None:
        settings = self.here(tmp_path)
        before = self.bytes_live(settings)
        first = self.inspect(settings)
        assert self.inspect(settings) == first
        assert self.bytes_live(settings) == before

    def test_facts_are_small_json_whose_parts_do_not_collide(self, tmp_path: Path) -> None:
        facts = self.inspect(self.here(tmp_path))
        canonical_json(facts.scope())
        assert facts.identity
        assert "position" not in facts.identity

    def test_the_identity_names_no_path_of_the_region(self, tmp_path: Path) -> None:
        facts = self.inspect(self.here(tmp_path))
        assert str(tmp_path) not in canonical_json(facts.identity).decode()

    def test_the_token_moves_when_the_component_does(self, tmp_path: Path) -> None:
        settings = self.here(tmp_path)
        before = self.inspect(settings)
        self.mutate(settings)
        after = self.inspect(settings)
        assert after.token is None or after.token != before.token
        assert after.scope() != before.scope()

    def test_the_token_alone_is_that_of_the_facts(self, tmp_path: Path) -> None:
        if not isinstance(self.connector, Tokened):
            return
        settings = self.here(tmp_path)
        for _ in range(2):
            assert self.connector.token(Place("part", SOURCE, settings)) == self.inspect(settings).token
            self.mutate(settings)

    def test_the_identity_digest_moves_when_the_identity_does(self, tmp_path: Path) -> None:
        settings = self.here(tmp_path)
        before = self.inspect(settings)
        self.change_identity(settings)
        assert self.inspect(settings).identity_digest() != before.identity_digest()

    def test_a_component_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        settings = self.there(tmp_path)
        with pytest.raises(ConnectorError):
            self.inspect(settings)
        with pytest.raises(ConnectorError):
            self.capture(settings, tmp_path)

    # --------------------------------------------------------------------------- capture

    def test_capture_changes_nothing_that_is_live(self, tmp_path: Path) -> None:
        settings = self.here(tmp_path)
        before, bytes_before = self.inspect(settings), self.bytes_live(settings)
        source, _ = self.capture(settings, tmp_path)
        assert self.inspect(settings).scope() == before.scope() == source.facts.scope()
        assert self.bytes_live(settings) == bytes_before

    def test_captured_facts_are_of_the_captured_bytes(self, tmp_path: Path) -> None:
        here, there = self.here(tmp_path), self.there(tmp_path)
        self.mutate(here)
        captured = self.inspect(here)
        source, _ = self.capture(here, tmp_path)
        self.mutate(here)
        op = self.op(there, tmp_path, addresses=self.addresses(here, there), identity=source.facts.identity)
        self.connector.stage(source, op)
        self.connector.activate(op)
        assert source.facts.scope() == captured.scope()
        assert self.inspect(there, TARGET).scope() == captured.scope()

    def test_captured_facts_are_of_the_captured_bytes_when_these_change_meanwhile(
        self, tmp_path: Path
    ) -> None:
        here, there = self.here(tmp_path), self.there(tmp_path)
        sink = ActingSink(lambda: self.mutate(here), lambda: self.mutate(here))
        source, _ = self.capture(here, tmp_path, sink)
        op = self.op(there, tmp_path, addresses=self.addresses(here, there), identity=source.facts.identity)
        self.connector.stage(source, op)
        self.connector.activate(op)
        assert self.inspect(there, TARGET).scope() == source.facts.scope()

    def test_capture_may_be_repeated_with_the_same_operation(self, tmp_path: Path) -> None:
        settings = self.here(tmp_path)
        first, _ = self.capture(settings, tmp_path)
        second, _ = self.capture(settings, tmp_path)
        assert second.facts.scope() == first.facts.scope()

    def test_what_did_not_change_is_carried_and_restores_the_same(self, tmp_path: Path) -> None:
        _, op = self.arrival(tmp_path)
        here = self.make_live_again(tmp_path)
        _, first = self.capture(here, tmp_path)
        again, second = self.capture(here, tmp_path, MemorySink(first))
        assert second.held.read == []
        assert second.held.stored == first.held.stored
        self.connector.stage(again, op)
        self.connector.activate(op)
        assert self.inspect(op.place.settings, TARGET).identity == again.facts.identity

    def make_live_again(self, tmp_path: Path) -> Settings:
        """A second live component, of the same region, for tests that need their own."""
        return self.make_live(_folder(tmp_path, f"{SOURCE}-2"))

    # --------------------------------------------------------------------------- recovery

    def test_a_snapshot_arrives_in_another_region_with_its_facts(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        settings = op.place.settings
        self.connector.stage(source, op)
        staged = Place("part", TARGET, settings, Instance.STAGED, op.token, op.place.addresses)
        assert self.connector.inspect(staged).identity == source.facts.identity
        assert self.bytes_live(settings) == {}
        self.connector.activate(op)
        facts = self.inspect(settings, TARGET)
        assert facts.identity == source.facts.identity
        assert facts.position == source.facts.position
        assert self.connector.health(op.place).value == "healthy"

    def test_every_step_may_be_repeated_and_observe_knows_how_far_it_got(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path, foreign=True)
        settings, connector = op.place.settings, self.connector
        foreign = self.bytes_live(settings)
        assert connector.observe(op) is Observed.ABSENT
        for _ in range(2):
            connector.stage(source, op)
            assert connector.observe(op) is Observed.STAGED
            assert self.bytes_live(settings) == foreign
        for _ in range(2):
            connector.activate(op)
            assert connector.observe(op) is Observed.ACTIVE
            assert self.inspect(settings, TARGET).identity == source.facts.identity
        for _ in range(2):
            connector.revert(op)
            assert connector.observe(op) is Observed.REVERTED
            assert self.bytes_live(settings) == foreign
        for _ in range(2):
            connector.discard(op)
            assert connector.observe(op) is Observed.ABSENT
            assert self.bytes_live(settings) == foreign

    def test_reverting_into_an_empty_target_leaves_it_empty(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        self.connector.stage(source, op)
        self.connector.activate(op)
        self.connector.revert(op)
        assert self.bytes_live(op.place.settings) == {}
        self.connector.discard(op)
        assert self.bytes_live(op.place.settings) == {}

    def test_what_was_activated_stays_when_what_it_replaced_is_discarded(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path, foreign=True)
        self.connector.stage(source, op)
        self.connector.activate(op)
        for _ in range(2):
            self.connector.discard(op)
            assert self.connector.observe(op) is Observed.ACTIVE
            assert self.inspect(op.place.settings, TARGET).identity == source.facts.identity
        with pytest.raises(ConnectorError):
            self.connector.revert(op)

    def test_discarding_before_the_switch_leaves_no_trace(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        self.connector.stage(source, op)
        self.connector.discard(op)
        assert self.connector.observe(op) is Observed.ABSENT
        with pytest.raises(ConnectorError):
            self.connector.activate(op)

    def test_a_stage_cut_at_any_file_is_begun_again(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        for files in range(1000):
            try:
                self.connector.stage(CutSource.after(source, files), op)
                break
            except Cut:
                assert self.connector.observe(op) in (Observed.ABSENT, Observed.PARTIAL)
                assert self.bytes_live(op.place.settings) == {}
        assert files > 0
        self.connector.activate(op)
        assert self.inspect(op.place.settings, TARGET).identity == source.facts.identity

    # --------------------------------------------------------------------------- rules

    def test_holder_tells_empty_foreign_and_ours_apart(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        settings = op.place.settings
        assert self.holder(settings) is None
        self.fill_foreign(settings)
        assert self.holder(settings) == ""
        self.connector.stage(source, op)
        self.connector.activate(op)
        assert self.holder(settings) == "point-of-run-1"
        later = self.next_op(op)
        self.connector.stage(source, later)
        self.connector.activate(later)
        assert self.holder(settings) == "point-of-run-2"
        self.connector.revert(later)
        assert self.holder(settings) == "point-of-run-1"
        self.connector.revert(op)
        assert self.holder(settings) == ""

    def test_two_places_share_nothing_and_each_all_with_itself(self, tmp_path: Path) -> None:
        places = (Place("part", SOURCE, self.here(tmp_path)), Place("part", TARGET, self.there(tmp_path)))
        if isinstance(self.connector, Holding):
            here, there = map(self.connector.holds, places)
            assert shared(here, here) and shared(there, there) and not shared(here, there)

    def test_an_orchestrator_with_a_stale_epoch_is_refused(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        newer = self.next_op(op, epoch=7)
        self.connector.stage(source, newer)
        self.connector.activate(newer)
        live = self.bytes_live(op.place.settings)
        stale = self.next_op(op, token="token-3", run="run-3", epoch=6)
        self.connector.stage(source, stale)
        with pytest.raises(ConnectorError):
            self.connector.activate(stale)
        assert self.bytes_live(op.place.settings) == live

    def test_a_cancelled_call_stops(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        op.cancelled.set()
        with pytest.raises(ConnectorError):
            self.connector.stage(source, op)
        capture = self.op(self.make_live_again(tmp_path), tmp_path, token="capture", region=SOURCE)
        capture.cancelled.set()
        with pytest.raises(ConnectorError):
            self.connector.capture(MemorySink(), capture)

    def test_a_stage_that_is_cancelled_says_so_unless_it_is_whole(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        try:
            self.connector.stage(CancellingSource.of(source, op), op)
        except ConnectorError:
            assert self.connector.observe(op) in (Observed.ABSENT, Observed.PARTIAL)
        else:
            assert self.connector.observe(op) is Observed.STAGED
        op.cancelled.clear()
        self.connector.stage(source, op)
        assert self.connector.observe(op) is Observed.STAGED

    def test_a_call_whose_time_is_over_stops(self, tmp_path: Path) -> None:
        source, op = self.arrival(tmp_path)
        op.deadline_s = 0.0
        with pytest.raises(DeadlineExceeded):
            self.connector.stage(source, op)
        capture = self.op(self.make_live_again(tmp_path), tmp_path, token="capture", region=SOURCE)
        capture.deadline_s = 0.0
        with pytest.raises(DeadlineExceeded):
            self.connector.capture(MemorySink(), capture)


class RunnableContract(_Hooks):
    """The promises of a connector whose component runs and that stages nothing."""

    @abstractmethod
    def is_fenced(self, settings: Settings) -> bool:
        """Whether the running component is kept from serving."""

    def started(self, tmp_path: Path) -> Op:
        """An operation whose snapshot is staged and activated, and that is started."""
        settings = self.make_live(_folder(tmp_path, TARGET))
        op = self.op(settings, tmp_path, token=f"token-{os.urandom(6).hex()}")  # of all on this machine
        sink = MemorySink()
        facts = self.connector.capture(sink, op)
        op.source_identity = facts.identity
        self.connector.stage(sink.source(facts), op)
        self.connector.activate(op)
        self._runnable().start(op)
        return op

    def _runnable(self) -> Runnable:
        assert isinstance(self.connector, Runnable)
        return self.connector

    def test_the_connector_can_run_and_stages_nothing(self) -> None:
        assert self.connector.spec.runnable
        assert self.connector.spec.staging is Staging.NONE
        assert isinstance(self.connector, Runnable)

    def test_it_starts_fenced_serves_when_unfenced_and_stops(self, tmp_path: Path) -> None:
        op, runnable = self.started(tmp_path), self._runnable()
        try:
            assert self.connector.observe(op) is Observed.ACTIVE
            assert self.connector.health(op.place).value == "healthy"
            assert self.is_fenced(op.place.settings)
            for _ in range(2):
                runnable.unfence(op)
                assert not self.is_fenced(op.place.settings)
        finally:
            runnable.stop(op)
        assert self.connector.observe(op) is not Observed.ACTIVE
        assert self.connector.health(op.place).value != "healthy"
        runnable.stop(op)

    def test_starting_twice_starts_one(self, tmp_path: Path) -> None:
        op, runnable = self.started(tmp_path), self._runnable()
        try:
            runnable.start(op)
            assert self.connector.observe(op) is Observed.ACTIVE
        finally:
            runnable.stop(op)
        assert self.connector.observe(op) is not Observed.ACTIVE

    def test_stop_ends_only_what_its_own_operation_started(self, tmp_path: Path) -> None:
        op, runnable = self.started(tmp_path), self._runnable()
        try:
            other = self.op(op.place.settings, tmp_path, token=f"other-{op.token}", run="run-2")
            runnable.stop(other)
            assert self.connector.observe(op) is Observed.ACTIVE
            assert self.connector.health(op.place).value == "healthy"
        finally:
            runnable.stop(op)


def _act_once(acts: list[Callable[[], object]]) -> None:
    while acts:
        acts.pop()()


def _folder(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder


def _tree(root: Path) -> dict[str, str]:
    """Every path below ``root``, itself included, and what it is: a digest, a link's target, a mode."""
    if not os.path.lexists(root):
        return {}
    found = {}
    for path in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"link {path.readlink()}"
        elif path.is_dir():
            found[name] = "folder"
        else:
            mode = stat.S_IMODE(path.stat().st_mode)
            found[name] = f"{mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found
