"""The two tools that do the same work side by side: refloat and restic, each with its commands as data."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from measure import environment

INSTALL_SECONDS_MAX = 120.0
_PROTECT_NAME = "tree"

_MANIFEST = """\
version: 1
pipeline: bench
regions:
  here: {{vault: "{vault}"}}
primary: here
components:
  tree:
    kind: files
    with: {{path: "{tree}"}}
"""


@dataclass(frozen=True)
class Tool:
    """One tool's commands over one folder. ``store`` is where it keeps what it protects."""

    name: str
    env: Mapping[str, str]
    store: Path
    init: tuple[str, ...]
    protect: tuple[str, ...]
    check: tuple[str, ...]
    restore: tuple[str, ...]


def refloat(work: Path, live: Path) -> Tool:
    """refloat over ``live/tree``, its vault, key and manifest in ``work``."""
    manifest, key, vault = work / "refloat.yaml", work / "refloat.key", work / "vault"
    manifest.write_text(_MANIFEST.format(vault=vault, tree=live / _PROTECT_NAME))
    program = (sys.executable, "-m", "refloat", "--json", "--quiet", "-f", str(manifest))
    return Tool(
        name="refloat",
        env=environment(work, REFLOAT_KEY_FILE=str(key)),
        store=vault,
        init=(*program, "vault", "init", "--key", str(key)),
        protect=(*program, "protect"),
        check=(*program, "vault", "check", "--read-data"),
        restore=(*program, "recover", "--to", "here"),
    )


def restic(work: Path, live: Path) -> Tool:
    """restic over ``live/tree``, run in ``live``; its repository and cache in ``work``."""
    repository = work / "repository"
    program = ("restic", "--quiet", "--repo", str(repository), "--cache-dir", str(work / "cache"))
    return Tool(
        name="restic",
        env=environment(work, RESTIC_PASSWORD=secrets.token_hex(16)),
        store=repository,
        init=(*program, "init", "--repository-version", "2"),
        protect=(*program, "backup", _PROTECT_NAME),
        check=(*program, "check", "--read-data"),
        restore=(*program, "restore", "latest", "--target", str(live)),
    )


def has_restic(say: Callable[[str], None]) -> bool:
    """Whether restic is there; as root on Debian it is installed first where it is not."""
    if shutil.which("restic") is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        say("restic is not installed; installing Debian's package")
        command = ["apt-get", "install", "--yes", "--no-install-recommends", "restic"]
        try:
            subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            say(f"apt-get was not done within {INSTALL_SECONDS_MAX:g} s")
    return shutil.which("restic") is not None
