"""Connector `process`: a program that serves, started fenced, known by a token, stopped by that alone."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from refloat.connectors import process_packages as packages
from refloat.connectors import process_table as table
from refloat.connectors.allowance import Allowance, os_errors
from refloat.connectors.beside import marker_of
from refloat.contracts import Facts, Health, Layer, Observed, Op, Place, Settings, Sink, Source, Spec, Staging
from refloat.digest import Json, canonical_json, json_digest
from refloat.durable import remove_file, replace_file
from refloat.errors import ConnectorError, DeadlineExceeded, Retry
from refloat.holding import Holds
from refloat.limits import HEALTH_SECONDS_MAX
from refloat.reach import place_of, trusted, why_silent
from refloat.units import parse_duration

ENVIRONMENT = "environment.json"
WHEELS = "wheels"
ANSWER_SECONDS_MAX = 2.0  # a health question that takes longer is not answered
STOP_SECONDS_MAX = 10.0  # between SIGTERM and SIGKILL
POLL_S = 0.05
BEGINNING_SECONDS_MAX = (
    60.0  # a moment, on a machine that has one; for ever where a program empties its environment
)
BEGINNING_POLL_S = 0.001
LOG_TAIL_BYTES = 8192  # of a process that ended, read for the error
LOG_TAIL_LINES = 10
SECRET_CHARACTERS_MIN = 4  # replacing shorter values would blank out ordinary text
INHERITED = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "USER", "LOGNAME", "LD_LIBRARY_PATH"}
)
"""What a process gets of refloat's own environment: nothing that could hold one of its secrets."""

_PYTHON = re.compile(r"python(\d+(\.\d+)?)?")


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


class ProcessSettings(Settings):
    """Settings of the connector; the environment of the process is made of `env` and little else.

    ``command`` runs in ``cwd``. ``python`` is its interpreter, whose packages are the identity: without it
    the first word of the command where that is a Python, else the Python beside that program, else the one
    that refloat runs on. ``packages`` names those that matter; empty means all that are installed.
    ``environment`` says whether packages are checked in the target (``verify``) or brought along as wheels
    into a virtual environment at ``python`` (``wheels``; with ``packages``, name what they need as well).
    ``health`` answers 200 once the process has started, ``ready`` once it serves. ``fence_file`` exists for
    as long as it must not serve. ``log`` takes its output and ``pid_file`` its identity; by default both lie
    beside ``cwd``, because that folder is often a component itself.
    """

    command: tuple[str, ...] = Field(min_length=1)
    cwd: str
    env: Mapping[str, SecretStr] = Field(default_factory=dict)
    health: str = Field(pattern=r"^https?://")
    ready: str = Field(default="", pattern=r"^(https?://.*)?$")
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    fence_file: str = ""
    environment: Literal["verify", "wheels"] = "verify"
    python: str = ""
    packages: tuple[str, ...] = ()
    log: str = ""
    start_timeout: Annotated[float, BeforeValidator(_seconds), Field(gt=0)] = HEALTH_SECONDS_MAX
    pid_file: str = ""

    @model_validator(mode="after")
    def _has_a_place_for_wheels(self) -> ProcessSettings:
        python = Path(self.python or self.command[0])
        if self.environment == "wheels" and not (python.is_absolute() and python.parent.name == "bin"):
            raise ValueError("`environment: wheels` needs `python`: /FOLDER/bin/python, where it is made")
        return self


class Process:
    """The connector. Linux only: a process is known by what ``/proc`` says of it."""

    spec: ClassVar[Spec] = Spec(
        kind="process",
        summary="a program that serves: its command, its interpreter and the exact packages",
        layer=Layer.SERVING,
        settings=ProcessSettings,
        staging=Staging.NONE,
        refers_to=("files", "sqlite", "mlflow", "lancedb", "predictions"),
        runnable=True,
    )

    def inspect(self, place: Place) -> Facts:
        """The interpreter and its packages; whether the process runs is a matter of ``health``."""
        settings = _settings(place)
        return _facts(settings, _environment(settings))

    def capture(self, sink: Sink, op: Op) -> Facts:
        """Store the environment's description and, where asked for, its wheels."""
        settings = _settings(op.place)
        environment = _environment(settings)
        sink.file(ENVIRONMENT, io.BytesIO(environment.content()))
        if settings.environment == "wheels":
            _capture_wheels(settings, environment, sink.under(WHEELS), op)
        return _facts(settings, environment)

    def stage(self, source: Source, op: Op) -> None:
        """Check that the process can run here; with ``wheels``, make its environment first.

        Everything that is wrong is named at once.
        """
        settings = _settings(op.place)
        with source.open(ENVIRONMENT) as file:
            captured = packages.parse(file.read())
        if settings.environment == "wheels":
            _Venv(settings, op).stage(captured, source.under(WHEELS))
        found = packages.differences(captured, packages.read(_python(settings)))
        if found:
            raise ConnectorError(
                f"the environment at {_python(settings)} is not what was captured: {'; '.join(found)}",
                next="install exactly these versions, name the packages that matter in `packages`, "
                "or bring them along with `environment: wheels`",
            )
        _check_ports(settings, op.token)

    def activate(self, op: Op) -> None:
        """Nothing is live yet that would have to be switched; an environment that was made is kept."""
        _Venv(_settings(op.place), op).mark(active=True)

    def revert(self, op: Op) -> None:
        """What ``activate`` kept may be discarded again."""
        _Venv(_settings(op.place), op).mark(active=False)

    def discard(self, op: Op) -> None:
        """Remove an environment that this operation made and that is not in use, and a fence of its own."""
        settings = _settings(op.place)
        _Venv(settings, op).discard()
        if settings.fence_file and _read_json(Path(settings.fence_file)).get("token") == op.token:
            _remove_durably(Path(settings.fence_file))

    def observe(self, op: Op) -> Observed:
        """Active when the process of this operation runs and answers, partial when it does not answer yet."""
        settings = _settings(op.place)
        if table.carrying(op.token):
            return Observed.ACTIVE if _ask(settings.health) is Health.HEALTHY else Observed.PARTIAL
        return _Venv(settings, op).observe()

    def health(self, place: Place) -> Health:
        """Healthy when ``health`` answers 200, unknown when it does not answer in time."""
        return _ask(_settings(place).health)

    def ailment(self, place: Place) -> str:
        """Why ``health`` does not answer 200; empty where it does."""
        return _asked(_settings(place).health)[1]

    def holder(self, place: Place) -> str | None:
        """The point that what runs here came from; ``""`` when something else listens on one of the ports."""
        settings = _settings(place)
        recorded = _read_json(_pid_file(settings, place))
        point, token, boot = recorded.get("point"), recorded.get("token"), recorded.get("boot")
        if boot == table.boot_id() and isinstance(token, str) and table.carrying(token):
            return str(point)
        return "" if _taken(settings) else None

    def sites(self, place: Place) -> Mapping[str, Path]:
        """Where an environment is made of the wheels, if one is; see ``contracts.Sited``."""
        settings = _settings(place)
        made = settings.environment == "wheels"
        return {"": Path(_python(settings)).parent.parent} if made else {}

    def holds(self, place: Place) -> Holds:
        """Where it runs, what it writes and where it is asked; its words and variables may name more.

        See ``contracts.Holding``.
        """
        settings = _settings(place)
        fence = [Path(settings.fence_file)] if settings.fence_file else []
        given = (value.get_secret_value() for value in settings.env.values())
        return Holds(
            paths=(_pid_file(settings, place), _log(settings, place), *fence, *self.sites(place).values()),
            working=(Path(settings.cwd),),
            ports=tuple(sorted(_ports(settings))),
            urls=tuple(url for url in (settings.health, settings.ready) if url),
            mentions=(*settings.command, *given),
        )

    def passing(self, place: Place) -> str | None:
        """The wheels, nearly all that there is, where an environment is made of them; see ``contracts.Passing``."""
        return "" if _settings(place).environment == "wheels" else None

    def occupant(self, place: Place) -> ConnectorError | None:
        """The first port on which something listens, and by whom it is held."""
        return _taken_port(_settings(place), frozenset())

    def start(self, op: Op) -> None:
        """Start the process fenced and wait until it answers; one that runs already is adopted."""
        settings = _settings(op.place)
        if not table.carrying(op.token):
            _check_ports(settings, op.token)
            _fence(settings, op)
            _spawn(settings, op)
        _record(settings, op)
        _await_start(settings, op)

    def unfence(self, op: Op) -> None:
        """Remove the fence and, where ``ready`` is given, wait until the process says that it serves."""
        settings = _settings(op.place)
        if settings.fence_file:
            _remove_durably(Path(settings.fence_file))
        if settings.ready:
            _await(settings.ready, settings, op, "serve")

    def stop(self, op: Op) -> None:
        """End every process that carries this operation's token; SIGTERM first, SIGKILL after a while."""
        settings = _settings(op.place)
        _end(op.token)
        pid_file = _pid_file(settings, op.place)
        if _read_json(pid_file).get("token") == op.token:
            _remove_durably(pid_file)


# -------------------------------------------------------------------------------------------- settings


def _settings(place: Place) -> ProcessSettings:
    return place.settings_as(ProcessSettings)


def _child_environment(settings: ProcessSettings, token: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in INHERITED & os.environ.keys()}
    given = {name: value.get_secret_value() for name, value in settings.env.items()}
    return {**inherited, **given, table.TOKEN_NAME: token}


def _program(settings: ProcessSettings) -> str:
    """The absolute path of the first word, found as the process itself would find it."""
    word = settings.command[0]
    if settings.python and _PYTHON.fullmatch(word):
        return settings.python
    if "/" in word:
        return os.path.normpath(Path(settings.cwd) / word)
    found = shutil.which(word, path=_child_environment(settings, "").get("PATH"))
    if found is None and _PYTHON.fullmatch(word):
        return sys.executable
    if found is None:
        raise ConnectorError(
            f"the program {word!r} is not on the PATH of the process",
            next="install it, give its absolute path, or set PATH in `env`",
        )
    return found


def _python(settings: ProcessSettings) -> str:
    """The interpreter of the process."""
    if settings.python:
        return settings.python
    program = Path(_program(settings))
    if _PYTHON.fullmatch(program.name):
        return str(program)
    beside = program.parent / "python"
    return str(beside) if beside.exists() else sys.executable


def _pid_file(settings: ProcessSettings, place: Place) -> Path:
    beside = Path(settings.cwd).parent / f".refloat-{place.component}.pid.json"
    return Path(settings.pid_file) if settings.pid_file else beside


def _log(settings: ProcessSettings, place: Place) -> Path:
    return Path(settings.log) if settings.log else Path(settings.cwd).parent / f"{place.component}.log"


def _ports(settings: ProcessSettings) -> set[int]:
    """The declared ports, and the one that the health question goes to when it is on this machine."""
    url = urlsplit(settings.health)
    here = url.hostname in {"127.0.0.1", "localhost", "::1"}
    return {*settings.ports, *([url.port or 80] if here else [])}


# -------------------------------------------------------------------------------------------- facts


def _environment(settings: ProcessSettings) -> packages.Environment:
    interpreter = packages.read(_python(settings))
    return packages.environment(interpreter, settings.packages, tuple(settings.env))


def _facts(settings: ProcessSettings, environment: packages.Environment) -> Facts:
    identity: dict[str, Json] = {
        **environment.identity(),
        "program": _name(settings),
        "words": len(settings.command),
    }
    return Facts(identity=identity, token=json_digest(identity))


def _name(settings: ProcessSettings) -> str:
    """What is run, by name: the program, or the module or script that a Python runs; never a path."""
    words = [word for word in settings.command[1:] if word not in {"-I", "-u", "-E", "-s", "-B", "-O"}]
    if _PYTHON.fullmatch(Path(settings.command[0]).name) and words:
        named = words[1] if words[0] == "-m" and len(words) > 1 else words[0]
        return "python" if named.startswith("-") else Path(named).name
    return Path(settings.command[0]).name


def _capture_wheels(settings: ProcessSettings, environment: packages.Environment, sink: Sink, op: Op) -> None:
    allowance = Allowance(op, "packing the wheels")
    interpreter = packages.read(_python(settings))
    op.scratch.mkdir(parents=True, exist_ok=True)
    for name, one in sorted(interpreter.found.items()):
        allowance.check()
        if packages.normal(name) in environment.packages:
            _capture_wheel(name, one, interpreter.prefix, sink, op.scratch)


def _capture_wheel(name: str, one: packages.Installed, prefix: str, sink: Sink, scratch: Path) -> None:
    wheel, token = packages.wheel_name(name, one), packages.record_token(one)
    if not sink.carry(wheel, token):
        packed = scratch / wheel
        packages.pack(name, one, prefix, packed)
        sink.file(wheel, packed, token=token)
        packed.unlink()


# -------------------------------------------------------------------------------------------- wheels


class _Venv:
    """The virtual environment that `wheels` makes where nothing is, with a marker that says whose it is."""

    def __init__(self, settings: ProcessSettings, op: Op) -> None:
        self._op = op
        self._wanted = settings.environment == "wheels"
        self._folder = Path(_python(settings)).parent.parent if self._wanted else Path()
        self._marker = self._folder / ".refloat.json"

    def _state(self) -> Mapping[str, Json]:
        state = _read_json(self._marker) if self._wanted else {}
        return state if state.get("token") == self._op.token else {}

    def _write(self, *, complete: bool, active: bool) -> None:
        _write_durably(self._marker, {**marker_of(self._op), "complete": complete, "active": active})

    def stage(self, captured: packages.Environment, wheels: Source) -> None:
        """Make the environment, unless one is there already; one that was cut short is made anew."""
        if self._state() and not self._state()["complete"]:
            shutil.rmtree(self._folder)
        if self._folder.exists():
            return  # ours and complete, or another's, which is then compared like any other
        brought = self._op.scratch / WHEELS
        brought.mkdir(parents=True, exist_ok=True)
        wheels.fetch_all(brought)
        self._write(complete=False, active=False)
        packages.build(self._folder, captured, brought, Allowance(self._op, "making the environment").check)
        self._write(complete=True, active=False)

    def mark(self, *, active: bool) -> None:
        if self._state():
            self._write(complete=True, active=active)

    def discard(self) -> None:
        if self._state() and not self._state()["active"]:
            shutil.rmtree(self._folder)

    def observe(self) -> Observed:
        state = self._state()
        if not state:
            return Observed.ABSENT
        return Observed.STAGED if state["complete"] else Observed.PARTIAL


# -------------------------------------------------------------------------------------------- running


def _taken(settings: ProcessSettings) -> dict[int, frozenset[int]]:
    """The ports of the process on which something listens now, with the sockets."""
    listening = table.listening()
    return {port: listening[port] for port in sorted(_ports(settings)) if port in listening}


def _check_ports(settings: ProcessSettings, token: str) -> None:
    taken = _taken_port(settings, {process.pid for process in table.carrying(token)})
    if taken is not None:
        raise taken


def _taken_port(settings: ProcessSettings, ours: AbstractSet[int]) -> ConnectorError | None:
    """The error for the first port that another process than ours listens on; None where all are free."""
    for port, sockets in _taken(settings).items():
        pids = set(table.holders(sockets))
        if not pids & ours:
            by = f" by process {', '.join(map(table.shown, sorted(pids)))}" if pids else ""
            return ConnectorError(
                f"port {port} is taken{by}",
                retry=Retry.LATER,
                next="stop what listens there, or give the region another port: its `vars` in the manifest",
            )
    return None


def _fence(settings: ProcessSettings, op: Op) -> None:
    """The fence stands, durably, before the process exists: it can never be seen to serve first."""
    if settings.fence_file:
        _write_durably(Path(settings.fence_file), marker_of(op))


def _spawn(settings: ProcessSettings, op: Op) -> None:
    log = _log(settings, op.place)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as output:
            op.memory["log_start"] = output.tell()
            process = subprocess.Popen(
                [_program(settings), *settings.command[1:]],
                cwd=settings.cwd,
                env=_child_environment(settings, op.token),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise ConnectorError(
            f"{_name(settings)} cannot be started: {error.strerror} ({error.filename})",
            next="see whether the program and the folder `cwd` exist in this region",
        ) from error
    _await_beginning(process.pid)
    # somebody must take the exit code of a process that ends while refloat lives on
    threading.Thread(target=process.wait, daemon=True).start()


def _await_beginning(pid: int) -> None:
    """Until it has its environment a process does not show that it is ours, and would be taken for ended."""
    until = time.monotonic() + BEGINNING_SECONDS_MAX
    while table.is_beginning(pid) and time.monotonic() < until:
        time.sleep(BEGINNING_POLL_S)


def _record(settings: ProcessSettings, op: Op) -> None:
    """Write down who runs. A crash before this is no harm: the token is found in the process itself."""
    for leader in table.carrying(op.token)[:1]:
        who: dict[str, Json] = {"pid": leader.pid, "started": leader.started, "boot": table.boot_id()}
        _write_durably(_pid_file(settings, op.place), {**marker_of(op), **who})


def _await_start(settings: ProcessSettings, op: Op) -> None:
    """Wait for health; a process that fails to answer is ended, so that nothing half-started remains."""
    try:
        _await(settings.health, settings, op, "answer")
    except DeadlineExceeded:
        raise  # the engine gave this attempt up; the next one may be running already
    except ConnectorError:
        _end(op.token)
        raise


def _await(url: str, settings: ProcessSettings, op: Op, what: str) -> None:
    until = time.monotonic() + min(settings.start_timeout, op.deadline_s)
    while _ask(url) is not Health.HEALTHY:
        if op.cancelled.is_set():
            raise DeadlineExceeded(
                f"{_name(settings)} did not {what} before the deadline",
                retry=Retry.LATER,
                next=f"read {_log(settings, op.place)}, or raise its `deadline` in the manifest",
            )
        if not table.carrying(op.token):
            raise _failed(f"{_name(settings)} ended before it could {what}", settings, op)
        if time.monotonic() > until:
            waited = f"within {settings.start_timeout:g} s"
            raise _failed(f"{_name(settings)} did not {what} {waited} at {_shown(url)}", settings, op)
        op.cancelled.wait(POLL_S)


def _failed(message: str, settings: ProcessSettings, op: Op) -> ConnectorError:
    log = _log(settings, op.place)
    tail = _redacted(_tail(log, op.memory.get("log_start")), settings)
    said = f"; it said:\n{tail}" if tail else ""
    return ConnectorError(f"{message}{said}", retry=Retry.LATER, next=f"read {log}, or raise `start_timeout`")


def _tail(log: Path, start: Json) -> str:
    """The last lines of the log, of this attempt alone."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start if isinstance(start, int) else 0, size - LOG_TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _redacted(text: str, settings: ProcessSettings) -> str:
    secrets = sorted((value.get_secret_value() for value in settings.env.values()), key=len, reverse=True)
    for secret in secrets:
        if len(secret) >= SECRET_CHARACTERS_MIN:
            text = text.replace(secret, "***")
    return re.sub(r"(://[^/\s:@]*):[^/\s@]+@", r"\1:***@", text)


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _end(token: str) -> None:
    known: dict[int, table.Running] = {}  # a child without the token is found only while its leader lives

    def left() -> list[table.Running]:
        known.update({process.pid: process for process in table.carrying(token)})
        return [process for process in known.values() if table.alive(process)]

    for number in (signal.SIGTERM, signal.SIGKILL):
        table.signal_all(left(), number)
        if _within(STOP_SECONDS_MAX, lambda: not left()):
            return
    pids = ", ".join(str(process.pid) for process in left())
    raise ConnectorError(
        f"process {pids} does not end, not even by SIGKILL",
        retry=Retry.LATER,
        next="see what it waits for (a hung disk, as a rule), then run the same command again",
    )


def _within(seconds: float, done: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def _ask(url: str) -> Health:
    return _asked(url)[0]


def _asked(url: str) -> tuple[Health, str]:
    """One question to a health address, and why it was not answered well; redirects and proxies are not followed."""
    import httpx  # takes as long to load as all the rest of a protect that finds nothing changed

    try:
        answer = httpx.get(url, timeout=ANSWER_SECONDS_MAX, trust_env=False, verify=trusted())
    except httpx.TimeoutException:
        return Health.UNKNOWN, f"no answer within {ANSWER_SECONDS_MAX:g} s from {place_of(url)}"
    except httpx.HTTPError as error:
        return Health.SICK, why_silent(error, url)
    if answer.status_code == httpx.codes.OK:
        return Health.HEALTHY, ""
    return Health.SICK, f"status {answer.status_code} at {_shown(url)}"


# -------------------------------------------------------------------------------------------- files


def _read_json(path: Path) -> Mapping[str, Json]:
    """A small JSON object that refloat wrote; empty where there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _write_durably(path: Path, document: Mapping[str, Json]) -> None:
    """Write a small JSON file whole and durably. Raises ``ConnectorError``."""
    with os_errors(f"writing {path}", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, canonical_json(document) + b"\n")


def _remove_durably(path: Path) -> None:
    with os_errors(f"removing {path}", path):
        remove_file(path)
