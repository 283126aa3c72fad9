"""``refloat verify``: measure how the pipeline answers now; keep it as the baseline, or hold it against one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import examples, load_manifest, open_vault, resolver, session_of

if TYPE_CHECKING:
    from refloat.cli.console import Console
    from refloat.verify.model import Baseline, Check

EXAMPLES = examples("refloat verify --save-baseline", "refloat verify --region us", "refloat verify --json")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("verify", epilog=EXAMPLES)(verify)


def verify(
    context: typer.Context,
    region: Annotated[
        str | None, typer.Option(metavar="REGION", help="Where it runs, if not in the primary.")
    ] = None,
    save_baseline: Annotated[
        bool, typer.Option("--save-baseline", help="Keep what is measured as the baseline of this identity.")
    ] = False,
) -> int:
    """Put the components that the manifest verifies under load, and judge them against the baseline."""
    from refloat.digest import json_form
    from refloat.errors import UsageError
    from refloat.flows import verify as flow
    from refloat.flows.components import Components
    from refloat.verify import judge

    session = session_of(context)
    manifest, _ = load_manifest(session.file)
    if not manifest.verify:
        raise UsageError(
            "the manifest asks for no verification", next="add a `verify:` section: docs/MANIFEST.md"
        )
    components = Components(manifest, resolver(session))
    vault = open_vault(session, manifest, components.resolver)
    files = flow.golden_files(components, session.file.parent)
    where = region or manifest.primary
    measured = flow.measure_baseline(
        components, files, where, session.clock, progress=session.console.progress()
    )
    session.console.close()
    if save_baseline:
        kept = flow.save_baseline(measured, list(vault.replicas.values()))
        _show_measured(session.console, measured)
        session.console.print(
            f"kept as the baseline in {', '.join(r for r, error in kept.items() if not error)}"
        )
        session.console.emit({"baseline": json_form(measured), "regions": kept})
        return 1 if any(kept.values()) or vault.unreachable else 0
    baseline = flow.best_baseline(
        list(vault.replicas.values()), measured.identity_digest, measured.profile, where
    )
    checks = [
        check
        for name, measurement in measured.components.items()
        for check in flow.judge_component(components, name, baseline, measurement)
    ]
    _show_checks(session.console, checks)
    verified = judge.verified(checks)
    session.console.emit({"verified": verified, "checks": [json_form(check) for check in checks]})
    return 0 if verified else 1


def _show_measured(console: Console, measured: Baseline) -> None:
    from refloat.evidence.render import figure

    rows = [
        (
            component,
            name,
            figure(m.value, m.unit),
            f"{figure(m.low, m.unit)} to {figure(m.high, m.unit)}",
            str(m.samples),
        )
        for component, measurement in measured.components.items()
        for name, m in measurement.metrics.items()
    ]
    console.table(("component", "measured", "value", "95 % interval", "samples"), rows)


def _show_checks(console: Console, checks: list[Check]) -> None:
    from refloat.evidence.render import figure

    rows = [
        (
            c.component,
            c.name,
            figure(c.baseline, c.unit),
            figure(c.recovered, c.unit),
            c.bound,
            str(c.samples),
            c.verdict,
        )
        for c in checks
    ]
    console.table(("component", "measured", "baseline", "now", "bound", "samples", "verdict"), rows)
    for check in checks:
        if check.reason and check.verdict != "pass":
            console.warn(f"{check.component} {check.name}: {check.reason}")
