"""``refloat vault``: make the replicas, check them, mend them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli import (
    vault_export,
    vault_keys_add,
    vault_kit,
    vault_look,
    vault_prune,
    vault_regions,
    vault_replicate,
)
from refloat.cli.common import (
    KEY_FILE,
    PASSPHRASE,
    Session,
    examples,
    has_key,
    key_file,
    load_manifest,
    open_vault,
    resolver,
    session_of,
    telling,
    vault_urls,
)
from refloat.cli.completion import repair_rules
from refloat.cli.places import VaultOption, open_place
from refloat.cli.system import local_state_dir

if TYPE_CHECKING:
    from fractions import Fraction

    from refloat.errors import RefloatError
    from refloat.flows.newer import Behind
    from refloat.flows.repair import Mended, Repair
    from refloat.vault.check import CheckReport, Damage
    from refloat.vault.keys import KeyFile
    from refloat.vault.reading import Reading
    from refloat.vault.replica import Replica
    from refloat.vault.vault import Vault

vault = typer.Typer(
    no_args_is_help=True,
    help="The vault's replicas.",
    epilog=examples("refloat vault init", "refloat vault check --read-data", "refloat vault repair"),
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(vault, name="vault")


@vault.command(
    "init",
    epilog=examples(
        "refloat vault init", "refloat vault init --key /safe/place/chat.key", "refloat vault init --lock 30d"
    ),
)
def init(
    context: typer.Context,
    key: Annotated[
        Path | None,
        typer.Option(help="Where the key goes, else REFLOAT_KEY_FILE; never over another.", metavar="FILE"),
    ] = None,
    lock: Annotated[
        str | None,
        typer.Option(help="Lock what each point needs for so long: nobody can undo it.", metavar="30d"),
    ] = None,
) -> int:
    """Make an empty replica in every region, and the key file that opens them; the same again goes on."""
    import os

    from refloat.errors import RefloatError
    from refloat.flows.apart import require_apart
    from refloat.flows.components import Components
    from refloat.flows.making import Wanted, make_vault
    from refloat.flows.opening import key_named_in
    from refloat.vault.lock import require_lockable
    from refloat.vault.replica import Begun
    from refloat.vault.stores import open_store

    session = session_of(context)
    manifest, content = load_manifest(session.file)
    late = resolver(session)
    stores = {region: open_store(url) for region, url in vault_urls(manifest, late).items()}
    require_apart(Components(manifest, late), content, session.file, local_state_dir())
    term = _term(lock)
    if term is not None:
        require_lockable(stores)
    named, passphrase = key_named_in(os.environ)
    path = key or Path(named or f"{manifest.pipeline}.key")
    begun, wanted = Begun(), Wanted(manifest.pipeline, path, term, passphrase)
    with telling(
        f"the vault is made, and its key is {path.resolve()}", "refloat protect", over=False
    ) as work:
        try:
            keys, made = make_vault(
                wanted,
                stores,
                session.clock,
                local_state_dir(),
                going_on=lambda: session.console.note(f"going on with the vault that {path} is the key of"),
                begun=begun,
            )
            work.over = True
        except (RefloatError, KeyboardInterrupt):
            if begun.left and not work.over:
                session.console.warn(f"{path} stays: it opens what may be left in {' and '.join(begun.left)}")
            raise
        for region in made:
            session.console.print(f"region {region}: an empty replica at {stores[region].url}")
        session.console.advise(
            f"key: {path.resolve()}\nKeep it in two safe places that are in none of these regions; without it "
            f"nothing can be recovered.\nnext: export {KEY_FILE}={shlex.quote(str(path.resolve()))} && refloat protect"
        )
        regions = {region: store.url for region, store in stores.items()}
        lock_s = 0 if term is None else int(term.total_seconds())
        session.console.emit(
            {"vault": keys.vault, "key": str(path.resolve()), "regions": regions, "lock_s": lock_s}
        )
    return 0


def _term(lock: str | None) -> timedelta | None:
    """For how long points are locked. Raises ``UsageError`` for what is no such time."""
    from refloat.errors import UsageError
    from refloat.limits import LOCK_SECONDS_MAX
    from refloat.units import parse_duration

    if lock is None:
        return None
    try:
        seconds = parse_duration(lock)
    except ValueError as error:
        raise UsageError(f"--lock: {error}", next="for example --lock 30d") from error
    if not 1 <= seconds <= LOCK_SECONDS_MAX:
        raise UsageError(
            "--lock takes a second to ten years: nobody can take a lock back", next="for example --lock 30d"
        )
    return timedelta(seconds=int(seconds))


@vault.command(
    "check",
    epilog=examples(
        "refloat vault check",
        "refloat vault check --read-data --json",
        "refloat vault check --read-data --share 1/30",
    ),
)
def check(
    context: typer.Context,
    vault: VaultOption = None,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and verify every byte.")] = False,
    share: Annotated[
        str | None,
        typer.Option(
            metavar="N/M",
            help="With --read-data: only this share, as 1/30, what was not read for longest first; 1/1 is all anew.",
        ),
    ] = None,
) -> int:
    """Is everything there that the points need, and is it still what was written?"""
    from refloat.errors import Damaged, VaultError, WrongKey
    from refloat.flows.newer import late
    from refloat.vault.check import check as inspect
    from refloat.vault.replica import REPAIR
    from refloat.vault.witness import rolled_back

    session = session_of(context)
    part = _share(share, read_data=read_data)
    opened = open_place(session, vault, awaited=())
    progress = session.console.progress()
    shorter = rolled_back(list(opened.replicas.values()))
    reports = opened.each(
        lambda replica: inspect(
            replica,
            read_data=read_data,
            progress=progress,
            reading=_reading(session, replica, part),
            others=[other for other in opened.replicas.values() if other is not replica],
            shorter=shorter,
        )
    )
    unknown: dict[str, RefloatError] = {}
    behind = late(list(opened.replicas.values()), unknown)
    session.console.close()
    for region, report in reports.items():
        _show(session.console.print, region, report)
        _warn_unopened(session, region, report)
    for region, error in opened.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    for one in behind.values():
        session.console.warn(f"{one.told}: {REPAIR}")
    for error in unknown.values():
        session.console.warn(error.told)
    wrong: list[dict[str, object]] = [
        {"object": error.file, "region": region, "affects": [], "reason": error.message, "next": error.next}
        for region, error in opened.unreachable.items()
        if isinstance(error, Damaged | WrongKey)
    ]
    session.console.emit(_checked(reports, sorted(opened.unreachable), wrong, behind, unknown))
    if wrong or any(not report.ok for report in reports.values()):
        return VaultError.exit_code
    short = opened.unreachable or behind or unknown
    return 1 if short or any(report.lapsed for report in reports.values()) else 0


def _checked(
    reports: Mapping[str, CheckReport],
    unreachable: list[str],
    wrong: list[dict[str, object]],
    behind: Mapping[str, Behind],
    unknown: Mapping[str, RefloatError],
) -> dict[str, object]:
    """The JSON document of a check; ``wrong`` is what is damaged in regions that could not be opened."""
    from refloat.units import format_time

    return {
        "ok": all(report.ok and not report.lapsed for report in reports.values())
        and not (unreachable or behind or unknown),
        "packs": sum(report.packs for report in reports.values()),
        "chunks": sum(report.chunks for report in reports.values()),
        "bytes_read": sum(report.bytes_read for report in reports.values()),
        "damaged": [*(found for report in reports.values() for found in _told(report.damaged)), *wrong],
        "covered": [found for report in reports.values() for found in _told(report.covered)],
        "unreachable": unreachable,
        **({"behind": {region: one.document() for region, one in behind.items()}} if behind else {}),
        **({"unknown": {region: error.told for region, error in unknown.items()}} if unknown else {}),
        "read": {
            region: {
                "since": None if far.since is None else format_time(far.since),
                "unread_bytes": far.unread_bytes,
                "began_at": None if far.began_at is None else format_time(far.began_at),
                "before_bytes": far.before_bytes,
            }
            for region, report in reports.items()
            if (far := report.so_far) is not None
        },
        "locks": {
            region: {
                "until": None if held.until is None else format_time(held.until),
                "lapsed": list(held.lapsed),
            }
            for region, report in reports.items()
            if (held := report.held) is not None
        },
    }


def _warn_unopened(session: Session, region: str, report: CheckReport) -> None:
    if report.packs_unopened:
        session.console.warn(
            f"{report.packs_unopened} packs of {region} were only held against their names: this key opens none of "
            "their records; a reader's key does"
        )


def _told(damages: Iterable[Damage]) -> Iterator[dict[str, object]]:
    for found in damages:
        affects = list(found.affects)
        yield {
            "object": found.object,
            "region": found.region,
            "affects": affects,
            "reason": found.reason,
            "next": found.next,
        }


def _share(share: str | None, *, read_data: bool) -> Fraction | None:
    from refloat.errors import UsageError
    from refloat.vault.reading import parse_share

    if share is None:
        return None
    if not read_data:
        raise UsageError("--share is of what --read-data reads", next="add --read-data")
    try:
        return parse_share(share)
    except ValueError as error:
        raise UsageError(f"--share: {error}", next="for example --share 1/30") from error


def _reading(session: Session, replica: Replica, share: Fraction | None) -> Reading:
    """What this machine knows of what was read of a replica."""
    from refloat.vault.reading import Reading

    return Reading(local_state_dir(), replica.descriptor, session.clock, share)


@vault.command(
    "repair",
    epilog=examples(
        "refloat vault repair",
        "refloat vault repair --read-data",
        "refloat vault repair --override log_damaged",
        "refloat vault repair --override foreign_objects",
    ),
)
def repair(
    context: typer.Context,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every byte to find what is damaged.")
    ] = False,
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Break the glass: go on where this rule says no (foreign_objects, log_damaged). Repeatable.",
            autocompletion=repair_rules,
        ),
    ] = None,
) -> int:
    """Mend what is missing or damaged, until a check finds nothing more to mend; what names show, without a key.

    Objects are mended from another region where they verify, and a damaged pack that no region has whole from what is
    whole of it. What is wrong in a log is set aside below aside/, and what is known of it is said again; what is not
    this vault's is set aside there, too.
    """
    from refloat.errors import VaultError

    session = session_of(context)
    keyed = has_key()
    done = (
        _repaired(session, read_data=read_data, overrides=override or [])
        if keyed
        else _repaired_by_names(session, read_data=read_data)
    )
    session.console.close()
    for region, mended in done.regions.items():
        _show_mended(session, region, mended, keyed=keyed)
    for region, error in done.unreachable.items():
        session.console.warn(f"{region} does not answer: {error.message}")
    if not keyed:
        session.console.warn(
            "no key is given: names alone were compared, and not what only a key shows; "
            f"set {KEY_FILE}, or {PASSPHRASE}, for the rest"
        )
    session.console.emit(
        {
            "regions": {
                region: {"mended": one.mended, "left": one.left, "uncovered": one.uncovered}
                for region, one in done.regions.items()
            },
            "points": {region: one.points.document() for region, one in done.regions.items()}
            if keyed
            else {},
            "unreachable": sorted(done.unreachable),
            "key": keyed,
        }
    )
    if any(one.left or one.points.lacking for one in done.regions.values()):
        return VaultError.exit_code
    return 1 if done.unreachable else 0


def _show_mended(session: Session, region: str, done: Mended, *, keyed: bool) -> None:
    told = f", {len(done.uncovered)} uncovered" if done.uncovered else ""
    session.console.print(f"region {region}: {len(done.mended)} objects mended, {len(done.left)} left{told}")
    if keyed:
        vault_replicate.show_made_up(session, region, done.points)
    for name, how in (*done.mended.items(), *done.uncovered.items(), *done.left.items()):
        session.console.print(f"  {name}: {how}")


def _repaired(session: Session, *, read_data: bool, overrides: Iterable[str]) -> Repair:
    """Mend all that a key shows."""
    from refloat.flows.repair import RULES, repair_vault
    from refloat.flows.request import known_rules

    rules = known_rules(overrides, RULES)
    manifest, _ = load_manifest(session.file)
    urls = vault_urls(manifest, resolver(session))
    described, silent = _descriptors_mended(urls, key_file(session, urls.values()))

    def opened(unasked: Mapping[str, RefloatError]) -> Vault:
        return open_vault(session, manifest, resolver(session), {**silent, **unasked}, awaited=())

    progress = session.console.progress()
    done = repair_vault(opened, session.clock, read_data=read_data, overrides=rules, progress=progress)
    for region, mended in described.items():
        if region in done.regions:
            done.regions[region].mended.update(mended)
    return done


def _repaired_by_names(session: Session, *, read_data: bool) -> Repair:
    """Mend what names show, where no key is given. Raises the first region's error where none answers."""
    from refloat.errors import UsageError, most_hopeful
    from refloat.flows.repair import Mended, Repair
    from refloat.flows.replicate import look
    from refloat.vault.repair_names import repair_by_names

    manifest, _ = load_manifest(session.file)
    regions = look(vault_urls(manifest, resolver(session)), manifest.pipeline)
    empty: dict[str, RefloatError] = {
        region: UsageError("it holds no replica", region=region, next=f"refloat vault add-region {region}")
        for region in regions.empty
    }
    unreachable = {**regions.unreachable, **empty}
    if not regions.places:
        raise most_hopeful(unreachable.values())
    progress = session.console.progress()
    found = {}
    for region, place in regions.places.items():
        others = [other for name, other in regions.places.items() if name != region]
        by_names = repair_by_names(place, others, read_data=read_data, progress=progress)
        found[region] = Mended(by_names.mended, by_names.left)
    return Repair(found, unreachable)


vault.command("replicate", epilog=vault_replicate.REPLICATE)(vault_replicate.replicate)
vault.command("add-region", epilog=vault_regions.ADD_REGION)(vault_regions.add_region)
vault.command("rejoin", epilog=vault_regions.REJOIN)(vault_regions.rejoin)
vault.command("prune", epilog=vault_prune.PRUNE)(vault_prune.prune)
vault.command("kit", epilog=vault_kit.KIT)(vault_kit.kit)
vault.add_typer(vault_keys_add.keys, name="keys")
vault.command("ls", epilog=vault_look.LS)(vault_look.ls)
vault.command("cat", epilog=vault_look.CAT)(vault_look.cat)
vault.command("export", epilog=vault_export.EXPORT)(vault_export.export)


def _descriptors_mended(
    urls: Mapping[str, str], keys: KeyFile
) -> tuple[dict[str, dict[str, str]], dict[str, RefloatError]]:
    """Write each region's descriptor anew where it is gone or wrong, from what the key file knows.

    Also the error of each region that does not answer.
    """
    from refloat.errors import StoreError
    from refloat.vault.described import keep_notes, known_notes, mend_descriptor
    from refloat.vault.first_word import silent as unheard
    from refloat.vault.layout import VAULT
    from refloat.vault.stores import open_store

    described: dict[str, dict[str, str]] = {}
    stores = {region: open_store(url) for region, url in urls.items()}
    silent: dict[str, RefloatError] = dict(unheard(stores))
    stores = {region: store for region, store in stores.items() if region not in silent}
    notes = known_notes(stores.values(), keys)
    for region, store in stores.items():
        try:
            if mend_descriptor(region, store, keys, urls, notes):
                described[region] = {VAULT: "the key file"}
        except StoreError as error:
            silent[region] = error.at(region=region)
    notes = known_notes(stores.values(), keys) if described else notes
    for region, store in stores.items():
        try:
            keep_notes(store, keys, notes)
        except StoreError as error:
            silent[region] = error.at(region=region)
    return described, silent


def _show(say: Callable[[str], None], region: str, report: CheckReport) -> None:
    from refloat.units import format_size, format_time

    read = f", {format_size(report.bytes_read)} read" if report.bytes_read else ""
    outcome = "sound" if not report.damaged else f"{len(report.damaged)} objects are damaged"
    outcome += f", {len(report.covered)} are covered: a recovery still reads them" if report.covered else ""
    say(f"region {region}: {outcome}; {report.packs} packs, {report.chunks} chunks{read}")
    if (far := report.so_far) is not None and far.began_at is not None:
        say(
            f"  {format_size(far.before_bytes)} were read since {format_time(far.began_at)}, before it was stopped"
        )
    if far is not None and far.unread_bytes:
        say(f"  {format_size(far.unread_bytes)} were never read from this machine")
    elif far is not None and far.since is not None:
        say(f"  every byte was read since {format_time(far.since)}")
    if report.held is not None and report.held.until is not None and not report.held.lapsed:
        say(f"  what the newest point needs is locked until {format_time(report.held.until)}")
    elif report.held is not None:
        say(
            f"  {len(report.held.lapsed)} objects that the newest point needs are not locked: refloat protect"
        )
        for name in report.held.lapsed:
            say(f"    {name}")
    for found in (*report.damaged, *report.covered):
        hit = f"; affects points {', '.join(p[:12] for p in found.affects)}" if found.affects else ""
        say(f"  {found.object}: {found.told}{hit}")
