"""A second reader of vaults, format 1: written from docs/FORMAT.md alone, and it needs nothing of refloat.

``reader.py [--key FILE] points|logs|check REPLICA``, or ``restore REPLICA POINT DIRECTORY``, prints one JSON
document; without ``--key``, standard input gives the passphrase of a key that the vault itself keeps. A replica
is a directory. Everything that the format tells a reader to check is checked; what does not hold is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from objects import (
    ATTRIBUTES,
    MIB,
    NAME,
    OBJECT_BYTES_MAX,
    Entry,
    Key,
    Place,
    Refused,
    Slot,
    bytes_of,
    canonical,
    clear,
    decoded,
    extended,
    id_of,
    is_hex,
    named,
    names_below,
    need,
    parsed,
    principal,
    required,
    shaped,
    unseal,
    verify,
    without,
)

CHUNK_BYTES_MAX = 16 * MIB
POINT_BYTES_MAX = 8 * MIB
KEY_OBJECTS_MAX = 4096
BASES_MAX = 8
FOLDERS_DEEP_MAX = 128
TREE_ENTRIES_MAX = 50_000_000
RECORD = struct.Struct(">32sQIIB3s32s")  # as a pack's directory and an index object describe it
PACK = struct.Struct(">32sQ16sI")  # as an index object describes it
CATALOGUE = bytes(16)
GRADES = ("exact", "fuzzy", "broken")
ROLES = {
    "points": "writer",
    "prune": "admin",
    "forgotten": "admin",
    "renewed": "admin",
}  # who signs a log; else an operator


def unshuffled(stored: bytes, length: int, where: str) -> bytes:
    """The bytes of a Blosc2 chunk that says of itself that it has ``length`` of them."""
    need(
        (int.from_bytes(stored[4:8], "little"), int.from_bytes(stored[12:16], "little"))
        == (length, len(stored)),
        where,
        "its Blosc2 chunk is of another length",
    )
    try:
        return bytes(blosc2.decompress2(stored))
    except (RuntimeError, ValueError) as error:
        raise Refused(f"{where}: {error}") from None


def added(zigzag: bytes, base: bytes, width: int) -> bytes:
    """A chunk, from its base and the zigzag of how its elements differ."""
    whole = len(zigzag) - len(zigzag) % width
    steps = np.frombuffer(zigzag[:whole], f"<u{width}")
    return (np.frombuffer(base[:whole], steps.dtype) + ((steps >> 1) ^ -(steps & 1))).tobytes() + zigzag[
        whole:
    ]


@dataclass
class Replica:
    """A replica in a directory. Every method raises Refused for what is not as the format says."""

    root: Path
    key: Key
    set_aside: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where, told = "vault.json", (self.key.vault, self.key.pipeline)
        document = clear(required(self.root, where), where)
        shaped(document, "descriptor", where)
        own, told_sum = document["replica"][:-64], document["replica"][-64:]
        summed = blake3(canonical({**document, "replica": own})).hexdigest()
        need(not own or told_sum == summed, where, "the sum in its replica id is another")
        cut = document["chunking"]
        shaped(cut, "chunking", where)
        need(64 <= cut["min"] <= cut["avg"] <= cut["max"] <= CHUNK_BYTES_MAX, where, "chunks of such sizes")
        need((document["vault"], document["pipeline"]) == told, where, f"the key is that of {told}")
        self.region = document["region"]
        self.bound = self.key.vault.encode()
        self.publics: dict[tuple[str, str], bytes] = {}
        self.removed: dict[tuple[str, str], dict[str, tuple[int, str]]] = {}
        self.lock_s = 0
        self._parts: dict[tuple[str, str], dict[int, dict[str, tuple[int, str]]]] = {}
        self.secrets = {CATALOGUE: self.key.catalogue}
        self._directories: dict[str, dict[bytes, Place]] = {}
        self.described: list[Any] = []
        self._read_keys()
        need(document in (self.described or [document]), where, f"not what was signed for {self.region}")

    # ---------------------------------------------------------------------------------------- keys

    def _read_keys(self) -> None:
        documents = {}
        for name in names_below(self.root, "keys")[:KEY_OBJECTS_MAX]:
            try:
                documents[name] = clear(named(self.root, name), name)
            except Refused as error:
                self.set_aside[name] = str(error)
        readers = {
            "certificate": self._certificate,
            "removal": self._removal,
            "operator_removal": self._operator_removal,
            "lock": self._lock,
            "content_key": self._content_key,
            "descriptor": self._note,
        }
        for kind, read in readers.items():  # certificates first: they vouch for the others
            for name, document in documents.items():
                try:
                    if document.get("type") == kind:
                        shaped(document, "note" if kind == "descriptor" else kind, name)
                        need(document["vault"] == self.key.vault, name, "is of another vault")
                        read(document, name)
                except Refused as error:
                    self.set_aside[name] = str(error)

    def _of_admin(self, document: dict[str, Any], name: str) -> None:
        message = f"{document['type']}:".encode() + canonical(without(document, "signature"))
        verify("admin", self.key.admin, document["signature"], message, name)

    def _certificate(self, document: dict[str, Any], name: str) -> None:
        need(document["role"] in ("writer", "reader", "operator"), name, "a role that is not known")
        self._of_admin(document, name)
        public = bytes.fromhex(document["public"])
        self.publics[document["role"], id_of(public)] = public

    def _removal(self, document: dict[str, Any], name: str) -> None:
        need(document["role"] in ("writer", "reader"), name, "a role that is not known")
        self._of_admin(document, name)
        logs = {region: {"points": seen} for region, seen in document["heads"].items()}
        self._remove(document["role"], document["holder"], self._seen(logs, name))

    def _operator_removal(self, document: dict[str, Any], name: str) -> None:
        """It counts with the last of its parts."""
        self._of_admin(document, name)
        parts = self._parts.setdefault((document["holder"], document["at"]), {})
        parts[document["part"]] = self._seen(document["logs"], name)
        if parts.keys() == set(range(1, document["parts"] + 1)):
            heads = {stream: head for part in parts.values() for stream, head in part.items()}
            self._remove("operator", document["holder"], heads)

    def _seen(self, logs: dict[str, dict[str, Any]], name: str) -> dict[str, tuple[int, str]]:
        """How the logs of this region ended as the admin saw it, by stream."""
        for streams in logs.values():
            for seen in streams.values():
                shaped(seen, "seen", name)
        return {stream: (seen["slot"], seen["hash"]) for stream, seen in logs.get(self.region, {}).items()}

    def _remove(self, role: str, holder: str, heads: dict[str, tuple[int, str]]) -> None:
        before = self.removed.get((role, holder), heads)
        both = heads.keys() & before.keys()
        self.removed[role, holder] = {stream: min(heads[stream], before[stream]) for stream in both}

    def _lock(self, document: dict[str, Any], name: str) -> None:
        self._of_admin(document, name)
        need(1 <= document["seconds"] <= 315_360_000, name, "locks for no such time")
        self.lock_s = max(self.lock_s, document["seconds"])

    def _note(self, document: dict[str, Any], name: str) -> None:
        """What was signed for a descriptor; certificates and removals were read before."""
        told, role, signer = (document[field] for field in ("descriptor", "role", "signer"))
        shaped(told, "descriptor", name)
        need(told["vault"] == self.key.vault, name, "is of another vault")
        need(role in ("writer", "operator", "admin"), name, "a role that is not known")
        message = b"descriptor:" + canonical(without(document, "signature"))
        self._signed_by(role, signer, document["signature"], message, name)
        if told["region"] == self.region and (role, signer) not in self.removed:
            self.described.append(told)

    def _content_key(self, document: dict[str, Any], name: str) -> None:
        message = b"content_key:" + canonical(without(document, "signature"))
        self._signed_by("writer", document["signer"], document["signature"], message, name)
        private = X25519PrivateKey.from_private_bytes(self.key.opening)
        public, ephemeral = private.public_key().public_bytes_raw(), bytes.fromhex(document["ephemeral"])
        if document["reader"] != id_of(public):
            return
        info = b"refloat-1:content-key:" + self.bound + b":" + ephemeral + public
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        except ValueError:
            raise Refused(f"{name}: its ephemeral key is none") from None
        wrapping = HKDF(SHA256(), length=32, salt=None, info=info).derive(shared)
        associated = canonical(without(document, "sealed", "signature"))
        secret = unseal(wrapping, bytes.fromhex(document["sealed"]), associated, name)
        found = blake3(secret, derive_key_context="refloat format 1 content key id").digest()[:16]
        need(len(secret) == 32 and found.hex() == document["id"], name, "holds another key than it says")
        self.secrets[found] = secret

    def _signed_by(self, role: str, signer: str, signature: str, message: bytes, where: str) -> None:
        publics = {**self.publics, ("admin", id_of(self.key.admin)): self.key.admin}
        need((role, signer) in publics, where, f"{signer} signed it, of whom nobody vouches as a {role}")
        verify(role, publics[role, signer], signature, message, where)

    # ---------------------------------------------------------------------------------------- logs

    def streams(self) -> list[str]:
        """The logs that a listing shows."""
        return sorted({name[4:].rpartition("/")[0] for name in names_below(self.root, "log")})

    def log(self, stream: str) -> list[Slot]:
        """All entries of a log, in order."""
        entries: list[Slot] = []
        while (stored := bytes_of(self.root, f"log/{stream}/{len(entries):016d}")) is not None:
            previous = entries[-1].hash if entries else "0" * 64
            entries.append(self._slot(stored, stream, len(entries), previous))
        role = ROLES.get(stream, "operator")
        for signer in {entry.signer for entry in entries if not entry.void}:
            if (role, signer) in self.removed:
                slot, hash = self.removed[role, signer][stream]
                same = slot < len(entries) and entries[slot].hash == hash
                need(same, f"log/{stream}/{slot:016d}", "is not what the admin saw when a signer was removed")
        last = max((int(name[-16:]) for name in names_below(self.root, f"log/{stream}")), default=-1)
        need(last < len(entries), f"log/{stream}/{len(entries):016d}", "is missing, and later ones are there")
        return entries

    def _slot(self, stored: bytes, stream: str, slot: int, previous: str) -> Slot:
        name, role = f"log/{stream}/{slot:016d}", ROLES.get(stream, "operator")
        document = clear(stored, name)
        shaped(document, "slot", name)
        refs: list[str] = document["refs"]
        need(all(isinstance(one, str) and NAME.fullmatch(one) for one in refs), name, "its refs are no names")
        need((document["stream"], document["slot"]) == (stream, slot), name, "belongs elsewhere")
        message = b"slot:" + canonical({**without(document, "signature"), "vault": self.key.vault})
        self._signed_by(role, document["signer"], document["signature"], message, name)
        void = self._is_void(role, document["signer"], stream, slot)
        secret = blake3(self.key.catalogue, derive_key_context="refloat format 1 slot log body").digest()
        associated = canonical({"slot": slot, "stream": stream, "vault": self.key.vault})
        body = {}
        if not void:
            plain = unseal(secret, decoded(document["sealed"], name), associated, name)
            body = parsed(plain, f"{name}: its body")
        need(document["previous"] == previous, name, "the entry before it is another than it was")
        hash = blake3(stored).hexdigest()
        return Slot(slot, hash, document["signer"], document["time"], refs, body, void)

    def _is_void(self, role: str, signer: str, stream: str, slot: int) -> bool:
        """Whether an entry was signed by somebody who had been removed."""
        heads = self.removed.get((role, signer))
        return heads is not None and (stream not in heads or slot > heads[stream][0])

    @cached_property
    def commits(self) -> list[Slot]:
        """The log of points, no shorter than and the same as when the key file last saw it."""
        entries, seen = self.log("points"), self.key.heads.get(self.region)
        renewed = {hash for one in self.log("renewed") for hash in one.body["seen"]}
        if seen is not None and seen["hash"] not in renewed:
            need(seen["slot"] < len(entries), "log/points", "was longer: it was rolled back")
            need(entries[seen["slot"]].hash == seen["hash"], "log/points", "was another: it was rewritten")
        entries = [one for one in entries if not one.void]
        for one in entries:
            where = f"log/points/{one.slot:016d}"
            shaped(one.body, "commit", where, more=True)
            for head in one.body["heads"].values():
                shaped(head, "head", where)
            need(one.refs == [f"points/{one.body['point']}"], where, "its refs do not name its point")
        return entries

    @cached_property
    def points(self) -> dict[str, dict[str, Any]]:
        """The points that are complete in this region and not forgotten, oldest first, and what they say."""
        gone = self.forgotten
        return {
            entry.body["point"]: self._point(entry.body)
            for entry in self.commits
            if entry.body["point"] not in gone
        }

    @cached_property
    def forgotten(self) -> dict[str, str]:
        """The points that this region has forgotten, and why."""
        found: dict[str, str] = {}
        for one in self.log("forgotten"):
            where = f"log/forgotten/{one.slot:016d}"
            shaped(one.body, "forgotten", where, more=True)
            for point, why in one.body["points"].items():
                need(is_hex(point, 64) and isinstance(why, str), where, f"forgets {point!r}")
            found |= one.body["points"]
        if self.commits:
            need(self.commits[-1].body["point"] not in found, "log/forgotten", "forgets the last point")
        return found

    def _point(self, commit: dict[str, Any]) -> dict[str, Any]:
        name = f"points/{commit['point']}"
        content = self._signed("PONT", name)
        need(len(content) <= POINT_BYTES_MAX, name, "says more than a point may")
        body = parsed(content, name, newest=2)
        shaped(body, "point_with_gaps" if body["format"] == 2 else "point", name)
        for component, snapshot in body["components"].items():
            need(re.fullmatch("[a-z][a-z0-9_]{,63}", component), name, f"a component is called {component!r}")
            shaped(snapshot, "snapshot", name)
        for group in body["groups"].values():
            shaped(group, "group", name)
            for invariant in group["invariants"]:
                shaped(invariant, "invariant", name)
        grades = [group["grade"] for group in body["groups"].values()]
        worst = max(grades, key=GRADES.index, default="exact")
        said = (commit["grade"], commit["created_at"], commit["pipeline"])
        need(said == (worst, body["created_at"], body["pipeline"]), name, "the log says other things of it")
        return body

    # ---------------------------------------------------------------------------------------- binary objects

    def _header(self, kind: str, stored: bytes, name: str, number: int = 1) -> None:
        need(stored[:8] == b"RFLT" + kind.encode() and len(stored) >= 16, name, f"no {kind}")
        found = int.from_bytes(stored[8:10], "big")
        need(found == number, name, f"format {found}: another refloat is needed")
        need(stored[10:16] == bytes(6), name, "its header is not what it must be")

    def _seal_key(self, kind: str) -> bytes:
        return blake3(b"refloat-1 seal:" + kind.encode(), key=self.key.catalogue).digest()

    def _signed(self, kind: str, name: str) -> bytes:
        """The content of a point."""
        return self._content(kind, named(self.root, name), name)

    def _content(self, kind: str, stored: bytes, name: str, number: int = 1, role: str = "writer") -> bytes:
        self._header(kind, stored, name, number)
        bound = stored[:16] + self.bound
        inner = unseal(self._seal_key(kind), stored[16:], bound, name)
        need(len(inner) >= 96, name, "too short to be signed")
        signer = inner[:32].decode("ascii", "replace")
        self._signed_by(role, signer, inner[32:96].hex(), bound + inner[96:], name)
        return inner[96:]

    def _records(self, packed: bytes, pack: str, key: bytes, size: int, name: str) -> dict[bytes, Place]:
        """A directory: its records fill the pack from its header to where the sealed directory begins."""
        found, at = {}, 32
        for chunk, offset, length, raw, codec, zero, base in RECORD.iter_unpack(packed):
            need(zero == bytes(3) and offset == at and length >= 28, name, "its records do not lie in a row")
            need(max(raw, length - 28) <= CHUNK_BYTES_MAX, name, "a chunk is too large")
            found[chunk], at = Place(pack, key, offset, length, raw, codec, base), at + length
        need(at + 28 + len(packed) + 8 == size <= OBJECT_BYTES_MAX, name, "its records do not fill the pack")
        return found

    @cached_property
    def index(self) -> dict[bytes, list[Place]]:
        """Where each chunk lies, as the index objects say, or the packs themselves where there are none."""
        found: dict[bytes, list[Place]] = {}
        indexes = names_below(self.root, "index")
        directories = [one for name in indexes for one in self._index_object(name)]
        if not indexes:
            directories = [self.directory(name[-64:]) for name in names_below(self.root, "packs")]
        for directory in directories:
            for chunk, place in directory.items():
                found.setdefault(chunk, []).append(place)
        return found

    def _index_object(self, name: str) -> Iterator[dict[bytes, Place]]:
        left_out, stored = self._as_written(named(self.root, name), name)
        content, at = self._content("INDX", stored, name), 4
        try:
            for _ in range(struct.unpack_from(">I", content)[0]):
                pack, size, key, count = PACK.unpack_from(content, at)
                start, at = at + PACK.size, at + PACK.size + count * RECORD.size
                need(at <= len(content), name, "ends too early")
                records = self._records(content[start:at], pack.hex(), key, size, name)
                if pack not in left_out:
                    yield records
        except struct.error:
            raise Refused(f"{name}: ends too early") from None
        need(at == len(content), name, "its packs do not fill it")

    def _as_written(self, stored: bytes, name: str) -> tuple[list[bytes], bytes]:
        """The packs that the admin has left out of an index object, and the index object that a writer signed."""
        if int.from_bytes(stored[8:10], "big") != 2:
            return [], stored
        content = self._content("INDX", stored, name, 2, "admin")
        end = 4 + 32 * int.from_bytes(content[:4], "big")
        packs = [content[at : at + 32] for at in range(4, min(end, len(content)), 32)]
        need(end <= len(content) and packs, name, "ends too early")
        need(packs == sorted(set(packs)), name, "what it leaves out is not in order")
        return packs, content[end:]

    def directory(self, pack: str) -> dict[bytes, Place]:
        """What a pack says that it holds; all of its bytes are compared with its name, once."""
        if pack not in self._directories:
            name = f"packs/{pack[:2]}/{pack}"
            stored = named(self.root, name)
            self._header("PACK", stored, name)
            start = len(stored) - 8 - int.from_bytes(stored[-8:-4], "big")
            need(stored[-4:] == b"RFLT" and start >= 32, name, "its end is not what it must be")
            packed = unseal(self._seal_key("PACK"), stored[start:-8], stored[:32] + self.bound, name)
            need(len(packed) % RECORD.size == 0, name, "its directory is cut")
            self._directories[pack] = self._records(packed, pack, stored[16:32], len(stored), name)
        return self._directories[pack]

    def chunk(self, chunk: bytes, *, page: bool = False, depth: int = 0) -> bytes:
        """The raw bytes of a chunk: of a file, or of a folder's page, which the catalogue key opens."""
        why = Refused(f"chunk {chunk.hex()}: nothing says where it lies")
        for place in self.index.get(chunk, ()):
            try:
                if page == (place.key == CATALOGUE):
                    return self._opened(chunk, place, depth)
            except Refused as error:
                why = error  # each copy is as good as the other
        raise why

    def _opened(self, chunk: bytes, place: Place, depth: int = 0) -> bytes:
        name = f"packs/{place.pack[:2]}/{place.pack}"
        where = f"{name}: chunk {chunk.hex()}"
        need(
            self.directory(place.pack).get(chunk) == place, where, "the index says other things than the pack"
        )
        need(place.key in self.secrets, where, "sealed with a key that this reader was not given")
        need(place.codec in (0, 1, 2, 3), where, f"codec {place.codec} is not in use")
        need(
            (place.base == bytes(32)) == (place.codec != 3),
            where,
            "has no base, or one that its codec does not need",
        )
        need(depth <= BASES_MAX, where, "is the end of too many differences")
        with (self.root / name).open("rb") as file:
            file.seek(place.offset)
            record = file.read(place.length)
        described = chunk + bytes([place.codec]) + place.base
        plain = unseal(blake3(described, key=self.secrets[place.key]).digest(), record, described, where)
        if place.codec == 1:
            try:
                need(
                    zstandard.frame_content_size(plain) == place.raw, where, "its frame is of another length"
                )
                plain = zstandard.ZstdDecompressor().decompress(plain, allow_extra_data=False)
            except zstandard.ZstdError as error:
                raise Refused(f"{where}: {error}") from None
        width = plain[3] if place.codec in (2, 3) and len(plain) >= 32 else 0
        if place.codec in (2, 3):
            need(width in (1, 2, 4, 8), where, "its elements are of an impossible width")
            plain = unshuffled(plain, place.raw, where)
        need(len(plain) == place.raw, where, "is of another length")
        if place.codec == 3:
            need(
                len(base := self.chunk(place.base, depth=depth + 1)) == place.raw,
                where,
                "its base is of another length",
            )
            plain = added(plain, base, width)
        need(blake3(plain, key=self.key.chunk_name).digest() == chunk, where, "is not what its name says")
        return plain

    # ---------------------------------------------------------------------------------------- trees

    def tree(self, root: str) -> tuple[Entry, ...]:
        """A component's root folder and everything below it, checked; of its files nothing is read yet."""
        self._entries_left = TREE_ENTRIES_MAX
        return self._folder(root, 0)

    def _folder(self, first: str, depth: int) -> tuple[Entry, ...]:
        where, following, found = f"folder {first}", first, list[Entry]()
        need(depth <= FOLDERS_DEEP_MAX, where, "lies too deep")
        while following is not None:
            page = parsed(self.chunk(bytes.fromhex(following), page=True), where, 3)
            shaped(page, {2: "page_of_more", 3: "page_of_owners"}.get(page.get("format"), "page"), where)
            listed = [one for one in page["entries"] if isinstance(one, dict)]
            odd = any("link" in one or one.get("type") == "fifo" for one in listed)
            owned = any(one.keys() & set(ATTRIBUTES) for one in listed)
            format_ = 3 if owned else 2 if odd else 1
            need(page["format"] == format_, where, "its format is not that of what it holds")
            following = page["next"]
            need(
                page["entries"] or (not found and following is None), where, "an empty page of more than one"
            )
            for one in page["entries"]:
                entry = self._entry(one, where, depth)
                need(not found or found[-1].name < entry.name, where, "its names do not ascend")
                found.append(entry)
        return tuple(found)

    def _entry(self, one: Any, where: str, depth: int) -> Entry:
        self._entries_left -= 1
        need(self._entries_left >= 0, where, "unfolds to more entries than a tree may have")
        kind = one.get("type") if isinstance(one, dict) else None
        need(kind in ("file", "directory", "symlink", "fifo"), where, f"holds a {kind}")
        need("xattrs" not in one or kind in ("file", "directory"), where, f"attributes of a {kind}")
        owner, group = (principal(one[of], where) if of in one else None for of in ("owner", "group"))
        xattrs = extended(one["xattrs"], where) if "xattrs" in one else {}
        one = {key: value for key, value in one.items() if key not in ATTRIBUTES}
        shaped(one, "file_again" if kind == "file" and "link" in one else str(kind), where)
        names = decoded(one["link"], where).split(b"/") if "link" in one else []
        need(not {b"", b".", b".."} & set(names), where, "another name that leads elsewhere")
        name, target, listed = (decoded(one.get(each, ""), where) for each in ("name", "target", "chunks"))
        mode, size = one.get("mode", 0), one.get("size", 0)
        need(1 <= len(name) <= 4096 and not {0, ord("/")} & set(name), where, "holds what no name can be")
        need(name not in (b".", b".."), where, "holds a name that leads elsewhere")
        need(kind != "symlink" or (1 <= len(target) <= 4096 and 0 not in target), where, "a link to nowhere")
        need(mode <= (0o3777 if kind == "directory" else 0o777), where, "more permissions than it may have")
        need(len(listed) % 32 == 0 and bool(listed) == (size > 0), where, "chunks that do not make its size")
        chunks = tuple(listed[at : at + 32] for at in range(0, len(listed), 32))
        below = self._folder(one["tree"], depth + 1) if kind == "directory" else ()
        time = one.get("mtime_ns", 0)
        return Entry(name, str(kind), mode, time, size, chunks, target, below, owner, group, xattrs)

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """A file's bytes, chunk by chunk."""
        size = 0
        for name in entry.chunks:
            yield (piece := self.chunk(name))
            size += len(piece)
        need(size == entry.size, f"file {entry.name!r}", f"has {size} bytes where {entry.size} are said")

    def _write(self, entries: tuple[Entry, ...], folder: int) -> None:
        """Write into an open, empty folder, by handles that no link can lead astray."""
        for one in entries:
            if one.type == "symlink":
                os.symlink(one.target, one.name, dir_fd=folder)
                continue
            if one.type == "fifo":
                os.mkfifo(one.name, one.mode, dir_fd=folder)
                continue
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            if one.type == "directory":
                os.mkdir(one.name, 0o700, dir_fd=folder)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            opened = os.open(one.name, flags, 0o600, dir_fd=folder)
            try:
                if one.type == "directory":
                    self._write(one.entries, opened)
                else:
                    with open(opened, "wb", closefd=False) as file:
                        file.writelines(self.pieces(one))
                os.fchmod(opened, one.mode)
                os.utime(opened, ns=(one.mtime_ns, one.mtime_ns))
            finally:
                os.close(opened)

    def restore(self, point: str, directory: Path) -> None:
        """Write a point's manifest and components into new folders: ``manifest``, ``components/<name>``."""
        need(point in self.points, point, "no entry of the log names this point")
        body = self.points[point]
        roots = {f"components/{name}": one["tree"] for name, one in body["components"].items()}
        roots["manifest"] = body["manifest"]
        trees = {name: self.tree(page) for name, page in roots.items()}  # checked before a byte is written
        for name, entries in trees.items():
            (directory / name).mkdir(parents=True)
            folder = os.open(directory / name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._write(entries, folder)
            finally:
                os.close(folder)

    def check(self) -> dict[str, Any]:
        """Read everything that is there, and count it."""
        need(not self.set_aside, "keys/", f"set aside: {self.set_aside}")
        logs = {stream: len(self.log(stream)) for stream in self.streams()}
        for chunk, places in self.index.items():
            for place in places:
                self._opened(chunk, place)
        bodies = self.points.values()
        roots = {one["tree"] for body in bodies for one in body["components"].values()}
        trees = [self.tree(page) for page in sorted(roots | {body["manifest"] for body in bodies})]
        files = sum(map(_files, trees))
        return {"logs": logs, "points": len(bodies), "chunks": len(self.index), "files": files}


def _files(entries: tuple[Entry, ...]) -> int:
    return sum(_files(one.entries) + (one.type == "file") for one in entries)


def main(arguments: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Read a vault, format 1.")
    parser.add_argument("--key", type=Path)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("points", "logs", "check", "restore"):
        verbs.add_parser(verb).add_argument("replica", type=Path)
    verbs.choices["restore"].add_argument("point")
    verbs.choices["restore"].add_argument("directory", type=Path)
    asked = parser.parse_args(arguments)
    said = "" if asked.key else sys.stdin.readline().rstrip("\n")
    key = Key.load(asked.key) if asked.key else Key.unwrapped(asked.replica, said)
    replica = Replica(asked.replica, key)
    if asked.verb == "points":
        return {"points": replica.points, "set_aside": replica.set_aside}
    if asked.verb == "logs":
        return {stream: [vars(one) for one in replica.log(stream)] for stream in replica.streams()}
    if asked.verb == "check":
        return replica.check()
    replica.restore(asked.point, asked.directory)
    return {"restored": asked.point}


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1:]), indent=1))
    except Refused as error:
        sys.exit(f"refused: {error}")
