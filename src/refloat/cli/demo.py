"""``refloat demo``: the whole story, on a real pipeline, on this machine."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, session_of
from refloat.errors import UsageError

if TYPE_CHECKING:
    from refloat.demo.scenery import Scenery
    from refloat.demo.story import Told

EXAMPLES = examples(
    "refloat demo", "refloat demo --keep", "refloat demo --json", "refloat demo --picture story.svg"
)


PICTURE_COLUMNS = 92


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", epilog=EXAMPLES)(demo)


def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the surviving region running.")] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Save the closing tables as an SVG picture.", metavar="FILE")
    ] = None,
) -> int:
    """Build a real pipeline, lose its region, recover all of it in another, and measure it."""
    import shutil
    import tempfile

    from refloat.demo.scenery import Scenery
    from refloat.demo.story import tell

    session = session_of(context)
    _require_extras()
    root = Path(tempfile.mkdtemp(prefix="refloat-demo-"))
    scenery = Scenery.under(root)
    told = None
    try:
        scenes = _Scenes(session)
        told = tell(scenery, scenes.say)
        scenes.end()
        _show(session, told, picture)
        session.console.emit(told.document())
    finally:
        scenery.end()
        if not (keep and told):
            scenery.stop_recovered()
            shutil.rmtree(root, ignore_errors=True)
    if keep:
        _say_how(session, scenery)
    return 0


class _Scenes:
    """Says each scene of the story as it begins, and how long it takes."""

    def __init__(self, session: Session) -> None:
        self._say = session.console.note
        self._progress = session.console.progress()
        self._scene = ""

    def say(self, text: str) -> None:
        """A scene begins, which is one of so many, and the one before it is over; anything else is a remark."""
        number = re.match(r"\d+/\d+", text)
        if number is not None:
            self.end()
        self._say(text)
        if number is not None:
            self._scene = f"scene {number[0]}"
            self._progress.start(self._scene, None, "step")

    def end(self) -> None:
        """The last scene is over."""
        if self._scene:
            self._progress.finish(self._scene)
            self._scene = ""


def _require_extras() -> None:
    """Raises ``UsageError`` where something is not installed that the example pipeline is made of."""
    lacking = lacking_extras()
    if lacking:
        raise UsageError(
            f"the demo needs packages that are not installed: {', '.join(lacking)}",
            next=f"{sys.executable} -m pip install 'refloat[demo]'",
        )


def lacking_extras() -> list[str]:
    """What the extra ``demo`` names and is not installed, whatever its version."""
    from importlib.metadata import PackageNotFoundError, requires, version

    lacking = []
    for required in requires("refloat") or ():
        name, _, marker = required.partition(";")
        if re.search(r"extra == .demo.", marker):
            package = re.split(r"[^\w.-]", name.strip())[0]
            try:
                version(package)
            except PackageNotFoundError:
                lacking.append(package)
    return lacking


def _show(session: Session, told: Told, picture: Path | None) -> None:
    from rich.console import Console

    from refloat.demo import table
    from refloat.demo.story import closing
    from refloat.durable import hand_out

    tables = table.components(told.recover, told.ledger), table.behaviour(told.recover)
    words = f"{closing(told)}\nThe whole story took {told.seconds:.0f} s."
    for drawing in tables:
        columns = [[str(cell) for cell in column.cells] for column in drawing.columns]
        headings = [str(column.header) for column in drawing.columns]
        session.console.table(headings, list(zip(*columns, strict=True)), title=str(drawing.title))
        if drawing.caption:
            session.console.print(f"{drawing.caption}\n")
    session.console.print(words)
    if picture is not None:
        terminal = Console(record=True, width=PICTURE_COLUMNS, file=io.StringIO())
        for drawing in tables:
            terminal.print(drawing)
            terminal.print()
        terminal.print(words, highlight=False)
        hand_out(picture, _without_downloads(terminal.export_svg(title="refloat demo")).encode())


def _without_downloads(svg: str) -> str:
    """The picture with the reader's own fonts, so that looking at it asks nobody's server for one."""
    return re.sub(r"@font-face \{[^}]*\}", "", svg)


def _say_how(session: Session, scenery: Scenery) -> None:
    key, vault, root = (
        shlex.quote(str(path)) for path in (scenery.key_file, scenery.vault("us"), scenery.root)
    )
    session.console.print(
        f"The recovered region goes on, below {scenery.root}:\n"
        f"  ask it:   curl -s {scenery.url('us')}/answer -H 'content-type: application/json' "
        '-d \'{"user": "you", "question": "how do I open a file?"}\'\n'
        f"  look:     REFLOAT_KEY_FILE={key} refloat points list --vault {vault}\n"
        f"  evidence: REFLOAT_KEY_FILE={key} refloat evidence list --vault {vault}\n"
        f"  end it:   kill {scenery.recovered_process()}; rm -r {root}"
    )
