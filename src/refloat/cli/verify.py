"""``refloat verify``: measure how the pipeline answers now; keep it as the baseline, or hold it against one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of
from refloat.cli.completion import regions as region_names
from refloat.cli.places import warn_unreachable

if TYPE_CHECKING:
    from refloat.cli.console import Console
    from refloat.flows.verify import Measured
    from refloat.verification.model import Check

EXAMPLES = examples("refloat verify --save-baseline", "refloat verify --region us", "refloat verify --json")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("verify", epilog=EXAMPLES)(verify)


def verify(
    context: typer.Context,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="REGION", help="Where it runs, if not in the primary.", autocompletion=region_names
        ),
    ] = None,
    save_baseline: Annotated[
        bool, typer.Option("--save-baseline", help="Keep what is measured as the baseline of this identity.")
    ] = False,
) -> int:
    """Put the components that the manifest verifies under load, and judge them against the baseline."""
    from refloat.flows import verify as flow
    from refloat.flows.components import Components

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    flow.require_verification(manifest)  # before a vault is asked
    components = Components(manifest, resolver(session))
    vault = open_vault(session, manifest, components.resolver)
    what = components, flow.golden_files(components, session.file.parent), vault
    where, clock, progress = region or manifest.primary, session.clock, session.console.progress()
    if save_baseline:
        kept = flow.save_baseline(*what, where, clock, progress=progress)
        session.console.close()
        _show_measured(session.console, kept)
        session.console.emit(kept.document())
        return 0 if kept.ok else 1
    done = flow.verify(*what, where, clock, progress=progress)
    session.console.close()
    warn_unreachable(session, vault)
    _show_checks(session.console, done.checks)
    session.console.emit(done.document())
    return 0 if done.ok else 1


def _show_measured(console: Console, kept: Measured) -> None:
    from refloat.evidence.render import figure
    from refloat.flows.baselines import spoken

    rows = [
        (
            component,
            name,
            figure(m.value, m.unit),
            f"{figure(m.low, m.unit)} to {figure(m.high, m.unit)}",
            str(m.samples),
        )
        for component, made in kept.measured.items()
        for name, m in made.measurement.metrics.items()
    ]
    console.table(("component", "measured", "value", "95 % interval", "samples"), rows)
    regions = [region for region, error in kept.regions.items() if not error]
    console.print(f"kept as the baseline in {', '.join(regions) or 'no region'}")
    for region, error in kept.regions.items():
        if error:
            console.warn(f"{region} does not keep it: {error}")
    if kept.doubts:
        console.warn(f"some bounds can never be verified beside it: {spoken(kept.doubts)}")


def _show_checks(console: Console, checks: Sequence[Check]) -> None:
    from refloat.evidence.render import row

    rows = [(check.component, *row(check)) for check in checks]
    console.table(("component", "measured", "baseline", "now", "bound", "samples", "verdict"), rows)
    for check in checks:
        if check.reason:
            say = console.note if check.verdict == "pass" else console.warn
            say(f"{check.component} {check.name}: {check.reason}")
