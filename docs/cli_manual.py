"""Writes CLI.md from the commands themselves: `python docs/cli_manual.py`; `--check` says whether it is stale."""

# ruff: noqa: E501 - rows of tables and paragraphs are one line each

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer.main

from refloat import errors
from refloat.cli.main import VERBS, Defect, app

MANUAL = Path(__file__).with_name("CLI.md")
Rows = Sequence[tuple[str, str]]
"""Pairs of (path of a key, what it says)."""

HEAD = """\
# The command line

<!-- Written by docs/cli_manual.py from the commands themselves; change it there, or in src/refloat/cli. -->

## The region is gone: what to type

You need three things: a machine with refloat on it, the key file, and the address of one vault that is left. The
manifest, the golden questions and the objectives are in the vault. Run it where the recovered pipeline is to live:
connectors write to the paths and start the processes of this machine.

```sh
export REFLOAT_KEY_FILE=/safe/place/chat.key
refloat points list --vault s3://refloat-us/chat
refloat plan --vault s3://refloat-us/chat --to us
refloat recover --vault s3://refloat-us/chat --to us --lost-at 2026-11-01T12:00:00Z
```

`plan` changes nothing and prints exactly what `recover` will do. `recover` changes nothing that is live before
everything is staged and checked, and puts everything back when a step that matters fails.

| you see | do this |
| --- | --- |
| `refused`, exit code 3 | read which rule said no ([below](#safety-rules)). Mend the cause; only then `--override RULE` |
| the command was interrupted, or the machine went down | `refloat run list --to us --vault …`, then `refloat recover --to us --vault … --resume RUN` |
| `target_claimed` | another run holds the region: resume that one, or wait for the person at it. One whose machine died can be resumed 30 s later |
| exit code 5, `waiting` | a step was cut in the middle and nobody can tell what became of it: look, then resume |
| `rolled_back`, exit code 1 | what was live before is live again. The `error` of the document, and the evidence page, name the step |
| `dirty`, exit code 1 | a rollback failed. `refloat run show RUN --to us` says what is where; mend that, then `--resume` |
| exit code 4 | the vault is not what was written: `refloat vault check --read-data`, then another point or another region |
| no key works | try each copy of the key file; or the passphrase: unset `REFLOAT_KEY_FILE`, set `REFLOAT_PASSPHRASE` |

## Where things come from

| what | where from |
| --- | --- |
| the manifest | `-f FILE`; without it `refloat.yaml` in the current directory. Its keys: [MANIFEST.md](MANIFEST.md) |
| no manifest | `--vault ADDRESS` names one replica instead, and everything else is read from its points |
| the key | the file that `REFLOAT_KEY_FILE` names; else a key kept in the vault itself, opened by `REFLOAT_PASSPHRASE`; else, on a terminal, you are asked for the passphrase. Setting both variables is an error |
| a key in the vault | is there if `REFLOAT_PASSPHRASE` was set when `refloat vault init` ran |
| the vault | the `vault` of each region in the manifest: a path, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix` |
| a store's credentials | the variables that its own tools read: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, and the like. Never the address |
| `${env:NAME}`, `${file:path}` | this process's environment; files from the manifest's folder, at a bare recovery from the current directory |
| relative paths of components | start at the current directory: write absolute ones |

Evidence pages go to `$XDG_STATE_HOME/refloat/evidence`, by default `~/.local/state/refloat/evidence`. Nothing on
this machine is needed again: what counts is in the vault.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | what was asked did not succeed: also a broken point, too few copies, a rollback, quality that is not known |
| 2 | the command line or the manifest is wrong |
| 3 | a safety rule refused; nothing was touched |
| 4 | the vault is not what was written, lacks something, or the key is not its key |
| 5 | a person must decide |
| 130 | interrupted (Ctrl-C); resumable |
| 143 | terminated (SIGTERM); resumable |

## Errors

An error says what failed, for which component, region and file, and what to do `next`. With `--debug` the traceback
comes before it.

"""

RULES = """\
## Safety rules

The `rule` of a refusal. `--override RULE` of `recover` and `plan` goes on against the first nine, and the evidence names each rule
that was overridden. The others have no override.

| rule | says no when | what to do |
| --- | --- | --- |
| `group_broken` | the point's parts do not belong together: an invariant does not hold, or cannot be told | `refloat points why POINT` names it; an older point is nearly always better |
| `group_split` | `--only` names a part of a group whose other members are in the target already and would stay as they are | name them too: an old half beside a new one answers wrongly |
| `source_alive` | something in the source region still answers, or it is unknown whether it does | stop it: two regions that serve answer differently |
| `target_foreign` | the target holds something that refloat did not put there | move it away; what is there is replaced |
| `target_claimed` | another run holds the target region | `refloat run list --to REGION`; resume that run instead |
| `target_serving` | what an earlier recovery started in the target still runs, or may | stop it: everything below it is exchanged |
| `log_damaged` | the region's log of points cannot be read to its end | recover from another region; overriding uses the points that are stored, whether they were committed or not |
| `log_rolled_back` | a region's log of points is shorter than another region saw it | recover from the other region: this one has lost or hidden points |
| `quality_unverified` | a bound of `verify` is not kept, or not known to be | read the checks; overriding takes worse answers into service |
| `primary_moved` | `protect` without `--region`, and the newest point was made elsewhere than in the manifest's `primary`, as after a recovery | correct `primary`, or name the region: `refloat protect --region us` |
| `vault_exists` | a vault would be made where something is already | |
| `key_exists` | a key would be written over a file | |
| `manifest_exists` | `refloat init` would write over a manifest | |

## `--json`

- Exactly one JSON document goes to stdout, in one line. Progress, notes and warnings go to stderr; `-q` silences progress.
- Every document has `"schema": 1`. Keys are added without notice; a key that goes or changes its meaning raises the number.
- Times are RFC 3339 in UTC with microseconds: `2026-11-01T12:00:00.000000Z`. Durations are seconds, sizes are bytes, both as numbers.
- `null` is "not known" or "not there", never zero. Skipped is not done; `unknown` is not `pass`.
- A failure is one document as well: `{"schema": 1, "error": {…}}`. `recover` prints its document with the `error` in it when a run began.
- Secrets that came from `${env:}` or `${file:}` are replaced wherever they would be printed.

| key of `error` | what it says |
| --- | --- |
| `code` | one of the codes [above](#errors) |
| `message` | what failed and why |
| `component`, `region`, `file` | to what it happened; `null` where that is not known. A wrong manifest gives `FILE:LINE:COLUMN` |
| `retry` | whether the same command can succeed: `now`, `later` or `never` |
| `next` | what to do |
| `rule` | of a refusal: the safety rule |

In the tables below, `NAME` stands for any key and `[]` for each item of a list.

## Colours, and completion

Colours are used on a terminal, and never with `--no-color` or when `NO_COLOR` is set. `refloat --install-completion` teaches the current shell
to complete commands and options; `refloat --show-completion` prints the script.

"""

_CHECK: Rows = (
    ("name", "the metric, as in `bounds`"),
    ("component", "the component that was measured"),
    ("baseline", "the figure before, or `null` where no baseline fits this identity of the pipeline"),
    ("recovered", "the figure now"),
    ("bound", "the bound, in words"),
    ("samples", "how many samples decide it"),
    ("verdict", "`pass`, `fail` or `unknown`"),
    ("reason", "why, where it is not a pass"),
    ("unit", "`s`, `1/s`, or empty for a share"),
)
_INVARIANT: Rows = (
    ("must", "the expression"),
    ("holds", "`true`, `false`, or `null` where it could not be told"),
    ("values", "what stood for each fact in it"),
    ("reason", "why it could not be told"),
)


def _below(path: str, rows: Rows) -> Rows:
    return tuple((f"{path}.{key}", meaning) for key, meaning in rows)


_GROUPS: Rows = (
    ("groups.NAME.grade", "`exact`, `fuzzy` or `broken`"),
    ("groups.NAME.reason", "why it is not exact"),
    *_below("groups.NAME.invariants[]", _INVARIANT),
)
_RESULT: Rows = (
    ("components.NAME.kind", "the connector"),
    ("components.NAME.layer", "the layer that its RTO is reported by"),
    ("components.NAME.tier", "its tier"),
    ("components.NAME.rto.seconds", "time until it was verified, or `null` where it was not"),
    ("components.NAME.rto.objective_s", "the tier's RTO"),
    ("components.NAME.rto.from", "`declared` or `run_start`"),
    ("components.NAME.rpo.seconds", "how much of its past is lost"),
    ("components.NAME.rpo.objective_s", "the tier's RPO"),
    ("components.NAME.rpo.basis", "from when to when that was counted"),
    ("components.NAME.bytes", "its size"),
    ("components.NAME.files", "how many files it has"),
)
_RECOVERED: Rows = (
    ("run", "the run; `--resume` takes it"),
    ("state", "`done`, `rolled_back`, `blocked` (nothing was touched), `dirty` or `failed`"),
    (
        "flags",
        "`unverified`: nothing was measured; `unprotected`: too few regions hold it now; `skips`: optional steps failed",
    ),
    ("point", "the point that it came from"),
    ("to", "the region"),
    ("started_at", "when the run began"),
    ("finished_at", "when it ended"),
    ("rto.seconds", "from the moment in `from` to the end of verification; `null` where it was not reached"),
    ("rto.objective_s", "the strictest RTO among the components"),
    ("rto.from", "`declared` (`--lost-at`) or `run_start`"),
    ("rpo.NAME.seconds", "how much of a component's past is lost"),
    ("rpo.NAME.basis", "from when to when that was counted"),
    *_RESULT,
    ("verified", "`true`: every bound is kept; `false`: one is not; `null`: nothing was measured"),
    *_below("checks[]", _CHECK),
    ("invariants[].group", "the group, as captured"),
    *_below("invariants[]", _INVARIANT),
    ("skipped", "ids of the steps that did not happen"),
    ("overrides", "safety rules that were overridden"),
    ("lost_points", "newer points that only a lost region held"),
)
_STEP: Rows = (
    ("id", "phase, action and subject; the same in every plan"),
    ("component", "the component, or `null`"),
    ("layer", "its layer, or `null`"),
    ("action", "what the step does"),
    ("needs", "ids of the steps before it"),
    ("critical", "`false`: it may fail, and is then reported as skipped"),
    ("reversible", "whether a rollback undoes it"),
    ("touches_live", "whether what is live is changed"),
    ("timeout_s", "when it is given up"),
    ("bytes", "what it moves"),
    (
        "estimate",
        "`p50_s`, `p95_s`, `samples`, and `basis`: `learnt` from earlier runs into this region, or `assumed`",
    ),
)

DOCUMENTS: Mapping[str, Rows] = {
    "init": (
        ("file", "the manifest that was written"),
        ("pipeline", "its name"),
        ("regions", "the names of its regions"),
    ),
    "check": (
        ("ok", "whether no problem is an error"),
        ("problems[].level", "`error` or `warning`"),
        ("problems[].where", "the place in the manifest"),
        ("problems[].message", "what is wrong"),
        ("problems[].next", "what to do, or `null`"),
        ("components.NAME.kind", "the connector"),
        ("components.NAME.tier", "the tier"),
        ("components.NAME.reachable", "whether its facts could be read"),
        ("components.NAME.health", "`healthy`, `sick` or `unknown`"),
        ("components.NAME.protected", "whether the newest point holds it; `null` without a key"),
        ("regions.NAME.vault", "the address"),
        ("regions.NAME.reachable", "whether the store answers"),
        ("regions.NAME.exists", "whether there is a vault"),
        ("regions.NAME.points", "how many points it holds; `null` without a key"),
    ),
    "status": (
        ("pipeline", "the pipeline's name"),
        ("regions.NAME.reachable", "whether its replica answers"),
        (
            "regions.NAME.head",
            "`slot`, `hash` and `point` of its newest log entry; `null` where there is none",
        ),
        ("regions.NAME.error", "only where it does not answer: why"),
        (
            "exposure.NAME.seconds",
            "what losing this region now would cost, worst over components; `null`: not known, or all of it",
        ),
        ("exposure.NAME.reason", "which component, and why"),
        ("runs_in", "where the pipeline runs: the region in which the newest point was made"),
        ("components.NAME.tier", "the tier"),
        ("components.NAME.rpo_objective_s", "the tier's RPO"),
        ("components.NAME.as_of", "the moment that its newest copy is from; `null`: no copy"),
        ("components.NAME.exposure.NAME.seconds", "what losing that region would cost of this component"),
        ("components.NAME.exposure.NAME.reason", "why"),
        (
            "components.NAME.state",
            "the worst of them: `ok`, `warn` (over 80 % of the RPO), `unknown`, `breach` or `unprotected`",
        ),
    ),
    "protect": (
        ("point", "the point's name"),
        ("grade", "the worst grade of its groups"),
        ("created_at", "when it was made"),
        ("copies_required", "in how many regions it must be complete"),
        ("regions.NAME.complete", "whether this region holds all of it"),
        ("regions.NAME.error", "why not, or `null`"),
        *_GROUPS,
        ("components.NAME.snapshot", "the name of its tree in the vault"),
        ("components.NAME.as_of", "the moment that it is from"),
        ("components.NAME.carried", "`true`: taken over from the point before, unread"),
        ("components.NAME.bytes", "its size"),
        ("components.NAME.new_bytes", "of these, not in the vault before (file listings count too)"),
        ("components.NAME.stored_bytes", "what those take there"),
        ("components.NAME.seconds", "how long the capture took"),
        ("components.NAME.error", "why it could not be captured and is as old as before, or `null`"),
    ),
    "points list": (
        ("points[].point", "the point's name; newest first"),
        ("points[].created_at", "when it was made"),
        ("points[].grade", "its worst grade"),
        (
            "points[].regions",
            "the regions that hold all of it; with `--vault`, that one alone is looked at",
        ),
    ),
    "points show": (
        ("point", "its name"),
        ("grade", "its worst grade"),
        ("format", "1"),
        ("pipeline", "the pipeline"),
        ("primary", "the region that it was captured in"),
        ("created_at", "when it was made"),
        ("manifest", "the tree with the manifest and the golden sets"),
        ("profile", "`default`"),
        ("versions", "of refloat and Python"),
        ("components.NAME.kind", "the connector"),
        ("components.NAME.tree", "the name of its tree in the vault"),
        ("components.NAME.identity", "facts that must not move"),
        ("components.NAME.position", "facts that always move"),
        ("components.NAME.token", "equal exactly when nothing changed; or `null`"),
        ("components.NAME.as_of", "the moment that it is from"),
        ("components.NAME.captured_from", "when its capture began"),
        ("components.NAME.captured_to", "when it ended"),
        ("components.NAME.files", "how many files"),
        ("components.NAME.bytes", "their size"),
        ("components.NAME.new_bytes", "of these, not in the vault before"),
        ("components.NAME.stored_bytes", "what those take there"),
        ("components.NAME.seconds", "how long the capture took"),
        ("components.NAME.carried", "taken over from the point before, unread"),
        ("groups.NAME.members", "the components of the group"),
        ("groups.NAME.skew_s", "how far apart its members' captures lie"),
        *_GROUPS,
    ),
    "points diff": (
        ("first", "the earlier point"),
        ("second", "the later point"),
        ("components.NAME.facts", "by the path of a fact: `before` and `after`"),
        ("components.NAME.added", "paths that only the later point has"),
        ("components.NAME.removed", "paths that only the earlier point has"),
        ("components.NAME.changed", "paths whose size, time or mode differ"),
    ),
    "points why": (
        ("points[].point", "without a point: each one, newest first"),
        ("points[].reason", "why a recovery would or would not take it now"),
        ("point", "with a point: its name"),
        ("grade", "with a point: its worst grade"),
        ("reason", "with a point: why a recovery would or would not take it now"),
        ("groups.NAME.members", "the components of the group"),
        ("groups.NAME.skew_s", "how far apart its members' captures lie"),
        *_GROUPS,
    ),
    "plan": (
        ("hash", "the digest of what is done and in which order; estimates are left out"),
        ("point", "the point that was chosen"),
        ("to", "the region"),
        (
            "phases[].name",
            "`preflight`, `stage`, `validate`, `activate`, `verify`, `traffic`, `reprotect`; those with steps",
        ),
        *_below("phases[].steps[]", _STEP),
        ("rto.pipeline.p50_s", "how long until everything is verified, half of the time"),
        ("rto.pipeline.p95_s", "on the long side"),
        ("rto.pipeline.objective_s", "the strictest RTO among the components"),
        ("rto.components.NAME", "the same for each component"),
    ),
    "recover": (
        *_RECOVERED,
        ("evidence.NAME.record", "the name of the signed record in that region's vault; or `null`"),
        ("evidence.NAME.error", "why it could not be written there; or `null`"),
        ("page", "the evidence as an HTML file on this machine"),
        ("error", "only where it did not succeed: the error document of the step that failed"),
    ),
    "run list": (
        ("runs[].run", "the run; newest first"),
        ("runs[].started_at", "when it began"),
        ("runs[].point", "the point that it recovers"),
        ("runs[].state", "where it stands"),
    ),
    "run show": (
        ("run", "the run"),
        ("state", "where it stands"),
        ("reason", "why"),
        ("standing", "of a `dirty` run: what is where, by component"),
        ("steps[].id", "the step"),
        (
            "steps[].status",
            "`pending`, `done`, `failed`, `skipped`, `undoing`, `undone`, `stuck` (could not be undone), or `unknown`: announced, and nobody knows what became of it",
        ),
        ("steps[].seconds", "how long it took"),
        ("steps[].attempts", "how often it was tried"),
        ("steps[].error", "the error document of the last attempt, or `null`"),
    ),
    "verify": (
        ("verified", "`true`: every bound is kept; `false`: one is not; `null`: it is not known"),
        *_below("checks[]", _CHECK),
        (
            "baseline.identity_digest",
            "with `--save-baseline`: the identity of the pipeline that it counts for",
        ),
        ("baseline.profile", "`default`"),
        ("baseline.region", "where it was measured"),
        ("baseline.measured_at", "when"),
        (
            "baseline.components.NAME",
            "what was measured: `metrics` with `value`, `low`, `high`, `samples` and `unit`, and the load",
        ),
        ("regions.NAME", "with `--save-baseline`: why this region did not keep it, or `null`"),
    ),
    "evidence list": (
        (
            "evidence[]",
            "of each run, newest first: the document of `recover` without `evidence`, `page` and `error`",
        ),
    ),
    "evidence show": (
        ("format", "1"),
        ("kind", "`recovery`"),
        ("pipeline", "the pipeline"),
        ("run", "the run"),
        ("state", "how it ended"),
        ("flags", "as of `recover`"),
        ("point", "the point"),
        ("point_created_at", "when it was made"),
        ("source", "the region that was lost"),
        ("to", "the region that was recovered in"),
        ("profile", "`default`"),
        ("started_at", "when the run began"),
        ("finished_at", "when it ended"),
        ("declared_at", "`--lost-at`, or `null`"),
        ("rto", "`seconds`, `objective_s` and `from`"),
        *_RESULT,
        ("groups", "the groups as captured, with each invariant"),
        ("verified", "as of `recover`"),
        *_below("checks[]", _CHECK),
        ("baseline_region", "where the baseline was measured, or `null`"),
        ("measurements.NAME", "every figure, with its 95 % interval, and the load"),
        ("skipped", "as of `recover`"),
        ("overrides", "as of `recover`"),
        ("lost_points", "as of `recover`"),
        (
            "steps[]",
            "of each step: `id`, `phase`, `component`, `result`, `started_s` (after the start of the run), `seconds`, `attempts`, `estimate_p50_s`, `error`",
        ),
        ("versions", "of refloat and Python"),
        ("digests", "`plan`, `identity` and `vault`"),
    ),
    "vault init": (
        ("vault", "the vault's id"),
        ("key", "where the key went"),
        ("regions.NAME", "the address of each replica"),
    ),
    "vault check": (
        ("ok", "nothing is damaged and every region answers"),
        ("packs", "how many were looked at, over all regions"),
        ("chunks", "how many, over all regions"),
        ("bytes_read", "how much was read and verified"),
        ("damaged[].object", "the object"),
        ("damaged[].region", "where"),
        ("damaged[].affects", "names of the points that need it"),
        ("damaged[].reason", "what is wrong with it"),
        ("unreachable", "regions that do not answer"),
    ),
    "vault repair": (
        ("regions.NAME.mended", "by object: the region that the good copy came from"),
        ("regions.NAME.left", "by object: why it could not be mended"),
        (
            "regions.NAME.again",
            "keys were mended, so what could not be verified without them must be looked at again",
        ),
        ("unreachable", "regions that do not answer"),
    ),
    "demo": (
        ("protect", "the document of `protect`"),
        ("recover", "the document of `recover`"),
        ("refused.point", "the point whose index another embedder built"),
        ("refused.grade", "`broken`"),
        ("refused.invariant", "the invariant that does not hold"),
        ("refused.error", "how `recover` refused it"),
        ("ledger.answered", "answers that the client saw"),
        ("ledger.lost", "of these, not in the recovered log"),
        ("seconds", "how long the story took"),
    ),
}
"""What each command prints with ``--json``. A path covers what lies below it."""

NOTES: Mapping[str, str] = {
    "init": "Never over an existing file. `KIND` is one of [CONNECTORS.md](CONNECTORS.md).",
    "check": "Exit code 1 when a problem is an error: a component that does not answer, an invariant that does not hold, "
    "an RPO that the cadence can never meet. Without a key it says so and looks at what it can.",
    "status": "Losing a region where the pipeline does not run costs none of its data. The region where it runs is the manifest's `primary`: correct that after a recovery.",
    "protect": "Exit code 1 when a component could not be captured, a group is broken, or fewer regions than `copies` hold the point. "
    "The point is then written all the same, graded for what it is.",
    "points": "A point may be named by the first digits of its name.",
    "plan": "Takes the point that `recover` would take: the newest that is not broken, or the one that you name.",
    "recover": "Exit code 0 means that the run is `done` and, where the manifest asks for verification, verified. With `--vault` no manifest is needed. "
    "`--only` recovers the named components alone. Without `--lost-at` the clocks of RTO and RPO start with the run, which flatters both. "
    "A killed run is resumed from any machine with `--resume`.",
    "run": "`--to` is the region whose runs are meant: the journal of a run is in the vault of the region that it recovers, or in the one that `--vault` named.",
    "verify": "Exit code 1 when a bound is not kept or not known to be, and when a baseline did not reach every region. "
    "Measure a baseline, with `--save-baseline`, whenever a model, an index or a prompt changes: without one that fits, a recovery cannot be verified.",
    "evidence": "Signed by the operator's key and kept in every vault that was left.",
    "vault init": "Refuses a place that is not empty. The key opens everything and nothing opens the vault without it: keep two copies outside of all regions.",
    "vault check": "Exit code 4 when something is damaged, 1 when a region does not answer. Without `--read-data` it looks at what must be there; with it, every byte is read, opened and compared.",
    "demo": "Takes about a minute and leaves nothing behind without `--keep`.",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *[[_cell(cell) for cell in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def _codes() -> str:
    kinds: list[type[errors.RefloatError]] = [*_tree(errors.RefloatError), Defect]
    rows = [
        (f"`{kind.code}`", str(kind.exit_code), (kind.__doc__ or "").splitlines()[0].replace("``", "`"))
        for kind in kinds
    ]
    return _table(("code", "exit", "meaning"), rows)


def _tree(kind: type[errors.RefloatError]) -> Iterator[type[errors.RefloatError]]:
    if kind.__module__ == errors.__name__:
        yield kind
        for below in kind.__subclasses__():
            yield from _tree(below)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, in the order of ``VERBS``. Any: typer exports no type for commands."""
    yield name, command
    below = getattr(command, "commands", {})
    order = [verb for verb in VERBS if verb in below] if name == "refloat" else list(below)
    for verb in order:
        yield from _commands(below[verb], f"{name} {verb}".strip())


def _arguments(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == "argument"]


def _shown(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _usage(name: str, command: Any) -> str:
    if hasattr(command, "commands"):
        return f"{name} COMMAND …"
    required = [_spelt(p) for p in _options(command) if p.required]
    words = [name, *required, *map(_shown, _arguments(command))]
    return " ".join([*words, *(["[OPTIONS]"] if len(_options(command)) > len(required) else [])])


def _options(command: Any) -> list[Any]:
    return [p for p in command.params if p.param_type_name == "option"]


def _spelt(option: Any) -> str:
    names = ", ".join(option.opts)
    return names if option.is_flag else f"{names} {option.metavar or option.name.upper()}"


def _remarks(option: Any) -> str:
    given = option.default
    default = f" Default: `{given}`." if given and not option.is_flag and not option.multiple else ""
    again = " May be given again." if option.multiple and "again" not in (option.help or "") else ""
    return f"{option.help or ''}{' Required.' if option.required else ''}{again}{default}"


def _parameters(command: Any) -> str:
    rows = [(f"`{_shown(a)}`", a.help or "") for a in _arguments(command)]
    rows += [(f"`{_spelt(option)}`", _remarks(option)) for option in _options(command)]
    return _table(("argument or option", "what it says"), rows) if rows else ""


def _examples(command: Any) -> str:
    lines = [line.strip() for line in (command.epilog or "").splitlines()]
    lines = [line for line in lines if line.startswith("refloat ")]
    return "```sh\n" + "".join(f"{line}\n" for line in lines) + "```\n\n" if lines else ""


def _section(name: str, command: Any) -> str:
    verb = name.removeprefix("refloat").strip()
    level = "##" if " " not in verb else "###"
    parts = [f"{level} `{name}`\n\n{command.help}\n\n", f"```text\n{_usage(name, command)}\n```\n\n"]
    parts += [f"{NOTES[verb]}\n\n"] if verb in NOTES else []
    parts += [_parameters(command), _examples(command)]
    if verb in DOCUMENTS:
        rows = [(f"`{path}`", meaning) for path, meaning in DOCUMENTS[verb]]
        parts += [f"`{name} --json` prints:\n\n", _table(("key", "what it says"), rows)]
    return "".join(parts)


def _globals(command: Any) -> str:
    return (
        "## Options of every command\n\nThey may stand anywhere on the line.\n\n"
        + _parameters(command)
        + _examples(command)
    )


def manual() -> str:
    """The whole of CLI.md."""
    root = typer.main.get_command(app)
    (_, whole), *commands = _commands(root, "refloat")
    sections = "".join(_section(name, command) for name, command in commands)
    return (HEAD + _codes() + RULES + _globals(whole) + sections).rstrip() + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the manual, or with ``--check`` say whether it is what would be written; the exit code."""
    if list(arguments) == ["--check"]:
        fresh = MANUAL.exists() and MANUAL.read_text(encoding="utf-8") == manual()
        sys.stdout.write("" if fresh else "docs/CLI.md is stale: python docs/cli_manual.py\n")
        return 0 if fresh else 1
    MANUAL.write_text(manual(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
