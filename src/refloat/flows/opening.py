"""What every flow begins with: the manifest's file, late values, the key, and the vault as far as it answers."""

from __future__ import annotations

import errno
import shlex
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

from refloat.clock import Clock
from refloat.contracts import Progress, Silent, Store
from refloat.errors import (
    ManifestError,
    RefloatError,
    Refused,
    UsageError,
    VaultError,
    WrongKey,
    most_hopeful,
)
from refloat.flows.environment import KEY_FILE, MANIFEST, PASSPHRASE
from refloat.limits import MANIFEST_BYTES_MAX
from refloat.manifest.model import Manifest
from refloat.manifest.parse import parse
from refloat.manifest.resolve import Resolver
from refloat.point.evaluate import syntax_error
from refloat.units import format_time
from refloat.vault.keyfile import KEY_OBJECT_BYTES_MAX, KeyFile
from refloat.vault.keys import Keyring, Noted, last_notes
from refloat.vault.layout import KEYS, read_descriptor
from refloat.vault.lock import view
from refloat.vault.recipients import RecipientKey, load_key, told_of
from refloat.vault.replica import Replica
from refloat.vault.resealed import Resealed, outdated, resealed_in
from refloat.vault.seen import keep_seen, load_seen
from refloat.vault.stores import open_store
from refloat.vault.vault import Vault
from refloat.vault.witness import rolled_back, rolled_back_message
from refloat.vault.wraps import Secret, opened
from refloat.verification.metrics import mistakes

SECRET_FILE_BYTES_MAX = 1024 * 1024  # what ``${file:path}`` may bring in

KeyOf = Callable[[Iterable[str]], KeyFile]
"""Comes by the key of the vault whose replicas are at these addresses."""


# ------------------------------------------------------------------------------------------------- manifest


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The manifest at ``path`` and its bytes, expressions and metrics checked too. Raises ``ManifestError``."""
    content = _content(path)
    return parse(content, file=str(path), syntax=syntax_error, asked=mistakes), content


def _content(path: Path) -> bytes:
    try:
        return _of_a_file(path, MANIFEST_BYTES_MAX + 1)
    except FileNotFoundError as error:
        message, hint = "there is no manifest here", "refloat init, or name one with -f FILE"
        raise ManifestError(message, file=str(path), next=hint) from error
    except IsADirectoryError as error:
        hint = f"name the file in it: -f {shlex.quote(str(path / MANIFEST))}"
        raise ManifestError("the manifest is a directory", file=str(path), next=hint) from error
    except OSError as error:
        message = f"the manifest cannot be read: {error.strerror}"
        raise ManifestError(message, file=str(path), next="see who may read it: ls -l") from error


def _of_a_file(path: Path, bytes_max: int) -> bytes:
    """The first bytes of a file. What would be waited for, as a pipe or a terminal, is refused by ``OSError``."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is no file, but a pipe or a device", str(path))
    with path.open("rb") as file:
        return file.read(bytes_max)


def late_values(folder: Path, env: Mapping[str, str]) -> Resolver:
    """A resolver over an environment; files are found from ``folder``, where the manifest lies."""

    def read_file(path: str) -> str:
        return _of_a_file(folder / path, SECRET_FILE_BYTES_MAX).decode("utf-8")

    return Resolver(env, read_file)


def vault_urls(manifest: Manifest, resolver: Resolver) -> Mapping[str, str]:
    """The resolved address of each region's replica. Raises ``ManifestError``."""
    return {region: resolver.vault(manifest, region) for region in manifest.regions}


# ------------------------------------------------------------------------------------------------------ key


def key_named_in(env: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The key file and the passphrase that an environment names. Raises ``UsageError`` where it names both."""
    path, passphrase = env.get(KEY_FILE) or None, env.get(PASSPHRASE) or None
    if path and passphrase:
        raise UsageError(f"{KEY_FILE} and {PASSPHRASE} are both set", next="unset one of them")
    return path, passphrase


def no_key() -> UsageError:
    """What is said where no key is given and nobody can be asked."""
    return UsageError("no key is given", next=f"set {KEY_FILE}, or {PASSPHRASE}")


def key_from(
    urls: Iterable[str], path: str | Path | None, passphrase: str | None
) -> tuple[KeyFile, Secret | None]:
    """The key, and what opened it where a vault keeps it: a passphrase, or a private key that the file holds.

    Raises as ``load_key`` and ``unwrapped_key``.
    """
    secret = load_key(path) if path else passphrase or ""
    if isinstance(secret, KeyFile):
        return secret, None
    return unwrapped_key(urls, secret), secret


def unwrapped_key(urls: Iterable[str], secret: Secret) -> KeyFile:
    """The key that the vaults at ``urls`` keep, sealed for a passphrase or a recipient.

    Raises ``WrongKey`` where the secret opens none, was let go, or opens the keys of different vaults, since it is
    not for the order of addresses to say which of them is meant; and a store's own error where no vault answers.
    """
    kept, words, errors = _wrapped_keys(urls, secret)
    wrong: list[VaultError] = []

    @cache  # the same object lies in every region, and opening it is slow on purpose
    def unwrapped(stored: bytes) -> KeyFile | None:
        try:
            key = opened(stored, secret)
        except VaultError as error:
            wrong.append(error)
            return None
        gone = _let_go(kept, key, stored)
        wrong[:0] = [gone] if gone else []  # of several reasons the one that tells most
        return None if gone else key

    old = outdated(words, chain.from_iterable(kept.values()), unwrapped)
    current = {url: [stored for stored in of if stored not in old] for url, of in kept.items()}
    found = {url: key for url, of in current.items() if (key := _that_counts(url, of, unwrapped)) is not None}
    keys = {key.vault: key for key in found.values()}
    if len(keys) > 1:
        told = "; ".join(f"{url} that of vault {key.vault}" for url, key in found.items())
        raise WrongKey(
            f"{_called(secret)} opens the keys of different vaults: {told}",
            next="correct the `vault` of the region that is not this pipeline's, name the one that is with --vault, or "
            f"give the key file: {KEY_FILE}",
        )
    if not keys:
        raise wrong[0] if wrong else most_hopeful(errors or [_none_kept(secret)])
    return next(iter(keys.values()))


def _that_counts(
    url: str, wrapped: Sequence[bytes], unwrapped: Callable[[bytes], KeyFile | None]
) -> KeyFile | None:
    """The first key that opens; of several, the first that the vault vouches for: a command may have been cut."""
    found = filter(None, map(unwrapped, wrapped))
    first = next(found, None)
    if first is None or len(wrapped) == 1 or _is_vouched(first, url):
        return first
    return next((key for key in found if _is_vouched(key, url)), first)


def _is_vouched(key: KeyFile, url: str) -> bool:
    try:
        return not Keyring.vouched(key, view(open_store(url))).unvouched()
    except RefloatError:
        return False


def _let_go(urls: Iterable[str], key: KeyFile, stored: bytes) -> WrongKey | None:
    """Why what a vault keeps opens nothing: its admin, whom ``key`` names, let it go. It may be locked, or a copy."""
    told = told_of(stored)
    notes = (noted for url in urls if told and (noted := _note(url, key, told.id)) is not None)
    last = next(iter(last_notes(notes).values()), None)  # all are of one way
    if last is None or last.removed_at is None:
        return None
    return WrongKey(
        f"the admin of the vault let this {last.told.kind} go at {format_time(last.removed_at)}",
        next=f"give another key of the vault: {KEY_FILE}, or {PASSPHRASE}",
    )


def _note(url: str, key: KeyFile, id: str) -> Noted | None:
    with suppress(RefloatError):
        return Keyring.vouched(key, view(open_store(url))).notes().get(id)
    return None


def _called(secret: Secret) -> str:
    return "the passphrase" if isinstance(secret, str) else f"the private key of {secret.recipient}"


def _none_kept(secret: Secret) -> WrongKey:
    if isinstance(secret, str):
        none = "no vault here keeps a key for a passphrase"
        return WrongKey(none, next=f"give the key file: {KEY_FILE}")
    return WrongKey(
        f"no vault here keeps a key for {secret.recipient}",
        next=f"let the admin add it: refloat vault keys add --name NAME --recipient {secret.recipient}",
    )


def _wrapped_keys(
    urls: Iterable[str], secret: Secret
) -> tuple[dict[str, list[bytes]], list[Resealed], list[RefloatError]]:
    """The wrapped keys at each address that answers, what is said of them there, and the errors of the others."""
    kept: dict[str, list[bytes]] = {}
    words: list[Resealed] = []
    errors: list[RefloatError] = []
    for url in urls:
        try:
            kept[url], said = _wrapped_keys_in(view(open_store(url)), secret)
            words += said
        except RefloatError as error:
            errors.append(error)
    return kept, words, errors


def _wrapped_keys_in(store: Store, secret: Secret) -> tuple[list[bytes], list[Resealed]]:
    """Those of the vault that the store says it is first: the key of another one may have strayed there."""
    small = [found.name for found in store.list(KEYS) if found.size <= KEY_OBJECT_BYTES_MAX]
    marks = [b'"type":"key_file"'] if isinstance(secret, str) else _marks_of(secret)
    wrapped: list[bytes] = []
    words: list[Resealed] = []
    for name in sorted(small):
        stored = store.get(name)
        if all(mark in stored for mark in marks):
            wrapped.append(stored)
        elif (word := resealed_in(stored)) is not None:
            words.append(word)
    try:
        own = f'"vault":"{read_descriptor(store).vault}"'.encode()
    except RefloatError:
        return wrapped, words
    return sorted(wrapped, key=lambda stored: own not in stored), words


def _marks_of(key: RecipientKey) -> list[bytes]:
    return [b'"type":"recipient_key_file"', f'"recipient":"{key.public.hex()}"'.encode()]


# ---------------------------------------------------------------------------------------------------- vault


def _addresses(
    manifest: Manifest, resolver: Resolver, regions: Iterable[str]
) -> tuple[dict[str, str], dict[str, RefloatError]]:
    """The addresses of regions, and the errors of those that this machine cannot know: they keep no other away."""
    urls: dict[str, str] = {}
    unknown: dict[str, RefloatError] = {}
    for region in regions:
        try:
            urls[region] = resolver.vault(manifest, region)
        except ManifestError as error:
            unknown[region] = error.at(region=region)
    return urls, unknown


@dataclass(frozen=True)
class Opener:
    """Opens vaults, with one way to come by the key. ``cache`` is a folder for what can be fetched again, ``state`` one
    for what this machine saw of the vaults.

    ``progress`` gives who is told how far a large index is read, which happens when it is first needed.
    """

    key: KeyOf
    clock: Clock
    cache: Path | None = None
    progress: Callable[[], Progress] = Silent
    state: Path | None = None

    def of_manifest(
        self,
        manifest: Manifest,
        resolver: Resolver,
        silent: Mapping[str, RefloatError] | None = None,
        awaited: Collection[str] | None = None,
    ) -> Vault:
        """The manifest's vault; regions that do not answer are its ``unreachable``, the ``silent`` unasked.

        Those that say nothing are not waited for long, but for the ``awaited``, as ``Vault.open``.
        """
        silent = silent or {}
        asked = [region for region in manifest.regions if region not in silent]
        urls, unknown = _addresses(manifest, resolver, asked)
        unknown |= silent
        if not urls:
            raise most_hopeful(unknown.values())
        key = self.key(urls.values())
        if key.pipeline != manifest.pipeline:
            raise UsageError(
                f"the key is that of the pipeline {key.pipeline!r}, and the manifest that of {manifest.pipeline!r}",
                next="give each pipeline a vault and a key of its own, or correct `pipeline`",
            )
        opened = self._opened(urls, key, awaited)
        return Vault(opened.replicas, {**opened.unreachable, **unknown}) if unknown else opened

    def at(self, address: str) -> Vault:
        """The one replica at an address, under the region's name that it carries."""
        region = read_descriptor(view(open_store(address))).region or "here"
        return self._opened({region: address}, self.key([address]))

    def _opened(
        self,
        urls: Mapping[str, str],
        key: KeyFile,
        awaited: Collection[str] | None = None,
        beside: Collection[str] = (),
    ) -> Vault:
        vault = Vault.open(urls, key, self.clock, self.cache, awaited, beside)
        seen = {} if self.state is None else load_seen(self.state, key.vault)
        for replica in vault.replicas.values():
            replica.progress = self.progress()
            replica.keyring.adopt_seen(seen)
        return vault

    def with_others(
        self,
        reached: Vault,
        manifest: Manifest,
        resolver: Resolver,
        awaited: Collection[str] | None = (),
    ) -> Vault:
        """What was reached, and every other region of the manifest that a point carried, as far as it answers.

        Those that say nothing are not waited for long, but for the ``awaited``, as ``Vault.open``.
        """
        known = {*reached.replicas, *reached.unreachable}
        urls, unknown = _addresses(manifest, resolver, [one for one in manifest.regions if one not in known])
        reached = Vault(reached.replicas, {**reached.unreachable, **unknown}) if unknown else reached
        if not urls:
            return reached
        try:  # with the key of what was reached: what lies at another address may have one of its own
            key = self.key(replica.store.url for replica in reached.replicas.values())
            more = self._opened(urls, key, awaited, beside=reached.replicas)
        except RefloatError as error:
            return Vault(reached.replicas, {**reached.unreachable, **dict.fromkeys(urls, error)})
        return Vault({**reached.replicas, **more.replicas}, {**reached.unreachable, **more.unreachable})


def require_region(region: str, known: Iterable[str]) -> None:
    """Raises ``UsageError`` for a region that is none of the manifest's."""
    names = list(known)
    if region not in names:
        raise UsageError(f"the manifest knows no region {region!r}", next=f"its regions: {', '.join(names)}")


def target_replica(reached: Vault, to: str, address: str | None) -> Replica:
    """The replica to recover from: the one at ``address``, else that of the region to recover in.

    Raises its error where it does not answer, and ``UsageError`` for no such region.
    """
    if address is not None:
        return next(iter(reached.replicas.values()))
    require_region(to, [*reached.replicas, *reached.unreachable])
    if to in reached.unreachable:
        raise reached.unreachable[to]
    return reached.replicas[to]


def require_not_rolled_back(vault: Vault, needed: Collection[str], overrides: frozenset[str]) -> list[str]:
    """Raises ``Refused`` (rule ``log_rolled_back``) where the log of a region that is ``needed`` is not what was seen.

    What is to be said of the others, from which nothing is taken.
    """
    shorter = rolled_back(list(vault.replicas.values()))
    said = {region: rolled_back_message(region, seen, there) for region, (seen, there) in shorter.items()}
    for region in said if "log_rolled_back" not in overrides else ():
        if region in needed:
            raise Refused(
                "log_rolled_back",
                said[region],
                region=region,
                next=f"refloat vault rejoin {region}, or recover from a region whose log is whole; "
                "to take what is left all the same: --override log_rolled_back",
            )
    return [message for region, message in said.items() if region not in needed]


def pin_heads(
    vault: Vault, key_file: str | Path | None, but: Collection[str], state: Path | None = None
) -> None:
    """Keep in the folder ``state`` and in the key file what each region's log of points ends with, but for some.

    Raises ``OSError`` where a file cannot be replaced, and the error of a log that cannot be read.
    """
    replicas = [replica for region, replica in vault.replicas.items() if region not in but]
    points = {replica.region: point for replica in replicas if (point := replica.last_point()) is not None}
    heads = {region: (point.slot, point.hash) for region, point in points.items()}
    if state is not None and replicas:
        keep_seen(state, replicas[0].keyring.vault, heads)
    if key_file and isinstance(load_key(key_file), KeyFile):
        KeyFile.pin(key_file, heads)
