"""The frame of the command line: options, exit codes, errors told once, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import typer

from refloat import errors
from refloat.cli.line import hoisted
from refloat.cli.main import VERBS, put_together, run, whole
from refloat.errors import Damaged, ManifestError, Refused, StoreError, Waiting

Verb = Callable[[Callable[..., object]], None]


@pytest.fixture
def verb() -> Iterator[Verb]:
    """Adds a verb called ``act`` for one test."""
    before = list(whole().registered_commands)

    def add(act: Callable[..., object]) -> None:
        whole().command("act")(act)

    yield add
    whole().registered_commands[:] = before


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def refloat(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refloat", *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


# ----------------------------------------------------------------------------------------- options and help


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["check", "--json"], ["--json", "check"]),
        (["check", "-f", "m.yaml", "x"], ["-f", "m.yaml", "check", "x"]),
        (["check", "--file=m.yaml", "-q"], ["--file=m.yaml", "-q", "check"]),
        (["cat", "--", "--json"], ["cat", "--", "--json"]),
        (["check", "-f"], ["-f", "check"]),
    ],
)
def test_global_options_may_stand_anywhere(given: list[str], parsed: list[str]):
    assert hoisted(given) == parsed


@pytest.mark.parametrize(
    ("given", "verbs"),
    [
        (["check", "--json"], ["check"]),
        (["--json", "-f", "protect", "check", "status"], ["check"]),
        (["--file=protect", "-q", "vault", "--help"], ["vault"]),
        (["--help", "check"], VERBS),
        (["--version", "check"], VERBS),
        (["chekc", "check"], VERBS),
        (["--", "check"], VERBS),
        (["-f"], VERBS),
        ([], VERBS),
    ],
)
def test_of_a_command_its_own_verb_alone_is_put_together(given: list[str], verbs: Sequence[str]):
    assert set(put_together(given).commands) == set(verbs)


def test_of_a_command_its_own_verb_alone_is_imported():
    program = "import sys; from refloat.cli.main import run; run(['check', '--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if name.startswith("refloat.")}
    assert "refloat.cli.check" in loaded
    assert not loaded & {f"refloat.cli.{verb}" for verb in VERBS if verb != "check"}


def test_help_names_every_verb_and_shows_an_example(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "refloat check --json" in out
    for command in whole().registered_commands:
        assert str(command.name) in out


def verbs() -> Iterator[list[str]]:
    """Every verb, and every verb below one, as it is typed."""
    yield from ([str(command.name)] for command in whole().registered_commands)
    for group in whole().registered_groups:
        below = group.typer_instance
        assert below is not None
        yield [str(group.name)]
        yield from ([str(group.name), str(command.name)] for command in below.registered_commands)


@pytest.mark.parametrize("typed", list(verbs()), ids=" ".join)
def test_every_verb_shows_examples(typed: list[str], capsys: pytest.CaptureFixture[str]):
    assert run([*typed, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples" in out
    assert f"refloat {' '.join(typed)}" in out.split("Examples")[1]


def test_bare_refloat_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    assert run([]) == 2
    told = capsys.readouterr()
    assert "Usage" in told.out
    assert "error:" not in told.err


def test_version_is_that_of_the_package():
    done = refloat("--version")
    assert (done.returncode, done.stdout) == (0, "refloat 0.1.0\n")


def test_the_version_is_a_document_for_programs(capsys: pytest.CaptureFixture[str]):
    assert run(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "version": "0.1.0"}


def test_help_loads_nothing_heavy():
    heavy = [
        "numpy",
        "cryptography",
        "obstore",
        "pydantic",
        "ruamel",
        "cel",
        "lancedb",
        "mlflow",
        "pyarrow",
        "httpx",
        "shamir_mnemonic",
    ]
    program = f"""
import sys
from refloat.cli.main import run
run(["--help"])
sys.stderr.write(" ".join(name for name in {heavy!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


# ------------------------------------------------------------------------------------------ errors and codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("x"), 1),
        (errors.UsageError("x"), 2),
        (ManifestError("x"), 2),
        (Refused("rule", "x"), 3),
        (Damaged("x"), 4),
        (Waiting("x"), 5),
        (errors.Interrupted("x"), 130),
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
        (typer.Exit(7), 7),
        (OSError(28, "No space left on device", "/v/packs"), 1),
        (ZeroDivisionError("oh"), 1),
    ],
)
def test_every_error_has_its_exit_code(verb: Verb, error: BaseException, code: int):
    verb(raising(error))
    assert run(["act"]) == code


def test_a_verb_may_answer_with_its_exit_code(verb: Verb):
    verb(lambda: 1)
    assert run(["act"]) == 1


def test_an_error_is_told_once_and_without_a_traceback(verb: Verb, capsys: pytest.CaptureFixture[str]):
    verb(raising(StoreError("the bucket does not answer", next="try later")))
    run(["act"])
    assert capsys.readouterr().err == "error: the bucket does not answer\n  next: try later\n"


def test_debug_shows_the_traceback(verb: Verb, capsys: pytest.CaptureFixture[str]):
    verb(raising(StoreError("x")))
    run(["act", "--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_what_nobody_foresaw_is_called_a_defect(verb: Verb, capsys: pytest.CaptureFixture[str]):
    verb(raising(ZeroDivisionError("oh")))
    run(["act"])
    told = capsys.readouterr().err
    assert told.startswith("error: this is a defect in refloat: ZeroDivisionError: oh\n")
    assert "--debug" in told


def test_the_machines_own_error_names_the_file_and_what_to_do(verb: Verb, capsys: pytest.CaptureFixture[str]):
    verb(raising(OSError(28, "No space left on device", "/v/packs")))
    run(["act"])
    assert capsys.readouterr().err == (
        "error: No space left on device\n  file: /v/packs\n"
        "  next: free some space on this file system and run the same command again\n"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            FileNotFoundError(2, "No such file or directory", "/no/such/page.html"),
            "the folders above it exist",
        ),
        (FileNotFoundError(2, "No usable temporary directory found in ['/a']"), "set TMPDIR"),
        (FileNotFoundError(2, "No such file or directory"), "--debug"),
        (OSError(24, "Too many open files"), "--debug"),
        (PermissionError(13, "Permission denied", b"/v"), "as a user who may"),
        (OSError(5, "Input/output error"), "the disk may be failing"),
        (StoreError("x"), "see whether the store answers"),
        (Damaged("x"), "refloat vault repair"),
        (KeyboardInterrupt(), "refloat act"),
    ],
)
def test_every_error_says_what_to_do_next(
    verb: Verb, capsys: pytest.CaptureFixture[str], error: BaseException, words: str
):
    verb(raising(error))
    run(["act", "--json"])
    assert words in json.loads(capsys.readouterr().out)["error"]["next"]
    run(["act"])
    assert "\n  next: " in capsys.readouterr().err


def kinds(kind: type[errors.RefloatError]) -> Iterator[type[errors.RefloatError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def test_no_kind_of_error_leaves_a_person_without_a_next_step():
    for kind in kinds(errors.RefloatError):
        error = kind("rule", "x") if issubclass(kind, Refused) else kind("x")
        assert error.document()["next"] == kind.otherwise != "", kind


@pytest.mark.parametrize(
    "arguments",
    [["--json", "chekc"], ["chekc", "--json"], ["check", "--jsn", "--json"], ["status", "extra", "--json"]],
)
def test_bad_usage_is_a_json_document_too(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(arguments) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["error"]["code"] == "usage"
    assert document["error"]["next"].endswith("--help")


def test_a_misspelt_verb_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]):
    assert run(["chekc"]) == 2
    assert "'check'" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- signals

WAITING = """
import sys, time
from refloat.cli.main import main, whole

@whole().command("act")
def act():
    try:
        print("waiting", flush=True)
        time.sleep(600)
    finally:
        print("cleaned up", flush=True)

sys.argv = ["refloat", "act"]
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_order(number: signal.Signals, code: int):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        out, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert out == "cleaned up\n"
    assert told == "error: interrupted\n  next: refloat act\n"


def test_a_reader_that_leaves_is_no_defect():
    program = WAITING.replace("time.sleep(600)", "[print('x' * 1000) for _ in range(10_000)]")
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 1
    assert "defect" not in told
