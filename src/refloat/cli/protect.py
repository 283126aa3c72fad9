"""``refloat protect``: one recovery point of everything, now, in every region that answers."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.alarm import bell, objective, our_turn, protecting, ring
from refloat.cli.common import Session, examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.completion import regions
from refloat.cli.places import pin_heads
from refloat.cli.system import give_way, leave_cores, local_state_dir

if TYPE_CHECKING:
    from refloat.cli.console import Console
    from refloat.flows.alerts import Bell
    from refloat.flows.due import Kept
    from refloat.flows.protect import Protected
    from refloat.manifest.model import Manifest
    from refloat.manifest.resolve import Resolver
    from refloat.point.model import Grade
    from refloat.vault.vault import Vault

EXAMPLES = examples(
    "refloat protect",
    "refloat protect --due",
    "refloat protect --require exact",
    "refloat -f other.yaml protect --json | jq .point",
)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("protect", epilog=EXAMPLES)(protect)


def protect(
    context: typer.Context,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="REGION",
            help="Where the pipeline runs now, if not in the primary.",
            autocompletion=regions,
        ),
    ] = None,
    require: Annotated[
        str | None,
        typer.Option(
            help="`exact`: exit 1 when a group is only fuzzy.",
            metavar="exact",
            autocompletion=lambda: ["exact"],
        ),
    ] = None,
    due: Annotated[
        bool,
        typer.Option(
            "--due",
            help="Only what cadence and RPO ask for now; nothing where nothing is due. For cron and timers.",
        ),
    ] = False,
) -> int:
    """Capture every component into one recovery point and write it to every region's vault."""
    from refloat.flows.due import kept, look
    from refloat.flows.protect import required_grade

    give_way()
    session, required = session_of(context), required_grade(require)
    manifest, content = load_manifest(session.file)
    work = _Work(session, manifest, content, resolver(session), region, required)
    ringing = bell(session, manifest, work.late)
    turn = our_turn(session, manifest, work.late) if due else nullcontext(True)
    with protecting(session, ringing), turn as ours:
        vault = open_vault(session, manifest, work.late, awaited=())
        found = look(manifest, vault, session.clock, region) if due else None
        asked = found is None or (ours and found.now)
        made = work.make(vault, found.now if found else None) if asked else None
    told = None if found is None else kept(manifest, found, made, at_work=not ours)
    if told is not None:
        _say(session.console, told)
    if made is not None:
        _show(session.console, made)
    if (answer := told or made) is not None:
        session.console.emit(answer.document())
    _ring(session, ringing, vault, made, found.now if found else None)
    return 0 if made is None or made.ok else 1


@dataclass(frozen=True)
class _Work:
    """What a point is made from."""

    session: Session
    manifest: Manifest
    content: bytes
    late: Resolver
    region: str | None
    required: Grade

    def make(self, vault: Vault, due: Collection[str] | None = None) -> Protected:
        """Make it, of what is ``due``, or of all; what is wrong with a region is said."""
        from refloat.flows import protect as flow
        from refloat.flows.apart import require_apart
        from refloat.flows.components import Components

        session = self.session
        components = Components(self.manifest, self.late)
        if components.run_something:
            leave_cores()
        require_apart(components, self.content, session.file, local_state_dir())
        files = flow.carried_files(components, self.content, session.file.parent)
        made = flow.protect(
            components,
            files,
            vault,
            session.clock,
            region=self.region,
            require=self.required,
            due=due,
            progress=session.console.progress(),
        )
        session.console.close()
        pin_heads(session, vault, made.incomplete)
        return made


def _ring(
    session: Session, bell: Bell, vault: Vault, made: Protected | None, due: Collection[str] | None = None
) -> None:
    """Tell of what is wrong with the point, and of objectives that are not kept all the same."""
    from refloat.flows import alerts

    alarms, looked = objective(session, bell, vault)
    if made is None:
        ring(session, bell, alarms, looked)
    else:
        looks = (looked, alerts.protected_looked_at(made, due))
        ring(session, bell, [*alarms, *alerts.of_protected(made)], alerts.any_of(looks))


def _say(console: Console, told: Kept) -> None:
    """What was due, or that nothing was; and when the next is."""
    from refloat.units import format_time

    if told.at_work:
        console.print("another protect of this pipeline is at work on this machine")
    elif told.made is None:
        console.print("nothing is due")
    for unit in told.found.units:
        if unit.why is not None:
            console.print(f"due: {', '.join(unit.members)} ({unit.why})")
    if told.next_at is not None:
        console.print(f"next: {format_time(told.next_at)[:19]}Z")


def _how(made: Protected, name: str) -> str:
    """How a component came into the point, where it was not captured for it."""
    if name in made.point.not_captured:
        return "failed"
    return "carried" if made.point.components[name].carried else ""


def _show(console: Console, made: Protected) -> None:
    from refloat.flows.baselines import remark
    from refloat.point.model import Grade
    from refloat.point.suspicion import spoken
    from refloat.units import format_duration, format_size

    rows = [
        (
            name,
            snapshot.kind,
            _how(made, name) or format_duration(snapshot.seconds),
            format_size(snapshot.bytes),
            format_size(snapshot.new_bytes),
            format_size(snapshot.stored_bytes),
        )
        for name, snapshot in made.point.components.items()
    ]
    console.table(("component", "kind", "captured in", "size", "new", "stored"), rows)
    for name, group in made.point.groups.items():
        console.print(f"group {name}: {group.grade}" + (f" - {group.reason}" if group.reason else ""))
    for region, result in made.regions.items():
        say = console.print if result.complete else console.warn
        say(f"region {region}: " + ("complete" if result.complete else f"not complete: {result.error}"))
    console.print(f"point {made.name}")
    for name, why in made.point.not_captured.items():
        console.warn(f"{name} could not be captured, and is as old as its last snapshot: {why}")
    for warning in made.warnings:
        console.warn(warning)
    if made.suspect:
        console.warn(f"the point is suspect, and no recovery takes it by itself: {spoken(made.suspect)}")
    if made.point.grade is Grade.FUZZY:
        console.warn("the point is fuzzy: its parts may not be from one moment")
    if made.point.grade is Grade.UNKNOWN:
        console.warn(
            "whether the point's parts belong together is unknown; it is asked again when one is chosen"
        )
    for name, reason in made.measured.items():
        if reason:
            console.warn(f"{name} was measured, and that is not its baseline: {reason}")
    if made.doubts:
        console.warn(remark(made.doubts))
    if made.copies < made.copies_required:
        console.warn(
            f"the point is in {made.copies} of the {made.copies_required} regions that the manifest asks for"
        )
