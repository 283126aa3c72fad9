"""The entry point: global options, the table of verbs, and the one place where errors become exit codes."""

from __future__ import annotations

import gc
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from refloat.cli import helptext
from refloat.cli.common import MANIFEST, Session, examples, session_of
from refloat.cli.completion import InstallOption, ShowOption
from refloat.cli.console import Console, let_go
from refloat.cli.line import LENGTH_MAX, behind_globals, hoisted
from refloat.cli.next_step import Typed
from refloat.cli.system import SIGNALS, wait_for_threads
from refloat.durable import as_error
from refloat.errors import Interrupted, RefloatError, Retry, UsageError

VERBS = (
    "init",
    "check",
    "status",
    "metrics",
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

# The base of everything that typer complains about; typer does not export it by name.
_BadUsage: type[Exception] = typer.BadParameter.__mro__[1]


class Root(TyperGroup):
    """The group of all verbs, with global options anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, global options first."""
        return super().parse_args(ctx, hoisted(args))


def _version(context: typer.Context, asked: bool) -> None:
    if asked:
        from refloat.registry import refloat_version

        console = session_of(context).console
        console.print(f"refloat {refloat_version()}")
        console.emit({"version": refloat_version()})
        raise typer.Exit


def root(
    context: typer.Context,
    file: Annotated[Path, typer.Option("-f", "--file", help="The manifest.", readable=False)] = Path(
        MANIFEST
    ),
    json_mode: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; so does NO_COLOR.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks with errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
    install_completion: InstallOption = None,
    show_completion: ShowOption = None,
) -> None:
    """Fill the session from the global options."""
    session = session_of(context)
    session.file, session.debug = file, debug
    session.console = Console(
        json_mode=json_mode, quiet=quiet, color=not no_color, pasteable=session.pasteable
    )


def command_line(verbs: Sequence[str]) -> typer.Typer:
    """The command line of these verbs alone: to import and put together all takes as long as the rest of a start."""
    app = typer.Typer(
        cls=Root,
        name="refloat",
        help="Recover a whole AI pipeline, together, in another region; prove that it answers as well as before.",
        epilog=examples("refloat init", "refloat -f other.yaml check", "refloat check --json"),
        no_args_is_help=True,
        rich_markup_mode="rich",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(root)
    for verb in verbs:
        importlib.import_module(f"refloat.cli.{verb}").register(app)
    return app


@cache
def whole() -> typer.Typer:
    """The command line of all verbs."""
    return command_line(VERBS)


@cache
def _alone(verb: str) -> Any:
    return get_command(command_line([verb]))


def put_together(arguments: Sequence[str]) -> Any:
    """What runs these arguments: the verb that they name, or all of them where none is named first."""
    verb = _verb(arguments)
    return get_command(whole()) if verb is None else _alone(verb)


def _verb(arguments: Sequence[str]) -> str | None:
    """The first word behind the global options, where it is a verb; anything else is for typer to make something of."""
    first = next(iter(behind_globals(arguments)), None)
    return first if first in VERBS else None


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Every error is rendered here, and nowhere else."""
    session = Session(console=Console(json_mode="--json" in arguments, color="--no-color" not in arguments))
    typed = Typed.of(arguments)
    session.pasteable = session.console.pasteable = lambda text: typed.completed(text, verb_of)
    SIGNALS.last_words = lambda: session.console.last_words(_interrupted(arguments))
    try:
        try:
            code = _called(session, arguments)
        finally:
            session.console.close()
    except KeyboardInterrupt as error:  # it came while something else was being said
        code = _failed(session, error, arguments)
    return SIGNALS.exit_code or code


def _called(session: Session, arguments: Sequence[str]) -> int:
    try:
        if "--help" in arguments or not arguments:
            helptext.load()
        command = put_together(arguments)
        outcome = command(args=list(arguments), prog_name="refloat", standalone_mode=False, obj=session)
        code = outcome if isinstance(outcome, int) else 0
        if code == Interrupted.exit_code:  # typer swallows Ctrl-C and answers with its code
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort: whatever it is, it is said
        code = _failed(session, error, arguments)
    return code


def _failed(session: Session, error: BaseException, arguments: Sequence[str]) -> int:
    if isinstance(error, _BadUsage) and not str(error):
        return UsageError.exit_code  # nothing was asked for, and the help is on the screen
    if session.debug:
        session.console.trace(error)
    known = _as_known(error, arguments)
    session.console.render_error(known)
    return known.exit_code


def _interrupted(arguments: Sequence[str]) -> Interrupted:
    """What is said of a command that was ended before it came to its work, or whose work is begun anew."""
    command = shlex.join(["refloat", *arguments])
    again = command if len(command) <= LENGTH_MAX else "the same command again"
    return Interrupted("interrupted", retry=Retry.NOW, next=again)


def verb_of(words: Sequence[str]) -> tuple[int, frozenset[str]]:
    """How many of the words after ``refloat`` are a verb, and the options that it takes."""
    command: Any = put_together(words)
    count = 0
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        command, count = command.commands[word], count + 1
    return count, frozenset(option for parameter in command.params for option in parameter.opts)


def _as_known(error: BaseException, arguments: Sequence[str]) -> RefloatError:
    if isinstance(error, RefloatError):
        return error
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _interrupted(arguments)
    if isinstance(error, _BadUsage):
        return _bad_usage(error)
    if isinstance(error, OSError) and error.strerror:
        return as_error(error)
    if SIGNALS.arrived is not None:  # a library that it came upon may have made an error of its own of it
        return _interrupted(arguments)
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
    """Run this process's own command line and end it."""
    put_together(sys.argv[1:])  # while a signal still ends the process at once
    try:
        SIGNALS.watch()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # it came between two lines of ``run``, when all was said
        code = SIGNALS.exit_code or Interrupted.exit_code
    SIGNALS.close()
    let_go()
    if SIGNALS.arrived is not None:
        wait_for_threads()
        # Where it passed through an ``exec``, as while a dataclass was made, Python would end itself by SIGINT yet.
        os._exit(code)
    gc.freeze()  # all of it goes with the process: looking through it for garbage takes longer than most of a start
    sys.exit(code)
