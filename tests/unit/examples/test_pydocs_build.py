"""What a build leaves in a region, also one that was killed on the way."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pydocs_assistant import features, golden, index, passages, registry
from pydocs_assistant.build import build
from pydocs_assistant.paths import Region, folder_digest, write_whole
from pydocs_assistant.state import State
from pydocs_region import finish, program
from refloat.digest import file_sha256, listing_digest

pytestmark = pytest.mark.slow

STEPS = [
    "code",
    "passages",
    "features",
    "golden",
    "registry",
    "training",
    "index",
    "prompts",
    "flags",
    "predictions",
]


def test_a_build_that_was_killed_goes_on_at_its_first_unfinished_step(region: Region) -> None:
    records = State(region.state).steps()

    assert [record.step for record in records] == STEPS
    assert {record.status for record in records} == {"done"}
    assert [record.attempts for record in records] == [
        2 if record.step == "training" else 1 for record in records
    ]
    finished = [record.finished_at or "" for record in records]
    assert finished == sorted(finished)


def test_a_build_that_is_done_does_nothing(region: Region) -> None:
    before = State(region.state).steps()
    again = program("build", "--root", region.root)

    assert finish(again).count("done before") == len(STEPS)
    assert again.returncode == 0
    assert State(region.state).steps() == before


def test_a_step_that_fails_stays_in_flight_and_is_tried_again(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")

    def fail() -> str:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        state.run("index", fail)
    in_flight = State(tmp_path / "state.db").of("index")
    assert in_flight is not None
    assert (in_flight.status, in_flight.finished_at) == ("running", None)

    assert state.run("index", lambda: "sha256:1")
    assert not state.run("index", fail)
    done = state.of("index")
    assert done is not None
    assert (done.status, done.attempts, done.output_digest) == ("done", 2, "sha256:1")


def test_the_region_has_its_own_code_and_runs_it(region: Region) -> None:
    assert (region.app / "settings.json").is_file()
    where = subprocess.run(
        [sys.executable, "-c", "import pydocs_assistant; print(pydocs_assistant.__file__)"],
        cwd=region.app,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()) == region.app / "pydocs_assistant" / "__init__.py"


def test_the_current_data_set_is_named_by_the_digest_of_its_files(region: Region) -> None:
    current = passages.current(region)
    folder = region.data_set / "passages" / "v1"
    part = folder / "part-0.parquet"

    assert current["digest"] == listing_digest([("part-0.parquet", file_sha256(part))])
    assert current["rows"] == pq.read_metadata(part).num_rows == len(passages.read(region))


def test_a_folder_is_named_by_what_sha256sum_prints(tmp_path: Path) -> None:
    for name in ("b/c", "a", "b.txt", "é"):
        write_whole(tmp_path / name, name.encode())
    command = (
        r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1"
    )
    printed = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert folder_digest(tmp_path) == f"sha256:{printed.stdout.strip()}"


def test_online_and_offline_features_are_the_same_and_name_their_data_set(region: Region) -> None:
    offline = pq.read_table(region.features_offline / "v1.parquet").to_pylist()
    with closing(features.open_online(region)) as online:
        found = features.look_up(online, [row["id"] for row in offline[:300]])
        meta = dict(online.execute("SELECT key, value FROM meta"))

    assert len(offline) == passages.current(region)["rows"]
    for row in offline[:300]:
        assert found[row["id"]] == features.Features(**{key: row[key] for key in row if key != "event_time"})
    assert meta == {"feature_set_version": "1", "data_digest": passages.current(region)["digest"]}


def test_the_online_features_are_opened_for_reading_only(region: Region) -> None:
    with (
        closing(features.open_online(region)) as online,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        online.execute("DELETE FROM features")


def test_champions_are_registered_with_what_an_index_must_match(region: Region) -> None:
    client = registry.client_of(region)
    embedder = registry.champion(client, "embedder")
    classifier = registry.champion(client, "classifier")

    assert embedder.folder.is_relative_to(region.artifacts)
    assert embedder.digest == _listing(embedder.folder)
    assert embedder.tags == {"dimension": "96", "data_digest": passages.current(region)["digest"]}
    assert classifier.tags["embedder"] == embedder.digest
    origin = index.origin_of(index.open_table(region.index))
    assert origin == index.Origin(embedder.digest, 96, str(passages.current(region)["digest"]))


def _listing(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return listing_digest((file.relative_to(folder).as_posix(), file_sha256(file)) for file in files)


def test_runs_record_the_quality_on_held_out_questions(region: Region) -> None:
    client = registry.client_of(region)
    experiment = client.get_experiment_by_name(registry.EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], filter_string="attributes.status = 'FINISHED'")
    measured = {run.info.run_name: run.data.metrics for run in runs}

    assert measured["embedder"]["recall_at_5"] > 0.4
    assert measured["classifier"]["accuracy"] > 0.75


def test_nothing_in_the_registry_lies_outside_of_the_region(region: Region) -> None:
    with closing(sqlite3.connect(region.database)) as database:
        places = [
            place
            for table, column in (
                ("experiments", "artifact_location"),
                ("runs", "artifact_uri"),
                ("logged_models", "artifact_location"),
                ("model_versions", "storage_location"),
            )
            for (place,) in database.execute(f"SELECT {column} FROM {table}")
        ]

    assert len(places) >= 8
    assert all(Path(place).is_relative_to(region.artifacts) for place in places)


def test_mlflow_itself_loads_the_champion_by_its_alias(region: Region, copied: Region) -> None:
    import mlflow

    mlflow.set_tracking_uri(copied.tracking_uri)
    try:
        embedder = mlflow.sklearn.load_model("models:/embedder@champion")
    finally:
        mlflow.set_tracking_uri(None)  # the process is shared with other tests

    assert embedder.transform(["queue get item"]).shape == (1, 96)


def test_training_never_saw_the_held_out_passages(region: Region) -> None:
    from mlflow import MlflowClient

    learned = MlflowClient(region.tracking_uri).get_model_version_by_alias("embedder", "champion").run_id
    run = registry.client_of(region).get_run(learned)
    held_out = golden.held_out_passages(golden.read(region))

    assert int(run.data.params["passages"]) == len(passages.read(region)) - len(held_out)


def test_the_vectors_of_the_index_find_their_own_passages(region: Region) -> None:
    table = index.open_table(region.index)
    rows = table.search().select(["id", "vector"]).limit(5).to_list()

    for row in rows:
        nearest = index.nearest(table, row["vector"], 3).to_pylist()
        assert row["id"] in {found["id"] for found in nearest}


def test_half_a_registry_is_begun_again(
    copied: Region, learning: None, capsys: pytest.CaptureFixture[str]
) -> None:
    copied.database.write_bytes(b"half a database")
    with closing(sqlite3.connect(copied.state)) as database, database:
        database.execute(
            "UPDATE steps SET status = 'running' WHERE step IN ('registry', 'training', 'index')"
        )

    assert build(copied.root, dimension=96) == 0
    assert capsys.readouterr().out.count("done before") == len(STEPS) - 3
    embedder = registry.champion(registry.client_of(copied), "embedder")
    assert index.origin_of(index.open_table(copied.index)).embedder == embedder.digest
