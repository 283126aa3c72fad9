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
  {component}:
    kind: files
    with: {{path: "{path}"}}
"""


@dataclass(frozen=True)
class Installed:
    """A tool with a store of its own that is still to be made: how every command of it begins, and the first one."""

    env: Mapping[str, str]
    store: Path
    program: tuple[str, ...]
    init: tuple[str, ...]


def installed_refloat(work: Path, component: str, path: Path) -> Installed:
    """refloat, which protects one path as one component; its vault, key and manifest in ``work``."""
    manifest, key, vault = work / "refloat.yaml", work / "refloat.key", work / "vault"
    manifest.write_text(_MANIFEST.format(vault=vault, component=component, path=path))
    program = (sys.executable, "-m", "refloat", "--quiet", "-f", str(manifest))
    init = (*program, "vault", "init", "--key", str(key))
    return Installed(environment(work, REFLOAT_KEY_FILE=str(key)), vault, program, init)


def installed_restic(work: Path) -> Installed:
    """restic with its defaults, in its second format, which compresses; its repository and cache in ``work``."""
    repository = work / "repository"
    program = ("restic", "--quiet", "--repo", str(repository), "--cache-dir", str(work / "cache"))
    init = (*program, "init", "--repository-version", "2")
    return Installed(environment(work, RESTIC_PASSWORD=secrets.token_hex(16)), repository, program, init)


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
    here = installed_refloat(work, _PROTECT_NAME, live / _PROTECT_NAME)
    program = (*here.program, "--json")
    return Tool(
        name="refloat",
        env=here.env,
        store=here.store,
        init=here.init,
        protect=(*program, "protect"),
        check=(*program, "vault", "check", "--read-data"),
        restore=(*program, "recover", "--to", "here"),
    )


def restic(work: Path, live: Path) -> Tool:
    """restic over ``live/tree``, run in ``live``; its repository and cache in ``work``."""
    here = installed_restic(work)
    return Tool(
        name="restic",
        env=here.env,
        store=here.store,
        init=here.init,
        protect=(*here.program, "backup", _PROTECT_NAME),
        check=(*here.program, "check", "--read-data"),
        restore=(*here.program, "restore", "latest", "--target", str(live)),
    )


def has_restic(say: Callable[[str], None]) -> bool:
    """Whether restic is there; as root on Debian it is installed first where it is not."""
    return has("restic", "restic", say)


def has(program: str, package: str, say: Callable[[str], None]) -> bool:
    """Whether a program is there; as root on Debian its package is installed first where it is not."""
    if shutil.which(program) is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        say(f"{program} is not installed; installing Debian's package")
        command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
        try:
            subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS_MAX, check=False)
        except subprocess.TimeoutExpired:
            say(f"apt-get was not done within {INSTALL_SECONDS_MAX:g} s")
    return shutil.which(program) is not None
