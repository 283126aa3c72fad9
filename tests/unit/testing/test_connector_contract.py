"""The contract can fail: each connector here breaks one promise, and the test of that promise says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from refloat.connectors.files import Files, FilesSettings
from refloat.contracts import Facts, Observed, Op, Place, Settings, Sink, Source
from refloat.errors import Cancelled
from refloat.testing.connector_contract import ConnectorContract


def live(place: Place) -> Path:
    return Path(cast("FilesSettings", place.settings).path)


class FolderSuite(ConnectorContract):
    def __init__(self, connector: Files) -> None:
        self.connector = connector

    def make_live(self, tmp_path: Path) -> Settings:
        (tmp_path / "root").mkdir()
        for name in "abc":
            (tmp_path / "root" / name).write_text(name)
        return self.empty_target(tmp_path)

    def mutate(self, settings: Settings) -> None:
        self.change_identity(settings)  # of what is being read: its new end is not read
        with (live(Place("part", "eu", settings)) / "c").open("a") as file:  # and of what is still to be read
            file.write("more")

    def change_identity(self, settings: Settings) -> None:
        with (live(Place("part", "eu", settings)) / "a").open("a") as file:
            file.write("more")

    def empty_target(self, tmp_path: Path) -> Settings:
        return FilesSettings(path=str(tmp_path / "root"))

    def fill_foreign(self, settings: Settings) -> None:
        live(Place("part", "us", settings)).mkdir()
        (live(Place("part", "us", settings)) / "theirs").write_text("theirs")


class NamesItsPath(Files):
    def inspect(self, place: Place) -> Facts:
        facts = super().inspect(place)
        return replace(facts, identity={**facts.identity, "path": str(live(place))})


class WritesWhenAsked(Files):
    def inspect(self, place: Place) -> Facts:
        (live(place) / "asked").touch()
        return super().inspect(place)


class KeepsItsToken(Files):
    def inspect(self, place: Place) -> Facts:
        return replace(super().inspect(place), token="always")


class ReportsWhatIsThereAfterwards(Files):
    def capture(self, sink: Sink, op: Op) -> Facts:
        super().capture(sink, op)
        return self.inspect(op.place)


class ReportsTooEarly(Files):
    def capture(self, sink: Sink, op: Op) -> Facts:
        before = self.inspect(op.place)
        super().capture(sink, op)
        return before


class KeepsItsEndToItself(Files):
    def stage(self, source: Source, op: Op) -> None:
        with suppress(Cancelled):
            super().stage(source, op)


class NeverCarries(Files):
    def capture(self, sink: Sink, op: Op) -> Facts:
        sink.carry = lambda path, token, **entry: False  # type: ignore[method-assign]
        return super().capture(sink, op)


class StagesOverWhatIsLive(Files):
    def stage(self, source: Source, op: Op) -> None:
        super().stage(source, op)
        source.under("content").fetch_all(live(op.place))


class ForgetsToRevert(Files):
    def revert(self, op: Op) -> None:
        self.observed = Observed.REVERTED


class DeletesWhatWasLive(Files):
    def activate(self, op: Op) -> None:
        shutil.rmtree(live(op.place), ignore_errors=True)
        super().activate(op)


class CallsPartialStaged(Files):
    def observe(self, op: Op) -> Observed:
        found = super().observe(op)
        return Observed.STAGED if found is Observed.PARTIAL else found


class KnowsNoHolder(Files):
    def holder(self, place: Place) -> str | None:
        return None


class IgnoresEpochs(Files):
    def activate(self, op: Op) -> None:
        super().activate(replace(op, epoch=1000))


class NeverStops(Files):
    def stage(self, source: Source, op: Op) -> None:
        super().stage(source, replace(op, deadline_s=60.0, cancelled=type(op.cancelled)()))


class LeavesItsStageBehind(Files):
    def discard(self, op: Op) -> None:
        """Nothing is removed."""


class LosesAnEmptyComponent(Files):
    def inspect(self, place: Place) -> Facts:
        return super().inspect(place) if live(place).exists() else Facts()


MEANWHILE = FolderSuite.test_captured_facts_are_of_the_captured_bytes_when_these_change_meanwhile
BROKEN: list[tuple[type[Files], Callable[[FolderSuite, Path], None]]] = [
    (NamesItsPath, FolderSuite.test_the_identity_names_no_path_of_the_region),
    (WritesWhenAsked, FolderSuite.test_inspect_changes_nothing_and_says_the_same_twice),
    (KeepsItsToken, FolderSuite.test_the_token_moves_when_the_component_does),
    (ReportsWhatIsThereAfterwards, MEANWHILE),
    (ReportsTooEarly, MEANWHILE),
    (NeverCarries, FolderSuite.test_what_did_not_change_is_carried_and_restores_the_same),
    (StagesOverWhatIsLive, FolderSuite.test_a_snapshot_arrives_in_another_region_with_its_facts),
    (ForgetsToRevert, FolderSuite.test_every_step_may_be_repeated_and_observe_knows_how_far_it_got),
    (ForgetsToRevert, FolderSuite.test_reverting_into_an_empty_target_leaves_it_empty),
    (DeletesWhatWasLive, FolderSuite.test_every_step_may_be_repeated_and_observe_knows_how_far_it_got),
    (CallsPartialStaged, FolderSuite.test_a_stage_cut_at_any_file_is_begun_again),
    (KnowsNoHolder, FolderSuite.test_holder_tells_empty_foreign_and_ours_apart),
    (IgnoresEpochs, FolderSuite.test_an_orchestrator_with_a_stale_epoch_is_refused),
    (NeverStops, FolderSuite.test_a_cancelled_call_stops),
    (NeverStops, FolderSuite.test_a_call_whose_time_is_over_stops),
    (LeavesItsStageBehind, FolderSuite.test_discarding_before_the_switch_leaves_no_trace),
    (LeavesItsStageBehind, FolderSuite.test_what_was_activated_stays_when_what_it_replaced_is_discarded),
    (KeepsItsEndToItself, FolderSuite.test_a_stage_that_is_cancelled_says_so_unless_it_is_whole),
    (LosesAnEmptyComponent, FolderSuite.test_a_component_that_is_not_there_is_an_error),
]


@pytest.mark.parametrize(("broken", "promise"), BROKEN, ids=lambda value: value.__name__)
def test_a_broken_promise_is_noticed(
    tmp_path: Path, broken: type[Files], promise: Callable[[FolderSuite, Path], None]
) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        promise(FolderSuite(broken()), tmp_path)
    (tmp_path / "whole").mkdir()
    promise(FolderSuite(Files()), tmp_path / "whole")
