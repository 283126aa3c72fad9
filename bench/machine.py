"""What the figures depend on: the machine, and the versions of everything that took part."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from refloat.units import format_size

PACKAGES = (
    "blake3",
    "common-expression-language",
    "cryptography",
    "fastapi",
    "lancedb",
    "mlflow-skinny",
    "numpy",
    "obstore",
    "pyfastcdc",
    "scikit-learn",
    "zstandard",
)
VAULT_PACKAGES = ("blake3", "blosc2", "cryptography", "numpy", "pyfastcdc", "zstandard")
ROOT = Path(__file__).resolve().parents[1]
COMMAND_SECONDS_MAX = 10.0  # git and restic say their versions at once, or not at all


def machine(work: Path) -> dict[str, str]:
    """The machine, as far as it decides the figures; ``work`` is where the bench reads and writes."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory": format_size(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "file system": _file_system(work),
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _field(file: str, name: str) -> str | None:
    """The first value of a field in a file of /proc; None where there is none."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on: that of the mount whose place is its longest prefix."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(place, kind) for _, place, kind, *_ in mounts if folder.resolve().is_relative_to(place)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


def versions() -> dict[str, str]:
    """The versions of Python, refloat, restic, and of the packages that do the work."""
    return {**_programs(), **_installed(PACKAGES)}


def vault_versions() -> dict[str, str]:
    """The same for the vault alone, with borg."""
    borg = _said("borg", "--version") or "NOT INSTALLED"
    return {**_programs(), "borg": borg, **_installed(VAULT_PACKAGES)}


def recovery_versions() -> dict[str, str]:
    """The same for estimates, which need nothing but Python and NumPy."""
    about = _programs()
    return {"Python": about["Python"], "refloat": about["refloat"], **_installed(("numpy", "pydantic"))}


def _programs() -> dict[str, str]:
    found = {"Python": platform.python_version(), "refloat": f"{version('refloat')}{_commit()}"}
    found["restic"] = _said("restic", "version") or "NOT INSTALLED"
    return found


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str:
    """The commit that is checked out, and whether files differ from it; nothing outside a checkout."""
    commit = _said("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", "src")
    return f" at {commit}{' with changes' if changed else ''}" if commit else ""


def _said(*command: str) -> str:
    """What a command prints; nothing where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False, cwd=ROOT
    )
    return ran.stdout.strip() if ran.returncode == 0 else ""
