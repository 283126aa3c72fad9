"""``refloat recover``: bring the whole pipeline back in a region, and prove that it answers as before."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, resolver, session_of
from refloat.cli.places import VaultOption, open_place, others, rolled_back_message, target_replica
from refloat.errors import Refused, UsageError

if TYPE_CHECKING:
    from refloat.flows.prepare import Prepared
    from refloat.flows.recover import Recovered
    from refloat.vault.vault import Vault

EXAMPLES = examples(
    "refloat recover --to us",
    "refloat recover --vault s3://refloat-us/chat --to us --lost-at 2026-11-01T12:00:00Z",
    "refloat recover --to us --at 2026-11-01T11:30:00Z",
    "refloat recover --to us --resume 3f2a9c01d4e5",
)
ToOption = Annotated[str, typer.Option("--to", metavar="REGION", help="The region to recover in.")]
PointOption = Annotated[
    str | None, typer.Option("--point", metavar="POINT", help="This point, by name or how it begins.")
]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The newest point not after this.")
]
OnlyOption = Annotated[
    list[str], typer.Option("--only", metavar="NAME", help="Only this component; may be given again.")
]
OverrideOption = Annotated[
    list[str],
    typer.Option("--override", metavar="RULE", help="Break the glass: go on against this safety rule."),
]


RULES = (
    "group_broken",
    "group_split",
    "log_damaged",
    "log_rolled_back",
    "quality_unverified",
    "source_alive",
    "target_claimed",
    "target_foreign",
    "target_serving",
)
"""What ``--override`` takes."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("recover", epilog=EXAMPLES)(recover)


def recover(
    context: typer.Context,
    to: ToOption,
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
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with this run.")
    ] = None,
) -> int:
    """Recover everything from one point: stage, check, switch, start, verify; or put it all back."""
    from refloat.flows import recover as flow
    from refloat.flows.prepare import Wanted, prepare

    session = session_of(context)
    overrides = known_rules(override)
    declared_at = _past(moment(lost_at, "--lost-at"), session)
    wanted = Wanted(to, point, moment(at, "--at"), tuple(only), overrides)
    if resume is not None and (wanted.narrowed or declared_at):
        raise UsageError(
            "a run that was begun keeps its point, its components and its disaster",
            next="leave out --point, --at, --only and --lost-at, or begin another run without --resume",
        )
    reached = open_place(session, vault)
    replica = target_replica(reached, to, vault)
    if resume is None:
        prepared = prepare(replica, wanted, lambda: resolver(session))
    else:
        prepared = flow.prepare_again(replica, resume, lambda: resolver(session), session.clock)
        if prepared.plan.to != to:
            raise UsageError(
                f"run {resume} recovers into {prepared.plan.to}", next=f"--to {prepared.plan.to}"
            )
    reached = others(session, reached, prepared.manifest, prepared.components.resolver)
    require_not_rolled_back(reached, overrides)
    _announce(session, prepared, declared_at)
    done = flow.recover(
        prepared,
        reached,
        session.clock,
        run=resume,
        overrides=overrides,
        declared_at=declared_at,
        progress=session.console.progress(),
    )
    session.console.close()
    page = _write_page(session, done)
    _show(session, done, page)
    session.console.emit({**done.document(), "page": page})
    return _exit_code(done)


def moment(text: str | None, option: str) -> datetime | None:
    """A time from the command line. Raises ``UsageError``."""
    from refloat.units import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}", next="write 2026-11-01T12:00:00Z") from error


def require_not_rolled_back(vault: Vault, overrides: frozenset[str]) -> None:
    """Raises ``Refused`` (rule ``log_rolled_back``) where a region's log is shorter than another saw it."""
    from refloat.vault.witness import rolled_back

    shorter = rolled_back(list(vault.replicas.values()))
    if shorter and "log_rolled_back" not in overrides:
        region, (seen, there) = next(iter(shorter.items()))
        raise Refused(
            "log_rolled_back",
            rolled_back_message(region, seen, there),
            region=region,
            next="recover from a region whose log is whole, or name the rule: --override log_rolled_back",
        )


def known_rules(names: list[str]) -> frozenset[str]:
    """The safety rules to override. Raises ``UsageError`` for one that does not exist."""
    from refloat.manifest.document import nearest

    for name in names:
        if name not in RULES:
            raise UsageError(
                f"no safety rule is called {name!r}",
                next=nearest(name, RULES) or f"rules: {', '.join(RULES)}",
            )
    return frozenset(names)


def _past(declared_at: datetime | None, session: Session) -> datetime | None:
    """The moment of the disaster, which cannot lie ahead: RTO would be negative, and data loss made up."""
    if declared_at is not None and declared_at > session.clock.now():
        raise UsageError(
            "--lost-at is in the future",
            next="give the time of the disaster in UTC; this machine's clock counts",
        )
    return declared_at


def _announce(session: Session, prepared: Prepared, declared_at: datetime | None) -> None:
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
    from refloat.evidence.render import page

    path = local_state_dir() / "evidence" / f"{done.evidence.run}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(done.evidence))
    except OSError as error:
        session.console.warn(f"the page could not be written to {path}: {error.strerror}")
        return None
    return str(path)


def _show(session: Session, done: Recovered, page: str | None) -> None:
    from refloat.evidence.render import figure, headline
    from refloat.units import format_duration

    console, evidence = session.console, done.evidence
    console.table(
        ("component", "layer", "tier", "RTO", "objective", "data lost", "objective"),
        [
            (
                name,
                str(part.layer),
                part.tier,
                format_duration(part.rto.seconds),
                format_duration(part.rto.objective_s),
                format_duration(part.rpo.seconds),
                format_duration(part.rpo.objective_s),
            )
            for name, part in evidence.components.items()
        ],
    )
    if evidence.checks:
        console.table(
            ("measured", "before", "after", "bound", "samples", "verdict"),
            [
                (
                    c.name,
                    figure(c.baseline, c.unit),
                    figure(c.recovered, c.unit),
                    c.bound,
                    str(c.samples),
                    c.verdict,
                )
                for c in evidence.checks
            ],
        )
    console.print(headline(evidence))
    console.print(
        f"run {evidence.run}: {evidence.state}"
        + (f" ({', '.join(evidence.flags)})" if evidence.flags else "")
    )
    console.print(f"evidence: {page or 'in the vault only'}")
    if evidence.verified is None and evidence.state == "done":
        console.warn("nothing was verified, so whether it answers as before is not known")
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
