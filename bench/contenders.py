"""refloat, restic and borg as they protect one folder: each tool's commands as data, for `bench-vault`."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import environment
from tools import installed_refloat, installed_restic

Command = tuple[str, ...]

FOLDER = "live"
"""What every tool protects, below the folder that it runs in."""
TOMORROW = Path(__file__).with_name("tomorrow.py")


@dataclass(frozen=True)
class Contender:
    """One tool's commands over one folder.

    ``store`` is where it keeps what it protects. ``protect`` takes the number of a point, and ``point`` says what the
    tool calls it, from that and from what ``protect`` printed. ``restore`` takes a point and the empty folder that it
    runs in, below which the protected folder then is ``restored``; ``cat`` a point and a path below that folder.
    ``drop`` takes the points that go and how many stay, and frees what only they need. ``accept`` takes a point from
    which much is gone, and says that this was meant; None where a tool does not ask.
    """

    name: str
    env: Mapping[str, str]
    store: Path
    init: Command
    protect: Callable[[int], Command]
    point: Callable[[int, str], str]
    verify: Command
    restore: Callable[[str, Path], Command]
    restored: str
    cat: Callable[[str, str], Command]
    drop: Callable[[Sequence[str], int], Command]
    accept: Callable[[str], Command] | None = None


def refloat(work: Path, live: Path) -> Contender:
    """refloat over ``live``; its vault, key and manifest in ``work``."""
    here = installed_refloat(work, FOLDER, live)
    program = here.program
    again = (sys.executable, str(TOMORROW), *program[program.index("--quiet") :])
    return Contender(
        name="refloat",
        env=here.env,
        store=here.store,
        init=here.init,
        protect=lambda number: (*program, "--json", "protect"),
        point=lambda number, printed: str(json.loads(printed)["point"]),
        verify=(*program, "vault", "check", "--read-data"),
        restore=lambda point, into: (*program, "recover", "--into", str(into / "all")),
        restored="all/live/content",
        cat=lambda point, path: (*program, "vault", "cat", point, "live", f"content/{path}"),
        drop=lambda gone, stay: (
            "sh",
            "-c",
            f"echo 'keep: {{last: {stay}}}' >> {work / 'refloat.yaml'}"
            f" && {shlex.join(program)} points forget --override source_shrank"
            f" && {shlex.join(program)} vault prune && {shlex.join(again)} vault prune",
        ),
        accept=lambda point: (
            *program,
            "points",
            "accept",
            point,
            "--because",
            "training keeps the last alone",
        ),
    )


def restic(work: Path, live: Path) -> Contender:
    """restic with its defaults, in its second format, which compresses; its repository and cache in ``work``."""
    here = installed_restic(work)
    program = here.program
    return Contender(
        name="restic",
        env=here.env,
        store=here.store,
        init=here.init,
        protect=lambda number: (*program, "backup", str(live)),
        point=lambda number, printed: "latest",
        verify=(*program, "check", "--read-data"),
        restore=lambda point, into: (*program, "restore", point, "--target", str(into)),
        restored=str(live).lstrip("/"),
        cat=lambda point, path: (*program, "dump", point, str(live / path)),
        drop=lambda gone, stay: (*program, "forget", "--keep-last", str(stay), "--prune"),
    )


def borg(work: Path, live: Path) -> Contender:
    """borg, encrypted with BLAKE2 and compressed with zstd as the others are; everything of it in ``work``."""
    repository, path = work / "repository", str(live).lstrip("/")
    env = environment(
        work,
        BORG_REPO=str(repository),
        BORG_PASSPHRASE=secrets.token_hex(16),
        BORG_BASE_DIR=str(work / "base"),
        BORG_RELOCATED_REPO_ACCESS_IS_OK="yes",
    )
    return Contender(
        name="borg",
        env=env,
        store=repository,
        init=("borg", "init", "--encryption", "repokey-blake2"),
        protect=lambda number: ("borg", "create", "--compression", "zstd", f"::p{number}", str(live)),
        point=lambda number, printed: f"p{number}",
        verify=("borg", "check", "--verify-data"),
        restore=lambda point, into: ("borg", "extract", f"::{point}"),
        restored=path,
        cat=lambda point, name: ("borg", "extract", "--stdout", f"::{point}", f"{path}/{name}"),
        drop=lambda gone, stay: ("sh", "-c", f"borg delete :: {' '.join(gone)} && borg compact"),
    )
