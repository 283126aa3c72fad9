"""Single objects of a vault, format 1: how they are named, written, sealed and signed; and the key file.

Written from docs/FORMAT.md alone, as is ``reader``, which builds on it. Whatever is not as the format says is
refused: ``Refused`` names the object and says why.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KIB, MIB = 1024, 1024 * 1024
OBJECT_BYTES_MAX = 64 * MIB  # of packs, index objects and points; the others are smaller:
SMALLER = {"vault.json": 64 * KIB, "keys": 16 * KIB, "log": 4 * MIB}
KEY_FILE_BYTES_MAX = 16 * KIB
KEY_FILE = (
    "kind format vault pipeline admin_public catalogue_key chunk_name_key writer reader operator admin heads"
)
NAME = re.compile(r"(?=.{1,512}\Z)(?!\.+(/|\Z))[a-z0-9_.-]{1,200}(/(?!\.+(/|\Z))[a-z0-9_.-]{1,200})*")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
HEX = re.compile("([0-9a-f]{2})*")


class Refused(Exception):
    """What is stored is not what the format allows."""


def need(holds: object, where: str, why: str) -> None:
    if not holds:
        raise Refused(f"{where}: {why}")


# ------------------------------------------------------------------------------------------- JSON documents


def is_hex(value: Any, digits: int | None = None) -> bool:
    return isinstance(value, str) and bool(HEX.fullmatch(value)) and digits in (None, len(value))


CHECKS: dict[str, Callable[[Any], object]] = {
    "any": lambda value: True,
    "text": lambda value: isinstance(value, str),
    "text?": lambda value: value is None or isinstance(value, str),
    "id": lambda value: isinstance(value, str) and 1 <= len(value) <= 128,
    "label": lambda value: isinstance(value, str) and len(value) <= 128,
    "hex": is_hex,
    "32": lambda value: is_hex(value, 32),
    "64": lambda value: is_hex(value, 64),
    "64?": lambda value: value is None or is_hex(value, 64),
    "128": lambda value: is_hex(value, 128),
    "time": lambda value: isinstance(value, str) and TIME.fullmatch(value),
    "number": lambda value: type(value) is int and 0 <= value < 1 << 63,
    "signed": lambda value: type(value) is int and abs(value) < 1 << 63,
    "byte": lambda value: type(value) is int and 0 <= value <= 255,
    "figure": lambda value: type(value) in (int, float),
    "bool": lambda value: type(value) is bool,
    "bool?": lambda value: value is None or type(value) is bool,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "grade": lambda value: value in ("exact", "fuzzy", "broken"),
}
SHAPES = {  # what each document has, and nothing else; hexadecimal digits by their number
    "descriptor": "format vault:id replica:id region:label pipeline:label chunking:object",
    "chunking": "min:number avg:number max:number",
    "certificate": "format type vault:id role:text public:64 signature:128",
    "removal": "format type vault:id role:text holder:32 at:time heads:object signature:128",
    "seen": "slot:number hash:64",
    "content_key": """format type vault:id id:32 affinity:text reader:32 ephemeral:64 sealed:hex signer:32
        signature:128""",
    "operator_removal": """format type vault:id holder:32 at:time part:number parts:number logs:object
        signature:128""",
    "wrap": """format type vault:id wrap:32 kind:text recipient:text holders:array name:label since:text
        removed_at:text signature:128""",
    "resealed": "format type vault:id old:64 new:64 signature:128",
    "note": "format type vault:id descriptor:object role:text signer:32 signature:128",
    "lock": "format type vault:id seconds:number signature:128",
    "recipient_key_file": "format type vault:id recipient:64 sealed:hex",
    "key_file": "format type vault:id kdf:text salt:32 sealed:hex",
    "slot": """format stream:text slot:number previous:64 time:time signer:32 refs:array sealed:text
        signature:128""",
    "commit": "point:64 heads:object grade:grade created_at:time pipeline:text",
    "forgotten": "points:object seen:number overrides:array",
    "head": "slot:number hash:64 point:64",
    "point": """format pipeline:text primary:text created_at:time manifest:64 components:object groups:object
        profile:text versions:object""",
    "point_with_gaps": """format pipeline:text primary:text created_at:time manifest:64 components:object
        groups:object profile:text versions:object not_captured:object""",
    "snapshot": """kind:text tree:64 identity:object position:object token:text? as_of:time captured_from:time
        captured_to:time files:number bytes:number new_bytes:number stored_bytes:number seconds:figure
        carried:bool""",
    "group": "members:array grade:grade reason:text skew_s:figure invariants:array",
    "invariant": "must:text holds:bool? values:object reason:text",
    "page": "format entries:array next:64?",
    "file": """name:text type mode:number mtime_ns:signed size:number chunks:text segmenter:byte
        token:text""",
    "directory": "name:text type mode:number mtime_ns:signed tree:64",
    "symlink": "name:text type target:text",
    "fifo": "name:text type mode:number mtime_ns:signed",
    "page_of_more": "format entries:array next:64?",
    "page_of_owners": "format entries:array next:64?",
    "file_again": """name:text type mode:number mtime_ns:signed size:number chunks:text segmenter:byte
        token:text link:text""",
}


FORMATS = {"point_with_gaps": 2, "page_of_more": 2, "page_of_owners": 3}  # the others have 1
KEPT = ("system.posix_acl_access", "system.posix_acl_default")
ATTRIBUTES = ("owner", "group", "xattrs")


def canonical(value: object) -> bytes:
    """A surrogate that stands alone has no UTF-8, and is written as JSON's escape."""
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):x}", written).encode()


def without(document: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in fields}


def parsed(stored: bytes, where: str, newest: int = 1) -> dict[str, Any]:
    """A document, where it is canonical and not of a newer format."""
    try:
        document = json.loads(stored)
        same = canonical(document) == stored
    except (ValueError, RecursionError) as error:
        raise Refused(f"{where}: no JSON: {error}") from None
    need(isinstance(document, dict), where, "no JSON object")
    found = document.get("format", 1)
    need(type(found) is not int or found <= newest, where, f"format {found}: a newer refloat is needed")
    need(same, where, "its JSON is not canonical")
    return dict(document)


def clear(stored: bytes, where: str) -> dict[str, Any]:
    """A document that stands in the vault unsealed: all its texts are UTF-8."""
    document = parsed(stored, where)
    need(
        not re.search("[\ud800-\udfff]", json.dumps(document, ensure_ascii=False)),
        where,
        "a text is not UTF-8",
    )
    return document


def shaped(document: Any, kind: str, where: str, *, more: bool = False) -> None:
    """Refuse a document that has not the fields of its kind as they must be; ``more``: others may be there."""
    fields = dict([*one.split(":"), "any"][:2] for one in SHAPES[kind].split())
    need(isinstance(document, dict), where, f"no {kind}")
    need(more or document.keys() <= fields.keys(), where, f"has more than the fields of a {kind}")
    need(document.keys() >= fields.keys(), where, f"has not all the fields of a {kind}")
    need(document.get("format", 1) == FORMATS.get(kind, 1), where, "states no format")
    for name, check in fields.items():
        need(CHECKS[check](document[name]), where, f"its {name} is not what it must be")


def decoded(value: str, where: str) -> bytes:
    """What base64 stands for."""
    try:
        plain = base64.b64decode(value, validate=True)
    except ValueError:
        raise Refused(f"{where}: no base64") from None
    need(base64.b64encode(plain).decode() == value, where, "no base64 in its one spelling")
    return plain


# ------------------------------------------------------------------------------------------- seals, signatures


def unseal(secret: bytes, sealed: bytes, associated: bytes, where: str) -> bytes:
    try:
        return AESGCM(secret).decrypt(sealed[:12], sealed[12:], associated)
    except (InvalidTag, ValueError):
        raise Refused(f"{where}: its seal does not hold") from None


def hpke_opened(private: X25519PrivateKey, sealed: bytes, info: bytes, where: str) -> bytes:
    """What was sealed for a private key by HPKE; the associated data is empty."""
    enc, public = sealed[:32], private.public_key().public_bytes_raw()
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    except ValueError:
        raise Refused(f"{where}: its ephemeral key is none") from None
    key, nonce = hpke_key(shared, enc, public, info)
    return unseal(key, nonce + sealed[32:], b"", where)


def hpke_key(shared: bytes, enc: bytes, public: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and first nonce of HPKE's base mode, written from RFC 9180: X25519, HKDF-SHA256, AES-256-GCM."""
    kem, suite = b"KEM" + b"\0\x20", b"HPKE" + b"\0\x20" + b"\0\x01" + b"\0\x02"

    def extracted(id: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + id + label + material, "sha256")

    def expanded(id: bytes, secret: bytes, label: bytes, about: bytes, length: int) -> bytes:
        labeled = length.to_bytes(2, "big") + b"HPKE-v1" + id + label + about
        return HKDFExpand(SHA256(), length, labeled).derive(secret)

    secret = expanded(kem, extracted(kem, b"", b"eae_prk", shared), b"shared_secret", enc + public, 32)
    about = b"\0" + extracted(suite, b"", b"psk_id_hash", b"") + extracted(suite, b"", b"info_hash", info)
    root = extracted(suite, secret, b"secret", b"")
    return expanded(suite, root, b"key", about, 32), expanded(suite, root, b"base_nonce", about, 12)


def verify(role: str, public: bytes, signature: str, message: bytes, where: str) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(bytes.fromhex(signature), b"refloat-1:" + role.encode() + b":" + message)
    except (InvalidSignature, ValueError):
        raise Refused(f"{where}: its signature does not hold") from None


def id_of(public: bytes) -> str:
    return blake3(public).hexdigest()[:32]


# ------------------------------------------------------------------------------------------- files of a directory


def names_below(root: Path, folder: str) -> list[str]:
    """The objects below a folder; links, and files with other names, are none."""
    found = []
    for at, folders, files in os.walk(root / folder):
        folders[:] = [one for one in folders if not Path(at, one).is_symlink()]
        found += [Path(at, one) for one in files if not Path(at, one).is_symlink()]
    return sorted(name for one in found if NAME.fullmatch(name := str(one.relative_to(root))))


def bytes_of(root: Path, name: str) -> bytes | None:
    """An object's bytes; None where there is no such object."""
    need(NAME.fullmatch(name), repr(name), "no name of an object")
    path, bytes_max = root / name, SMALLER.get(name.split("/")[0], OBJECT_BYTES_MAX)
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        stored = file.read(bytes_max + 1)
    need(len(stored) <= bytes_max, name, f"larger than {bytes_max} bytes")
    return stored


def required(root: Path, name: str) -> bytes:
    stored = bytes_of(root, name)
    if stored is None:
        raise Refused(f"{name}: is missing")
    return stored


def named(root: Path, name: str) -> bytes:
    """The bytes of an object that is named by them."""
    stored = required(root, name)
    need(blake3(stored).hexdigest() == name.split("/")[-1], name, "its bytes are not those of its name")
    return stored


# ------------------------------------------------------------------------------------------- what objects say


@dataclass(frozen=True)
class Slot:
    """An entry of a log, its signature and its place in the chain checked."""

    slot: int
    hash: str
    signer: str
    time: str
    refs: list[str]
    body: dict[str, Any]
    void: bool = False


@dataclass(frozen=True)
class Place:
    """Where a chunk lies, and what it was made of."""

    pack: str
    key: bytes
    offset: int
    length: int
    raw: int
    codec: int
    base: bytes


@dataclass(frozen=True)
class Entry:
    """A name in a folder, with everything below it."""

    name: bytes
    type: str
    mode: int
    mtime_ns: int
    size: int
    chunks: tuple[bytes, ...]
    target: bytes
    entries: tuple[Entry, ...]
    owner: tuple[int, str] | None
    group: tuple[int, str] | None
    xattrs: dict[str, bytes]


def principal(value: Any, where: str) -> tuple[int, str]:
    """A user or a group: number and name."""
    need(isinstance(value, list) and len(value) == 2, where, "an owner is not two things")
    number, name = value
    need(type(number) is int and 0 <= number < 2**32 - 1, where, "an owner of no number")
    need(isinstance(name, str) and len(name) <= 256 and name.isprintable(), where, "an owner of no name")
    return number, name


def extended(value: Any, where: str) -> dict[str, bytes]:
    """The extended attributes of an entry."""
    need(isinstance(value, dict) and 1 <= len(value) <= 64, where, "attributes that are none, or too many")
    found = {name: decoded(text, where) for name, text in value.items()}
    size = sum(len(name) + len(content) for name, content in found.items())
    need(size <= 64 * KIB, where, "attributes that are too large")
    for name in found:
        user = name.startswith("user.") and len(os.fsencode(name)) <= 255 and "\0" not in name
        need(user or name in KEPT, where, "an attribute that is not kept")
    return found


# ------------------------------------------------------------------------------------------- the key file


def publics_of(document: dict[str, Any]) -> dict[str, bytes]:
    """The public keys of a key file's holder, by role."""
    found = {
        role: Ed25519PrivateKey.from_private_bytes(bytes.fromhex(document[role]["signing"]))
        .public_key()
        .public_bytes_raw()
        for role in ("writer", "operator")
        if role in document
    }
    reader = X25519PrivateKey.from_private_bytes(bytes.fromhex(document["reader"]["opening"]))
    return {**found, "reader": reader.public_key().public_bytes_raw()}


def _later(root: Path, found: dict[str, Key]) -> dict[str, set[str]]:
    """By object, those that its writer says to count in its place, of one holder's sealed key files that opened."""
    later: dict[str, set[str]] = {}
    for name in names_below(root, "keys"):
        with contextlib.suppress(Refused):
            document = clear(named(root, name), name)
            if document.get("type") != "resealed":
                continue
            shaped(document, "resealed", name)
            old, new = found.get(document["old"]), found.get(document["new"])
            if old is None or new is None or old.vault != document["vault"]:
                continue
            message = b"resealed:" + canonical(without(document, "signature"))
            verify("writer", old.publics.get("writer", b""), document["signature"], message, name)
            if (old.vault, old.admin, old.publics) == (new.vault, new.admin, new.publics):
                later.setdefault(document["old"], set()).add(document["new"])
    return later


def _after(name: str, later: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        new = later.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


@dataclass(frozen=True)
class Key:
    """What a key file says that a reader needs."""

    vault: str
    pipeline: str
    heads: dict[str, Any]
    admin: bytes
    catalogue: bytes
    chunk_name: bytes
    opening: bytes
    publics: dict[str, bytes]

    @classmethod
    def load(cls, path: Path) -> Key:
        """A key file as a person holds it."""
        with path.open("rb") as file:
            return cls.read(file.read(KEY_FILE_BYTES_MAX + 1), path.name)

    @classmethod
    def read(cls, stored: bytes, where: str) -> Key:
        need(len(stored) <= KEY_FILE_BYTES_MAX, where, "too large for a key file")
        try:
            document = json.loads(stored)
            need(document["kind"] == "refloat key file", where, "no key file")
            need(document["format"] == 1, where, f"format {document['format']}: a newer refloat is needed")
            need(document.keys() <= set(KEY_FILE.split()), where, "a field that no key file has")
            secrets = [document[name] for name in ("admin_public", "catalogue_key", "chunk_name_key")]
            secrets.append(document["reader"]["opening"])
            need(all(is_hex(one, 64) for one in secrets), where, "a key is not 32 bytes in hex")
            told = document["vault"], document["pipeline"], document.get("heads", {})
            return cls(*told, *map(bytes.fromhex, secrets), publics_of(document))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{where}: no key file of a reader: {error!r}") from None

    @classmethod
    def unwrapped(cls, root: Path, passphrase: str) -> Key:
        """The key file that a replica itself holds, opened by a passphrase."""

        def opened(document: dict[str, Any], name: str) -> Key | None:
            if document.get("type") != "key_file":
                return None
            return cls._open(document, passphrase, name)._still_kept(root, document["salt"])

        return cls._kept(root, opened, "no key is kept in this vault")

    @classmethod
    def of_recipient(cls, root: Path, path: Path) -> Key:
        """The key file that a replica itself holds, opened by a recipient's private key."""
        held = json.loads(path.read_text())
        need(held["kind"] == "refloat recipient key" and held["format"] == 1, path.name, "no private key")
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(held["private"]))
        public = private.public_key().public_bytes_raw()

        def opened(document: dict[str, Any], name: str) -> Key | None:
            if document.get("type") != "recipient_key_file" or document["recipient"] != public.hex():
                return None
            shaped(document, "recipient_key_file", name)
            info = b"refloat-1:recipient_key_file:" + canonical(without(document, "sealed"))
            key = cls.read(hpke_opened(private, bytes.fromhex(document["sealed"]), info, name), name)
            need(key.vault == document["vault"], name, "holds the key of another vault")
            return key._still_kept(root, id_of(public))

        return cls._kept(root, opened, "no key is kept in this vault for this recipient")

    @classmethod
    def _kept(cls, root: Path, opened: Callable[[dict[str, Any], str], Key | None], none: str) -> Key:
        """The first key that opens and in whose place no other counts."""
        why = Refused(f"{root.name}: {none}")
        found: dict[str, Key] = {}
        for name in names_below(root, "keys"):
            try:
                if key := opened(clear(named(root, name), name), name):
                    found[name.removeprefix("keys/")] = key
            except Refused as error:
                why = error  # another one may open
        later = _later(root, found)
        for name, key in found.items():
            if not any(name not in _after(one, later) for one in _after(name, later)):
                return key
        raise why

    def _still_kept(self, root: Path, wrap: str) -> Key:
        """The key, unless its admin says that what opened it was let go."""
        said = []
        for name in names_below(root, "keys"):
            with contextlib.suppress(Refused):
                document = clear(named(root, name), name)
                if document.get("type") == "wrap" and document.get("wrap") == wrap:
                    shaped(document, "wrap", name)
                    message = b"wrap:" + canonical(without(document, "signature"))
                    verify("admin", self.admin, document["signature"], message, name)
                    since, gone = document["since"], document["removed_at"]
                    said.append((max(since, gone), gone != ""))
        need(not max(said, default=("", False))[1], "keys/", f"{wrap} was let go")
        return self

    @classmethod
    def _open(cls, document: dict[str, Any], passphrase: str, name: str) -> Key:
        shaped(document, "key_file", name)
        need(document["kdf"] == "scrypt n=32768 r=8 p=1", name, "sealed in a way that is not known")
        salt = bytes.fromhex(document["salt"])
        secret = hashlib.scrypt(passphrase.encode(), salt=salt, n=32768, r=8, p=1, dklen=32, maxmem=64 * MIB)
        sealed, associated = bytes.fromhex(document["sealed"]), canonical(without(document, "sealed"))
        key = cls.read(unseal(secret, sealed, associated, name), name)
        need(key.vault == document["vault"], name, "holds the key of another vault")
        return key
