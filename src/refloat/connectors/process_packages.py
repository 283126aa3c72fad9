"""The interpreter of a process and its packages: read, compared, packed into wheels and installed again.

A wheel is a zip of the files that RECORD names, so an installed distribution can be packed again as it is:
https://packaging.python.org/en/latest/specifications/binary-distribution-format/.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, ValidationError

from refloat.connectors.allowance import unlimited
from refloat.digest import Json, json_digest
from refloat.errors import ConnectorError, Damaged

READ_SECONDS_MAX = 60.0  # an interpreter that cannot list its packages in this time does not work
LOOK_S = 0.2  # how often is looked whether a tool is still wanted
KILLED_SECONDS_MAX = 10.0  # for a tool that was killed to be gone; more is a hung disk
BUILD_SECONDS_MAX = 1800.0  # installing some gigabytes of wheels on a slow disk
OUTPUT_CHARACTERS_MAX = 2000  # of what a tool said, in an error

_READ = """
import json, platform, sys, sysconfig
from importlib.metadata import distributions

def described(one):
    direct = json.loads(one.read_text("direct_url.json") or "{}")
    editable = bool(direct.get("dir_info", {}).get("editable"))
    where = {"path": str(one._path), "site": str(one.locate_file(""))}
    return {"version": one.version, "editable": editable, **where}

found = {}
for one in distributions():
    if one.metadata["Name"]:
        found.setdefault(one.metadata["Name"], described(one))
language = {"implementation": platform.python_implementation(), "python": platform.python_version()}
where = {"platform": sysconfig.get_platform(), "prefix": sys.prefix, "folders": sys.path}
print(json.dumps({**language, **where, "found": found}))
"""


class Installed(BaseModel):
    """One distribution where it is installed: its ``.dist-info`` folder and the folder it was put into."""

    model_config = ConfigDict(frozen=True)

    version: str
    path: str
    site: str
    editable: bool


class Interpreter(BaseModel):
    """A Python interpreter as it describes itself; ``found`` is by the name that a package gives itself."""

    model_config = ConfigDict(frozen=True)

    implementation: str
    python: str
    platform: str
    prefix: str
    folders: tuple[str, ...]
    found: Mapping[str, Installed]


class Environment(BaseModel):
    """What a process needs of its interpreter: what is captured as ``environment.json``.

    ``packages`` maps normalised names to exact versions; ``everything`` says that these were all that were
    installed. ``variables`` are the names of the environment variables that were set, never their values.
    """

    model_config = ConfigDict(frozen=True)

    format: int = 1
    implementation: str
    python: str
    platform: str
    everything: bool
    packages: Mapping[str, str]
    variables: tuple[str, ...] = ()

    @property
    def language(self) -> str:
        """The implementation and the minor version, between which compiled packages do not move."""
        return f"{self.implementation.lower()} {'.'.join(self.python.split('.')[:2])}"

    def identity(self) -> dict[str, Json]:
        """The part of the facts that comes from the interpreter."""
        packages: dict[str, Json] = {"count": len(self.packages), "digest": json_digest(dict(self.packages))}
        return {"python": self.language, "packages": packages}

    def content(self) -> bytes:
        """The environment as it is stored."""
        return json.dumps(self.model_dump(), indent=1, sort_keys=True).encode() + b"\n"


def parse(content: bytes) -> Environment:
    """The environment that ``content`` gave. Raises ``Damaged``."""
    try:
        return Environment.model_validate_json(content)
    except ValidationError as error:
        raise Damaged(
            f"environment.json is not what was written: {error.errors()[0]['msg']}",
            next="choose another recovery point, and run `refloat vault check` on this one",
        ) from error


def normal(name: str) -> str:
    """A package's name as packaging compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


# -------------------------------------------------------------------------------------------- reading


def read(python: str) -> Interpreter:
    """What an interpreter says of itself. Raises ``ConnectorError`` when it does not run."""
    try:
        known = _KNOWN.get(python)
        if known is None or known[0] != _stamp(python, known[1].folders):
            said = _run([python, "-I", "-c", _READ], READ_SECONDS_MAX, "list its packages")
            found = Interpreter.model_validate(json.loads(said))  # its folders need not be UTF-8
            known = _KNOWN[python] = (_stamp(python, found.folders), found)
    except OSError as error:
        raise ConnectorError(
            f"the interpreter {python} cannot be run: {error.strerror}",
            next="install it, or set `python` to the interpreter of the process",
        ) from error
    return known[1]


_Stamp = tuple[tuple[str, int], ...]
_KNOWN: dict[str, tuple[_Stamp, Interpreter]] = {}


def _stamp(python: str, folders: Sequence[str]) -> _Stamp:
    """Times that change when the interpreter is replaced, or a package comes or goes."""
    there = [python, *(folder for folder in folders if Path(folder).is_dir())]
    return tuple((path, Path(path).stat().st_mtime_ns) for path in there)


def environment(
    interpreter: Interpreter, packages: Sequence[str], variables: Sequence[str] = ()
) -> Environment:
    """The environment of a process that needs ``packages``; all that are installed where none are named.

    Raises ``ConnectorError`` naming every package that is not installed.
    """
    versions = {normal(name): one.version for name, one in interpreter.found.items()}
    wanted = sorted({normal(name) for name in packages} or versions)
    absent = [name for name in wanted if name not in versions]
    if absent:
        raise ConnectorError(
            f"not installed in the interpreter of the process: {', '.join(absent)}",
            next="install them, or correct `packages`",
        )
    return Environment(
        implementation=interpreter.implementation,
        python=interpreter.python,
        platform=interpreter.platform,
        everything=not packages,
        packages={name: versions[name] for name in wanted},
        variables=tuple(sorted(variables)),
    )


def differences(captured: Environment, interpreter: Interpreter) -> list[str]:
    """Everything that keeps ``interpreter`` from being what was captured, one sentence each."""
    here = environment(interpreter, ())
    found = []
    if here.language != captured.language:
        found.append(f"the interpreter is {here.language}, not {captured.language}")
    for name, version in sorted(captured.packages.items()):
        if name not in here.packages:
            found.append(f"{name} {version} is not installed")
        elif here.packages[name] != version:
            found.append(f"{name} is {here.packages[name]}, not {version}")
    if captured.everything:
        extra = sorted(set(here.packages) - set(captured.packages))
        found += [f"{name} {here.packages[name]} was not there" for name in extra]
    return found


# -------------------------------------------------------------------------------------------- packing


def wheel_name(name: str, one: Installed) -> str:
    """The file name of a distribution's wheel, tags included. Raises ``ConnectorError``."""
    lines = _text(Path(one.path) / "WHEEL", name).splitlines()
    tags = [line.removeprefix("Tag:").strip().split("-") for line in lines if line.startswith("Tag:")]
    parts = [".".join(sorted({tag[part] for tag in tags})) for part in range(3)]
    return "-".join([re.sub(r"[-_.]+", "_", name), one.version.replace("-", "_"), *parts]) + ".whl"


def record_token(one: Installed) -> str:
    """Equal exactly when the distribution's files are: the digest of its RECORD."""
    return hashlib.sha256((Path(one.path) / "RECORD").read_bytes()).hexdigest()


def pack(name: str, one: Installed, prefix: str, to: Path) -> None:
    """Write the wheel of an installed distribution to ``to``; equal files give equal bytes.

    Raises ``ConnectorError`` for one that was not installed from a wheel, or is not whole.
    """
    if one.editable:
        raise ConnectorError(
            f"{name} is installed in editable mode: its files are not in the environment",
            next=f"install {name} as a wheel, or name the packages to bring along in `packages`",
        )
    lines: list[tuple[str, str, str]] = []
    with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as wheel:  # the vault compresses, and finds repeats
        for inside, file in sorted(_members(name, one, prefix)):
            content = _content(name, inside, file)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            lines.append((inside, f"sha256={digest}", str(len(content))))
            wheel.writestr(_member(inside, file), content)
        record = f"{Path(one.path).name}/RECORD"
        wheel.writestr(zipfile.ZipInfo(record), _record([*lines, (record, "", "")]))


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConnectorError(
            f"{name} was not installed from a wheel: it has no {path.name}",
            next=f"install {name} again with pip, or name the packages to bring along in `packages`",
        ) from error


_LEFT_OUT = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s"}


def _members(name: str, one: Installed, prefix: str) -> Iterator[tuple[str, Path]]:
    """Pairs of (path inside the wheel, file) of everything that the distribution brought."""
    info = Path(one.path).name
    stem = info.removesuffix(".dist-info")
    left_out = {f"{info}/{name}" for name in _LEFT_OUT}
    generated = _entry_points(Path(one.path))
    for row in csv.reader(io.StringIO(_text(Path(one.path) / "RECORD", name))):
        path = PurePosixPath(row[0])
        if path.suffix == ".pyc" or str(path) in left_out:
            continue
        file = Path(os.path.normpath(Path(one.site) / path))
        if not path.is_absolute() and ".." not in path.parts:
            yield str(path), file
        elif file.parent == Path(prefix) / "bin":
            if file.name not in generated:  # pip writes those of the entry points itself
                yield f"{stem}.data/scripts/{file.name}", file
        elif file.is_relative_to(prefix):
            yield f"{stem}.data/data/{file.relative_to(prefix).as_posix()}", file


def _entry_points(info: Path) -> set[str]:
    """The scripts that an installer makes of a distribution's entry points."""
    file = info / "entry_points.txt"
    if not file.exists():
        return set()
    section, names = "", set()
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("["):
            section = line.strip().strip("[]")
        elif "=" in line and section in {"console_scripts", "gui_scripts"}:
            names.add(line.partition("=")[0].strip())
    return names


def _content(name: str, inside: str, file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConnectorError(
            f"the installation of {name} is not whole: {inside} cannot be read",
            next=f"install {name} again",
        ) from error
    if ".data/scripts/" in inside and content.startswith(b"#!") and b"python" in content.partition(b"\n")[0]:
        return b"#!python" + content[content.index(b"\n") :]  # an installer puts its own interpreter there
    return content


def _member(inside: str, file: Path) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(inside)  # always the same date, so that equal files give equal bytes
    member.external_attr = (file.stat().st_mode & 0o777 | 0o100000) << 16
    return member


def _record(lines: Sequence[tuple[str, str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


# -------------------------------------------------------------------------------------------- installing


def build(venv: Path, captured: Environment, wheels: Path, check: Callable[[], None]) -> None:
    """Make a virtual environment with exactly the captured packages, from wheels alone.

    ``check`` raises once it is no longer wanted: what installs is ended then, and writes nothing more. Raises
    ``ConnectorError`` when no interpreter of the captured version is on this machine, when it is another platform, or
    when an installation fails.
    """
    base = _base(captured)
    _run(
        [base, "-m", "venv", "--without-pip", str(venv)],
        BUILD_SECONDS_MAX,
        "make a virtual environment",
        check,
    )
    exact = [f"{name}=={version}" for name, version in sorted(captured.packages.items())]
    with _pip_of(base, check) as pip:
        options = ["--no-index", "--no-deps", "--find-links", str(wheels)]
        install = [*pip, "--python", str(venv / "bin/python"), "install", *options, *exact]
        _run(install, BUILD_SECONDS_MAX, "install the captured wheels", check)


@contextmanager
def _pip_of(base: str, check: Callable[[], None]) -> Iterator[list[str]]:
    """The command that is pip: an interpreter's own, or else one in an environment that is made for it alone."""
    with ExitStack() as stack:
        if "pip" not in map(normal, read(base).found):
            lent = Path(stack.enter_context(TemporaryDirectory(prefix="refloat-pip-")))
            _run(
                [base, "-m", "venv", str(lent)],
                BUILD_SECONDS_MAX,
                "make a virtual environment with pip",
                check,
            )
            base = str(lent / "bin/python")
        yield [base, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]


def _base(captured: Environment) -> str:
    """An interpreter of this machine of the captured implementation, minor version and platform."""
    version = captured.language.partition(" ")[2]
    for candidate in (sys.executable, shutil.which(f"python{version}")):
        if candidate:
            found = environment(read(candidate), ())
            if (found.language, found.platform) == (captured.language, captured.platform):
                return candidate
    raise ConnectorError(
        f"no {captured.language} for {captured.platform} is on this machine, for which the wheels are",
        next=f"install python{version}, or run refloat itself with it",
    )


def _run(
    command: Sequence[str], seconds_max: float, doing: str, check: Callable[[], None] = unlimited
) -> str:
    """The output of a tool. Raises ``ConnectorError`` with the end of what it said, and what ``check`` raises.

    It has a process group of its own, all of which is ended where its output is not waited for.
    """
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
    ) as tool:
        try:
            output, errors = _output(tool, time.monotonic() + seconds_max, check)
        except subprocess.TimeoutExpired as error:
            raise ConnectorError(
                f"{command[0]} did not {doing} within {seconds_max:g} s",
                next="run the same command by hand to see what it waits for",
            ) from error
        finally:
            if tool.returncode is None:
                os.killpg(tool.pid, signal.SIGKILL)
                with suppress(subprocess.TimeoutExpired):  # the channels close with the last of the group
                    tool.communicate(timeout=KILLED_SECONDS_MAX)
    if tool.returncode != 0:
        said = (errors or output).strip()[-OUTPUT_CHARACTERS_MAX:]
        raise ConnectorError(
            f"{command[0]} could not {doing} (exit code {tool.returncode}): {said}",
            next="run the same command by hand to see what it lacks",
        )
    return output


def _output(tool: subprocess.Popen[str], ends: float, check: Callable[[], None]) -> tuple[str, str]:
    """What a tool says until it ends, on both channels. Raises ``TimeoutExpired``, and what ``check`` raises."""
    while True:
        left = max(0.0, ends - time.monotonic())
        try:
            return tool.communicate(timeout=min(LOOK_S, left))
        except subprocess.TimeoutExpired:
            check()
            if left == 0:
                raise
