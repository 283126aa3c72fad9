"""What this machine saw last of each region's log of points: a witness where all regions were rolled back at once.

One small file for each vault, in this machine's folder for state, beside the heads that a key file pins: a passphrase
and a private key pin none. Whoever loses it loses a witness, and nothing else.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from refloat.digest import canonical_json, object_name
from refloat.durable import replace_file
from refloat.limits import MIB
from refloat.vault.keyfile import Heads, newer_heads
from refloat.vault.keyobjects import SeenHead

SEEN_BYTES_MAX = MIB
_HEADS = TypeAdapter(dict[str, SeenHead])


def load_seen(folder: Path, vault: str) -> dict[str, tuple[int, str]]:
    """What was seen of a vault, by its id; nothing where the file is lost or damaged."""
    with suppress(OSError, ValidationError), _file(folder, vault).open("rb") as file:
        found = _HEADS.validate_json(file.read(SEEN_BYTES_MAX))
        return {region: (head.slot, head.hash) for region, head in found.items()}
    return {}


def keep_seen(folder: Path, vault: str, heads: Heads) -> None:
    """Keep what is newer than what was seen before. Raises ``OSError`` where nothing can be written."""
    seen = load_seen(folder, vault)
    newer = newer_heads(heads, {region: slot for region, (slot, _) in seen.items()})
    if newer:
        told = {region: {"slot": slot, "hash": hash} for region, (slot, hash) in {**seen, **newer}.items()}
        path = _file(folder, vault)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, canonical_json(told))


def _file(folder: Path, vault: str) -> Path:
    return folder / "heads" / object_name(vault.encode())[:32]
