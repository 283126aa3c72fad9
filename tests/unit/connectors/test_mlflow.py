"""The connector of MLflow, against real stores that MLflow itself wrote and reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pytest

if TYPE_CHECKING:  # seconds, in every process that only looks which tests there are
    from mlflow import MlflowClient

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"

from refloat.connectors.files import Files
from refloat.connectors.mlflow import MLflow, MLflowSettings
from refloat.connectors.mlflow_snapshot import KeptSink
from refloat.connectors.sqlite import SQLite
from refloat.contracts import Connector, Facts, Instance, Observed, Op, Place, Settings, Source
from refloat.errors import ConnectorError
from refloat.testing.connector_contract import ConnectorContract
from refloat.testing.memory_snapshot import MemorySink, MemorySource

PARTS: Mapping[str, Connector] = {"database": SQLite(), "artifacts": Files()}


def settings(region: Path) -> MLflowSettings:
    return MLflowSettings(tracking_uri=f"sqlite:///{region}/mlflow.db", artifacts=str(region / "models"))


def place(region: Path, **changes: Any) -> Place:
    return Place("registry", region.name, settings(region), **changes)


def op(region: Path, scratch: Path, *, token: str = "t1", **changes: Any) -> Op:
    folder = scratch / token
    folder.mkdir(parents=True, exist_ok=True)
    return Op(
        place(region, **changes), run="r1", token=token, epoch=1, scratch=folder, deadline_s=60.0, parts=PARTS
    )


def client(region: Path) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings(region).tracking_uri)


@contextlib.contextmanager
def rows(region: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(region / "mlflow.db")) as connection:
        yield connection
        connection.commit()


def values(region: Path, table: str, column: str) -> list[Any]:
    with rows(region) as connection:
        return [value for (value,) in connection.execute(f'SELECT {column} FROM "{table}" ORDER BY rowid')]


def build(region: Path) -> None:
    """A run with a model, two versions of it, a prompt, a trace and a data set, all through MLflow."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    (region / "models").mkdir(parents=True)
    mlflow.set_tracking_uri(settings(region).tracking_uri)
    mlflow.create_experiment("topics", artifact_location=str(region / "models"))
    mlflow.set_experiment("topics")
    model = LogisticRegression().fit(np.arange(8).reshape(-1, 1), [0] * 4 + [1] * 4)
    with mlflow.start_run() as run:
        mlflow.log_param("solver", "lbfgs")
        mlflow.log_text("hello", "note.txt")
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="clf",
            serialization_format="skops",
            pip_requirements=["scikit-learn", "skops"],  # or a process is started that finds them out
        )
        table = mlflow.data.from_numpy(np.arange(3), source=str(region / "models" / "table.npy"))
        mlflow.log_input(table)
    writer = client(region)
    writer.create_model_version("clf", logged.model_uri, run.info.run_id)
    writer.set_registered_model_alias("clf", "champion", "1")
    for key, value in TAGS.items():
        writer.set_model_version_tag("clf", "1", key, value.format(region=region))
    mlflow.genai.register_prompt("greet", "Answer {{question}}")
    mlflow.genai.set_prompt_alias("greet", "production", 1)
    with mlflow.start_span("answer") as span:
        span.set_inputs({"question": "why"})
    mlflow.flush_trace_async_logging()


TAGS = {
    "dimension": "128",
    "accuracy": "0.875",
    "embedder": "sha256:5f0c",
    "trained_on": "{region}/models/table.npy",
    "not-an-identifier": "x",
    "digest": "a lie",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Built once; each test gets a copy whose rows were moved by hand, not by the connector."""
    import mlflow

    region = tmp_path_factory.mktemp("template") / "origin"
    home = Path.cwd()
    region.mkdir()
    os.chdir(region)  # MLflow puts the artifacts of experiment 0 below the current directory
    try:
        build(region)
    finally:
        os.chdir(home)
        mlflow.set_tracking_uri(None)
    yield region


def copy_of(template: Path, region: Path) -> Path:
    shutil.copytree(template, region, dirs_exist_ok=True)
    with rows(region) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for column in [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]:
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                    (str(template), str(region), str(template)),
                )
    return region


@pytest.fixture
def eu(template: Path, tmp_path: Path) -> Path:
    return copy_of(template, tmp_path / "eu")


def captured(region: Path, scratch: Path, sink: MemorySink | None = None) -> MemorySource:
    sink = sink or MemorySink()
    return sink.source(MLflow().capture(sink, op(region, scratch, token="capture")))


def recovered(source: Source, target: Path, scratch: Path, **changes: Any) -> Facts:
    bring = op(target, scratch, **changes)
    MLflow().stage(source, bring)
    MLflow().activate(bring)
    return MLflow().inspect(bring.place)


# ----------------------------------------------------------------------------------------------- contract


class TestMLflowContract(ConnectorContract):
    connector: Connector = MLflow()

    @pytest.fixture(autouse=True)
    def _template(self, template: Path) -> None:
        self.template = template

    def parts(self) -> Mapping[str, Connector]:
        return PARTS

    def make_live(self, tmp_path: Path) -> Settings:
        return settings(copy_of(self.template, tmp_path))

    def mutate(self, settings: Settings) -> None:
        with rows(self.region(settings)) as connection:
            connection.execute(
                "INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage, status, artifact_uri, end_time)"
                " SELECT hex(randomblob(16)), 1, 'active', 'FINISHED', artifact_uri, end_time + 1"
                " FROM runs LIMIT 1"
            )

    def change_identity(self, settings: Settings) -> None:
        with rows(self.region(settings)) as connection:
            connection.execute("UPDATE registered_model_aliases SET version = 2 WHERE name = 'clf'")

    def empty_target(self, tmp_path: Path) -> Settings:
        return settings(tmp_path)

    def fill_foreign(self, settings: Settings) -> None:
        region = self.region(settings)
        with rows(region) as connection:
            connection.execute("CREATE TABLE foreigner (name TEXT)")
        (region / "models").mkdir()
        (region / "models" / "foreign.txt").write_text("foreign")

    def live_paths(self, settings: Settings) -> list[Path]:
        return [self.region(settings) / "mlflow.db", self.region(settings) / "models"]

    def region(self, settings: Settings) -> Path:
        assert isinstance(settings, MLflowSettings)
        return settings.database.parent


# ----------------------------------------------------------------------------------------------- facts


def model_folder(region: Path) -> Path:
    (location,) = set(values(region, "logged_models", "artifact_location"))
    return Path(location)


def test_identity_names_the_champion_and_the_digest_that_sha256sum_gives(eu: Path) -> None:
    identity: Any = MLflow().inspect(place(eu)).identity
    folder = model_folder(eu)
    lines = subprocess.run(
        r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum",
        cwd=folder,
        shell=True,
        capture_output=True,
        check=True,
    ).stdout
    champion = identity["models"]["clf"]["champion"]
    assert champion["digest"] == "sha256:" + hashlib.sha256(lines).hexdigest()
    assert champion["files"] == len(list(folder.iterdir()))
    assert champion["version"] == 1
    assert champion["run_id"] == values(eu, "runs", "run_uuid")[0]
    assert identity["versions"] == {"clf": [1, 2]}
    assert identity["unresolved"] == []


def test_tags_are_facts_unless_they_are_addresses_or_collide(eu: Path) -> None:
    champion: Any = MLflow().inspect(place(eu)).identity["models"]["clf"]["champion"]  # type: ignore[index, call-overload]
    assert (champion["dimension"], champion["accuracy"], champion["embedder"]) == (128, 0.875, "sha256:5f0c")
    assert "trained_on" not in champion
    assert "not-an-identifier" not in champion
    assert champion["digest"].startswith("sha256:")


def test_a_prompt_is_rows_alone_and_its_text_is_part_of_the_identity(eu: Path) -> None:
    before: Any = MLflow().inspect(place(eu)).identity
    assert before["prompts"]["greet"]["versions"] == [1]
    assert before["prompts"]["greet"]["aliases"] == {"production": 1}
    assert "greet" not in before["models"]
    with rows(eu) as connection:
        connection.execute(
            "UPDATE model_version_tags SET value = 'Guess {{question}}' WHERE key = 'mlflow.prompt.text'"
        )
    assert MLflow().inspect(place(eu)).identity != before


def test_a_changed_model_file_moves_the_identity(eu: Path) -> None:
    before = MLflow().inspect(place(eu)).identity
    (model_folder(eu) / "model.skops").write_bytes(b"another model")
    assert MLflow().inspect(place(eu)).identity != before


def test_a_deleted_version_is_gone_and_one_without_files_is_unresolved(eu: Path) -> None:
    client(eu).delete_model_version("clf", "2")
    assert MLflow().inspect(place(eu)).identity["versions"] == {"clf": [1]}
    assert MLflow().health(place(eu)).value == "healthy"
    shutil.rmtree(model_folder(eu))
    identity: Any = MLflow().inspect(place(eu)).identity
    assert identity["unresolved"] == ["clf/1"]
    assert identity["models"]["clf"]["champion"]["digest"] is None
    assert MLflow().health(place(eu)).value == "sick"


def test_a_champion_without_its_files_is_not_captured(eu: Path, tmp_path: Path) -> None:  # fault 41
    shutil.rmtree(model_folder(eu))
    with pytest.raises(ConnectorError, match="clf@champion") as caught:
        captured(eu, tmp_path / "scratch")
    assert "mounted" in str(caught.value.next)


def test_links_in_a_model_are_no_part_of_its_digest(eu: Path, tmp_path: Path) -> None:
    before = MLflow().inspect(place(eu)).identity
    (model_folder(eu) / "link").symlink_to("model.skops")
    assert MLflow().inspect(place(eu)).identity == before
    source = captured(eu, tmp_path / "scratch")
    assert recovered(source, tmp_path / "us", tmp_path / "scratch").identity == before


def test_a_version_that_is_still_being_registered_is_not_looked_at(eu: Path) -> None:
    with rows(eu) as connection:
        connection.execute("UPDATE model_versions SET status = 'PENDING_REGISTRATION' WHERE version = 2")
    assert MLflow().inspect(place(eu)).identity["versions"] == {"clf": [1]}


def test_a_model_of_another_workspace_is_another_model(eu: Path) -> None:
    with rows(eu) as connection:
        connection.execute("INSERT INTO registered_models (name, workspace) VALUES ('clf', 'research')")
        connection.execute(
            "UPDATE model_versions SET workspace = 'research' WHERE name = 'clf' AND version = 2"
        )
    assert MLflow().inspect(place(eu)).identity["versions"] == {"clf": [1], "research/clf": [2]}


def test_artifacts_logged_through_a_server_lie_below_its_root(eu: Path, tmp_path: Path) -> None:
    with rows(eu) as connection:
        connection.execute(
            "UPDATE model_versions SET storage_location = replace(storage_location, ?, 'mlflow-artifacts:')",
            (str(eu / "models"),),
        )
    source = captured(eu, tmp_path / "scratch")
    assert source.facts.identity["unresolved"] == []
    assert recovered(source, tmp_path / "us", tmp_path / "scratch").scope() == source.facts.scope()


def test_an_alias_of_no_version_is_unresolved(eu: Path) -> None:
    with rows(eu) as connection:
        connection.execute("UPDATE registered_model_aliases SET version = 9 WHERE name = 'clf'")
    assert MLflow().inspect(place(eu)).identity["unresolved"] == ["clf@champion"]


def test_position_says_how_many_runs_keep_their_artifacts_elsewhere(eu: Path, tmp_path: Path) -> None:
    assert MLflow().inspect(place(eu)).position["runs_outside"] == 0
    with rows(eu) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (str(tmp_path / "elsewhere"),))
    assert MLflow().inspect(place(eu)).position["runs_outside"] == 1


@pytest.mark.parametrize(
    ("tracking_uri", "artifacts", "said"),
    [
        ("postgresql://db/mlflow", "/srv/models", "of kind postgresql"),
        ("http://127.0.0.1:5000", "/srv/models", "of kind http"),
        ("sqlite://", "/srv/models", "of kind sqlite"),
        ("sqlite:////srv/mlflow.db", "s3://models", "artifacts in s3"),
    ],
)
def test_what_cannot_be_captured_yet_is_said(tracking_uri: str, artifacts: str, said: str) -> None:
    where = Place("registry", "eu", MLflowSettings(tracking_uri=tracking_uri, artifacts=artifacts))
    with pytest.raises(ConnectorError, match=said):
        MLflow().inspect(where)


@pytest.mark.parametrize(
    ("artifacts", "root"),
    [("/srv/a b", "/srv/a b"), ("file:///srv/a%20b", "/srv/a b"), ("file:///srv/50%2525", "/srv/50%25")],
)
def test_artifacts_are_a_folder_or_its_uri(artifacts: str, root: str) -> None:
    assert MLflowSettings(tracking_uri="sqlite:////srv/mlflow.db", artifacts=artifacts).root == Path(root)


def test_a_password_in_the_tracking_uri_is_not_repeated() -> None:
    uri = "postgresql://user:hunter2@db/mlflow"
    with pytest.raises(ConnectorError) as caught:
        MLflow().inspect(Place("registry", "eu", MLflowSettings(tracking_uri=uri, artifacts="/srv/models")))
    assert "hunter2" not in json.dumps(caught.value.document())


def test_another_database_than_mlflows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "eu/models").mkdir(parents=True)
    with rows(tmp_path / "eu") as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    with pytest.raises(ConnectorError, match="cannot be read"):
        MLflow().inspect(place(tmp_path / "eu"))


# ----------------------------------------------------------------------------------------------- recovery


@contextlib.contextmanager
def tracking(region: Path) -> Iterator[MlflowClient]:
    import mlflow

    mlflow.set_tracking_uri(settings(region).tracking_uri)
    try:
        yield client(region)
    finally:
        mlflow.set_tracking_uri(None)


def test_mlflow_loads_everything_in_the_new_region_after_the_old_one_is_gone(
    eu: Path, tmp_path: Path
) -> None:
    import mlflow

    source = captured(eu, tmp_path / "scratch")
    (run,), (model,) = values(eu, "runs", "run_uuid"), values(eu, "logged_models", "model_id")
    shutil.rmtree(eu)
    us = tmp_path / "us"
    assert recovered(source, us, tmp_path / "scratch").scope() == source.facts.scope()
    with tracking(us) as reader:
        for uri in ("models:/clf@champion", "models:/clf/2", f"models:/{model}", f"runs:/{run}/model"):
            assert mlflow.sklearn.load_model(uri).predict([[0], [7]]).tolist() == [0, 1]
        note = mlflow.artifacts.download_artifacts(f"runs:/{run}/note.txt", dst_path=str(tmp_path / "down"))
        assert Path(note).read_text() == "hello"
        assert mlflow.genai.load_prompt("prompts:/greet@production").format(question="why") == "Answer why"
        (trace,) = reader.search_traces(["1"])
        assert trace.data.spans[0].inputs == {"question": "why"}


def test_new_runs_in_the_new_region_stay_in_it(eu: Path, tmp_path: Path) -> None:
    source = captured(eu, tmp_path / "scratch")
    shutil.rmtree(eu)
    us = tmp_path / "us"
    recovered(source, us, tmp_path / "scratch")
    with tracking(us) as writer:
        for experiment in ("0", "1"):
            run = writer.create_run(experiment)
            writer.log_text(run.info.run_id, "new", "new.txt")
            assert Path(run.info.artifact_uri).is_relative_to(us / "models")
    assert not eu.exists()


COLUMNS = [
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("datasets", "dataset_source"),
    ("trace_tags", "value"),
    ("model_version_tags", "value"),
]


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_each_address_is_rewritten(eu: Path, tmp_path: Path, table: str, column: str) -> None:
    before = values(eu, table, column)
    assert any(str(eu / "models") in str(value) for value in before)
    recovered(captured(eu, tmp_path / "scratch"), tmp_path / "us", tmp_path / "scratch")
    moved = [str(value).replace(str(eu), str(tmp_path / "us")) for value in before]
    after = [str(value) for value in values(tmp_path / "us", table, column)]
    if table == "experiments":  # experiment 0 has no runs and lay beside the artifacts: it moves below them
        moved[0] = str(tmp_path / "us/models/0")
    assert after == moved


def test_texts_that_are_not_utf_8_are_facts_and_are_rewritten_all_the_same(eu: Path, tmp_path: Path) -> None:
    odd, us = os.fsencode(eu / "models") + b"/\xff", tmp_path / "us"
    with rows(eu) as connection:
        connection.execute("UPDATE trace_tags SET value = CAST(? AS TEXT)", (odd,))
        connection.execute(
            "UPDATE model_version_tags SET value = CAST(x'47ff' AS TEXT) WHERE key = 'mlflow.prompt.text'"
        )
    source = captured(eu, tmp_path / "scratch")
    assert recovered(source, us, tmp_path / "scratch").identity == source.facts.identity
    assert set(values(us, "trace_tags", "CAST(value AS BLOB)")) == {os.fsencode(us / "models") + b"/\xff"}


def test_no_byte_of_the_database_names_the_old_artifacts(eu: Path, tmp_path: Path) -> None:
    us = tmp_path / "a-much-longer-name-that-makes-every-row-move"
    recovered(captured(eu, tmp_path / "scratch"), us, tmp_path / "scratch")
    assert str(eu / "models").encode() not in (us / "mlflow.db").read_bytes()


def test_addresses_of_the_region_are_rewritten_beside_the_artifacts(eu: Path, tmp_path: Path) -> None:
    with rows(eu) as connection:
        connection.execute("UPDATE runs SET artifact_uri = 's3://models-eu/runs/1'")
        connection.execute(
            "UPDATE datasets SET dataset_source = ?",
            (
                json.dumps(
                    {"uri": "s3://models-eu/table.npy", "also": ["s3://models-eu", "s3://models-eu2/x"]}
                ),
            ),
        )
    recovered(
        captured(eu, tmp_path / "scratch"),
        tmp_path / "us",
        tmp_path / "scratch",
        addresses={"s3://models-eu/": "s3://models-us/"},
    )
    assert values(tmp_path / "us", "runs", "artifact_uri") == ["s3://models-us/runs/1"]
    (source,) = values(tmp_path / "us", "datasets", "dataset_source")
    assert json.loads(source) == {
        "uri": "s3://models-us/table.npy",
        "also": ["s3://models-us", "s3://models-eu2/x"],
    }


def test_locations_written_as_uris_stay_uris(eu: Path, tmp_path: Path) -> None:
    with rows(eu) as connection:
        for table, column in COLUMNS[:4]:
            connection.execute(
                f"UPDATE {table} SET {column} = 'file://' || {column} WHERE {column} LIKE '/%'"
            )
    us = tmp_path / "us in the west"
    source = captured(eu, tmp_path / "scratch")
    assert source.facts.identity["unresolved"] == []
    assert recovered(source, us, tmp_path / "scratch").identity == source.facts.identity
    assert values(us, "runs", "artifact_uri")[0].startswith(f"file://{tmp_path}/us%20in%20the%20west/models/")


def test_old_versions_that_name_a_folder_or_a_run_resolve(eu: Path, tmp_path: Path) -> None:
    import mlflow

    folder = model_folder(eu)
    shutil.copytree(folder, eu / "models/1/old/artifacts/model")
    with rows(eu) as connection:
        connection.execute("UPDATE runs SET artifact_uri = ?", (str(eu / "models/1/old/artifacts"),))
        (run,) = connection.execute("SELECT run_uuid FROM runs").fetchone()
        connection.execute("UPDATE model_versions SET storage_location = NULL")
        for version, source in ((1, str(folder)), (2, f"runs:/{run}/model")):
            connection.execute(
                "UPDATE model_versions SET source = ? WHERE name = 'clf' AND version = ?", (source, version)
            )
    snapshot = captured(eu, tmp_path / "scratch")
    assert snapshot.facts.identity["unresolved"] == []
    shutil.rmtree(eu)
    assert recovered(snapshot, tmp_path / "us", tmp_path / "scratch").identity == snapshot.facts.identity
    with tracking(tmp_path / "us"):
        assert mlflow.sklearn.load_model("models:/clf/1").predict([[7]]).tolist() == [1]


def test_recovering_where_it_came_from_rewrites_nothing(eu: Path, tmp_path: Path) -> None:
    before = {table: values(eu, table, column) for table, column in COLUMNS}
    source = captured(eu, tmp_path / "scratch")
    shutil.rmtree(eu)
    recovered(source, eu, tmp_path / "scratch")
    assert {table: values(eu, table, column) for table, column in COLUMNS} == before


def test_recovering_into_a_folder_below_the_old_one_rewrites_once(eu: Path, tmp_path: Path) -> None:
    source = captured(eu, tmp_path / "scratch")
    us = eu / "models" / "us"
    bring = op(us, tmp_path / "scratch")
    for _ in range(2):
        MLflow().stage(source, bring)
    MLflow().activate(bring)
    (location,) = values(us, "logged_models", "artifact_location")
    assert location.startswith(f"{us}/models/models/")
    assert "us/models/us" not in location


# ----------------------------------------------------------------------------------------------- refusals


def test_an_address_that_remains_is_refused_with_its_column_and_count(eu: Path, tmp_path: Path) -> None:
    with rows(eu) as connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = artifact_location || '?from=' || ?",
            (str(eu / "models"),),
        )
    source = captured(eu, tmp_path / "scratch")
    with pytest.raises(ConnectorError, match=r"experiments.artifact_location \(1\)"):
        recovered(source, tmp_path / "us", tmp_path / "scratch")
    assert MLflow().observe(op(tmp_path / "us", tmp_path / "scratch")) is Observed.ABSENT


def test_what_happened_then_may_name_the_old_region(eu: Path, tmp_path: Path) -> None:
    with rows(eu) as connection:
        connection.execute("UPDATE params SET value = ?", (str(eu / "models"),))
        connection.execute("UPDATE tags SET value = ?", (f"train.py --to {eu}/models",))
        connection.execute("UPDATE model_version_tags SET value = ?", (f"from {eu}/models",))
    recovered(captured(eu, tmp_path / "scratch"), tmp_path / "us", tmp_path / "scratch")
    assert values(tmp_path / "us", "params", "value") == [str(eu / "models")]


def test_an_address_too_long_for_its_column_is_refused_before_anything_is_staged(
    eu: Path, tmp_path: Path
) -> None:
    us = tmp_path / ("l" * (175 - len(str(tmp_path))))
    with pytest.raises(ConnectorError, match=r"runs.artifact_uri of MLflow takes 200 characters"):
        recovered(captured(eu, tmp_path / "scratch"), us, tmp_path / "scratch")
    assert not us.exists()


@pytest.mark.parametrize("harm", ["changed", "lost"])
def test_a_model_that_is_not_the_one_captured_is_refused(eu: Path, tmp_path: Path, harm: str) -> None:
    source = captured(eu, tmp_path / "scratch")
    (path,) = (path for path in source._stored if path.endswith("model.skops"))
    if harm == "changed":
        source._stored[path] = b"another model"
    else:
        del source._stored[path], source._entries[path]
    with pytest.raises(ConnectorError, match="clf/1, clf/2 are not those that were captured"):
        MLflow().stage(source, op(tmp_path / "us", tmp_path / "scratch"))


def test_without_its_parts_it_says_which_one_is_missing(eu: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="no part 'database'"):
        MLflow().capture(MemorySink(), replace(op(eu, tmp_path / "scratch"), parts={}))


# ----------------------------------------------------------------------------------------------- captures


class DuringCapture(MemorySink):
    """A sink that lets something happen just before one file is stored."""

    before = ""
    happen: Callable[[], None]

    @classmethod
    def of(cls, before: str, happen: Callable[[], None]) -> DuringCapture:
        sink = cls()
        sink.before, sink.happen = before, happen  # type: ignore[method-assign]
        return sink

    def under(self, prefix: str) -> MemorySink:
        view = DuringCapture.__new__(DuringCapture)
        view.__dict__.update(self.__dict__)
        view._prefix = f"{self._name(prefix)}/"
        return view

    def file(self, path: str, content: Path | BinaryIO, **entry: Any) -> int:
        if self._name(path).startswith(self.before):
            self.happen()
        return super().file(path, content, **entry)


def test_a_capture_of_what_did_not_change_has_the_token_that_is_inspected(eu: Path, tmp_path: Path) -> None:
    before = MLflow().inspect(place(eu))
    assert before.token is not None
    assert captured(eu, tmp_path / "scratch").facts == before


def test_an_alias_moved_during_the_capture_shows_as_a_moved_identity(eu: Path, tmp_path: Path) -> None:
    def promote() -> None:
        client(eu).set_registered_model_alias("clf", "champion", "2")

    before = MLflow().inspect(place(eu)).identity
    source = captured(eu, tmp_path / "scratch", DuringCapture.of("origin.json", promote))
    after = MLflow().inspect(place(eu)).identity
    assert source.facts.identity == before != after
    assert after["models"]["clf"]["champion"]["version"] == 2  # type: ignore[index, call-overload]
    assert recovered(source, tmp_path / "us", tmp_path / "scratch").identity == before


def test_a_model_logged_between_rows_and_artifacts_does_no_harm(eu: Path, tmp_path: Path) -> None:
    def log() -> None:
        run = client(eu).create_run("1")
        client(eu).log_text(run.info.run_id, "later", "later.txt")

    source = captured(eu, tmp_path / "scratch", DuringCapture.of("database/", log))
    assert source.facts.position["runs"] == 1
    facts = recovered(source, tmp_path / "us", tmp_path / "scratch")
    assert facts.scope() == source.facts.scope()


def test_artifacts_that_change_while_they_are_read_leave_facts_of_what_was_stored(
    eu: Path, tmp_path: Path
) -> None:
    path = model_folder(eu) / "model.skops"
    original = path.read_bytes()

    def spoil() -> None:
        path.write_bytes(b"spoilt")

    stored = MemorySink()
    source = captured(eu, tmp_path / "scratch", stored)
    again = captured(eu, tmp_path / "scratch", DuringCapture.of("origin.json", spoil))
    assert again.facts.identity == source.facts.identity
    assert original in stored.held.stored.values()
    assert MLflow().inspect(place(eu)).identity != again.facts.identity


def test_a_second_capture_reads_only_the_new_rows_and_files(eu: Path, tmp_path: Path) -> None:
    first = MemorySink()
    captured(eu, tmp_path / "scratch", first)
    run = client(eu).create_run("1")
    client(eu).log_text(run.info.run_id, "later", "later.txt")
    second = MemorySink(first)
    source = captured(eu, tmp_path / "scratch", second)
    assert {Path(path).name for path in second.held.read} == {"later.txt", "database.sqlite", "origin.json"}
    assert recovered(source, tmp_path / "us", tmp_path / "scratch").scope() == source.facts.scope()


def test_a_database_that_moved_since_its_token_was_taken_is_not_carried(eu: Path, tmp_path: Path) -> None:
    first = MemorySink()
    first.file("database.sqlite", eu / "mlflow.db", token="before")
    unchanged = KeptSink(MemorySink(first), eu / "mlflow.db", tmp_path / "copy.db")
    assert unchanged.carry("database.sqlite", "before")
    moved = KeptSink(MemorySink(first), eu / "mlflow.db", tmp_path / "copy.db")
    with rows(eu) as connection:
        connection.execute("UPDATE registered_model_aliases SET version = 2")
    assert not moved.carry("database.sqlite", "before")


def test_a_capture_goes_on_while_runs_are_logged(eu: Path, tmp_path: Path) -> None:
    stop, logged = threading.Event(), []

    def log() -> None:
        writer = client(eu)
        while not stop.is_set():
            run = writer.create_run("1")
            writer.log_text(run.info.run_id, "text", "text.txt")
            writer.set_terminated(run.info.run_id)
            logged.append(run.info.run_id)

    thread = threading.Thread(target=log)
    thread.start()
    try:
        while len(logged) < 3:
            assert thread.is_alive(), "it could not log"
            source = captured(eu, tmp_path / "scratch")
    finally:
        stop.set()
        thread.join()
    assert recovered(source, tmp_path / "us", tmp_path / "scratch").scope() == source.facts.scope()


# ----------------------------------------------------------------------------------------------- switching


class _Stopped(Exception):
    """The process ends here."""


class _StopsAtDatabase(SQLite):
    def activate(self, op: Op) -> None:
        raise _Stopped


def test_a_switch_cut_between_the_parts_is_finished_by_the_next_attempt(eu: Path, tmp_path: Path) -> None:
    source = captured(eu, tmp_path / "scratch")
    us, connector = tmp_path / "us", MLflow()
    bring = op(us, tmp_path / "scratch")
    connector.stage(source, bring)
    with pytest.raises(_Stopped):
        connector.activate(replace(bring, parts={**PARTS, "database": _StopsAtDatabase()}))
    assert connector.observe(bring) is Observed.STAGED
    assert (us / "models").is_dir()
    assert not (us / "mlflow.db").exists()
    connector.activate(bring)
    assert connector.observe(bring) is Observed.ACTIVE
    assert connector.inspect(bring.place).scope() == source.facts.scope()


def test_the_database_goes_back_before_the_artifacts_it_points_to(eu: Path, tmp_path: Path) -> None:
    class StopsAtArtifacts(Files):
        def revert(self, op: Op) -> None:
            raise _Stopped

    source = captured(eu, tmp_path / "scratch")
    us, connector = tmp_path / "us", MLflow()
    bring = op(us, tmp_path / "scratch")
    connector.stage(source, bring)
    connector.activate(bring)
    with pytest.raises(_Stopped):
        connector.revert(replace(bring, parts={**PARTS, "artifacts": StopsAtArtifacts()}))
    assert connector.observe(bring) is Observed.PARTIAL
    assert not (us / "mlflow.db").exists()
    connector.revert(bring)
    assert connector.observe(bring) is Observed.REVERTED


def test_what_a_part_remembers_is_journaled_under_its_role(eu: Path, tmp_path: Path) -> None:
    journal: list[Mapping[str, Any]] = []

    class Remembering(Files):
        def activate(self, op: Op) -> None:
            assert "seen" not in op.memory or op.memory["seen"] == "artifacts"
            op.remember(seen="artifacts")
            super().activate(op)

    source = captured(eu, tmp_path / "scratch")
    bring = replace(
        op(tmp_path / "us", tmp_path / "scratch"),
        parts={**PARTS, "artifacts": Remembering()},
        journal=journal.append,
    )
    MLflow().stage(source, bring)
    for _ in range(2):
        MLflow().activate(bring)
    assert journal == [{"artifacts.seen": "artifacts"}] * 2
    assert bring.memory == {"artifacts.seen": "artifacts"}


def test_staged_models_are_read_where_they_are_staged(eu: Path, tmp_path: Path) -> None:
    source = captured(eu, tmp_path / "scratch")
    bring = op(tmp_path / "us", tmp_path / "scratch")
    MLflow().stage(source, bring)
    staged = replace(bring.place, instance=Instance.STAGED, token=bring.token)
    assert MLflow().inspect(staged).scope() == source.facts.scope()
    assert MLflow().health(staged).value == "healthy"
    with pytest.raises(ConnectorError):
        MLflow().inspect(bring.place)
