"""Shell completion: the scripts for bash, zsh and fish, and the names that the manifest knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.completion import get_completion_inspect_parameters, install_callback, show_callback

if TYPE_CHECKING:
    from refloat.digest import Json

SHELLS = ("bash", "zsh", "fish")

get_completion_inspect_parameters()  # makes its shells known to typer, which does so only with its own options


def _shell(name: str | None) -> str | None:
    if name is not None and name not in SHELLS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(SHELLS)}")
    return name


def _install(context: typer.Context, parameter: typer.CallbackParam, shell: str | None) -> None:
    install_callback(context, parameter, _shell(shell))


def _show(context: typer.Context, parameter: typer.CallbackParam, shell: str | None) -> None:
    show_callback(context, parameter, _shell(shell))


def _shells(incomplete: str) -> list[str]:
    return _beginning(SHELLS, incomplete)


InstallOption = Annotated[
    str | None,
    typer.Option(
        "--install-completion",
        metavar="SHELL",
        help="Teach bash, zsh or fish to complete commands.",
        callback=_install,
        autocompletion=_shells,
        is_eager=True,
    ),
]
ShowOption = Annotated[
    str | None,
    typer.Option(
        "--show-completion",
        metavar="SHELL",
        help="Print the script that teaches it.",
        callback=_show,
        autocompletion=_shells,
        is_eager=True,
    ),
]


def regions(context: typer.Context, incomplete: str) -> list[str]:
    """The regions of the manifest that begin so."""
    return _names(context, "regions", incomplete)


def components(context: typer.Context, incomplete: str) -> list[str]:
    """The components of the manifest that begin so."""
    return _names(context, "components", incomplete)


def rules(incomplete: str) -> list[str]:
    """The safety rules that begin so."""
    from refloat.flows.request import RULES

    return _beginning(RULES, incomplete)


def forget_rules(incomplete: str) -> list[str]:
    """The safety rules of forgetting that begin so."""
    from refloat.point.retain import RULES

    return _beginning(RULES, incomplete)


def _beginning(known: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]


def _names(context: typer.Context, section: str, incomplete: str) -> list[str]:
    found = _manifest(context).get(section)
    return _beginning(found, incomplete) if isinstance(found, Mapping) else []


def _manifest(context: typer.Context) -> Mapping[str, Json]:
    """What the manifest says, right or wrong; nothing where it cannot be read: a person is typing."""
    from refloat.errors import ManifestError
    from refloat.flows.environment import MANIFEST
    from refloat.manifest.document import read_document

    path = Path(context.find_root().params.get("file") or MANIFEST)
    try:
        value = read_document(path.read_bytes() if path.is_file() else b"", file=str(path)).value
    except (ManifestError, OSError):
        return {}
    return value if isinstance(value, Mapping) else {}
