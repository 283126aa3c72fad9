"""The same from Python: protect and recover a pipeline from a notebook, a script or a CI job.

    from refloat import Manifest, Vault, protect, recover

    manifest = Manifest.load("refloat.yaml")
    vault = Vault.open(manifest, key="chat.key")
    made = protect(manifest, vault)

Nothing is printed. What fails raises a ``RefloatError``, whose message shows no value that came from ``${env:}``
or ``${file:}``. What a call returns says in ``ok`` whether all that was asked for came true, and in ``document()``
what the command prints with ``--json``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, overload

from refloat.cli.system import SystemClock, cache_dir
from refloat.contracts import Progress
from refloat.durable import as_error
from refloat.errors import RefloatError, UsageError
from refloat.flows import accept as accepting
from refloat.flows import into as bringing
from refloat.flows import opening, points
from refloat.flows import protect as protecting
from refloat.flows import recover as recovering
from refloat.flows import verify as verifying
from refloat.flows.accept import Accepted
from refloat.flows.apart import require_apart
from refloat.flows.components import Components
from refloat.flows.environment import MANIFEST
from refloat.flows.into import Brought
from refloat.flows.landing import place
from refloat.flows.opening import Opener
from refloat.flows.prepare import Wanted
from refloat.flows.protect import Protected
from refloat.flows.recover import Recovered
from refloat.flows.request import Request, moment, require_only_bytes
from refloat.flows.verify import Measured, Verified
from refloat.manifest.model import Manifest as Model
from refloat.manifest.resolve import Resolver, redact
from refloat.vault import vault as replicas
from refloat.vault.keyfile import KeyFile

__all__ = [
    "Accepted",
    "Brought",
    "Manifest",
    "Measured",
    "Protected",
    "Recovered",
    "Vault",
    "Verified",
    "accept",
    "protect",
    "recover",
    "verify",
]


@dataclass(frozen=True)
class Manifest:
    """A manifest as it was read from its file; ``model`` is everything that it says."""

    path: Path
    content: bytes
    model: Model

    @classmethod
    def load(cls, path: str | Path = MANIFEST) -> Manifest:
        """Read and check a manifest. Raises ``ManifestError``, which names the line and the column.

        >>> Manifest.load("refloat.yaml").primary
        'eu'
        """
        read, content = opening.read_manifest(Path(path))
        return cls(Path(path), content, read)

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self.model.pipeline

    @property
    def primary(self) -> str:
        """The region where the pipeline is said to run."""
        return self.model.primary

    @property
    def regions(self) -> tuple[str, ...]:
        """The names of the regions."""
        return tuple(self.model.regions)

    @property
    def components(self) -> tuple[str, ...]:
        """The names of the components."""
        return tuple(self.model.components)

    def _resolver(self) -> Resolver:
        return opening.late_values(self.path.parent, os.environ)


@dataclass(frozen=True, repr=False)
class Vault:
    """A pipeline's vault, opened with a key; it needs no closing. A region that comes back is seen when it is
    opened again.
    """

    _reached: replicas.Vault
    _opener: Opener
    _manifest: Manifest | None
    _address: str | None
    _key_file: str | Path | None

    @classmethod
    def open(
        cls, place: Manifest | str, *, key: str | Path | None = None, passphrase: str | None = None
    ) -> Vault:
        """The vault of a manifest; or the one replica at an address, as on a machine with nothing else.

        ``key`` is a key file, or a recipient's private key, which opens a key that the vault keeps, as ``passphrase``
        does. Without either, the variables
        ``REFLOAT_KEY_FILE`` and ``REFLOAT_PASSPHRASE`` count; nobody is asked. Raises ``UsageError`` for no
        key or two, ``WrongKey`` for that of another vault, ``StoreError`` where no region answers; a region
        that does not answer while another does is in ``unreachable``.

        >>> vault = Vault.open("s3://refloat-us/chat", key="chat.key")
        """
        key, passphrase = _given(key, passphrase)
        opener = Opener(lambda urls: _key(urls, key, passphrase), SystemClock(), cache_dir())
        if isinstance(place, str):
            with _clean_errors():
                return cls(opener.at(place), opener, None, place, key)
        late = place._resolver()
        with _clean_errors(late):
            return cls(opener.of_manifest(place.model, late), opener, place, None, key)

    def __repr__(self) -> str:
        return f"Vault(regions={self.regions}, unreachable={tuple(self.unreachable)})"

    @property
    def regions(self) -> tuple[str, ...]:
        """The regions that answer."""
        return tuple(self._reached.replicas)

    @property
    def unreachable(self) -> Mapping[str, RefloatError]:
        """For each region that does not answer, why."""
        return dict(self._reached.unreachable)

    def _require_opened_with(self, manifest: Manifest) -> None:
        """Raises ``UsageError`` where a point would not go to every region that the manifest names."""
        own = self._manifest and (self._manifest.pipeline, self._manifest.model.regions)
        if own != (manifest.pipeline, manifest.model.regions):
            raise UsageError("the vault was not opened with this manifest", next="Vault.open(manifest)")

    def _resolver(self) -> Resolver:
        """Late values for a manifest that a point carries: files are found where the vault's manifest lies."""
        folder = Path() if self._manifest is None else self._manifest.path.parent
        return opening.late_values(folder, os.environ)


def protect(
    manifest: Manifest,
    vault: Vault,
    *,
    region: str | None = None,
    require: Literal["exact"] | None = None,
    progress: Progress | None = None,
) -> Protected:
    """Capture every component into one recovery point and write it to every region's vault.

    ``region`` is where the pipeline runs, if not in the primary; with ``require="exact"`` a fuzzy point is
    not ``ok``. A point that is broken, in too few regions, or lacks a component's newest state is returned,
    and not ``ok``. Raises ``ManifestError`` where a vault does not lie apart from another or from a component,
    ``ConnectorError`` where nothing could be captured, ``StoreError`` where no region took the point, and
    ``Refused`` (rule ``primary_moved``) where the newest point was made in another region.

    >>> made = protect(manifest, vault, require="exact")
    >>> made.ok, made.name, made.point.grade
    (True, '0b1d6be5...', <Grade.EXACT: 'exact'>)
    """
    grade = protecting.required_grade(require)
    vault._require_opened_with(manifest)
    components = Components(manifest.model, manifest._resolver())
    with _clean_errors(components.resolver):
        require_apart(components, manifest.content, manifest.path)
        files = protecting.carried_files(components, manifest.content, manifest.path.parent)
        made = protecting.protect(
            components,
            files,
            vault._reached,
            vault._opener.clock,
            region=region,
            require=grade,
            progress=progress,
        )
    for error in made.errors.values():
        _clean(error, components.resolver)
    with suppress(OSError, RefloatError):  # the point stands, whether its key file can be written or not
        opening.pin_heads(vault._reached, vault._key_file, made.incomplete)
    return made


@overload
def recover(
    vault: Vault,
    to: str,
    *,
    into: None = None,
    point: str | None = None,
    at: datetime | str | None = None,
    only: Iterable[str] = (),
    overrides: Iterable[str] = (),
    lost_at: datetime | str | None = None,
    resume: str | None = None,
    scenario: str | None = None,
    before: datetime | str | None = None,
    progress: Progress | None = None,
) -> Recovered: ...


@overload
def recover(
    vault: Vault,
    to: None = None,
    *,
    into: str | Path,
    point: str | None = None,
    at: datetime | str | None = None,
    only: Iterable[str] = (),
    overrides: Iterable[str] = (),
    progress: Progress | None = None,
) -> Brought: ...


def recover(
    vault: Vault,
    to: str | None = None,
    *,
    into: str | Path | None = None,
    point: str | None = None,
    at: datetime | str | None = None,
    only: Iterable[str] = (),
    overrides: Iterable[str] = (),
    lost_at: datetime | str | None = None,
    resume: str | None = None,
    scenario: str | None = None,
    before: datetime | str | None = None,
    progress: Progress | None = None,
) -> Recovered | Brought:
    """Recover everything in region ``to``: stage, check, switch, start, verify; or put it all back.

    The newest good point is taken, or ``point`` (its name, or how it begins), or the newest not after ``at``;
    ``only`` names some components; ``overrides`` names safety rules to go on against; RTO and RPO count from
    ``lost_at``; ``resume`` goes on with a run. Times are aware ``datetime`` or RFC 3339. ``scenario`` is what
    happened or is to (docs/SCENARIOS.md), some of them with ``only`` or ``before``.

    With ``into`` in place of ``to``, only bytes are brought into a folder that is empty or not there: no run begins.

    A run that ended is returned, in whatever state: ``ok`` is false where it was blocked or rolled back, and
    where the manifest asks for verification and the answer is not known.
    Raises ``Refused`` and ``UsageError`` before anything is touched, ``Waiting`` where a person must decide,
    ``VaultError`` where what is stored is not what was written.

    >>> done = recover(vault, to="us", lost_at="2026-11-01T12:00:00Z")
    >>> done.ok, done.evidence.rto.seconds
    (True, 41.8)
    >>> recover(vault, into="./recovered", only=["answers"]).components["answers"].files
    12
    """
    clock = vault._opener.clock
    if into is not None:
        rules = frozenset(overrides)
        require_only_bytes(
            to=to, resume=resume, lost_at=lost_at, overrides=rules, scenario=scenario, before=before
        )
        wanted = Wanted("", point, moment(at, "--at"), tuple(only), rules)
        return _bring(vault, into, wanted, progress)
    if to is None:
        raise UsageError("neither to nor into says where to", next='recover(vault, to="REGION")')
    request = Request.checked(
        to,
        point=point,
        at=at,
        only=only,
        overrides=overrides,
        lost_at=lost_at,
        resume=resume,
        scenario=scenario,
        before=before,
        now=clock.now(),
    )
    late = vault._resolver()
    with _clean_errors(late):
        request = request.named(vault._reached, vault._address)
        prepared, everywhere = request.ready(vault._reached, vault._address, vault._opener, lambda: late)
        return recovering.recover(
            prepared,
            everywhere,
            clock,
            run=request.resume,
            overrides=request.wanted.overrides,
            declared_at=request.declared_at,
            progress=progress,
        )


@overload
def verify(
    manifest: Manifest,
    vault: Vault,
    *,
    region: str | None = None,
    save_baseline: Literal[False] = False,
    progress: Progress | None = None,
) -> Verified: ...


@overload
def verify(
    manifest: Manifest,
    vault: Vault,
    *,
    region: str | None = None,
    save_baseline: Literal[True],
    progress: Progress | None = None,
) -> Measured: ...


def verify(
    manifest: Manifest,
    vault: Vault,
    *,
    region: str | None = None,
    save_baseline: bool = False,
    progress: Progress | None = None,
) -> Verified | Measured:
    """Put what the manifest verifies under load in ``region`` (the primary), and judge it against the baselines.

    With ``save_baseline`` what is measured is kept as the baseline of what is live now, in every region, instead. What
    is worse, or not known to be as good, is returned and not ``ok``. Raises ``ConnectorError`` where the identity of
    what is measured moves, or where nothing that could be a baseline answers, and ``UsageError`` where the manifest
    verifies nothing.

    >>> verify(manifest, vault).verified
    True
    >>> verify(manifest, vault, save_baseline=True).regions
    {'eu': None, 'us': None}
    """
    vault._require_opened_with(manifest)
    components = Components(manifest.model, manifest._resolver())
    with _clean_errors(components.resolver):
        flow = verifying.save_baseline if save_baseline else verifying.verify
        return flow(
            components,
            verifying.golden_files(components, manifest.path.parent),
            vault._reached,
            region or manifest.primary,
            vault._opener.clock,
            progress=progress,
        )


def accept(vault: Vault, point: str, *, because: str) -> Accepted:
    """Say that a suspect point is good, as a person who has looked at it: recoveries take it again.

    ``point`` is its name, or how it begins; ``because`` goes on record. Takes a key with the admin's role. A region
    that does not answer is not told, and the result not ``ok``. Raises ``UsageError`` where the point is not suspect
    or no reason is given, ``WrongKey`` without the admin's role.

    >>> accept(vault, "3f2a", because="retrained from scratch, ticket 81").regions
    ('eu', 'us')
    """
    with _clean_errors(vault._resolver()):
        name, _, _ = points.find(list(vault._reached.replicas.values()), point)
        return accepting.accept(vault._reached, name, because)


def _bring(vault: Vault, into: str | Path, wanted: Wanted, progress: Progress | None) -> Brought:
    """As ``recover --into``: a log that was rolled back is not believed, whichever region is read."""
    reached, late, overrides = vault._reached, vault._resolver(), wanted.overrides
    with _clean_errors(late):
        folder = place(str(into))
        chosen = bringing.choose(
            list(reached.replicas.values()),
            point=wanted.point,
            at=wanted.at,
            only=wanted.only,
            overrides=overrides,
        )
        everywhere, unasked = bringing.witnesses(chosen, reached, vault._opener, lambda: late)
        unneeded = opening.require_not_rolled_back(everywhere, reached.replicas, overrides)
        brought = bringing.bring(
            chosen.reading_also(everywhere),
            folder,
            vault._opener.clock,
            overrides=overrides,
            progress=progress,
        )
    passed_over = {**reached.unreachable, **chosen.passed_over}.items()
    remarks = [f"{region} is passed over: {error.message}" for region, error in passed_over]
    return replace(
        brought,
        remarks=tuple(
            redact(remark, late.secrets) for remark in (*remarks, *unasked, *unneeded, *brought.remarks)
        ),
    )


def _given(file: str | Path | None, passphrase: str | None) -> tuple[str | Path | None, str | None]:
    """What was passed, else what the environment names. Raises ``UsageError`` for no key or two."""
    if file and passphrase:
        raise UsageError("a key file and a passphrase are both given", next="give one of them")
    given = (file, passphrase) if file or passphrase else opening.key_named_in(os.environ)
    if not any(given):
        raise opening.no_key()
    return given


def _key(urls: Iterable[str], file: str | Path | None, passphrase: str | None) -> KeyFile:
    return opening.key_from(urls, file, passphrase)[0]


@contextmanager
def _clean_errors(late: Resolver | None = None) -> Iterator[None]:
    """Every error is a ``RefloatError``, and shows no secret."""
    try:
        yield
    except RefloatError as error:
        _clean(error, late)
        raise
    except OSError as error:
        named = as_error(error)
        _clean(named, late)
        raise named from error


def _clean(error: RefloatError, late: Resolver | None) -> None:
    """Replace every secret that ``late`` knows in what an error says."""
    secrets = late.secrets if late is not None else ()
    error.message = redact(error.message, secrets)
    error.next = redact(error.next_step, secrets)
    error.file = error.file and redact(error.file, secrets)
    error.args = (error.message,)
