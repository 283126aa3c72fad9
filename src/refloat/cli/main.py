"""The entry point: global options, the table of verbs, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from refloat.cli.common import MANIFEST, Session, examples, session_of
from refloat.cli.console import Console
from refloat.cli.system import Termination
from refloat.errors import Interrupted, RefloatError, Retry, UsageError

VERBS = (
    "init",
    "check",
    "status",
    "protect",
    "points",
    "plan",
    "recover",
    "run",
    "verify",
    "evidence",
    "vault",
    "demo",
)
"""The verbs, as help lists them: each a module of this package with ``register(app)``, light to import."""

EXIT_TERMINATED = 143
_FLAGS = frozenset({"--json", "--debug", "--quiet", "-q", "--no-color"})
_VALUED = frozenset({"-f", "--file"})

# The base of everything that typer complains about; typer does not export it by name.
_BadUsage: type[Exception] = typer.BadParameter.__mro__[1]


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The global options first, wherever they stood, so that ``refloat check --json`` works too."""
    before: list[str] = []
    after: list[str] = []
    ahead = iter(arguments)
    for argument in ahead:
        if argument == "--":
            return [*before, *after, argument, *ahead]
        if argument in _VALUED:
            before += [argument, *([value] if (value := next(ahead, None)) is not None else [])]
        elif argument in _FLAGS or argument.startswith("--file="):
            before.append(argument)
        else:
            after.append(argument)
    return before + after


class Root(TyperGroup):
    """The group of all verbs, with global options anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, global options first."""
        return super().parse_args(ctx, hoisted(args))


app = typer.Typer(
    cls=Root,
    name="refloat",
    help="Recover a whole AI pipeline, together, in another region; prove that it answers as well as before.",
    epilog=examples("refloat init", "refloat -f other.yaml check", "refloat check --json"),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"refloat {version('refloat')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    file: Annotated[Path, typer.Option("-f", "--file", help="The manifest.")] = Path(MANIFEST),
    json_mode: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; so does NO_COLOR.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks with errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Fill the session from the global options."""
    session = session_of(context)
    session.file, session.debug = file, debug
    session.console = Console(json_mode=json_mode, quiet=quiet, color=not no_color)


for verb in VERBS:
    importlib.import_module(f"refloat.cli.{verb}").register(app)


def run(arguments: Sequence[str], *, terminated: Termination | None = None) -> int:
    """Run one command line; its exit code. Every error is rendered here, and nowhere else."""
    session = Session(console=Console(json_mode="--json" in arguments, color="--no-color" not in arguments))
    try:
        outcome = app(args=list(arguments), prog_name="refloat", standalone_mode=False, obj=session)
        code = outcome if isinstance(outcome, int) else 0
        if code == Interrupted.exit_code:  # typer swallows Ctrl-C and answers with its code
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort: whatever it is, it is said
        code = _failed(session, error)
    finally:
        session.console.close()
    return EXIT_TERMINATED if terminated is not None and terminated.arrived else code


def _failed(session: Session, error: BaseException) -> int:
    if isinstance(error, _BadUsage) and not str(error):
        return UsageError.exit_code  # nothing was asked for, and the help is on the screen
    if session.debug:
        traceback.print_exception(error)
    known = _as_known(error)
    session.console.render_error(known)
    return known.exit_code


def _as_known(error: BaseException) -> RefloatError:
    if isinstance(error, RefloatError):
        return error
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted("interrupted", retry=Retry.NOW, next="the same command again")
    if isinstance(error, _BadUsage):
        return _bad_usage(error)
    if isinstance(error, OSError) and error.strerror:
        return RefloatError(error.strerror, file=str(error.filename) if error.filename else None)
    return Defect(
        f"this is a defect in refloat: {type(error).__name__}: {error}", next="report it, with --debug"
    )


class Defect(RefloatError):
    """Something that refloat should have foreseen and did not."""

    code = "defect"


def _bad_usage(error: Exception) -> UsageError:
    context = getattr(error, "ctx", None)
    command = "refloat" if context is None else context.command_path
    words = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    return UsageError(words[:1].lower() + words[1:].rstrip("."), next=f"{command} --help")


def main() -> None:
    """What the ``refloat`` command calls."""
    termination = Termination()
    termination.watch()
    sys.exit(run(sys.argv[1:], terminated=termination))
