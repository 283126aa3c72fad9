"""``refloat points``: the recovery points of the vault, what is in them, and why each is as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli import points_accept, points_bisect, points_forget
from refloat.cli.common import examples, session_of
from refloat.cli.completion import POINT_HELP
from refloat.cli.completion import points as known_points
from refloat.cli.places import VaultOption, sound_place

if TYPE_CHECKING:
    from refloat.digest import Json
    from refloat.point.model import Point
    from refloat.vault.vault import Vault

points = typer.Typer(
    no_args_is_help=True,
    help="The recovery points of the vault.",
    epilog=examples(
        "refloat points list",
        "refloat points show 3f2a",
        "refloat points why",
        "refloat points bisect --sandbox bench",
        'refloat points accept 3f2a --because "retrained from scratch"',
        "refloat points forget --dry-run",
    ),
)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(points, name="points")


@points.command(
    "list",
    epilog=examples(
        "refloat points list", "refloat points list --all", "refloat points list --vault s3://bucket/name"
    ),
)
def list_points(
    context: typer.Context,
    vault: VaultOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are forgotten.")] = False,
) -> int:
    """Every point, newest first, and in which regions it is complete."""
    session = session_of(context)
    listed = _listed(sound_place(session, vault))
    if not everything:
        listed = [{k: e[k] for k in e if k != "forgotten_in"} for e in listed if e["regions"]]
    rows = [
        (
            str(e["point"])[:12],
            str(e["created_at"])[:19] + "Z",
            str(e["grade"]) + (", suspect" if e["suspect"] else ""),
            ", ".join(_texts(e["regions"])),
            *([", ".join(_texts(e["forgotten_in"]))] if everything else []),
        )
        for e in listed
    ]
    more = ("forgotten in",) if everything else ()
    session.console.table(("point", "made", "grade", "complete in", *more), rows)
    session.console.emit({"points": listed})
    return 0


def _listed(opened: Vault) -> list[dict[str, Json]]:
    """Every point, newest first, with the regions that list it, and those that have forgotten it."""
    from refloat.flows.points import candidates, in_order
    from refloat.flows.suspects import judged
    from refloat.units import format_time

    judgement = judged(list(opened.replicas.values()))
    held: dict[str, dict[str, Json]] = {}
    logs = {region: judgement.mark(candidates(replica)) for region, replica in opened.replicas.items()}
    for region, log in logs.items():
        for known in log:
            entry = held.setdefault(
                known.name,
                {
                    "point": known.name,
                    "created_at": format_time(known.created_at),
                    "grade": str(known.grade),
                    "suspect": {name: list(why) for name, why in known.suspect.items()},
                    "regions": [],
                    "forgotten_in": [],
                },
            )
            place = "forgotten_in" if known.forgotten else "regions"
            entry[place] = [*_texts(entry[place]), region]
    return [held[name] for name in reversed(in_order(list(logs.values())))]


def _texts(value: Json) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


@points.command(
    "show",
    epilog=examples(
        "refloat points show 3f2a",
        "refloat points show 3f2a --facts",
        "refloat points show 3f2a --manifest > refloat.yaml",
    ),
)
def show(
    context: typer.Context,
    point: Annotated[str, typer.Argument(help=POINT_HELP, autocompletion=known_points)],
    vault: VaultOption = None,
    facts: Annotated[bool, typer.Option("--facts", help="Print the facts that invariants see.")] = False,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Print only the manifest that the point carries.")
    ] = False,
) -> int:
    """One point: its components, groups and verdicts."""
    import json

    from refloat.digest import json_form
    from refloat.flows.points import MANIFEST, find, manifest_files
    from refloat.flows.suspects import suspects
    from refloat.point.suspicion import spoken
    from refloat.units import format_size, format_time

    session = session_of(context)
    replicas = list(sound_place(session, vault).replicas.values())
    name, body, replica = find(replicas, point)
    if manifest:
        text = manifest_files(replica, body)[MANIFEST].decode()
        session.console.verbatim(text.rstrip("\n"))
        session.console.emit({"point": name, "manifest": text})
        return 0
    console = session.console
    console.print(
        f"point {name}\nmade  {format_time(body.created_at)} in {body.primary}, graded {body.grade}"
    )
    console.table(
        ("component", "kind", "as of", "files", "size", "stored new"),
        [
            (
                n,
                s.kind,
                format_time(s.as_of)[:23] + "Z",
                str(s.files),
                format_size(s.bytes),
                format_size(s.stored_bytes),
            )
            for n, s in body.components.items()
        ],
    )
    for group, record in body.groups.items():
        console.print(f"group {group}: {record.grade}" + (f" - {record.reason}" if record.reason else ""))
    suspect = suspects(replicas).get(name, {})
    if suspect:
        console.print(f"suspect, and no recovery takes it by itself: {spoken(suspect)}")
    if facts:
        known = {n: snapshot.facts.scope() for n, snapshot in body.components.items()}
        console.verbatim(json.dumps(known, indent=2))
    components = {
        component: {**json_form(snapshot), "suspect": list(suspect.get(component, ()))}
        for component, snapshot in body.components.items()
    }
    shown = {**json_form(body), "components": components, "groups": _groups(body)}
    console.emit({"point": name, **shown, "grade": str(body.grade)})
    return 0


@points.command("diff", epilog=examples("refloat points diff 3f2a 9c01"))
def diff(
    context: typer.Context,
    first: Annotated[str, typer.Argument(help=f"The earlier one. {POINT_HELP}", autocompletion=known_points)],
    second: Annotated[str, typer.Argument(help=f"The later one. {POINT_HELP}", autocompletion=known_points)],
    vault: VaultOption = None,
) -> int:
    """What changed between two points: facts by component, and files by path."""
    from refloat.flows.diff import diff as compare
    from refloat.flows.points import find

    session = session_of(context)
    replicas = list(sound_place(session, vault).replicas.values())
    (one, before, replica), (two, after, other) = find(replicas, first), find(replicas, second)
    changes = compare(before, replica, after, other)
    for name, change in changes.items():
        session.console.print(f"{name}: {change.summary()}")
        for line in change.lines():
            session.console.print(f"  {line}")
    session.console.emit(
        {
            "first": one,
            "second": two,
            "components": {name: change.document() for name, change in changes.items()},
        }
    )
    return 0


@points.command("why", epilog=examples("refloat points why 3f2a", "refloat points why"))
def why(
    context: typer.Context,
    point: Annotated[
        str | None,
        typer.Argument(help=f"{POINT_HELP} Without one, every point's reason.", autocompletion=known_points),
    ] = None,
    vault: VaultOption = None,
) -> int:
    """Why a point has its grade, and why it would or would not be chosen for a recovery now."""
    from refloat.errors import RefloatError
    from refloat.flows.baselines import document, doubts_of, remark
    from refloat.flows.points import candidates, find, newest
    from refloat.flows.suspects import marked
    from refloat.point.select import select

    session = session_of(context)
    replicas = list(sound_place(session, vault).replicas.values())
    known = max((candidates(r) for r in replicas), key=lambda held: [c.created_at for c in held[-1:]])
    try:
        reasons = {
            considered.name: considered.reason for considered in select(marked(known, replicas)).considered
        }
    except RefloatError as error:
        reasons = {candidate.name: error.message for candidate in known}
    if point is None:
        session.console.table(("point", "reason"), [(name[:12], reason) for name, reason in reasons.items()])
        last = newest(replicas)
        doubts = doubts_of(last[2], last[1], replicas) if last else {}
        if doubts:
            session.console.print(f"the newest: {remark(doubts)}")
        session.console.emit(
            {
                "points": [{"point": n, "reason": r} for n, r in reasons.items()],
                "unverifiable": document(doubts),
            }
        )
        return 0
    name, body, replica = find(replicas, point)
    doubts = doubts_of(replica, body, replicas)
    session.console.print(f"point {name}: graded {body.grade}")
    for group, record in body.groups.items():
        session.console.print(
            f"group {group}: {record.grade}" + (f" - {record.reason}" if record.reason else "")
        )
        for verdict in record.invariants:
            holds = {True: "holds", False: "does not hold", None: "unknown"}[verdict.holds]
            session.console.print(f"  {holds}: {verdict.must}")
            if verdict.holds is not True:
                for path, value in verdict.values.items():
                    session.console.print(f"    {path} = {value}")
    session.console.print(f"recovery: {reasons.get(name, 'not committed in that region')}")
    for component, why_not in body.not_captured.items():
        session.console.print(f"{component} could not be captured, and is as old as before: {why_not}")
    if doubts:
        session.console.print(remark(doubts))
    session.console.emit(
        {
            "point": name,
            "grade": str(body.grade),
            "reason": reasons.get(name),
            "groups": _groups(body),
            "not_captured": dict(body.not_captured),
            "unverifiable": document(doubts),
        }
    )
    return 0


def _groups(body: Point) -> dict[str, Json]:
    """The groups as they are stored, but that one is unknown stands there as broken."""
    from refloat.digest import json_form

    return {group: {**json_form(record), "grade": str(record.grade)} for group, record in body.groups.items()}


points.command("bisect", epilog=points_bisect.BISECT)(points_bisect.bisect)
points.command("accept", epilog=points_accept.ACCEPT)(points_accept.accept)
points.command("forget", epilog=points_forget.FORGET)(points_forget.forget)
