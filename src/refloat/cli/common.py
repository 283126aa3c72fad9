"""What every verb begins with: the session, the manifest, late values, the key and the vault."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from refloat.cli.console import Console
from refloat.cli.system import SystemClock, cache_dir, keep_freed_memory, local_state_dir
from refloat.errors import Interrupted
from refloat.flows.environment import KEY_FILE as KEY_FILE
from refloat.flows.environment import MANIFEST as MANIFEST
from refloat.flows.environment import PASSPHRASE as PASSPHRASE

if TYPE_CHECKING:
    import typer

    from refloat.errors import RefloatError
    from refloat.flows.opening import Opener
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.vault.keyfile import KeyFile
    from refloat.vault.vault import Vault
    from refloat.vault.wraps import Secret


@dataclass
class Session:
    """One invocation: what its global options say; ``pasteable`` completes the commands in a text."""

    file: Path = Path(MANIFEST)
    debug: bool = False
    pasteable: Callable[[str], str] = str
    console: Console = field(default_factory=Console)
    clock: SystemClock = field(default_factory=SystemClock)
    exposed: set[str] = field(default_factory=set)
    """Key files that others can read, of which a warning spoke."""


def session_of(context: typer.Context) -> Session:
    """The session that ``main`` made for this invocation."""
    return cast(Session, context.obj)


def examples(*lines: str) -> str:
    """The end of a verb's ``--help``."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])


@dataclass
class Work:
    """Whether the work is ``over``, so that only the telling is left."""

    over: bool


@contextmanager
def telling(done: str, next: str, *, over: bool = True) -> Iterator[Work]:
    """Only the telling is left: who stops here is told what is done by now, and not to do it again.

    Where the work comes first, ``over`` is set when it is done: between that and this no moment is left.
    """
    work = Work(over)
    try:
        yield work
    except KeyboardInterrupt as error:
        if not work.over:
            raise
        raise Interrupted(f"interrupted; {done}", next=next) from error


def load_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The manifest at ``path`` and its bytes, expressions checked too. Raises ``ManifestError``."""
    from refloat.flows import opening

    return opening.read_manifest(path)


def resolver(session: Session) -> Resolver:
    """A resolver over this process's environment; files are found from the manifest's folder.

    What it comes to know is hidden from everything that the session's console says.
    """
    from refloat.flows import opening

    made = opening.late_values(session.file.parent, os.environ)
    session.console.hide(lambda: made.secrets)
    return made


def key_file(session: Session, urls: Iterable[str]) -> KeyFile:
    """The key that the environment names, else one that a person opens with a passphrase. Raises as ``key_by``."""
    return key_by(session, urls)[0]


def key_by(session: Session, urls: Iterable[str]) -> tuple[KeyFile, Secret | None]:
    """The key, and the passphrase or private key that opened it; None where it is a key file.

    Either opens a key that is kept, sealed, in one of the vaults at ``urls``. Raises ``UsageError``
    where neither is given or both are, and ``WrongKey`` where the key is none or the passphrase wrong.
    """
    from refloat.flows import opening

    path, passphrase = opening.key_named_in(os.environ)
    if not path and not passphrase:
        if not on_terminal():
            raise opening.no_key()
        passphrase = asked_passphrase()
    session.console.hide(lambda: [passphrase] if passphrase else [])
    found = opening.key_from(urls, path, passphrase)
    if path:
        _warn_exposed(session, path)
    return found


def _warn_exposed(session: Session, path: str) -> None:
    """Say once of a key file that the group or everybody can read it; what is piped in has no such mode.

    A credential that systemd hands over is the service's alone, by an access list whose mask looks like a group.
    """
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    if handed_over and Path(path).is_relative_to(handed_over):
        return
    with suppress(OSError):
        mode = Path(path).stat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH) and path not in session.exposed:
            session.exposed.add(path)
            session.console.warn(f"others can read the key file {path}; next: chmod 600 {shlex.quote(path)}")


def opener(session: Session) -> Opener:
    """What opens vaults for this session."""
    from refloat.flows.opening import Opener

    keep_freed_memory()
    return Opener(
        lambda urls: key_file(session, urls),
        session.clock,
        cache_dir(),
        session.console.progress,
        local_state_dir(),
    )


def on_terminal() -> bool:
    """Whether somebody is there to be asked; standard input may be closed altogether."""
    return sys.stdin is not None and sys.stdin.isatty()


def has_key() -> bool:
    """Whether the environment names a key, so that nobody need be asked."""
    return bool(os.environ.get(KEY_FILE) or os.environ.get(PASSPHRASE))


def asked_passphrase() -> str:
    """What the person on the terminal types, unseen."""
    import typer

    return str(typer.prompt("Passphrase", hide_input=True, err=True))


def vault_urls(manifest: Manifest, resolver: Resolver) -> Mapping[str, str]:
    """The resolved address of each region's replica. Raises ``ManifestError``."""
    from refloat.flows import opening

    return opening.vault_urls(manifest, resolver)


def open_vault(
    session: Session,
    manifest: Manifest,
    resolver: Resolver,
    silent: Mapping[str, RefloatError] | None = None,
    awaited: Collection[str] | None = None,
) -> Vault:
    """The manifest's vault, opened with the key; regions that do not answer are its ``unreachable``.

    Those that are known to be ``silent`` are not asked again. A verb that can do without a region names those that it
    needs as ``awaited``: any other that says nothing is not waited for long.
    """
    return opener(session).of_manifest(manifest, resolver, silent, awaited)
