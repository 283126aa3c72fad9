"""What every verb begins with: the session, the manifest, late values, the key and the vault."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from refloat.cli.console import Console
from refloat.cli.system import SystemClock
from refloat.errors import ManifestError, UsageError
from refloat.limits import MANIFEST_BYTES_MAX

if TYPE_CHECKING:
    import typer

    from refloat.contracts import Store
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.vault.keyfile import KeyFile
    from refloat.vault.vault import Vault

MANIFEST = "refloat.yaml"
SECRET_FILE_BYTES_MAX = 1024 * 1024  # what ``${file:path}`` may bring in
KEY_FILE = "REFLOAT_KEY_FILE"
PASSPHRASE = "REFLOAT_PASSPHRASE"


@dataclass
class Session:
    """One invocation: what its global options say."""

    file: Path = Path(MANIFEST)
    debug: bool = False
    console: Console = field(default_factory=Console)
    clock: SystemClock = field(default_factory=SystemClock)


def session_of(context: typer.Context) -> Session:
    """The session that ``main`` made for this invocation."""
    return cast(Session, context.obj)


def examples(*lines: str) -> str:
    """The end of a verb's ``--help``."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])


def load_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The manifest at ``path`` and its bytes, expressions checked too. Raises ``ManifestError``."""
    from refloat.manifest.parse import parse
    from refloat.point.evaluate import syntax_error

    content = _read_manifest(path)
    return parse(content, file=str(path), syntax=syntax_error), content


def _read_manifest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MANIFEST_BYTES_MAX + 1)
    except FileNotFoundError as error:
        message, hint = "there is no manifest here", "refloat init, or name one with -f FILE"
        raise ManifestError(message, file=str(path), next=hint) from error
    except IsADirectoryError as error:
        hint = f"refloat -f {path}/{MANIFEST}"
        raise ManifestError("the manifest is a directory", file=str(path), next=hint) from error
    except OSError as error:
        message = f"the manifest cannot be read: {error.strerror}"
        raise ManifestError(message, file=str(path), next="see who may read it: ls -l") from error


def resolver(session: Session) -> Resolver:
    """A resolver over this process's environment; files are found from the manifest's folder.

    What it comes to know is hidden from everything that the session's console says.
    """
    from refloat.manifest.resolve import Resolver

    folder = session.file.parent

    def read_file(path: str) -> str:
        with (folder / path).open("rb") as file:
            return file.read(SECRET_FILE_BYTES_MAX).decode("utf-8")

    made = Resolver(os.environ, read_file)
    session.console.hide(lambda: made.secrets)
    return made


def key_file(session: Session, urls: Iterable[str]) -> KeyFile:
    """The key that the environment names, else one that a person opens with a passphrase.

    A passphrase opens a key that is kept, wrapped, in one of the vaults at ``urls``. Raises ``UsageError``
    where neither is given or both are, and ``WrongKey`` where the key is none or the passphrase wrong.
    """
    from refloat.vault.keyfile import KeyFile

    path, passphrase = os.environ.get(KEY_FILE), os.environ.get(PASSPHRASE)
    if path and passphrase:
        raise UsageError(f"{KEY_FILE} and {PASSPHRASE} are both set", next="unset one of them")
    if path:
        return KeyFile.load(path)
    if not passphrase and not on_terminal():
        raise UsageError("no key is given", next=f"set {KEY_FILE}, or {PASSPHRASE}")
    return _unwrapped(_wrapped_keys(urls), passphrase or _asked_passphrase(session))


def on_terminal() -> bool:
    """Whether somebody is there to be asked; standard input may be closed altogether."""
    return sys.stdin is not None and sys.stdin.isatty()


def has_key() -> bool:
    """Whether the environment names a key, so that nobody need be asked."""
    return bool(os.environ.get(KEY_FILE) or os.environ.get(PASSPHRASE))


def _asked_passphrase(session: Session) -> str:
    import typer

    passphrase = str(typer.prompt("Passphrase", hide_input=True, err=True))
    session.console.hide(lambda: [passphrase])
    return passphrase


def _wrapped_keys(urls: Iterable[str]) -> list[bytes]:
    from refloat.errors import RefloatError
    from refloat.vault.stores import open_store

    found: list[bytes] = []
    errors: list[RefloatError] = []
    for url in urls:
        try:
            found += _wrapped_keys_in(open_store(url))
        except RefloatError as error:
            errors.append(error)
    if not found and errors:
        raise errors[0]
    return list(dict.fromkeys(found))


def _wrapped_keys_in(store: Store) -> list[bytes]:
    from refloat.vault.keyfile import KEY_OBJECT_BYTES_MAX
    from refloat.vault.layout import KEYS

    small = [found.name for found in store.list(KEYS) if found.size <= KEY_OBJECT_BYTES_MAX]
    return [stored for name in sorted(small) if b'"type":"key_file"' in (stored := store.get(name))]


def _unwrapped(wrapped: Iterable[bytes], passphrase: str) -> KeyFile:
    from refloat.errors import WrongKey
    from refloat.vault.keyfile import KeyFile

    wrong = WrongKey("no vault here keeps a key for a passphrase", next=f"give the key file: {KEY_FILE}")
    for stored in wrapped:
        try:
            return KeyFile.unwrap(stored, passphrase)
        except WrongKey as error:
            wrong = error
    raise wrong


def vault_urls(manifest: Manifest, resolver: Resolver) -> Mapping[str, str]:
    """The resolved address of each region's replica. Raises ``ManifestError``."""
    return {region: resolver.vault(manifest, region) for region in manifest.regions}


def open_vault(session: Session, manifest: Manifest, resolver: Resolver) -> Vault:
    """The manifest's vault, opened with the key; regions that do not answer are its ``unreachable``."""
    from refloat.vault.vault import Vault

    urls = vault_urls(manifest, resolver)
    key = key_file(session, urls.values())
    if key.pipeline != manifest.pipeline:
        raise UsageError(
            f"the key is that of the pipeline {key.pipeline!r}, and the manifest that of {manifest.pipeline!r}",
            next="give each pipeline a vault and a key of its own, or correct `pipeline`",
        )
    return Vault.open(urls, key, session.clock)
