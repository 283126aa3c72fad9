"""``refloat verify``: measure how the pipeline answers now; keep it as the baseline, or hold it against one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refloat.cli.common import Session, examples, load_manifest, open_vault, resolver, session_of

if TYPE_CHECKING:
    from refloat.cli.console import Console
    from refloat.digest import Json
    from refloat.vault.vault import Vault
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
    files, where = flow.golden_files(components, session.file.parent), region or manifest.primary
    progress = session.console.progress()
    if save_baseline:
        return _keep(
            session,
            vault,
            flow.measure_baselines(components, files, where, session.clock, progress=progress),
        )
    held = flow.held_against(
        components, files, list(vault.replicas.values()), where, session.clock, progress=progress
    )
    session.console.close()
    checks = [
        check
        for name, (made, reference) in held.items()
        for check in judge.judge(name, reference, made.measurement, manifest.verify[name].bounds)
    ]
    _show_checks(session.console, checks)
    verified = judge.verified(checks)
    session.console.emit({"verified": verified, "checks": [json_form(check) for check in checks]})
    return 0 if verified else 1


def _keep(session: Session, vault: Vault, measured: list[Baseline]) -> int:
    from refloat.flows import baselines

    console = session.console
    console.close()
    kept = baselines.save(measured, list(vault.replicas.values()))
    _show_measured(console, measured)
    console.print(f"kept as the baseline in {', '.join(r for r, error in kept.items() if not error)}")
    console.emit({"baseline": _document(measured), "regions": kept})
    return 1 if any(kept.values()) or vault.unreachable else 0


def _document(measured: list[Baseline]) -> dict[str, Json]:
    """What was measured in one go, by component; ``identity_digest`` is that of all for which it counts."""
    from refloat.digest import json_digest, json_form
    from refloat.units import format_time

    identities = {made.component: dict(made.identities) for made in measured}
    return {
        "identity_digest": json_digest(identities),
        "identities": identities,
        "profile": measured[0].profile,
        "region": measured[0].region,
        "measured_at": format_time(measured[0].measured_at),
        "components": {made.component: json_form(made.measurement) for made in measured},
    }


def _show_measured(console: Console, measured: list[Baseline]) -> None:
    from refloat.evidence.render import figure

    rows = [
        (
            made.component,
            name,
            figure(m.value, m.unit),
            f"{figure(m.low, m.unit)} to {figure(m.high, m.unit)}",
            str(m.samples),
        )
        for made in measured
        for name, m in made.measurement.metrics.items()
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
        if check.reason:
            say = console.note if check.verdict == "pass" else console.warn
            say(f"{check.component} {check.name}: {check.reason}")
