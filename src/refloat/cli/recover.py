"""``refloat recover``: bring the whole pipeline back in a region, or only its bytes into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.alarm import bell, recovering, ring
from refloat.cli.common import Session, examples, opener, resolver, session_of, telling
from refloat.cli.completion import POINT_HELP, components, points, regions, rules, runs, scenarios
from refloat.cli.places import VaultOption, open_place, warn_passed_over
from refloat.errors import Refused, StoreError, UsageError, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from refloat.flows.into import Brought
    from refloat.flows.prepare import Prepared
    from refloat.flows.recover import Recovered
    from refloat.flows.request import Request
    from refloat.vault.vault import Vault
    from refloat.verification.model import Check

EXAMPLES = examples(
    "refloat recover --to us",
    "refloat recover --vault s3://refloat-us/chat --to us --lost-at 2026-11-01T12:00:00Z",
    "refloat recover --to us --at 2026-11-01T11:30:00Z",
    "refloat recover --to us --scenario corruption --before 2026-11-01T11:30:00Z",
    "refloat recover --to eu --scenario component_loss --only answers",
    "refloat recover --to us --resume 3f2a9c01d4e5",
    "refloat recover --into ./recovered --vault s3://refloat-us/chat",
    "refloat recover --into ./recovered --point 3f2a --only answers",
)
_REGION = typer.Option("--to", metavar="REGION", help="The region to recover in.", autocompletion=regions)
ToOption = Annotated[str, _REGION]
PointOption = Annotated[
    str | None, typer.Option("--point", metavar="POINT", help=POINT_HELP, autocompletion=points)
]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The newest point not after this.")
]
OnlyOption = Annotated[
    list[str],
    typer.Option(
        "--only",
        metavar="NAME",
        help="Only this component; may be given again.",
        autocompletion=components,
    ),
]
ScenarioOption = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="NAME",
        help="What has happened, or is to: `region_loss`, `planned_move`, `failback`, `component_loss`, `corruption`, "
        "or `bad_model`.",
        autocompletion=scenarios,
    ),
]
BeforeOption = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="TIME",
        help="In `corruption` and `bad_model`: when it began; the newest good point before that.",
    ),
]
OverrideOption = Annotated[
    list[str],
    typer.Option(
        "--override",
        metavar="RULE",
        help="Break the glass: go on against this safety rule.",
        autocompletion=rules,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("recover", epilog=EXAMPLES)(recover)


def recover(
    context: typer.Context,
    to: Annotated[str | None, _REGION] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="DIR",
            help="Instead of --to: only the bytes, into a folder that is empty or not there yet, and has its name when "
            "all is in it; some files of them: `vault export`.",
        ),
    ] = None,
    vault: VaultOption = None,
    point: PointOption = None,
    at: AtOption = None,
    only: OnlyOption = [],  # noqa: B006 - typer copies it
    override: OverrideOption = [],  # noqa: B006 - typer copies it
    lost_at: Annotated[
        str | None,
        typer.Option("--lost-at", metavar="TIME", help="When the disaster was; RTO and RPO count from it."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="RUN",
            help="Go on with this run: its name, how it begins, or `latest`.",
            autocompletion=runs,
        ),
    ] = None,
    scenario: ScenarioOption = None,
    before: BeforeOption = None,
) -> int:
    """Recover everything from one point: stage, check, switch, start, verify; or put it all back."""
    from refloat.flows.request import Request, moment, require_only_bytes

    session = session_of(context)
    if into is not None:
        require_only_bytes(
            to=to, resume=resume, lost_at=lost_at, overrides=override, scenario=scenario, before=before
        )
        return _bring(session, into, vault, point, moment(at, "--at"), only, override)
    if to is None:
        raise UsageError("neither --to nor --into says where to", next="--to REGION, or --into DIR")
    request = Request.checked(
        to,
        point=point,
        at=moment(at, "--at"),
        only=only,
        overrides=override,
        lost_at=moment(lost_at, "--lost-at"),
        resume=resume,
        scenario=scenario,
        before=before,
        now=session.clock.now(),
    )
    return _recover(session, request, to, vault)


@contextmanager
def of_region(region: str) -> Iterator[None]:
    """Let the error of a store, of which nothing else says where it is, be that of a region."""
    try:
        yield
    except StoreError as error:
        error.at(region=region)
        raise


def _recover(session: Session, request: Request, to: str, vault: str | None) -> int:
    reached = open_place(session, vault, request.wanted.needs)
    with of_region(to if vault is None else next(iter(reached.replicas))):
        return _recover_from(session, request, to, vault, reached)


def _recover_from(session: Session, request: Request, to: str, vault: str | None, reached: Vault) -> int:
    from refloat.flows import recover as flow
    from refloat.flows.alerts import of_recovered, recovery_looked_at

    request = request.named(reached, vault)
    prepared, everywhere = request.ready(reached, vault, opener(session), lambda: resolver(session))
    _announce(session, prepared, request.declared_at)
    ringing = bell(session, prepared.manifest, prepared.components.resolver)
    with recovering(session, ringing, to), _told_however_it_ends(session, prepared) as unknown:
        done = flow.recover(
            prepared,
            everywhere,
            session.clock,
            run=request.resume,
            overrides=request.wanted.overrides,
            declared_at=request.declared_at,
            progress=session.console.progress(),
            on_unknown=unknown.extend,
        )
    with flow.resumable(to, done.evidence.run):
        session.console.emit({**done.document(), "page": tell(session, done)})
    ring(session, ringing, of_recovered(done, to), recovery_looked_at(done, to))
    return _exit_code(done)


@contextmanager
def _told_however_it_ends(session: Session, prepared: Prepared) -> Iterator[list[Check]]:
    """What was read elsewhere or could not be set is said of any run; checks put here are shown where it waits."""
    from refloat.cli.outcome import show_checks

    unknown: list[Check] = []
    try:
        yield unknown
    except Waiting:
        session.console.close()
        show_checks(session.console, unknown)
        raise
    finally:
        session.console.close()
        for remark in (*prepared.reader.remarks(), *prepared.withheld.remarks()):
            session.console.warn(remark)


def tell(session: Session, done: Recovered) -> str | None:
    """Say how a run ended; where its page lies."""
    page = _write_page(session, done)
    _show(session, done, page)
    return page


# -------------------------------------------------------------------------------------------- into a folder


def _bring(
    session: Session,
    into: str,
    vault: str | None,
    point: str | None,
    at: datetime | None,
    only: list[str],
    override: list[str],
) -> int:
    from refloat.flows import into as flow
    from refloat.flows.landing import place
    from refloat.flows.opening import require_not_rolled_back

    folder = place(into)
    reached = open_place(session, vault, awaited=())
    chosen = flow.choose(list(reached.replicas.values()), point=point, at=at, only=only, overrides=override)
    for region, error in {**reached.unreachable, **chosen.passed_over}.items():
        session.console.warn(f"{region} is passed over: {error.message}")
    warn_passed_over(session, chosen.suspects)
    everywhere, unasked = flow.witnesses(chosen, reached, opener(session), lambda: resolver(session))
    for remark in unasked:
        session.console.warn(remark)
    for remark in require_not_rolled_back(everywhere, reached.replicas, frozenset(override)):
        session.console.warn(remark)
    session.console.note(
        f"bringing the bytes of point {chosen.name[:12]} ({chosen.point.grade}) to {folder}: "
        f"nothing is claimed, journaled or started"
    )
    progress = session.console.progress()
    with _told_as_brought(folder, chosen.name):
        brought = flow.bring(
            chosen.reading_also(everywhere), folder, session.clock, overrides=override, progress=progress
        )
        session.console.close()
        _show_brought(session, brought)
        session.console.emit(brought.document())
    return 0


@contextmanager
def _told_as_brought(folder: Path, point: str) -> Iterator[None]:
    """Who stops in here is told where the folder is filled already: it is whole then, and is not filled again."""
    try:
        yield
    except KeyboardInterrupt:
        if not folder.is_dir() or not any(folder.iterdir()):
            raise
        with telling(f"{folder} is there, and whole", f"refloat vault ls {point[:12]}"):
            raise


def _show_brought(session: Session, brought: Brought) -> None:
    from refloat.units import format_duration, format_size, format_time

    captured = brought.chosen.point.components
    session.console.table(
        ("component", "kind", "as of", "files", "size", "written in"),
        [
            (
                name,
                captured[name].kind,
                format_time(captured[name].as_of)[:19] + "Z",
                str(part.files),
                format_size(part.bytes),
                format_duration(part.seconds),
            )
            for name, part in brought.components.items()
        ],
    )
    session.console.print(f"point {brought.chosen.name} is in {brought.into}; nothing was started")
    for remark in brought.remarks:
        session.console.warn(remark)
    for lost in brought.lost_points:
        session.console.warn(f"a newer point {lost[:12]} was seen only in a region that is lost")


# -------------------------------------------------------------------------------------------- into a region


def _announce(session: Session, prepared: Prepared, declared_at: datetime | None) -> None:
    from refloat.flows.baselines import unverified

    warn_passed_over(session, prepared.choice.passed_over)
    for told in prepared.remarks:
        session.console.warn(told)
    if prepared.doubts:
        session.console.warn(f"{unverified(prepared.doubts)}; once it is there, a person must decide")
    newest = max(snapshot.as_of for snapshot in prepared.point.components.values())
    if declared_at is not None and declared_at < newest:
        session.console.warn(
            f"the point holds what was captured after the disaster that was declared, until {newest}; "
            f"--at TIME takes one from before"
        )
    session.console.note(
        f"recovering {prepared.manifest.pipeline} from point {prepared.plan.point[:12]} "
        f"({prepared.point.grade}) into {prepared.plan.to}: {len(prepared.plan.steps)} steps"
    )


def _write_page(session: Session, done: Recovered) -> str | None:
    """The evidence as a page in this machine's state folder; its path. Without it, the record still stands."""
    from refloat.cli.system import local_state_dir
    from refloat.durable import replace_file
    from refloat.evidence.render import page

    path = local_state_dir() / "evidence" / f"{done.evidence.run}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, page(done.evidence))
    except OSError as error:
        session.console.warn(f"the page could not be written to {path}: {error.strerror}")
        return None
    return str(path)


def _show(session: Session, done: Recovered, page: str | None) -> None:
    from refloat.cli.outcome import show_outcome

    console, evidence = session.console, done.evidence
    show_outcome(console, evidence)
    console.print(f"evidence: {page or 'in the vault only'}")
    if evidence.state == "done" and evidence.verified is None:
        missing = "nothing was verified" if done.ok else "not every bound could be told"
        console.warn(f"{missing}, so whether it answers as before is not known")
    if "unprotected" in evidence.flags:
        console.warn("the recovered pipeline is in fewer regions than the manifest asks for")
    for lost in evidence.lost_points:
        console.warn(f"a newer point {lost[:12]} was seen only in a region that is lost")
    if done.failure is not None:
        hint = f"\n  next: {done.failure['next']}" if done.failure.get("next") else ""
        console.warn(f"{done.failure['message']}{hint}")


def _exit_code(done: Recovered) -> int:
    if done.ok:
        return 0
    refused = done.failure is not None and done.failure.get("code") == Refused.code
    return Refused.exit_code if refused and done.evidence.state == "blocked" else 1
