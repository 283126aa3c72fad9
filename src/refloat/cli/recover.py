"""``refloat recover``: bring the whole pipeline back in a region, and prove that it answers as before."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, resolver, session_of
from refloat.cli.places import VaultOption, open_place, others, target_replica
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
ToOption = Annotated[str, typer.Option("--to", help="The region to recover in.")]
PointOption = Annotated[str | None, typer.Option("--point", help="This point, by name or how it begins.")]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The newest point not after this.")
]
OnlyOption = Annotated[list[str], typer.Option("--only", help="Only this component; may be given again.")]
OverrideOption = Annotated[
    list[str],
    typer.Option("--override", metavar="RULE", help="Break the glass: go on against this safety rule."),
]


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
    reached = open_place(session, vault)
    replica = target_replica(reached, to, vault)
    overrides = frozenset(override)
    wanted = Wanted(to, point, moment(at, "--at"), tuple(only), overrides)
    if resume is None:
        prepared = prepare(replica, wanted, lambda: resolver(session))
    else:
        prepared = flow.prepare_again(replica, resume, lambda: resolver(session), session.clock)
    reached = others(session, reached, prepared.manifest, prepared.components.resolver)
    require_not_rolled_back(reached, overrides)
    _announce(session, prepared)
    done = flow.recover(
        prepared,
        reached,
        session.clock,
        run=resume,
        overrides=overrides,
        declared_at=moment(lost_at, "--lost-at"),
        progress=session.console.progress(),
    )
    session.console.close()
    page = _write_page(done)
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
            f"the log of points in {region} has {there} entries; another region saw {seen}",
            region=region,
            next="recover from a region whose log is whole, or name the rule: --override log_rolled_back",
        )


def _announce(session: Session, prepared: Prepared) -> None:
    session.console.note(
        f"recovering {prepared.manifest.pipeline} from point {prepared.plan.point[:12]} "
        f"({prepared.point.grade}) into {prepared.plan.to}: {len(prepared.plan.steps)} steps"
    )


def _write_page(done: Recovered) -> str:
    """The evidence as a page in this machine's state folder; its path."""
    from refloat.cli.system import local_state_dir
    from refloat.evidence.render import page

    folder = local_state_dir() / "evidence"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{done.evidence.run}.html"
    path.write_text(page(done.evidence))
    return str(path)


def _show(session: Session, done: Recovered, page: str) -> None:
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
    console.print(f"evidence: {page}")
    if evidence.verified is None:
        console.warn("nothing was verified, so whether it answers as before is not known")
    if "unprotected" in evidence.flags:
        console.warn("the recovered pipeline is in fewer regions than the manifest asks for")
    for lost in evidence.lost_points:
        console.warn(f"a newer point {lost[:12]} was seen only in a region that is lost")
    if done.failure is not None:
        console.warn(str(done.failure["message"]))


def _exit_code(done: Recovered) -> int:
    if done.ok:
        return 0
    refused = done.failure is not None and done.failure.get("code") == Refused.code
    return Refused.exit_code if refused and done.evidence.state == "blocked" else 1
