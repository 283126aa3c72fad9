"""Shell completion: the scripts for bash, zsh and fish, and the names that the manifest knows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.completion import get_completion_inspect_parameters, install_callback, show_callback

from refloat.flows.environment import MANIFEST

if TYPE_CHECKING:
    from refloat.digest import Json

SHOWN_DIGITS = 12  # of a point's name, as everywhere
ANSWER_SECONDS_MAX = 2.0  # longer nobody waits for a completion
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


def sandboxes(context: typer.Context, incomplete: str) -> list[str]:
    """The sandboxes of the manifest that begin so."""
    return _names(context, "sandboxes", incomplete)


POINT_HELP = "The point: its name, how it begins, or `latest`."
RUN_HELP = "The run: its name, how it begins, or `latest`."


def points(context: typer.Context, incomplete: str) -> list[str]:
    """The points that the vault lists and that begin so."""
    names = _listed(context, "points/")
    short = [name if len(incomplete) > SHOWN_DIGITS else name[:SHOWN_DIGITS] for name in names]
    return _beginning(["latest", *short], incomplete)


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """The runs of which the vault has journals and that begin so."""
    names = dict.fromkeys(name.partition("/")[0] for name in _listed(context, "log/runs/"))
    return _beginning(["latest", *names], incomplete)


def _listed(context: typer.Context, prefix: str) -> list[str]:
    """What stands under a prefix in any replica, no key asked; nothing of one that does not answer while one types."""
    found: set[str] = set()
    threads = [
        threading.Thread(target=_list, args=(address, prefix, found), daemon=True)
        for address in _addresses(context)
    ]
    for thread in threads:
        thread.start()
    ends_s = time.monotonic() + ANSWER_SECONDS_MAX
    for thread in threads:
        thread.join(max(0.0, ends_s - time.monotonic()))
    return sorted(found.copy())


def _list(address: str, prefix: str, found: set[str]) -> None:
    from refloat.errors import RefloatError
    from refloat.vault.stores import open_store

    with suppress(RefloatError, OSError):
        for info in open_store(address).list(prefix):
            found.add(info.name.removeprefix(prefix))


def _addresses(context: typer.Context) -> list[str]:
    """The replica that was named on the line, else every replica of the manifest."""
    from refloat.errors import RefloatError
    from refloat.flows import opening

    if named := context.params.get("vault"):
        return [str(named)]
    path = Path(context.find_root().params.get("file") or MANIFEST)
    try:
        manifest, _ = opening.read_manifest(path)
        return list(opening.vault_urls(manifest, opening.late_values(path.parent, os.environ)).values())
    except (RefloatError, OSError):
        return []


def scenarios(incomplete: str) -> list[str]:
    """The scenarios that begin so."""
    from refloat.plan.scenario import SCENARIOS

    return _beginning(SCENARIOS, incomplete)


def rules(incomplete: str) -> list[str]:
    """The safety rules that begin so."""
    from refloat.flows.request import RULES

    return _beginning(RULES, incomplete)


def repair_rules(incomplete: str) -> list[str]:
    """The safety rules of a repair that begin so."""
    from refloat.flows.repair import RULES

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
    from refloat.manifest.document import read_document

    path = Path(context.find_root().params.get("file") or MANIFEST)
    try:
        value = read_document(path.read_bytes() if path.is_file() else b"", file=str(path)).value
    except (ManifestError, OSError):
        return {}
    return value if isinstance(value, Mapping) else {}
