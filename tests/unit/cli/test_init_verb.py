"""``refloat init`` writes a manifest that can be read, and never over another one."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sqlite3
import sys
from pathlib import Path

import pytest

from refloat.cli.main import run
from refloat.manifest.parse import parse

FLAGS = [
    "--pipeline",
    "chat",
    "--region",
    "eu=/v/eu",
    "--region",
    "us=/v/us",
    "--component",
    "docs=files:/srv/docs",
]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Keyboard(io.StringIO):
    """Standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


def test_flags_make_a_manifest(empty_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["init", *FLAGS]) == 0
    manifest = parse((empty_folder / "refloat.yaml").read_bytes())
    assert manifest.pipeline == "chat"
    assert manifest.primary == "eu"
    assert list(manifest.regions) == ["eu", "us"]
    assert "refloat check" in capsys.readouterr().out


def test_a_path_that_is_not_utf_8_is_refused_and_not_written_as_another(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["init", *FLAGS, "--component", "odd=files:/srv/\udcff", "--json"]) == 2
    assert "U+DCFF" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert list(empty_folder.iterdir()) == []


def test_the_primary_and_the_file_can_be_chosen(empty_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["-f", "other.yaml", "init", *FLAGS, "--primary", "us", "--json"]) == 0
    assert parse((empty_folder / "other.yaml").read_bytes()).primary == "us"
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "file": "other.yaml",
        "pipeline": "chat",
        "regions": ["eu", "us"],
    }


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_there_is_never_written_over(empty_folder: Path, make):
    make(empty_folder / "refloat.yaml")
    before = written(empty_folder / "refloat.yaml")
    assert run(["init", *FLAGS]) == 3
    assert written(empty_folder / "refloat.yaml") == before


def written(path: Path) -> tuple[int, ...]:
    """All of a file's state but when it was last read."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def test_nobody_is_asked_anything_in_vain(empty_folder: Path, monkeypatch: pytest.MonkeyPatch):
    (empty_folder / "refloat.yaml").touch()
    keyboard = Keyboard("chat\n")
    monkeypatch.setattr(sys, "stdin", keyboard)
    assert run(["init"]) == 3
    assert keyboard.read() == "chat\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--pipeline is missing"),
        (FLAGS[:2], "--region is missing"),
        (FLAGS[:6], "--component is missing"),
        (["--pipeline", "My Chat", *FLAGS[2:]], "'My Chat' is not a name for a pipeline"),
        ([*FLAGS, "--region", "eu"], "'eu' is not NAME=VAULT"),
        ([*FLAGS, "--region", "EU=/v"], "'EU' is not a name for a region"),
        ([*FLAGS, "--region", "eu=/other"], "the region 'eu' is given twice"),
        ([*FLAGS, "--component", "docs"], "'docs' is not NAME=KIND:PATH"),
        ([*FLAGS, "--component", "docs=files"], "'docs=files' is not NAME=KIND:PATH"),
        ([*FLAGS, "--primary", "asia"], "no region is called 'asia'"),
        ([*FLAGS, "--component", "for=files:/x"], "'for' means something else"),
        ([*FLAGS, "--component", "docs=files:/x"], "'docs' stands twice"),
    ],
)
def test_bad_usage_writes_nothing(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    assert run(["init", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert list(empty_folder.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_told(capsys: pytest.CaptureFixture[str]):
    assert run(["-f", "no/such/folder/m.yaml", "init", *FLAGS]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_disk_that_is_full_halfway_leaves_no_half_manifest(  # fault 13
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        assert run(["init", *FLAGS]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "the manifest cannot be written: File too large" in capsys.readouterr().err
    assert list(empty_folder.iterdir()) == []
    assert run(["init", *FLAGS]) == 0


def test_on_a_terminal_it_asks(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "stdin", Keyboard("chat\neu=/v/eu\nus=/v/us\n\ndocs=files:/srv/docs\n\n"))
    assert run(["init"]) == 0
    manifest = parse((empty_folder / "refloat.yaml").read_bytes())
    assert (manifest.pipeline, list(manifest.regions), list(manifest.components)) == (
        "chat",
        ["eu", "us"],
        ["docs"],
    )
    told = capsys.readouterr()
    assert "Name of the pipeline" in told.err


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("uvicorn app:app --port 8123", 8123),
        ("uvicorn app:app --port=8123 --host 0.0.0.0", 8123),
        ("serve --http-port 8123", 8123),
        ("serve -p 8123", 8123),
        ("serve -p8123", 8123),
        ("gunicorn app:app -b 127.0.0.1:8123", 8123),
        ("serve --bind=[::1]:8123", 8123),
        ("serve :8123", 8123),
        ("serve --log udp:514 --port 8123", 8123),
        ("serve --store https://db:5432", 8000),
        ("serve --port 99999 app:app", 8000),
        ("serve", 8000),
    ],
)
def test_a_process_is_asked_where_its_command_lets_it_listen(
    empty_folder: Path, command: str, port: int
) -> None:
    assert (
        run(["init", "--pipeline", "chat", "--region", "eu=/v", "--component", f"api=process:{command}"]) == 0
    )
    text = (empty_folder / "refloat.yaml").read_text()
    assert parse(text.encode()).components["api"].with_["health"] == f"http://127.0.0.1:{port}/health"
    assert f'probe: {{http: "http://127.0.0.1:{port}/answer"}}' in text


def test_where_a_log_of_predictions_is_named_the_manifest_asks_how_a_verification_is_marked(
    empty_folder: Path,
) -> None:
    log = "answers=predictions:/srv/answers.jsonl"
    assert run(["init", "--pipeline", "chat", "--region", "eu=/v", "--component", log]) == 0
    text = (empty_folder / "refloat.yaml").read_text()
    assert "# probes: {source: probe}" in text
    assert parse(text.encode()).components["answers"].with_ == {"path": "/srv/answers.jsonl"}


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("sqlit", "did you mean 'sqlite'?"), ("oracle", "the kinds are files, lancedb, mlflow")],
)
def test_a_kind_that_nothing_installed_knows_is_refused_with_the_nearest(
    empty_folder: Path, capsys: pytest.CaptureFixture[str], kind: str, hint: str
):
    assert run(["init", *FLAGS, "--component", f"odd={kind}:/x", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == f"no kind of component is called {kind!r}" and error["next"].startswith(hint)
    assert list(empty_folder.iterdir()) == []


def test_nothing_is_written_of_what_was_not_named(empty_folder: Path):
    assert run(["init", *FLAGS]) == 0
    text = (empty_folder / "refloat.yaml").read_text()
    assert not [word for word in ("registry", "endpoint", "index.", "groups", "verify") if word in text]


def _files(folder: Path) -> str:
    (folder / "docs").mkdir()
    (folder / "docs" / "page.txt").write_text("a page")
    return f"files:{folder}/docs"


def _sqlite(folder: Path) -> str:
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as database, database:
        database.execute("CREATE TABLE sale (price INTEGER)")
    return f"sqlite:{folder}/ledger.db"


def _predictions(folder: Path) -> str:
    (folder / "answers.jsonl").write_text('{"id": "a", "time": "2026-11-01T00:00:00Z"}\n')
    return f"predictions:{folder}/answers.jsonl"


def _lancedb(folder: Path) -> str:
    import lancedb  # a second and more, in every process that only looks which tests there are

    lancedb.connect(folder / "index").create_table("passages", [{"vector": [0.0, 1.0], "text": "a"}])
    return f"lancedb:{folder}/index"


def _mlflow(folder: Path) -> str:
    from mlflow import MlflowClient  # as above

    (folder / "registry" / "artifacts").mkdir(parents=True)
    MlflowClient(f"sqlite:///{folder}/registry/mlflow.db").create_experiment("first")
    return f"mlflow:{folder}/registry"


@pytest.mark.parametrize("make", [_files, _sqlite, _predictions, _lancedb, _mlflow])
def test_what_it_writes_runs_as_it_is(empty_folder: Path, monkeypatch: pytest.MonkeyPatch, make):
    monkeypatch.setenv("HOME", str(empty_folder))
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(empty_folder / "chat.key"))
    regions = ["--region", f"eu={empty_folder}/v/eu", "--region", f"us={empty_folder}/v/us"]
    made = make(empty_folder)
    assert run(["-q", "init", "--pipeline", "chat", *regions, "--component", f"it={made}"]) == 0
    for command in (["vault", "init"], ["check"], ["protect"], ["recover", "--to", "us"]):
        assert run(["-q", *command]) == 0, command
    place = (empty_folder / made.partition(":")[2]).name
    assert {path.name for path in empty_folder.iterdir() if path.name.startswith(Path(place).stem)} == {
        place,
        f"{Path(place).stem}-us{Path(place).suffix}",
    }


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("/srv/docs", "/srv/docs-us"),
        ("docs/", "docs-us"),
        ("./a b.db", "./a b-us.db"),
        ("/srv/.hidden", "/srv/.hidden-us"),
        (".", ".-us"),
    ],
)
def test_every_other_region_gets_a_place_of_its_own(empty_folder: Path, path: str, beside: str):
    kinds = ["docs=files", "rows=sqlite", "log=predictions", "index=lancedb"]
    named = [word for kind in kinds for word in ("--component", f"{kind}:{path}")]
    regions = ["--region", "eu=/v/eu", "--region", "us=/v/us", "--region", "ap=/v/ap"]
    more = ["--component", f"models=mlflow:{path}", "--component", "api=process:serve --port 8123"]
    more += ["--component", "told=files:/srv/${region}/told"]
    assert run(["init", "--pipeline", "chat", *regions, "--primary", "eu", *named, *more]) == 0
    known = parse((empty_folder / "refloat.yaml").read_bytes()).components
    for kind in kinds:
        component = known[kind.partition("=")[0]]
        assert component.at["us"] == {"path": beside} and set(component.at) == {"us", "ap"}
        assert component.with_ == {"path": path}
    assert known["models"].at["us"] == {
        "tracking_uri": f"sqlite:///{beside}/mlflow.db",
        "artifacts": f"{beside}/artifacts",
    }
    assert known["api"].at == known["told"].at == {}
