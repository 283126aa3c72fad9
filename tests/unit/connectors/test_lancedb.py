"""The connector of LanceDB tables, against real tables with real writers."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pytest

from refloat.connectors import lancedb as connector
from refloat.connectors.lancedb import MANIFEST_NUMBER_MAX, LanceDB, LanceDBSettings
from refloat.contracts import Connector, Facts, Observed, Op, Place, Settings, Source
from refloat.errors import ConnectorError, Retry
from refloat.limits import CLEANED_ATTEMPTS_MAX, CONNECTOR_SECONDS_MAX
from refloat.testing.connector_contract import ConnectorContract
from refloat.testing.memory_snapshot import MemorySink, MemorySource

DIMENSION = 8
EMBEDDER = "sha256:5f0c"


def rows(first: int, count: int, *, embedder: str = EMBEDDER, dimension: int = DIMENSION) -> pa.Table:
    """Passages with vectors that are far apart from one another, and who embedded them."""
    vectors = np.random.default_rng(first).normal(size=count * dimension).astype(np.float32)
    schema = pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension)),
        ],
        metadata={"embedder": embedder, "not an identifier": "x", "dimension": "lies"},
    )
    columns = [
        pa.array(range(first, first + count)),
        pa.array([f"passage {number}" for number in range(first, first + count)]),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors), dimension),
    ]
    return pa.table(columns, schema=schema)


def database(folder: Path) -> Any:
    import lancedb  # half a second, in every process that only looks which tests there are

    return lancedb.connect(str(folder))


def make(folder: Path, count: int = 300, *, table: str = "passages", **changes: Any) -> Any:
    """A table with an index, a later append and a deletion."""
    from lancedb.index import IvfFlat

    made = database(folder).create_table(table, rows(0, count, **changes), mode="overwrite")
    made.create_index("vector", config=IvfFlat(num_partitions=2))
    made.add(rows(count, 5, **changes))
    made.delete("id = 3")
    return made


def open_table(folder: Path, table: str = "passages") -> Any:
    return database(folder).open_table(table)


def place(folder: Path, *tables: str) -> Place:
    return Place("answers", "eu", LanceDBSettings(path=str(folder), tables=tables))


def op(folder: Path, scratch: Path, *tables: str, token: str = "t1") -> Op:
    (scratch / token).mkdir(parents=True, exist_ok=True)
    return Op(
        place(folder, *tables), run="r1", token=token, epoch=1, scratch=scratch / token, deadline_s=60.0
    )


def captured(folder: Path, scratch: Path, sink: MemorySink | None = None, *tables: str) -> MemorySource:
    sink = sink or MemorySink()
    return sink.source(LanceDB().capture(sink, op(folder, scratch, *tables, token="capture")))


def recovered(source: Source, target: Path, scratch: Path) -> Facts:
    bring = op(target, scratch)
    LanceDB().stage(source, bring)
    LanceDB().activate(bring)
    return LanceDB().inspect(bring.place)


def tags(folder: Path) -> list[str]:
    return list(open_table(folder).tags.list())


class DuringCapture(MemorySink):
    """A sink that lets something happen just before the first data file is stored."""

    happen: Callable[[], None]

    @classmethod
    def when(cls, happen: Callable[[], None]) -> DuringCapture:
        sink = cls()
        sink.happen = staticmethod(happen)
        return sink

    def under(self, prefix: str) -> MemorySink:
        view = DuringCapture.__new__(DuringCapture)
        view.__dict__.update(self.__dict__)
        view._prefix = f"{self._name(prefix)}/"
        view.top = self.__dict__.get("top", self)
        return view

    def file(self, path: str, content: Path | BinaryIO, **entry: Any) -> int:
        top = self.__dict__.get("top", self)
        if not top.__dict__.get("happened"):
            top.happened = True
            top.happen()
        return super().file(path, content, **entry)


# ----------------------------------------------------------------------------------------------- contract


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "answers"
    make(folder)
    return folder


class TestLanceDBContract(ConnectorContract):
    connector: Connector = LanceDB()

    @pytest.fixture(autouse=True)
    def _template(self, template: Path) -> None:
        self.template = template

    def make_live(self, tmp_path: Path) -> Settings:
        shutil.copytree(self.template, tmp_path / "answers")
        return LanceDBSettings(path=str(tmp_path / "answers"))

    def mutate(self, settings: Settings) -> None:
        assert isinstance(settings, LanceDBSettings)
        open_table(settings.folder).add(rows(1000, 2))

    def change_identity(self, settings: Settings) -> None:
        assert isinstance(settings, LanceDBSettings)
        make(settings.folder, 30, embedder="sha256:another")

    def empty_target(self, tmp_path: Path) -> Settings:
        return LanceDBSettings(path=str(tmp_path / "answers"))

    def fill_foreign(self, settings: Settings) -> None:
        assert isinstance(settings, LanceDBSettings)
        make(settings.folder, 10)


# ----------------------------------------------------------------------------------------------- facts


def test_identity_says_how_vectors_look_and_who_made_them(tmp_path: Path) -> None:
    make(tmp_path / "answers")
    facts = LanceDB().inspect(place(tmp_path / "answers"))
    passages = facts.scope()["tables"]["passages"]  # type: ignore[index, call-overload]
    assert passages["embedder"] == EMBEDDER
    assert (passages["dimension"], passages["vector_column"]) == (DIMENSION, "vector")
    assert passages["indexes"] == {"vector_idx": "IvfFlat"}
    assert "not an identifier" not in passages
    assert facts.position == {"tables": {"passages": {"version": 4, "rows": 304}}}


def test_a_table_without_vectors_has_no_dimension(tmp_path: Path) -> None:
    database(tmp_path / "answers").create_table("plain", pa.table({"id": [1, 2]}))
    facts = LanceDB().inspect(place(tmp_path / "answers"))
    assert set(facts.identity["tables"]["plain"]) == {"fields", "indexes"}  # type: ignore[index, call-overload]


def test_fields_move_when_a_column_is_added_and_stay_when_rows_are(tmp_path: Path) -> None:
    table = make(tmp_path / "answers")
    before = LanceDB().inspect(place(tmp_path / "answers")).identity
    table.add(rows(900, 3))
    assert LanceDB().inspect(place(tmp_path / "answers")).identity == before
    table.add_columns({"length": "length(text)"})
    assert LanceDB().inspect(place(tmp_path / "answers")).identity != before


def test_only_the_named_tables_are_looked_at(tmp_path: Path) -> None:
    make(tmp_path / "answers")
    make(tmp_path / "answers", 20, table="scratch")
    facts = LanceDB().inspect(place(tmp_path / "answers", "passages"))
    assert list(facts.identity["tables"]) == ["passages"]  # type: ignore[arg-type]


def test_a_named_table_that_is_missing_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    make(tmp_path / "answers", 20)
    with pytest.raises(ConnectorError, match="no table articles; it has passages"):
        LanceDB().inspect(place(tmp_path / "answers", "articles"))


def test_a_damaged_table_is_an_error_and_sick(tmp_path: Path) -> None:
    make(tmp_path / "answers", 20)
    for manifest in (tmp_path / "answers/passages.lance/_versions").glob("*.manifest"):
        manifest.write_bytes(b"not a manifest")
    with pytest.raises(ConnectorError, match="passages"):
        LanceDB().inspect(place(tmp_path / "answers"))
    assert LanceDB().health(place(tmp_path / "answers")).value == "sick"


def test_a_table_dropped_and_made_again_at_the_same_version_has_another_token(tmp_path: Path) -> None:
    make(tmp_path / "answers", 20)
    before = LanceDB().inspect(place(tmp_path / "answers"))
    shutil.rmtree(tmp_path / "answers")
    make(tmp_path / "answers", 20)
    after = LanceDB().inspect(place(tmp_path / "answers"))
    assert after.position == before.position
    assert after.token != before.token


# ----------------------------------------------------------------------------------------------- recovery


def test_the_recovered_table_answers_the_same_and_uses_its_index(tmp_path: Path) -> None:
    table = make(tmp_path / "eu")
    queries = np.random.default_rng(7).normal(size=(10, DIMENSION)).tolist()
    before = [table.search(query).limit(5).to_arrow()["id"].to_pylist() for query in queries]
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    shutil.rmtree(tmp_path / "eu")
    facts = recovered(source, tmp_path / "us", tmp_path / "scratch")
    again = open_table(tmp_path / "us")
    assert [again.search(query).limit(5).to_arrow()["id"].to_pylist() for query in queries] == before
    assert "ANN" in again.search(queries[0]).limit(5).explain_plan()
    assert facts.scope() == source.facts.scope()


def test_the_recovered_table_can_be_written_indexed_and_cleaned(tmp_path: Path) -> None:
    make(tmp_path / "eu")
    recovered(captured(tmp_path / "eu", tmp_path / "scratch"), tmp_path / "us", tmp_path / "scratch")
    again = open_table(tmp_path / "us")
    again.add(rows(2000, 10))
    again.delete("id = 7")
    clean(again)
    assert again.count_rows() == 304 + 10 - 1


def test_a_snapshot_holds_one_version_and_only_what_it_needs(tmp_path: Path) -> None:
    table = make(tmp_path / "eu")
    table.delete("id < 300")
    table.optimize()
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    stored = [entry.path for entry in source.entries() if entry.type.value == "file"]
    on_disk = [path for path in (tmp_path / "eu").rglob("*") if path.is_file()]
    assert len([path for path in stored if path.endswith(".manifest")]) == 1
    assert len([path for path in stored if "/data/" in path]) < len(
        [p for p in on_disk if p.parent.name == "data"]
    )
    recovered(source, tmp_path / "us", tmp_path / "scratch")
    again = open_table(tmp_path / "us")
    assert sorted(again.to_arrow()["id"].to_pylist()) == sorted(table.to_arrow()["id"].to_pylist())
    assert again.version == table.version


def test_tables_of_the_older_naming_of_manifests_are_captured(tmp_path: Path) -> None:
    make(tmp_path / "eu")
    versions = tmp_path / "eu/passages.lance/_versions"
    (versions / "latest_version_hint.json").unlink(missing_ok=True)
    for manifest in list(versions.glob("*.manifest")):
        manifest.rename(versions / f"{MANIFEST_NUMBER_MAX - int(manifest.stem)}.manifest")
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    assert "tables/passages.lance/_versions/4.manifest" in {entry.path for entry in source.entries()}
    assert recovered(source, tmp_path / "us", tmp_path / "scratch").position == source.facts.position


def test_an_empty_database_and_an_empty_table_come_back(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    source = captured(tmp_path / "none", tmp_path / "scratch")
    assert recovered(source, tmp_path / "us-none", tmp_path / "scratch").identity == {"tables": {}}
    database(tmp_path / "eu").create_table("passages", schema=rows(0, 1).schema)
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    facts = recovered(source, tmp_path / "us", tmp_path / "scratch")
    assert facts.position["tables"] == {"passages": {"version": 1, "rows": 0}}


# ----------------------------------------------------------------------------------------------- checks


def test_a_snapshot_that_lost_a_data_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "eu")
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    lost = max((p for p in source._stored if "/data/" in p), key=lambda p: len(source._stored[p]))
    del source._stored[lost], source._entries[lost]
    with pytest.raises(ConnectorError):
        LanceDB().stage(source, op(tmp_path / "us", tmp_path / "scratch"))
    assert LanceDB().observe(op(tmp_path / "us", tmp_path / "scratch")) is Observed.PARTIAL


@pytest.mark.parametrize("part", ["data", "_deletions"])
def test_a_table_that_names_files_which_are_not_there_is_not_captured(  # fault 41
    tmp_path: Path, part: str
) -> None:
    opened = database(tmp_path / "eu")
    table = opened.create_table("notes", pa.table({"id": range(300)}))
    table.add(pa.table({"id": range(300, 303)}))
    table.delete("id = 3")
    folder = tmp_path / "eu" / "notes.lance" / part
    min(folder.iterdir(), key=lambda path: path.stat().st_size).unlink()
    assert LanceDB().inspect(place(tmp_path / "eu")).position["tables"]["notes"]["rows"] == 302  # type: ignore[index,call-overload]
    with pytest.raises(ConnectorError, match=r"not there|cannot be read") as caught:
        captured(tmp_path / "eu", tmp_path / "scratch")
    assert "notes" in caught.value.message


def test_files_that_only_the_history_of_a_table_names_may_be_gone(tmp_path: Path) -> None:
    table = database(tmp_path / "eu").create_table("notes", pa.table({"id": range(300)}))
    table.add(pa.table({"id": range(300, 600)}))
    table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    LanceDB().stage(source, op(tmp_path / "us", tmp_path / "scratch"))


def test_a_table_of_a_newer_format_is_refused_in_these_words(tmp_path: Path) -> None:  # fault 42
    database(tmp_path / "eu").create_table("notes", pa.table({"id": range(3)}))
    (manifest,) = (tmp_path / "eu" / "notes.lance" / "_versions").glob("*.manifest")
    stored = manifest.read_bytes()
    start = int.from_bytes(stored[-16:-8], "little")
    needs_more = stored[start + 4 : -16] + bytes([9 << 3, 0x80, 0x80, 0x04])  # reader feature flag 65536
    manifest.write_bytes(stored[:start] + len(needs_more).to_bytes(4, "little") + needs_more + stored[-16:])
    for act in (
        lambda: LanceDB().inspect(place(tmp_path / "eu")),
        lambda: captured(tmp_path / "eu", tmp_path / "scratch"),
    ):
        with pytest.raises(ConnectorError, match="cannot be read by this version"):
            act()


@pytest.mark.parametrize("what", ["rows", "dimension", "self_recall"])
def test_a_staged_table_that_is_not_like_its_baseline_is_refused(tmp_path: Path, what: str) -> None:
    # fault 42
    make(tmp_path / "eu")
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    baseline = source._stored["baseline.json"].decode()
    changed = {
        "rows": baseline.replace('"rows":304', '"rows":305'),
        "dimension": baseline.replace('"dimension":8', '"dimension":16'),
        "self_recall": baseline.replace('"self_recall":1.0', '"self_recall":1.06'),
    }[what]
    assert changed != baseline
    source._stored["baseline.json"] = changed.encode()
    with pytest.raises(ConnectorError, match=what):
        LanceDB().stage(source, op(tmp_path / "us", tmp_path / "scratch"))


def test_tables_that_the_component_leaves_out_are_not_switched_away(tmp_path: Path) -> None:
    make(tmp_path / "eu", 20)
    make(tmp_path / "us", 20)
    make(tmp_path / "us", 20, table="precious")
    source = captured(tmp_path / "eu", tmp_path / "scratch", None, "passages")
    with pytest.raises(ConnectorError, match="would lose them: precious"):
        LanceDB().stage(source, op(tmp_path / "us", tmp_path / "scratch", "passages"))
    assert LanceDB().observe(op(tmp_path / "us", tmp_path / "scratch")) is Observed.ABSENT


# ----------------------------------------------------------------------------------------------- writers


def clean(table: Any) -> None:
    """What a user's maintenance does, as ruthlessly as it can be asked to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def test_a_version_that_is_captured_outlives_a_cleanup_in_the_middle(tmp_path: Path) -> None:
    make(tmp_path / "eu")
    before = sorted(open_table(tmp_path / "eu").to_arrow()["id"].to_pylist())
    refused: list[str] = []

    def maintain() -> None:
        table = open_table(tmp_path / "eu")
        table.delete("id < 200")
        try:
            clean(table)
        except RuntimeError as error:
            refused.append(str(error))

    sink = DuringCapture.when(maintain)
    source = captured(tmp_path / "eu", tmp_path / "scratch", sink)
    assert "tagged version" in refused[0]
    recovered(source, tmp_path / "us", tmp_path / "scratch")
    assert sorted(open_table(tmp_path / "us").to_arrow()["id"].to_pylist()) == before
    clean(open_table(tmp_path / "eu"))


def interrupt(
    monkeypatch: pytest.MonkeyPatch, moment: str, happen: Callable[[], None], times: int
) -> list[int]:
    """Let something happen before a step of the connector is done, a few times; how often it was done."""
    real, calls = getattr(connector, moment), [0]

    def step(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] <= times:
            happen()
        return real(*arguments, **more)

    monkeypatch.setattr(connector, moment, step)
    return calls


def let_go_of_the_newest(folder: Path) -> Callable[[], None]:
    """A writer makes a newer version, and its cleanup takes away the one that was the newest until then."""

    def happen() -> None:
        table = open_table(folder)
        table.delete(f"id = {min(table.to_arrow()['id'].to_pylist())}")
        clean(table)

    return happen


@pytest.mark.parametrize("times", [1, 5])
def test_a_cleanup_between_opening_and_tagging_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    make(tmp_path / "eu")
    calls = interrupt(monkeypatch, "_remove_leftovers", let_go_of_the_newest(tmp_path / "eu"), times)
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    assert calls == [times + 1]
    recovered(source, tmp_path / "us", tmp_path / "scratch")
    now = sorted(open_table(tmp_path / "eu").to_arrow()["id"].to_pylist())
    assert sorted(open_table(tmp_path / "us").to_arrow()["id"].to_pylist()) == now
    assert tags(tmp_path / "eu") == []


def test_a_table_that_is_always_cleaned_up_at_that_moment_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "eu")
    calls = interrupt(monkeypatch, "_remove_leftovers", let_go_of_the_newest(tmp_path / "eu"), times=1000)
    with pytest.raises(ConnectorError) as caught:
        captured(tmp_path / "eu", tmp_path / "scratch")
    assert caught.value.retry is Retry.LATER and calls == [CLEANED_ATTEMPTS_MAX]


@pytest.mark.parametrize("moment", ["_identity", "_stamp"])
def test_a_cleanup_while_a_table_is_looked_at_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    make(tmp_path / "eu")
    interrupt(monkeypatch, moment, let_go_of_the_newest(tmp_path / "eu"), times=1)
    assert LanceDB().inspect(place(tmp_path / "eu")).token == LanceDB().token(place(tmp_path / "eu"))


def test_a_manifest_that_goes_while_the_token_is_told_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "eu")
    real, seen = connector._manifests, []

    def listed(table: Path) -> dict[int, Path]:
        found = real(table)
        seen.append(max(found))
        if len(seen) == 2:  # the manifest is known, and looked at next
            let_go_of_the_newest(tmp_path / "eu")()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(connector, "_manifests", listed)
        token = LanceDB().token(place(tmp_path / "eu"))
    assert token == LanceDB().token(place(tmp_path / "eu")) and seen[-1] > seen[0]


@contextmanager
def writers(folder: Path) -> Iterator[list[int]]:
    """Appends, deletions, compaction and cleanup, until the context ends; how many rounds there were."""
    rounds: list[int] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            table = open_table(folder)
            number = 10_000 + 10 * len(rounds)
            table.add(rows(number, 10))
            table.delete(f"id = {number}")
            try:
                clean(table)
            except RuntimeError as error:
                if "tagged version" not in str(error):
                    raise
            rounds.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join(60)


def test_captures_under_restless_writers_are_whole(tmp_path: Path) -> None:
    make(tmp_path / "eu")
    connector = LanceDB()
    with writers(tmp_path / "eu") as rounds:
        sources = []
        while len(rounds) < 5 or len(sources) < 3:
            sources.append(captured(tmp_path / "eu", tmp_path / "scratch"))
    for number, source in enumerate(sources[-3:]):
        target = tmp_path / f"us{number}"
        assert recovered(source, target, tmp_path / "scratch").scope() == source.facts.scope()
        ids = open_table(target).to_arrow()["id"].to_pylist()
        assert len(ids) == len(set(ids)) == source.facts.position["tables"]["passages"]["rows"]  # type: ignore[index, call-overload]
    assert connector.health(place(tmp_path / "eu")).value == "healthy"


def test_a_tag_goes_with_the_capture_and_also_when_it_fails(tmp_path: Path) -> None:
    make(tmp_path / "eu", 20)
    captured(tmp_path / "eu", tmp_path / "scratch")
    assert tags(tmp_path / "eu") == []

    def fail() -> None:
        assert tags(tmp_path / "eu") == ["refloat-capture"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        captured(tmp_path / "eu", tmp_path / "scratch", DuringCapture.when(fail))
    assert tags(tmp_path / "eu") == []


def test_the_tags_of_crashed_captures_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    table = make(tmp_path / "eu", 20)
    for tag in ("refloat-capture", "refloat-crashed", "refloat-running", "release"):
        table.tags.create(tag, table.version)
    old = (tmp_path / "eu/passages.lance/_refs/tags/refloat-crashed.json").stat().st_mtime
    for tag in ("refloat-crashed", "release"):
        long_ago = old - CONNECTOR_SECONDS_MAX - 60
        os.utime(tmp_path / f"eu/passages.lance/_refs/tags/{tag}.json", (long_ago, long_ago))
    source = captured(tmp_path / "eu", tmp_path / "scratch")
    assert sorted(tags(tmp_path / "eu")) == ["refloat-running", "release"]
    assert not [entry.path for entry in source.entries() if "_refs" in entry.path]


def test_a_tag_of_its_own_is_no_change_of_identity_or_token(tmp_path: Path) -> None:
    table = make(tmp_path / "eu", 20)
    before = LanceDB().inspect(place(tmp_path / "eu"))
    table.tags.create("refloat-capture", table.version)
    assert LanceDB().inspect(place(tmp_path / "eu")) == before
    assert captured(tmp_path / "eu", tmp_path / "scratch").facts == before


def test_a_capture_carries_every_file_but_those_of_the_new_rows(tmp_path: Path) -> None:
    table = make(tmp_path / "eu")
    first = MemorySink()
    captured(tmp_path / "eu", tmp_path / "scratch", first)
    table.add(rows(5000, 4))
    second = MemorySink(first)
    source = captured(tmp_path / "eu", tmp_path / "scratch", second)
    read = [path for path in second.held.read if "/data/" in path]
    assert len(read) == 1
    assert [path for path in second.held.carried if "/_indices/" in path]
    recovered(source, tmp_path / "us", tmp_path / "scratch")
    assert open_table(tmp_path / "us").count_rows() == 308
