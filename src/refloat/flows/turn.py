"""Whose turn it is on this machine, between commands of one pipeline; and the folder that they share."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refloat.digest import json_digest
from refloat.errors import ManifestError
from refloat.manifest.model import Manifest
from refloat.manifest.resolve import Resolver

LOCK = "protect.lock"
ALARMS = "alarms.json"
_DIGITS = 8  # of a digest: tells apart the few pipelines of one name that a machine may have


def folder_of(state: Path, manifest: Manifest, resolver: Resolver) -> Path:
    """Where a machine, in its folder ``state``, keeps what commands of this pipeline tell each other.

    Known before any vault answers: by the pipeline's name and its vaults' addresses.
    """
    places = {region: _address(manifest, resolver, region) for region in manifest.regions}
    return state / "pipelines" / f"{manifest.pipeline}-{json_digest(places)[:_DIGITS]}"


def _address(manifest: Manifest, resolver: Resolver, region: str) -> str:
    try:
        return resolver.vault(manifest, region)
    except ManifestError:  # what it refers to is not there: the commands that need it say so
        return manifest.regions[region].vault


@contextmanager
def turn(folder: Path) -> Iterator[bool]:
    """Whether no other protect of this pipeline is at work on this machine; while this one is, others are told so.

    The lock goes with the process, however that ends. Raises ``OSError`` where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = True
        except OSError as error:  # a network file system may not lock at all
            ours = error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN)
        yield ours
