"""The process connector on real processes: started fenced, adopted, never doubled, ended by their token alone."""

from __future__ import annotations

import io
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one

from held_port import held_port

from refloat.connectors import process as process_module
from refloat.connectors import process_packages
from refloat.connectors import process_table as table
from refloat.connectors.process import Process, ProcessSettings
from refloat.contracts import Health, Observed, Op, Place, Settings
from refloat.errors import ConnectorError, Damaged, DeadlineExceeded
from refloat.testing.connector_contract import RunnableContract
from refloat.testing.memory_snapshot import MemorySink, MemorySource

APP = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        fenced = self.path == "/ready" and os.path.exists("fence")
        status = {"/health": 200, "/ready": 503 if fenced else 200}.get(self.path, 500)
        if self.path == "/slow":
            time.sleep(600)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *words):
        pass

if not os.path.exists("fence"):
    open("started_unfenced", "w").close()
with open("starts", "a") as starts:
    starts.write(f"{os.getpid()}\\n")
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


PORTS = ExitStack()
"""Holds the port of every program of this file, so that nobody else is given it before the program listens."""


@pytest.fixture(scope="module", autouse=True)
def _ports_are_given_back() -> Iterator[None]:
    with PORTS:
        yield


@pytest.fixture(autouse=True)
def _a_slow_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is slow is still an answer, and an end, unless a test says otherwise."""
    monkeypatch.setattr("refloat.connectors.process.ANSWER_SECONDS_MAX", 60.0)
    monkeypatch.setattr("refloat.connectors.process.STOP_SECONDS_MAX", 60.0)


def settings_in(folder: Path, **changes: Any) -> ProcessSettings:
    app = folder / "app"
    app.mkdir(parents=True, exist_ok=True)
    (app / "serve.py").write_text(APP)
    port = PORTS.enter_context(held_port())
    given: dict[str, Any] = {
        "command": (sys.executable, "serve.py", str(port)),
        "cwd": str(app),
        "health": f"http://127.0.0.1:{port}/health",
        "ready": f"http://127.0.0.1:{port}/ready",
        "fence_file": str(app / "fence"),
        "packages": ("pytest",),
        "start_timeout": 600.0,
    }
    return ProcessSettings(**{**given, **changes})


def with_program(folder: Path, program: str, **changes: Any) -> ProcessSettings:
    """Settings of a program that is given as Python text."""
    return settings_in(folder, command=(sys.executable, "-c", program), **changes)


def op_of(settings: ProcessSettings, tmp_path: Path, token: str, **changes: Any) -> Op:
    place = Place("assistant", "us", settings)
    given = {"run": "run-1", "epoch": 1, "scratch": tmp_path / "scratch", "deadline_s": 60.0}
    return Op(place=place, token=token, memory={"point": "point-7"}, **{**given, **changes})


def captured(settings: ProcessSettings, tmp_path: Path) -> MemorySource:
    sink = MemorySink()
    facts = Process().capture(sink, op_of(settings, tmp_path, "capture"))
    return sink.source(facts)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Op]]:
    """Makes operations, and stops at the end whatever they started: by tokens that no other run of these tests has."""
    made, own = list[Op](), os.urandom(6).hex()

    def make(settings: ProcessSettings, name: str = "a", **changes: Any) -> Op:
        made.append(op_of(settings, tmp_path, f"{own}-{name}", **changes))
        return made[-1]

    yield make
    for op in made:
        op.cancelled.clear()
        Process().stop(op)


class TestTheRunnableContract(RunnableContract):
    connector = Process()

    def make_live(self, tmp_path: Path) -> Settings:
        return settings_in(tmp_path)

    def is_fenced(self, settings: Settings) -> bool:
        assert isinstance(settings, ProcessSettings)
        return Path(settings.fence_file).exists()


# ------------------------------------------------------------------------------------------ starting


def starts(settings: ProcessSettings) -> list[int]:
    return [int(line) for line in (Path(settings.cwd) / "starts").read_text().split()]


def test_the_fence_stands_before_the_process_exists(
    tmp_path: Path, run: Callable[..., Op]
) -> None:  # fault 45
    settings = settings_in(tmp_path)
    Process().start(run(settings))
    assert not (Path(settings.cwd) / "started_unfenced").exists()
    assert json.loads(Path(settings.fence_file).read_text())["run"] == "run-1"


def test_without_its_fence_nothing_is_started(tmp_path: Path, run: Callable[..., Op]) -> None:
    (tmp_path / "a_file").touch()
    op = run(settings_in(tmp_path, fence_file=str(tmp_path / "a_file/fence")))
    with pytest.raises(ConnectorError, match="a_file"):
        Process().start(op)
    assert not table.carrying(op.token)


def test_unfencing_waits_until_the_process_says_that_it_serves(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    settings = settings_in(tmp_path)
    op = run(settings)
    Process().start(op)
    never = {"ready": settings.ready.replace("/ready", "/never"), "start_timeout": 0.3}
    with pytest.raises(ConnectorError, match=r"did not serve within 0\.3 s"):
        Process().unfence(op_of(settings.model_copy(update=never), tmp_path, op.token))
    Process().unfence(op)
    assert Process().observe(op) is Observed.ACTIVE


def test_a_crash_before_the_pid_file_leads_to_adoption_not_to_a_second_process(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    settings = settings_in(tmp_path)
    Process().start(run(settings))
    pid_file = tmp_path / ".refloat-assistant.pid.json"
    pid_file.unlink()
    Process().start(run(settings))
    assert len(starts(settings)) == 1
    assert json.loads(pid_file.read_text())["pid"] == starts(settings)[0]


def test_a_process_that_died_is_started_again(tmp_path: Path, run: Callable[..., Op]) -> None:
    settings = settings_in(tmp_path)
    op = run(settings)
    Process().start(op)
    os.kill(starts(settings)[0], signal.SIGKILL)
    wait_for(lambda: Process().observe(op) is Observed.ABSENT)
    Process().start(op)
    assert len(starts(settings)) == 2
    assert Process().observe(op) is Observed.ACTIVE


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def test_the_process_outlives_the_one_that_started_it_and_is_stopped_by_another(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    settings = settings_in(tmp_path)
    op = run(settings)
    script = (
        "import sys, json; from pathlib import Path; from refloat.contracts import Op, Place;"
        "from refloat.connectors.process import Process, ProcessSettings;"
        "settings = ProcessSettings(**json.loads(sys.argv[1]));"
        "Process().start(Op(Place('assistant', 'us', settings), 'run-1', sys.argv[2], 1, Path(sys.argv[3])))"
    )
    given = json.dumps(settings.model_dump(mode="json"))
    subprocess.run([sys.executable, "-c", script, given, op.token, str(tmp_path)], check=True, timeout=60)
    assert Process().observe(op) is Observed.ACTIVE
    Process().stop(op)
    assert Process().observe(op) is Observed.ABSENT
    assert not table.carrying(op.token)


def test_a_program_that_ends_early_is_an_error_with_its_last_lines_and_no_secret(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    (tmp_path / "assistant.log").write_text("of an earlier life\n")
    program = "import os; print('no model with', os.environ['API_KEY']); raise SystemExit(3)"
    settings = with_program(tmp_path, program, env={"API_KEY": "sk-hunter2"})
    with pytest.raises(
        ConnectorError, match=r"ended before it could answer; it said:\nno model with \*\*\*"
    ) as caught:
        Process().start(run(settings))
    assert "hunter2" not in caught.value.message
    assert "earlier life" not in caught.value.message
    assert "hunter2" not in repr(settings) + json.dumps(settings.model_dump(mode="json"))


def test_one_that_has_no_environment_for_a_moment_is_not_taken_for_ended(
    tmp_path: Path, run: Callable[..., Op], monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine exec(2) lets its parent go on long before it has one: here for twenty looks.
    looks, real = Counter[int](), table._environment

    def late(pid: int) -> bytes:
        looks[pid] += 1
        ours = table.TOKEN_NAME.encode() in (content := real(pid))
        return b"" if ours and looks[pid] <= 20 else content

    monkeypatch.setattr(table, "_environment", late)
    op = run(settings_in(tmp_path))
    Process().start(op)
    (process,) = table.carrying(op.token)
    assert looks[process.pid] > 20
    assert json.loads((tmp_path / ".refloat-assistant.pid.json").read_text())["pid"] == process.pid


def test_a_program_that_never_answers_is_ended_again(tmp_path: Path, run: Callable[..., Op]) -> None:
    op = run(with_program(tmp_path, "import time; time.sleep(600)", start_timeout=0.5))
    with pytest.raises(ConnectorError, match=r"did not answer within 0\.5 s"):
        Process().start(op)
    assert not table.carrying(op.token)


def test_a_cancelled_start_leaves_the_process_to_the_next_attempt(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    op = run(with_program(tmp_path, "import time; time.sleep(600)"))
    op.cancelled.set()
    with pytest.raises(DeadlineExceeded):
        Process().start(op)
    assert table.carrying(op.token)


def test_a_program_or_folder_that_is_not_there_is_an_error_that_names_it(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    with pytest.raises(ConnectorError, match="no-such-program"):
        Process().start(run(settings_in(tmp_path, command=("/no-such-program",))))
    with pytest.raises(ConnectorError, match="'no-such-program' is not on the PATH"):
        Process().start(run(settings_in(tmp_path, command=("no-such-program",))))
    with pytest.raises(ConnectorError, match="nowhere"):
        Process().start(run(settings_in(tmp_path, cwd=str(tmp_path / "nowhere"))))


def test_the_environment_of_the_process_holds_no_secret_of_refloat(
    tmp_path: Path, run: Callable[..., Op], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLOAT_PASSPHRASE", "correct horse")
    op = run(settings_in(tmp_path, env={"MODE": "dark"}))
    Process().start(op)
    environ = Path(f"/proc/{table.carrying(op.token)[0].pid}/environ").read_bytes()
    assert b"MODE=dark" in environ and b"PATH=" in environ
    assert b"correct horse" not in environ


# ------------------------------------------------------------------------------------------ stopping


STUBBORN = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={})
open("child", "w").write(str(child.pid))
exec(open("serve.py").read())
"""


def test_stop_ends_what_ignores_sigterm_and_children_without_the_token(
    tmp_path: Path, run: Callable[..., Op], monkeypatch: pytest.MonkeyPatch
) -> None:
    within, asked = process_module._within, []

    def impatient(seconds: float, done: Callable[[], bool]) -> bool:
        """SIGTERM is waited for in vain, SIGKILL is not."""
        asked.append(seconds)
        return within(seconds, done) if len(asked) > 1 else done()

    settings = settings_in(tmp_path)
    command = (sys.executable, "-c", STUBBORN, settings.command[-1])
    op = run(settings.model_copy(update={"command": command}))
    Process().start(op)
    child = int((Path(settings.cwd) / "child").read_text())
    assert table.running(child) is not None
    with monkeypatch.context() as patched:
        patched.setattr(process_module, "_within", impatient)
        Process().stop(op)
    assert len(asked) == 2
    assert table.running(child) is None
    assert not (tmp_path / ".refloat-assistant.pid.json").exists()


def test_a_pid_that_was_given_to_another_process_is_not_signalled(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert bystander.stdin is not None and bystander.stdout is not None
    try:
        found = table.running(bystander.pid)
        assert found is not None
        reused = table.Running(found.pid, started=found.started - 1, session=found.session)
        table.signal_all([reused], signal.SIGKILL)
        bystander.stdin.write(b"alive\n")
        assert bystander.stdout.readline() == b"alive\n"
        table.signal_all([found], signal.SIGKILL)
        assert bystander.wait(60) == -signal.SIGKILL
    finally:
        bystander.kill()
        bystander.communicate()


def test_a_process_whose_name_holds_brackets_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    odd = subprocess.Popen([program, "600"])
    try:
        wait_for(lambda: b"a) Z" in Path(f"/proc/{odd.pid}/stat").read_bytes())
        found = table.running(odd.pid)
        assert found is not None and found.session == os.getsid(odd.pid)
    finally:
        odd.kill()
        odd.wait()


# ------------------------------------------------------------------------------------------ ports and health


def test_a_port_that_is_taken_is_refused_before_anything_starts(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    settings = settings_in(tmp_path)
    source = captured(settings, tmp_path)
    with socket.create_server(("127.0.0.1", int(settings.command[-1]))):
        assert Process().holder(Place("assistant", "us", settings)) == ""
        named = Process().occupant(Place("assistant", "us", settings))
        assert named is not None and f"{os.getpid()} (" in named.message and "stop what" in str(named.next)
        for act in (lambda: Process().stage(source, run(settings)), lambda: Process().start(run(settings))):
            with pytest.raises(
                ConnectorError, match=rf"port {settings.command[-1]} is taken by process {os.getpid()}"
            ):
                act()
    assert not (Path(settings.cwd) / "starts").exists()
    assert Process().occupant(Place("assistant", "us", settings)) is None


def test_a_process_that_is_gone_is_shown_by_its_number() -> None:
    assert table.shown(2**22 + 1) == str(2**22 + 1)  # beyond the largest pid that Linux gives


def test_holder_names_the_point_while_its_process_runs(tmp_path: Path, run: Callable[..., Op]) -> None:
    settings = settings_in(tmp_path)
    op = run(settings)
    assert Process().holder(op.place) is None
    Process().start(op)
    assert Process().holder(op.place) == "point-7"
    Process().stage(captured(settings, tmp_path), op)  # the port is ours, so validation may be repeated
    Process().stop(op)
    assert Process().holder(op.place) is None


def test_health_is_sick_when_refused_and_unknown_when_it_does_not_answer(
    tmp_path: Path, run: Callable[..., Op], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    op = run(settings)
    assert Process().health(op.place) is Health.SICK
    Process().start(op)
    assert Process().health(op.place) is Health.HEALTHY
    assert asked(settings, "/other") is Health.SICK
    monkeypatch.setattr("refloat.connectors.process.ANSWER_SECONDS_MAX", 0.2)
    assert asked(settings, "/slow") is Health.UNKNOWN


def asked(settings: ProcessSettings, path: str) -> Health:
    other = settings.model_copy(update={"health": settings.health.replace("/health", path)})
    return Process().health(Place("assistant", "us", other))


def test_a_process_that_runs_and_does_not_answer_yet_is_partial(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    op = run(with_program(tmp_path, "import time; time.sleep(600)"))
    op.cancelled.set()
    with pytest.raises(DeadlineExceeded):
        Process().start(op)
    assert Process().observe(op) is Observed.PARTIAL


# ------------------------------------------------------------------------------------------ identity


def test_the_identity_is_the_same_in_another_region_and_names_no_path(tmp_path: Path) -> None:
    here, there = settings_in(tmp_path / "eu"), settings_in(tmp_path / "us", env={"KEY": "secret-of-us"})
    facts = [Process().inspect(Place("assistant", "eu", settings)) for settings in (here, there)]
    assert facts[0].identity_digest() == facts[1].identity_digest()
    assert facts[0].token == facts[1].token
    text = json.dumps(facts[1].scope())
    assert str(tmp_path) not in text and sys.prefix not in text and "secret" not in text
    assert facts[0].identity["program"] == "serve.py"
    assert facts[0].identity["python"] == f"cpython {sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (("python", "-m", "pydocs_assistant", "serve"), "pydocs_assistant"),
        (("python3.11", "-I", "-m", "app"), "app"),
        (("/srv/eu/venv/bin/python", "/srv/eu/serve.py"), "serve.py"),
        (("python", "-c", "print()"), "python"),
        (("/srv/eu/venv/bin/uvicorn", "app:app", "--port", "8101"), "uvicorn"),
    ],
)
def test_the_program_is_known_by_its_name(tmp_path: Path, command: tuple[str, ...], program: str) -> None:
    settings = settings_in(tmp_path, command=command, python=sys.executable)
    assert Process().inspect(Place("assistant", "eu", settings)).identity["program"] == program


def test_the_interpreter_is_the_one_beside_the_program(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").write_text("#!/bin/sh\nexit 7\n")
    (folder / "python").chmod(0o755)
    (folder / "uvicorn").touch()
    settings = settings_in(tmp_path, command=(str(folder / "uvicorn"),))
    with pytest.raises(ConnectorError, match=r"could not list its packages \(exit code 7\)"):
        Process().inspect(Place("assistant", "eu", settings))


def test_an_interpreter_in_a_folder_that_is_not_utf_8_is_known_all_the_same(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "made"], check=True)
    folder = (tmp_path / "made").rename(tmp_path / os.fsdecode(b"\xff"))
    assert Path(process_packages.read(str(folder / "bin" / "python")).prefix) == folder


def test_an_interpreter_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, python=str(tmp_path / "python"))
    with pytest.raises(ConnectorError, match="cannot be run"):
        Process().inspect(Place("assistant", "eu", settings))


def test_the_environment_is_stored_with_exact_versions_and_names_of_variables_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, env={"API_KEY": "sk-hunter2"}, packages=("PyTest", "httpx"))
    stored = captured(settings, tmp_path).open("environment.json").read()
    environment = json.loads(stored)
    assert environment["packages"]["pytest"] == pytest.__version__
    assert sorted(environment["packages"]) == ["httpx", "pytest"]
    assert environment["variables"] == ["API_KEY"]
    assert b"hunter2" not in stored


def test_staging_names_everything_that_differs_at_once(tmp_path: Path, run: Callable[..., Op]) -> None:
    settings = settings_in(tmp_path, packages=())
    source = altered(
        captured(settings, tmp_path), {"pytest": "1.0", "httpx": None, "left-pad": "3.1"}, "2.7.18"
    )
    with pytest.raises(ConnectorError) as caught:
        Process().stage(source, run(settings))
    for part in (
        "not cpython 2.7",
        f"pytest is {pytest.__version__}, not 1.0",
        "left-pad 3.1 is not installed",
    ):
        assert part in caught.value.message
    assert "httpx" in caught.value.message and "was not there" in caught.value.message


def test_packages_that_were_not_named_do_not_matter(tmp_path: Path, run: Callable[..., Op]) -> None:
    settings = settings_in(tmp_path)
    Process().stage(captured(settings, tmp_path), run(settings))
    with pytest.raises(ConnectorError, match=r"not installed .*: left-pad, no-such"):
        captured(settings.model_copy(update={"packages": ("no_such", "left.pad")}), tmp_path)


def test_a_description_that_is_not_what_was_written_is_damaged(
    tmp_path: Path, run: Callable[..., Op]
) -> None:
    settings = settings_in(tmp_path)
    sink = MemorySink()
    sink.file("environment.json", io.BytesIO(b'{"format": 1}'))
    with pytest.raises(Damaged):
        Process().stage(sink.source(captured(settings, tmp_path).facts), run(settings))


def altered(source: MemorySource, versions: dict[str, str | None], python: str) -> MemorySource:
    environment = json.loads(source.open("environment.json").read())
    packages = {**environment["packages"], **versions}
    environment["packages"] = {name: version for name, version in packages.items() if version}
    environment["python"] = python
    sink = MemorySink()
    sink.file("environment.json", io.BytesIO(json.dumps(environment).encode()))
    return sink.source(source.facts)


# ------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"command": ()},
        {"health": "ftp://host/"},
        {"ports": (70000,)},
        {"start_timeout": 0},
        {"start_timeout": "soon"},
        {"environment": "conda"},
        {"environment": "wheels", "command": ("uvicorn",)},
        {"environment": "wheels", "command": ("python",)},
        {"comand": ("python",)},
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_in(tmp_path, **wrong)


def test_what_a_manifest_writes_as_text_is_understood(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, ports=["8101"], start_timeout="2m")
    assert settings.ports == (8101,)
    assert settings.start_timeout == 120.0


# ------------------------------------------------------------------------------------------ wheels


class Region:
    """A region whose process runs in a virtual environment of its own."""

    def __init__(self, folder: Path, packages: tuple[str, ...] = ()) -> None:
        self.venv = folder / "venv"
        python = str(self.venv / "bin/python")
        self.settings = settings_in(
            folder, command=(python, "serve.py"), environment="wheels", packages=packages
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """A region with a small, real environment: pip and one package made here."""
    folder = tmp_path_factory.mktemp("home")
    region = Region(folder)
    subprocess.run([sys.executable, "-m", "venv", region.venv], check=True)
    subprocess.run(
        [region.venv / "bin/python", "-m", "pip", "install", "-q", "--no-index", made_wheel(folder)],
        check=True,
    )
    return region


def made_wheel(folder: Path) -> Path:
    """A wheel with a module, an entry point, a script of its own and a file below the prefix."""
    info, data = "tiny_tool-1.2.dist-info", "tiny_tool-1.2.data"
    members = {
        "tiny_tool.py": "def main():\n    print('tiny', 6 * 7)\n",
        f"{data}/scripts/tiny-raw": "#!python\nimport sys; print(sys.prefix)\n",
        f"{data}/data/share/tiny/words.txt": "words\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny_tool\nVersion: 1.2\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntiny = tiny_tool:main\n",
        f"{info}/RECORD": "",
    }
    path = folder / "tiny_tool-1.2-py2.py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100755 if "/scripts/" in name else 0o100644) << 16
            wheel.writestr(member, text)
    return path


def output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_wheels_bring_the_whole_environment_to_a_machine_without_it(
    home: Region, tmp_path: Path, run: Callable[..., Op]
) -> None:
    there = Region(tmp_path / "us")
    source = captured(home.settings, tmp_path)
    op = run(there.settings)
    with pytest.raises(ConnectorError, match="cannot be run"):
        Process().inspect(op.place)
    Process().stage(source, op)
    assert Process().observe(op) is Observed.STAGED
    assert Process().inspect(op.place).identity == source.facts.identity
    assert output(there.venv / "bin/tiny") == "tiny 42"
    assert output(there.venv / "bin/tiny-raw") == str(there.venv)
    assert (there.venv / "share/tiny/words.txt").read_text() == "words\n"
    assert "tiny_tool" in output(
        there.venv / "bin/python", "-m", "pip", "list", "--format", "freeze"
    ).replace("-", "_")


@pytest.mark.slow
def test_a_wheel_that_did_not_change_is_carried_and_packs_to_the_same_bytes(
    home: Region, tmp_path: Path
) -> None:
    first, anew = MemorySink(), MemorySink()
    op = op_of(home.settings, tmp_path, "capture")
    Process().capture(first, op)
    carrying = MemorySink(first)
    Process().capture(carrying, op)
    Process().capture(anew, op)
    assert [path for path in carrying.held.read if path.startswith("wheels/")] == []
    assert first.held.stored == carrying.held.stored == anew.held.stored


@pytest.mark.slow
def test_an_environment_that_was_cut_short_is_made_anew_and_discarded_until_it_is_in_use(
    home: Region, tmp_path: Path, run: Callable[..., Op], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Region(tmp_path / "us", packages=("tiny-tool",))
    source = captured(home.settings.model_copy(update={"packages": ("tiny-tool",)}), tmp_path)
    op = run(there.settings)
    with monkeypatch.context() as patched:
        patched.setattr("refloat.connectors.process_packages.BUILD_SECONDS_MAX", 0.0)
        with pytest.raises(ConnectorError, match="virtual environment within"):
            Process().stage(source, op)
    assert Process().observe(op) is Observed.PARTIAL
    Process().stage(source, op)
    assert Process().observe(op) is Observed.STAGED
    Process().activate(op)
    Process().discard(op)
    assert there.venv.exists()
    Process().revert(op)
    Process().discard(run(there.settings, "b"))  # another run's operation
    assert there.venv.exists()
    Process().discard(op)
    assert not there.venv.exists()
    assert Process().observe(op) is Observed.ABSENT


@pytest.mark.slow
def test_wheels_are_installed_by_an_interpreter_that_has_no_pip(
    home: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    there = Region(tmp_path / "us", packages=("tiny-tool",))
    only = home.settings.model_copy(update={"packages": ("tiny-tool",)})
    Process().stage(captured(only, tmp_path), op_of(there.settings, tmp_path, "us"))
    assert output(there.venv / "bin/tiny") == "tiny 42"


@pytest.mark.slow
def test_an_environment_that_stands_there_already_is_compared_and_never_changed(
    home: Region, tmp_path: Path, run: Callable[..., Op]
) -> None:
    source = captured(home.settings, tmp_path)
    op = run(home.settings)
    Process().stage(source, op)
    Process().discard(op)
    assert home.venv.exists()
    with pytest.raises(ConnectorError, match=r"tiny-tool is 1.2, not 9.9"):
        Process().stage(altered(source, {"tiny-tool": "9.9"}, platform.python_version()), op)


def test_a_package_in_editable_mode_cannot_be_brought_along(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, environment="wheels", packages=("refloat",))
    assert packages_editable("refloat"), "this test needs the editable installation that `make` makes"
    with pytest.raises(ConnectorError, match="refloat is installed in editable mode"):
        captured(settings, tmp_path)


def packages_editable(name: str) -> bool:
    return process_packages.read(sys.executable).found[name].editable


def test_an_installation_with_a_lost_file_is_refused(home: Region, tmp_path: Path) -> None:
    module = next(home.venv.glob("lib/python*/site-packages/tiny_tool.py"))
    text = module.read_text()
    module.unlink()
    try:
        with pytest.raises(ConnectorError, match=r"tiny_tool is not whole: tiny_tool.py"):
            captured(home.settings, tmp_path)
    finally:
        module.write_text(text)
