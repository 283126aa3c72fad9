"""What two places share is found however it is spelled, and what only looks alike is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from refloat import holding
from refloat.connectors.process import Process, ProcessSettings
from refloat.contracts import Holding, Place
from refloat.holding import Holds, shared

LIVE = Holds(
    paths=(Path("/srv/eu/answers"), Path("/srv/eu/app.log")),
    working=(Path("/srv/eu/app"),),
    ports=(8101,),
    urls=("http://models.example:9000/x", "s3://models-eu/deep", "sqlite:////srv/eu/mlflow.db"),
)


@pytest.mark.parametrize(
    ("mine", "what"),
    [
        (Holds(paths=(Path("/srv/eu/answers"),)), "/srv/eu/answers"),
        (Holds(paths=(Path("/srv/eu/answers/deep"),)), "/srv/eu/answers"),
        (Holds(paths=(Path("/srv/eu"),)), "/srv/eu/answers"),
        (Holds(working=(Path("/srv/eu/app"),)), "/srv/eu/app"),
        (Holds(paths=(Path("/srv/x/../eu/app.log"),)), "/srv/eu/app.log"),
        (Holds(paths=(Path("/srv/eu/mlflow.db"),)), "/srv/eu/mlflow.db"),
        (Holds(urls=("file:///srv/eu/mlflow.db",)), "/srv/eu/mlflow.db"),
        (Holds(ports=(8101,)), "port 8101"),
        (Holds(urls=("http://localhost:8101/health",)), "port 8101"),
        (Holds(urls=("http://this-machine.example:8101",)), "port 8101"),
        (Holds(urls=("http://MODELS.example:9000",)), "port 9000 of models.example"),
        (Holds(urls=("s3://models-eu",)), "s3://models-eu/deep/"),
        (Holds(urls=("s3://models-eu/deep/er/",)), "s3://models-eu/deep/"),
    ],
)
def test_what_is_shared_is_named(mine: Holds, what: str) -> None:
    assert shared(mine, LIVE) == what


@pytest.mark.parametrize(
    "mine",
    [
        Holds(),
        Holds(paths=(Path("/srv/eu/answers2"), Path("/srv/bench")), working=(Path("/srv/eu/app2"),)),
        Holds(ports=(8102,), urls=("http://localhost:8102", "http://models.example:9001", "s3://models-eu2")),
        Holds(urls=("http://other.example:9000",)),
        Holds(urls=("postgres://models.example/x", "http://models.example:notaport/", "no address")),
    ],
)
def test_what_only_looks_alike_is_not_shared(mine: Holds) -> None:
    assert shared(mine, LIVE) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("/srv/eu/answers", "/srv/eu/answers"),
        ("--store=/srv/eu/answers/deep", "/srv/eu/answers"),
        ("DB=sqlite:////srv/eu/mlflow.db?mode=ro", "/srv/eu/mlflow.db"),
        ("http://127.0.0.1:8101", "port 8101"),
        ("--port=8101", "port 8101"),
        ('{"models": "http://models.example:9000/"}', "port 9000 of models.example"),
        ("/srv/eu", "/srv/eu/answers"),
    ],
)
def test_what_a_program_is_told_of_is_shared_as_well(text: str, what: str) -> None:
    assert shared(Holds(paths=(Path("/srv/bench/answers"),), mentions=("serve", text)), LIVE) == what


@pytest.mark.parametrize(
    "text", ["/usr/bin:/bin", "/srv", "/srv/eu/app/serve.py", "--workers=2", "https://api.example/v1"]
)
def test_a_program_may_be_told_of_what_is_everybodys(text: str) -> None:
    """Of its own code too: that is read by whoever runs it."""
    assert shared(Holds(paths=(Path("/srv/bench/answers"),), mentions=(text,)), LIVE) is None


BENCH = Holds(paths=(Path("/srv/models/bench"),), ports=(8199,), urls=("s3://models-bench/x",))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "--model-repository=/srv/models",
            "/srv/models/bench",
        ),  # a server that looks through all that is in it
        ("/srv/models/bench/1", "/srv/models/bench"),
        ("UPSTREAM=http://127.0.0.1:8199", "port 8199"),
        ("s3://models-bench/x/1", "s3://models-bench/x/"),
    ],
)
def test_what_a_live_program_is_told_of_is_none_of_the_sandbox(text: str, what: str) -> None:
    live = Holds(paths=(Path("/srv/models/current"),), working=(Path("/srv/app"),), mentions=("serve", text))
    assert shared(BENCH, live) == what


@pytest.mark.parametrize("text", ["/srv", "/", "/srv/models/benchmarks", "--workers=4", "/usr/bin:/bin"])
def test_a_live_program_may_be_told_of_what_is_everybodys(text: str) -> None:
    live = Holds(paths=(Path("/srv/models/current"),), mentions=(text,))
    assert shared(BENCH, live) is None


@pytest.mark.parametrize(
    ("text", "live", "what"),
    [
        ("s3://prod-models/assistant", Holds(urls=("s3://prod-models/",)), "s3://prod-models/"),
        ("postgresql://db.prod/app", Holds(urls=("postgresql://db.prod/app",)), "postgresql://db.prod/app/"),
        ("index: /srv/live data/idx", Holds(paths=(Path("/srv/live data/idx"),)), "/srv/live data/idx"),
        ("--model=/srv/m/v=1/x", Holds(paths=(Path("/srv/m/v=1"),)), "/srv/m/v=1"),
    ],
)
def test_a_bucket_and_a_path_of_many_words_are_known_in_a_text(text: str, live: Holds, what: str) -> None:
    assert shared(Holds(paths=(Path("/srv/bench"),), mentions=(text,)), live) == what


def test_a_port_of_this_machine_is_one_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_names_of_this_machine", lambda: frozenset({"gpu-box", "10.0.0.5"}))
    live = Holds(urls=("http://10.0.0.5:8000/health",))
    assert shared(Holds(urls=("http://gpu-box:8000/health",)), live) == "port 8000 of 10.0.0.5"
    assert shared(Holds(urls=("http://gpu-box:8001/health",)), live) is None


def test_a_secret_that_a_program_is_told_of_is_never_shown() -> None:
    told = Holds(mentions=("postgres://me:secret@127.0.0.1:8101/x",))
    assert "secret" not in repr(told)
    assert shared(told, LIVE) == "port 8101"


def test_links_lead_to_where_something_really_is(tmp_path: Path) -> None:
    (tmp_path / "eu").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "eu")
    live = Holds(paths=(tmp_path / "eu" / "pages",))
    assert shared(Holds(paths=(tmp_path / "link" / "pages",)), live) == str(tmp_path / "eu" / "pages")


# ------------------------------------------------------------------------------------------------ a process


def process(**changes: object) -> Holds:
    settings = ProcessSettings.model_validate(
        {
            "command": ["python", "serve.py", "--port", "8201"],
            "cwd": "/srv/bench/app",
            "health": "http://127.0.0.1:8201/health",
            "fence_file": "/srv/bench/fence",
            **changes,
        }
    )
    connector = Process()
    assert isinstance(connector, Holding)
    return connector.holds(Place("assistant", "bench", settings))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, None),
        ({"cwd": "/srv/eu/app", "pid_file": "/run/own", "log": "/run/log"}, "/srv/eu/app"),
        ({"cwd": "/srv/eu/bench"}, "/srv/eu/.refloat-assistant.pid.json"),
        ({"pid_file": "/run/eu.pid"}, "/run/eu.pid"),
        ({"log": "/srv/eu/log"}, "/srv/eu/log"),
        ({"fence_file": "/srv/eu/fence"}, "/srv/eu/fence"),
        ({"ports": [8101]}, "port 8101"),
        ({"health": "http://localhost:8101/health"}, "port 8101"),
        ({"ready": "http://127.0.0.1:8101/ready"}, "port 8101"),
        ({"command": ["serve", "--port", "8101"]}, "port 8101"),
        ({"env": {"STORE": "/srv/eu/fence"}}, "/srv/eu/fence"),
        ({"environment": "wheels", "python": "/srv/eu/venv/bin/python"}, "/srv/eu/venv"),
    ],
)
def test_all_that_a_process_writes_or_is_asked_at_is_compared(
    changes: dict[str, object], what: str | None
) -> None:
    live = process(
        command=["serve"],
        cwd="/srv/eu/app",
        health="http://127.0.0.1:8101/health",
        fence_file="/srv/eu/fence",
        environment="wheels",
        python="/srv/eu/venv/bin/python",
    )
    written = Holds(paths=(*live.paths, Path("/run/eu.pid"), Path("/srv/eu/log")), working=live.working)
    everything = Holds(written.paths, written.working, live.ports, live.urls)
    assert shared(process(**changes), everything) == what
