"""The manuals keep up: what they show runs, what they name exists, and what commands print is described."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

import refloat
from refloat import errors, registry
from refloat.cli.line import hoisted
from refloat.cli.main import VERBS, run, whole
from refloat.flows import protect as protecting
from refloat.limits import PRUNE_GRACE_S
from refloat.testing.world import World
from refloat.vault.prune import plan_prune, prune
from refloat.vault.replica import create_vault
from refloat.vault.stores.local import LocalStore
from refloat.vault.writer import Writer

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "examples").rglob("*.md")])
HTTP_SETTINGS = ("url", "method", "log", "id_field", "headers")


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MANUAL = loaded(ROOT / "docs" / "cli_manual.py")


def names_of(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELLS = ("", "sh", "bash", "console", "text")


def blocks(text: str, *languages: str) -> list[str]:
    return [block for language, block in FENCED.findall(text) if language in languages]


# ------------------------------------------------------------------------------------------- CLI.md


def test_the_manual_of_the_command_line_is_fresh() -> None:
    assert MANUAL.main(["--check"]) == 0, "python docs/cli_manual.py"


def test_a_stale_manual_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MANUAL, "MANUAL", tmp_path / "CLI.md")
    assert MANUAL.main(["--check"]) == 1
    assert MANUAL.main([]) == 0
    assert MANUAL.main(["--check"]) == 0


def kinds(kind: type[errors.RefloatError]) -> Iterator[type[errors.RefloatError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def test_every_error_code_and_exit_code_is_in_the_manual() -> None:
    text = (ROOT / "docs" / "CLI.md").read_text()
    own = [kind for kind in kinds(errors.RefloatError) if kind.__module__ == errors.__name__]
    assert len(own) > 10
    assert [kind.code for kind in own if f"| `{kind.code}` | {kind.exit_code} |" not in text] == []


def test_every_safety_rule_is_in_the_manual() -> None:
    text = (ROOT / "docs" / "CLI.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    rules = set(re.findall(r'(?:Refused|\.refuse)\(\s*"([a-z_]+)"', sources))
    rules |= set(re.findall(r'^RULE = "([a-z_]+)"', sources, re.MULTILINE))
    assert len(rules) > 6
    assert sorted(rule for rule in rules if f"| `{rule}` |" not in text) == []


# ------------------------------------------------------------------------------------------- what is named


def commands() -> set[str]:
    """Every command by its whole name, groups included."""
    return {name for name, _ in MANUAL._commands(typer.main.get_command(whole()), "refloat")}


def named_commands(text: str) -> set[tuple[str, ...]]:
    """What stands after the word refloat, in code: its options left out, at most two words."""
    code = blocks(text, *SHELLS) + re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    lines = [line for block in code for line in block.splitlines()]
    found = set()
    for line in lines:
        for call in re.findall(r"(?:^|[\s|&;$(/])refloat((?: [^|&;\n]+)?)", f" {line}"):
            words = re.sub(
                r"-f \S+|--file=\S+|--(show|install)-completion \w+|--[a-z-]+|-q\b", "", call
            ).split()
            found.add(tuple(words[:2]))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=names_of(DOCUMENTS))
def test_no_document_names_a_command_that_is_not_there(path: Path) -> None:
    known = commands()
    groups = {name.split()[1] for name in known if name.count(" ") == 2}
    for words in named_commands(path.read_text()):
        if not words or not re.fullmatch("[a-z]+", words[0]):
            continue
        assert words[0] in VERBS, f"refloat {' '.join(words)}"
        if words[0] in groups and len(words) == 2 and re.fullmatch("[a-z]+", words[1]):
            assert f"refloat {' '.join(words)}" in known


def test_the_check_of_commands_sees_a_wrong_one() -> None:
    text = "Run `refloat vault mend`.\n```sh\nREFLOAT_KEY_FILE=k refloat -f x.yaml mend --to us\n```\n"
    assert named_commands(text) == {("vault", "mend"), ("mend", "us")}


def shown_lines(text: str) -> list[str]:
    """Commands in shell blocks: continued lines joined, comments, variables and what they are piped to cut."""
    lines = "\n".join(blocks(text, "sh", "bash", "console")).replace("\\\n", " ").splitlines()
    cut = [re.sub(r"^(\s*[A-Z_]+=\S+)+\s+", "", re.split(r" [|#>] ?", line)[0]).strip() for line in lines]
    return [line for line in cut if line.startswith("refloat ")]


def parse(line: str) -> None:
    """Parse a command line as typer does, without running it; what it complains about comes out."""
    command = typer.main.get_command(whole())
    words = hoisted(shlex.split(line))
    words = words[words.index("refloat") + 1 :]
    while hasattr(command, "commands") and words:
        command, words = command.commands[words[0]], words[1:]
    if not hasattr(command, "commands"):
        command.make_context("refloat", words)


@pytest.mark.parametrize("path", DOCUMENTS, ids=names_of(DOCUMENTS))
def test_every_command_line_that_is_shown_can_be_typed(path: Path) -> None:
    for line in shown_lines(path.read_text()):
        parse(line)


def test_a_command_line_that_lacks_what_it_needs_is_noticed() -> None:
    text = "```sh\nKEY=a refloat -f x.yaml plan \\\n  --point 3f2a | jq .  # again\n```\n"
    assert shown_lines(text) == ["refloat -f x.yaml plan    --point 3f2a"]
    with pytest.raises(Exception, match="to"):
        parse(shown_lines(text)[0])


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=names_of(DOCUMENTS))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", path.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text()), target


NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def named_in(path: Path) -> set[str]:
    """The tests that a file holds."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("path", DOCUMENTS, ids=names_of(DOCUMENTS))
def test_every_test_that_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    named = NAMED_TEST.findall(text)
    assert len(named) == text.count("::test_"), "each as `tests/file.py::test_name`"
    assert [f"{file}::{test}" for file, test in named if test not in named_in(ROOT / file)] == []


def test_every_promise_of_security_names_tests_that_show_it() -> None:
    text = (ROOT / "docs" / "THREATS.md").read_text()
    promises = text.partition("\n## Promises\n")[2].partition("\n## ")[0].split("\n### ")[1:]
    assert [promise.partition(".")[0] for promise in promises] == [*map(str, range(1, 8))]
    assert [promise for promise in promises if not NAMED_TEST.search(promise)] == []


def test_every_connector_and_probe_has_a_section_with_its_settings() -> None:
    text = (ROOT / "docs" / "CONNECTORS.md").read_text()
    sections = dict(re.findall(r"^##+ `(\w+)`\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))
    for kind in registry.names(registry.CONNECTORS):
        for key in registry.connector(kind).spec.settings.model_fields:
            assert f"\n| `{key}` |" in sections[kind], f"{kind}.{key}"
        assert "**Rewritten between regions.**" in sections[kind]
        assert "**Not done.**" in sections[kind]
    assert set(registry.names(registry.PROBES)) <= set(sections)
    from refloat.verification.probes.http import HttpSettings

    assert [key for key in HttpSettings.model_fields if f"\n| `{key}` |" not in sections["http"]] == []


# ------------------------------------------------------------------------------------------- what is shown


def written(document: str, folder: Path) -> list[Path]:
    """The Python blocks of a document as files, named by their first lines."""
    found = []
    for block in blocks((ROOT / "docs" / document).read_text(), "python"):
        name = re.match(r"# ([a-z_]+\.py)\n", block)
        assert name, f"a Python block of {document} does not say which file it is: {block[:40]}"
        found.append(folder / name[1])
        found[-1].write_text(block)
    return found


def test_no_other_document_holds_python_that_nobody_runs() -> None:
    others = [path for path in DOCUMENTS if path.name not in ("EXTENDING.md", "FORMAT.md", "PYTHON.md")]
    assert [path.name for path in others if blocks(path.read_text(), "python")] == []


def test_the_plug_ins_of_the_manual_pass_their_suites(tmp_path: Path) -> None:
    files = written("EXTENDING.md", tmp_path)
    tests = [file.name for file in files if file.name.startswith("test_")]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed and int(passed[1]) > 60 and "skipped" not in ran.stdout


def test_the_entry_points_of_the_manual_are_those_that_refloat_looks_for() -> None:
    text = (ROOT / "docs" / "EXTENDING.md").read_text()
    groups = [set(tomllib.loads(block)["project"]["entry-points"]) for block in blocks(text, "toml")]
    assert groups == [{registry.CONNECTORS}, {registry.PROBES}]


# ------------------------------------------------------------------------------------------- a small pipeline

MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {vault: ROOT/vaults/eu, vars: {root: ROOT/eu}}
  us: {vault: ROOT/vaults/us, vars: {root: ROOT/us}}
components:
  pages: {kind: files, with: {path: "${region.root}/pages", expose: {current: current.json}}}
  ledger:
    kind: sqlite
    with: {path: "${region.root}/ledger.db", select: {version: "SELECT max(version) FROM release"}}
  answers: {kind: predictions, tier: critical, with: {path: "${region.root}/answers.jsonl"}}
groups:
  serving: {members: [pages, ledger], must: [pages.current.version == ledger.version]}
"""
VERIFY = """\
verify:
  answers:
    probe: {http: "http://127.0.0.1:PORT/"}
    golden: golden.jsonl
    samples: 20
    warmup: 0
    concurrency: 1
    bounds: {errors: {at_most: 0.9}}
"""


class Echo(BaseHTTPRequestHandler):
    """Answers every question with an empty object."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "eu"
    (folder / "pages").mkdir(parents=True)
    (folder / "pages" / "current.json").write_text('{"version": 3}')
    (folder / "answers.jsonl").write_text('{"id": "a1", "time": "2026-11-01T12:00:00Z"}\n')
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        database.execute("CREATE TABLE release (version INTEGER)")
        database.execute("INSERT INTO release VALUES (3)")
        database.commit()
    (tmp_path / "golden.jsonl").write_text('{"id": "q1", "request": {"question": "why?"}}\n')
    (tmp_path / "refloat.yaml").write_text(MANIFEST.replace("ROOT", str(tmp_path)))
    for name in [name for name in os.environ if name.startswith("REFLOAT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REFLOAT_KEY_FILE", str(tmp_path / "small.key"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Spoken:
    """Commands run in this process, and the documents that they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, line: str, code: int = 0) -> dict[str, object]:
        self._capsys.readouterr()
        found = run([*line.split(), "--json", "--quiet"])
        printed = self._capsys.readouterr()
        assert found == code, f"refloat {line}: {printed.out}{printed.err}"
        document = json.loads(printed.out)
        assert document.pop("schema") == 1
        assert isinstance(document, dict)
        return document


@pytest.fixture
def spoken(capsys: pytest.CaptureFixture[str]) -> Spoken:
    return Spoken(capsys)


def is_described(path: list[str], rows: set[str]) -> bool:
    """Whether a row, or one above it, describes the path of a key."""
    for row in rows:
        pattern = row.replace("[]", ".[]").split(".")
        fits = all(want in ("NAME", got) for want, got in zip(pattern, path, strict=False))
        if fits and len(pattern) <= len(path):
            return True
    return False


def paths(value: object, at: list[str]) -> Iterator[list[str]]:
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from paths(below, [*at, key])
    elif isinstance(value, list) and value and at:
        for below in value:
            yield from paths(below, [*at, "[]"])
    elif value or not isinstance(value, (dict, list)):
        yield at


def require_described(verb: str, *printed: Mapping[str, object]) -> None:
    """Everything printed is in the manual; that all of the manual is printed, ``test_contract_pins`` sees."""
    rows = {path for path, _ in MANUAL.DOCUMENTS[verb]}
    for document in printed:
        missing = [".".join(path) for path in paths(document, []) if not is_described(path, rows)]
        assert missing == [], verb


def test_the_manual_describes_every_key_that_commands_print(pipeline: Path, spoken: Spoken) -> None:
    require_described("vault init", spoken("vault init --key small.key"))
    require_described("check", spoken("check"))
    one, two = spoken("protect"), spoken("protect")
    require_described("protect", one, two)
    require_described("status", spoken("status"))
    require_described("points list", spoken("points list"))
    require_described("points show", spoken(f"points show {two['point']}"))
    require_described("points diff", spoken(f"points diff {one['point']} {two['point']}"))
    require_described("points why", spoken("points why"), spoken(f"points why {two['point']}"))
    require_described("plan", spoken("plan --to us"))
    require_described("recover --into DIR", spoken("recover --into brought"))
    listed = spoken(f"vault ls {two['point']}"), spoken(f"vault ls {two['point']} pages")
    require_described("vault ls", *listed)
    recovered = spoken("recover --to us")
    require_described("recover", recovered)
    require_described("run list", spoken("run list --to us"))
    require_described("run show", spoken(f"run show {recovered['run']} --to us"))
    require_described("evidence list", spoken("evidence list"))
    require_described("evidence show", spoken(f"evidence show {recovered['run']}"))
    require_described("vault check", spoken("vault check"))
    require_described("vault repair", spoken("vault repair"))
    require_described("vault prune", spoken("vault prune"))
    require_described("init", spoken("init -f new.yaml --pipeline p --region a=v --component i=files:p"))


def test_the_manual_describes_failures_and_verification(
    pipeline: Path, spoken: Spoken, endpoint: int
) -> None:
    spoken("vault init --key small.key")
    with (pipeline / "refloat.yaml").open("a") as manifest:
        manifest.write(VERIFY.replace("PORT", str(endpoint)))
    baseline, judged = spoken("verify --save-baseline"), spoken("verify")
    require_described("verify", baseline, judged)
    (pipeline / "eu" / "pages" / "current.json").write_text('{"version": 4}')
    broken = spoken("protect", code=1)
    require_described("protect", broken)
    require_described("check", spoken("check", code=1))
    refused = spoken(f"recover --to us --point {broken['point']}", code=3)
    text = (ROOT / "docs" / "CLI.md").read_text()
    assert isinstance(refused["error"], dict)
    assert [key for key in refused["error"] if f"`{key}`" not in text] == []


def test_the_scripts_of_the_manual_protect_and_recover(
    pipeline: Path, spoken: Spoken, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken("vault init --key small.key")
    nightly, disaster, only_bytes = written("PYTHON.md", pipeline)
    runpy.run_path(str(nightly))
    shutil.rmtree(pipeline / "eu")
    shutil.rmtree(pipeline / "vaults" / "eu")
    runpy.run_path(str(disaster))
    assert capsys.readouterr().out.startswith("done ")
    assert (pipeline / "us" / "pages" / "current.json").exists()
    runpy.run_path(str(only_bytes))
    assert capsys.readouterr().out.startswith(f"{pipeline / 'recovered'} 1 whether eu saw newer")
    assert (pipeline / "recovered" / "pages" / "content" / "current.json").exists()


def test_the_manual_for_python_names_everything_public_and_every_argument() -> None:
    text = (ROOT / "docs" / "PYTHON.md").read_text()
    for call in (refloat.accept, refloat.protect, refloat.recover, refloat.verify, refloat.Vault.open):
        options = [p.name for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY]
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{call.__qualname__}(")]
        assert [name for name in options if f"{name}=" not in row] == []
    assert [name for name in refloat.__all__ if f"| `{name}" not in text] == []


def test_the_reader_of_the_format_restores_files_without_refloat(pipeline: Path, spoken: Spoken) -> None:
    folder = pipeline / "eu" / "pages" / "deep"
    folder.mkdir()
    (folder / "large.bin").write_bytes(os.urandom(3_000_000) + bytes(3_000_000))
    spoken("vault init --key small.key")
    spoken("protect")
    spoken("protect")
    (script,) = written("FORMAT.md", pipeline)
    assert "refloat." not in "".join(re.findall(r"^(?:from|import) .*$", script.read_text(), re.MULTILINE))
    for component, path, original in (
        ("pages", "content/current.json", pipeline / "eu" / "pages" / "current.json"),
        ("pages", "content/deep/large.bin", folder / "large.bin"),
        ("answers", "log.jsonl", pipeline / "eu" / "answers.jsonl"),
    ):
        assert read_by(script, pipeline, "small.key", "vaults/us", component, path) == original.read_bytes()


def read_by(script: Path, folder: Path, *arguments: str) -> bytes:
    """What the reader of the format restores."""
    command = [sys.executable, str(script), *arguments]
    read = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    assert read.returncode == 0, read.stderr.decode()
    return read.stdout


def test_the_reader_of_the_format_reads_an_index_object_that_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protecting, "Writer", partial(Writer, pack_bytes_max=4096))
    world = World.small(tmp_path, group="")
    world.stores = {region: LocalStore(tmp_path / f"vault-{region}") for region in ("eu", "us")}
    create_vault(world.stores, world.key_file, world.clock, "small")
    passing = tmp_path / "eu" / "pages" / "passing.bin"
    passing.write_bytes(os.urandom(8192))
    first = world.protect().name
    passing.unlink()
    world.release(2)
    assert world.protect().ok
    world.key_file.save(tmp_path / "small.key")
    (script,) = written("FORMAT.md", tmp_path)
    for _ in range(3):
        plans = plan_prune(vault := world.vault(), world.clock.now(), forgetting=[first])
        for plan in plans:
            prune(vault.replicas[plan.region], plan)
        for path in ("content/current.json", "content/deep/page-1.txt"):
            read = read_by(script, tmp_path, "small.key", "vault-us", "pages", path)
            assert read == (tmp_path / "eu" / path.replace("content", "pages")).read_bytes()
        world.clock.sleep(PRUNE_GRACE_S)
    assert any(path.read_bytes()[9] == 2 for path in (tmp_path / "vault-us" / "index").iterdir())


def test_the_tables_of_the_format_are_those_of_the_code() -> None:
    from refloat.vault import codecs, segmenters

    text = (ROOT / "docs" / "FORMAT.md").read_text()
    for table in (
        {id: codec.name for id, codec in codecs.CODECS.items()},
        segmenters.SEGMENTERS,
    ):
        assert [name for id, name in table.items() if f"| {id} | `{name}` |" not in text] == []
