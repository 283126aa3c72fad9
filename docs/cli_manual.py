"""Writes CLI.md from the commands themselves: `python docs/cli_manual.py`; `--check` says whether it is stale."""

# ruff: noqa: E501 - rows of tables and paragraphs are one line each

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer.main

from refloat import errors
from refloat.cli.main import VERBS, Defect, whole

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

If you only want the files, to look at or to restore by hand, nothing need run and nothing is claimed or started:

```sh
refloat recover --vault s3://refloat-us/chat --into ./recovered
refloat vault ls 3f2a answers --vault s3://refloat-us/chat
refloat vault cat 3f2a manifest refloat.yaml --vault s3://refloat-us/chat
refloat vault export 3f2a models --include '*.safetensors' --vault s3://refloat-us/chat --into ./models
```

`plan` changes nothing and prints exactly what `recover` will do. `recover` changes nothing that is live before
everything is staged and checked, and puts everything back when a step that matters fails.

| you see | do this |
| --- | --- |
| `refused`, exit code 3 | read which rule said no ([below](#safety-rules)). Mend the cause; only then `--override RULE` |
| the command was interrupted, or the machine went down | `refloat run list --to us --vault …`, then `refloat recover --to us --vault … --resume RUN` |
| `target_claimed` | another run holds the region: resume that one, or wait for the person at it. Of one whose machine may have died the journal is watched for 20 s, on this machine's own clock; it can be resumed where nothing came |
| `target_primary` | the pipeline is still there: recover into another region, or `--into DIR` |
| exit code 5, `waiting` | a step needs a person to decide, or was cut in the middle and nobody can tell what became of it: look, then resume. Nothing was put back. Where it is not known whether it answers as before ([BASELINES.md](BASELINES.md)): `--resume RUN --override quality_unverified` takes it into service, `refloat run abort RUN --to us` puts all back |
| `rolled_back`, exit code 1 | what was live before is live again. The `error` of the document, and the evidence page, name the step |
| `dirty`, exit code 1 | a rollback failed. `refloat run show RUN --to us` says what is where; mend that, then `--resume`. `unended` names a call that was told to end and went on: nothing of its component was put back beside it, and only when its process is gone does `--resume` do so |
| exit code 4 | the vault is not what was written: `refloat vault check --read-data`, then another point or another region |
| no key works | try each copy of the key file; or the passphrase: unset `REFLOAT_KEY_FILE`, set `REFLOAT_PASSPHRASE`; or the printed page: `refloat vault keys restore page.txt --key chat.key`; or the pages of a kit in shares |

## Where things come from

| what | where from |
| --- | --- |
| the manifest | `-f FILE`; without it `refloat.yaml` in the current directory. Its keys: [MANIFEST.md](MANIFEST.md) |
| no manifest | `--vault ADDRESS` names one replica instead, and everything else is read from its points |
| the key | the file that `REFLOAT_KEY_FILE` names, which may also be a recipient's private key, for which a vault keeps the key; else a key kept in the vault itself, opened by `REFLOAT_PASSPHRASE`; else, on a terminal, you are asked for the passphrase. Setting both variables is an error |
| a key on paper | is there if somebody kept the page of `refloat vault kit`, or enough people theirs of a kit in shares: it says what to type |
| a key in the vault | is there if `REFLOAT_PASSPHRASE` was set when `refloat vault init` ran, or `refloat vault keys add` kept it |
| somebody else's passphrase | `REFLOAT_NEW_PASSPHRASE`, for `refloat vault keys add` alone |
| the vault | the `vault` of each region in the manifest: a path, `file:///path`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix` |
| a store's credentials | the environment, never the address: see [A vault in a bucket](#a-vault-in-a-bucket) |
| `${env:NAME}`, `${file:path}` | this process's environment; files from the manifest's folder, at a bare recovery from the current directory |
| relative paths of components | start at the current directory: write absolute ones |

What a command that was killed has left goes once it is a day old: a scratch folder `refloat-…` in the temporary folder with the next
`protect` or `recover`, and `.NAME.….part` beside a key file with the next command that writes that file; what lies in a vault, `NAME~` in a
directory and objects that nothing needs, with `refloat vault prune`. What another command is at work in stays.

Evidence pages go to `$XDG_STATE_HOME/refloat/evidence`, by default `~/.local/state/refloat/evidence`; which alerts were sent stands
beside them, below `pipelines`. Nothing on
this machine is needed again: what counts is in the vault.

The same from Python: [PYTHON.md](PYTHON.md). On a schedule, with alerts and figures: [SCHEDULING.md](SCHEDULING.md).

## A vault in a bucket

The bucket or container must be there; `vault init` makes none. Regions may lie with different providers, and should.

| provider | address | variables | elsewhere than at the provider |
| --- | --- | --- | --- |
| S3 | `s3://bucket/prefix` | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_SESSION_TOKEN` where there is one | `AWS_ENDPOINT_URL` |
| Azure | `az://container/prefix` | `AZURE_STORAGE_ACCOUNT_NAME`, and `AZURE_STORAGE_ACCOUNT_KEY` or, of the container, `AZURE_STORAGE_SAS_TOKEN`; the key is used where both are set | `AZURE_STORAGE_ENDPOINT`, with the account at its end, such as `http://127.0.0.1:10000/devstoreaccount1` |
| Google | `gs://bucket/prefix` | `GOOGLE_SERVICE_ACCOUNT`, the path of a service account's JSON | `GOOGLE_BASE_URL` |

```sh
export AZURE_STORAGE_ACCOUNT_NAME=drchat AZURE_STORAGE_SAS_TOKEN="$(cat sas.txt)"    # for az://refloat/chat
export GOOGLE_SERVICE_ACCOUNT=/etc/refloat/google.json                               # for gs://dr-chat/refloat
refloat vault init --key chat.key
```

Who protects must be let read, list and create (`r`, `l` and `c` of a token of Azure), and need not be let write over or delete
anything; who prunes, delete as well (`d`). An endpoint of plain `http://` is used on this machine alone, unless `AWS_ALLOW_HTTP=true` (`AZURE_ALLOW_HTTP`,
`GOOGLE_ALLOW_HTTP`). `AWS_CA_BUNDLE` names a PEM file of authorities to trust beside the system's, and `HTTPS_PROXY` and `NO_PROXY` count.
Where regions differ, the manifest's [`store`](MANIFEST.md#a-store-of-its-own) says all of this for each.

A bucket that takes connections and never says a word is given up after 10 s. `protect`, `status`, `check`, `plan`, `recover`, `metrics`,
`vault check`, `vault repair` and what reads points wait only 5 s for its first word once another region is open, go on without it, and say that it
was not heard: what it holds is not known then. The region that is recovered from has all of its time, as has every region
where a move, `vault prune`, `points forget` or a change of keys needs all of them.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | what was asked did not succeed: also a broken or suspect point, too few copies, a region that does not answer, a rollback, a `status` that is not well |
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

The `rule` of a refusal. `--override RULE` of `recover` and `plan` goes on against the first fourteen, and the evidence names each rule
that was overridden. That of `points forget` goes on against the five that hold forgetting, and the record of what is forgotten names
it. `vault repair` asks for `log_damaged` and `foreign_objects` alone. The others have no override. With `--into` only `group_broken`,
`log_damaged`, `log_rolled_back`, `point_suspect` and `target_full` are asked.
A damaged log is no refusal but an error of the vault: against `log_damaged` and `claim_damaged` a command ends with exit code 4
and an error without `rule`, whose `next` names the override. `quality_unverified` rolls back where a bound is broken, exit code 1, and waits where one is not known, exit code 5;
overriding it keeps the run, and the exit code is 1.

| rule | says no when | what to do |
| --- | --- | --- |
| `group_broken` | the point's parts do not belong together: an invariant does not hold, cannot be told, or could be evaluated neither when the point was made nor now | `refloat points why POINT` names it; an older point is nearly always better |
| `point_suspect` | in the named point, or in one before it and never since mended, a component looks encrypted (most of it is new and packing saves half or less of what it did) or lost half or more; where no point is named, such points are passed over | `refloat points why` says which point is good. Once a person has looked, `refloat points accept` makes a point a good one, and `points forget` with `--override source_rewritten` or `source_shrank` all that are there |
| `group_split` | `--only` names a part of a group whose other members are in the target already, and it is not known that all of its invariants hold over what comes back and what stays: one does not, there is none, or a member is not there or cannot be looked at | name them too: an old half beside a new one answers wrongly. Or choose another point |
| `source_alive` | something still answers in the region where the point was made, or in the manifest's primary, or it is unknown whether it does | stop it: two regions that serve answer differently |
| `source_ahead` | `--scenario planned_move` or `failback`, and what is live where the pipeline runs is not what the point holds to its last change, or that cannot be told; or a newer point is not good enough to be taken or in another region alone, or a run has led elsewhere since | stop what writes there, make a point of what is there now (`refloat protect`), and begin again. Overriding moves without what was written since |
| `target_foreign` | the target holds something that refloat did not put there, or a port of a process is taken | move it away, or override the rule: what is there is set aside under another name beside, `components.NAME.set_aside` says which, and a rollback puts it back. Deleting it is left to you. A port, and who listens on it, is named: stop that, for nothing overrides it |
| `target_full` | a file system has not room for all that would be staged on it, or brought into the folder of `--into`: what is live stays until the end, so both must fit | `refloat plan` shows what is needed and what is free; make room, or take less. Overriding is for a file system that compresses. `vault export` has no override |
| `target_primary` | the pipeline lives in the target region and is not gone there: the manifest, the point or the newest point names it as the primary. Or the target has the place of that region for a component, and no `domain` says that it is another machine | `--into DIR` brings the bytes beside it, another region leaves it as it is. Overriding takes what is live back to the point |
| `claim_damaged` | the claims on the target region, or the journal of the run that holds it, are damaged or gone | see that no other run is at work there and what is live; nothing that the lost run did counts as done |
| `target_claimed` | another run holds the target region | `refloat run list --to REGION`; resume that run instead |
| `target_serving` | what an earlier recovery started in the target still runs, or may | stop it: everything below it is exchanged |
| `log_damaged` | the region's log of points cannot be read to its end | recover from another region; overriding uses the points that are stored, whether they were committed or not. `refloat vault repair` sets aside what is wrong in a log and says again what is known of it; overriding there goes on without what nobody else knows, and the log `audit` of the region keeps that |
| `log_rolled_back` | the log of points of the region that is recovered from is shorter than another region, the key file, or this machine saw it; of another region a warning says so | recover from the other region: this one has lost or hidden points |
| `quality_unverified` | a bound of `verify` is not kept, or not known to be | read the checks; overriding takes worse answers into service |
| `foreign_objects` | `vault repair`: an object below `keys/`, `packs/` or `index/` would be set aside that may have been this vault's: a key object that no region has whole, anything else that cannot be read while points lack something, or more than half of the objects of a region. What is certainly not this vault's is set aside without asking | see what became of the region's store, and bring back a whole copy of what is named. Overriding copies it below `aside/objects/` of that region, says so in its log `audit`, and removes it from where it lay. What a newer refloat wrote and what is locked stays in any case |
| `clock_behind` | forgetting: the clock is before the newest point, or the times in a log of points run back by more than an hour | set the clocks right. Overriding accepts the points that are there now |
| `forgets_most` | forgetting: more than half of the days that have a point would have none | see whether `keep` says what you mean: `refloat points forget --dry-run`. The first time it may be right |
| `last_good` | `points forget POINT`: the point is the newest exact, the newest consistent or the last verified one of a region, or evidence that this version cannot read names it | protect first, so that there is a newer one; overriding lets go of it all the same |
| `point_kept` | `points forget POINT`: a run that is not over names the point, a `hold` keeps it, or it cannot be read and a region that does not answer may have it whole | wait until that is over, or let the region answer; no override lets go of it |
| `run_unreadable` | forgetting: the journal of a run is damaged, so which point it needs is not known | see that the run will not be resumed |
| `source_rewritten` | forgetting: a point is suspect because a component of 64 KiB or more looks encrypted, see `point_suspect` | look at it: `refloat points diff`, `refloat vault cat`; where it is good, `refloat points accept`. Overriding accepts the points that are there now |
| `source_shrank` | forgetting: the newest point has half or less of the bytes or files of a component, or none of it, of what a point that would go has, or the one that is kept before it | see what was deleted: `refloat points diff`. Overriding accepts the points that are there now |
| `primary_moved` | `protect` without `--region`, and the newest point was made elsewhere than in the manifest's `primary`, as after a recovery | correct `primary`, or name the region: `refloat protect --region us` |
| `into_occupied` | the folder of `--into` is not empty, or another process fills it; `vault export` goes on only with what the same command began | name one that is empty or not there yet |
| `sandbox_shared` | `points bisect`: something that the sandbox would use, a folder, a port, an address, a fence, a log or a pid file, is used by a region, by today's manifest or by that of the point, by a vault or by another sandbox; or that cannot be told | give the sandbox a place of its own: [Find the last good point](LAST_GOOD_POINT.md) |
| `sandbox_occupied` | `points bisect`: something lies in the sandbox already, or listens there. It is a trial without a verdict | look at it, and move it away |
| `vault_exists` | a vault would be made where something is already | name an empty place as the region's `vault` |
| `create_ignored` | `vault init`: of two creates of one object at the same moment the region's store took both, or kept other bytes than it said | use a store that honours conditional writes, and no proxy before it that takes the condition away |
| `lock_not_kept` | `vault init --lock`, and a region's bucket has no object lock, or lets what is locked be removed | a bucket made with versioning and object lock, in a store that keeps them |
| `key_exists` | a key would be written over a file that came to be there at this moment; one that was there before is a usage error, exit code 2 | name another place: `--key FILE` |
| `manifest_exists` | `refloat init` would write over a manifest | edit it, or write another one with `-f FILE` |

## `--json`

- Exactly one JSON document goes to stdout, in one line. Progress, notes and warnings go to stderr; `-q` silences progress.
- Every document has `"schema": 1`. A key is added, changed or removed only with a line in [CHANGELOG.md](../CHANGELOG.md); one that goes or changes its meaning raises the number.
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
| `next` | what to do; never `null` |
| `rule` | of a refusal: the safety rule |

In the tables below, `NAME` stands for any key and `[]` for each item of a list.

## Colours, and completion

Colours are used on a terminal, and never with `--no-color` or when `NO_COLOR` is set. `refloat --install-completion bash`
(or `zsh`, `fish`) teaches a shell to complete commands, options, safety rules, the regions and components of the manifest, and
the points and runs that its vault lists, or that of `--vault`; no key is asked for. `refloat --show-completion bash` prints the
script instead.

On a terminal a line that is too long is broken between words, and a command in it so that it can be pasted all the same.

## Names

A point or a run is called by its name, by how it begins where no other begins so, or `latest`: the newest one, whatever it is
worth. `next` can be pasted as it stands: it carries the `-f` and `--vault` that were typed. `refloat --version --json` prints
`version`.

"""

_CHECK: Rows = (
    ("name", "the metric, as in `bounds`"),
    ("component", "the component that was measured"),
    ("baseline", "the figure before, also of a near baseline, or `null` where there is none"),
    ("recovered", "the figure now"),
    ("bound", "the bound, in words"),
    ("samples", "how many samples decide it"),
    ("verdict", "`pass`, `fail` or `unknown`"),
    ("reason", "why, where it is not a pass; of a pass beside a near baseline, what has changed since"),
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
    ("groups.NAME.grade", "`exact`, `fuzzy`, `unknown` (nobody came to evaluate it) or `broken`"),
    ("groups.NAME.reason", "why it is not exact"),
    *_below("groups.NAME.invariants[]", _INVARIANT),
)
_RESTS_ON: Rows = (
    ("measured", "how many seconds of the steps that all waits for are measured"),
    ("learnt", "and learnt"),
    ("assumed", "and assumed"),
)
_FORESEEN: Rows = (
    ("foreseen.p50_s", "how long it was expected to take until everything is verified, when the run began"),
    ("foreseen.p95_s", "and 95 times of 100; `foreseen` is `null` in records of before this was kept"),
    *_below("foreseen.rests_on", _RESTS_ON),
    (
        "foreseen.seconds",
        "how long it took from the start of the run; `null` where not all was done, or the run was gone on with later",
    ),
    ("foreseen.of_p50", "how many times the expected that is, or `null`"),
    ("foreseen.inside", "whether within `p95_s`, or `null`"),
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
    (
        "components.NAME.set_aside",
        "where lies what somebody else had put there, with `--override target_foreign`",
    ),
)
_RECOVERED: Rows = (
    ("run", "the run; `--resume` takes it"),
    ("state", "`done`, `rolled_back`, `blocked` (nothing was touched), `dirty` or `failed`"),
    (
        "flags",
        "`unverified`: nothing was measured, or what was did not pass and the rule was overridden; `unprotected`: too few regions hold it now; `partial`: only some components (`--only`); `skips`: optional steps failed",
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
    *_FORESEEN,
    *_RESULT,
    (
        "verified",
        "`true`: every bound is kept; `false`: one is not; `null`: nothing was measured, or what was does not tell",
    ),
    *_below("checks[]", _CHECK),
    ("invariants[].group", "the group, as captured"),
    *_below("invariants[]", _INVARIANT),
    ("skipped", "ids of the steps that did not happen"),
    ("overrides", "safety rules that were overridden"),
    ("lost_points", "newer points that were seen in a region that is lost, and that no other holds"),
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
        "`p50_s`, `p95_s`, `samples`, `together` (the share of its variation that it has in common with all steps of a run), and `basis`: `measured` where this very step was timed three times in this region, `learnt` from steps like it, or `assumed`",
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
        ("problems[].line", "its line in the manifest"),
        ("problems[].column", "and its column"),
        ("problems[].retry", "whether asking again can help, as of an error"),
        ("problems[].file", "the object or file that was asked for in vain, or `null`"),
        ("components.NAME.kind", "the connector"),
        ("components.NAME.tier", "the tier"),
        ("components.NAME.reachable", "whether its facts could be read"),
        ("components.NAME.health", "`healthy`, `sick` or `unknown`"),
        ("components.NAME.protected", "whether the newest point holds it; `null` without a key"),
        (
            "components.NAME.facts",
            "only with `--facts`: by the name that an invariant gives it, each fact; `null` where they could not be read or are too large",
        ),
        ("regions.NAME.vault", "the address"),
        ("regions.NAME.reachable", "whether the store answers"),
        ("regions.NAME.exists", "whether there is a vault"),
        ("regions.NAME.points", "how many points it holds; `null` without a key"),
    ),
    "status": (
        ("pipeline", "the pipeline's name"),
        (
            "well",
            "whether every region answers and has the newest point, every component keeps to its objective, and the newest point is consistent, whole and could be verified",
        ),
        ("newest", "of the newest point, whether a recovery would take it or not; `null` before the first"),
        ("newest.point", "its name"),
        ("newest.created_at", "when it was made"),
        ("newest.grade", "its worst grade"),
        (
            "newest.not_captured.NAME",
            "why this component could not be captured with it, and is as old as before",
        ),
        (
            "newest.unverifiable.NAME",
            "of a component that could not be verified if the point were recovered now: the bounds that could never be found to be kept, each with the reason",
        ),
        ("regions.NAME.reachable", "whether its replica answers"),
        (
            "regions.NAME.head",
            "`slot`, `hash` and `point` of its newest log entry; `null` where there is none",
        ),
        (
            "regions.NAME.error",
            "only where it does not answer, or its log is damaged or was rolled back (`reachable` is then `true`): why, and what next",
        ),
        (
            "regions.NAME.behind.point",
            "`behind` only where its log ends before another region's for more than five minutes: the newest point that it lacks",
        ),
        ("regions.NAME.behind.held_by[]", "a region that holds it"),
        ("regions.NAME.behind.since", "since when the first that it lacks is in another region"),
        ("regions.NAME.behind.message", "what is wrong, for people"),
        ("regions.NAME.behind.next", "what to do"),
        (
            "regions.NAME.unknown",
            "only where nobody can tell whether it lacks a newer point, since a log could not be read meanwhile: why",
        ),
        ("regions.NAME.lock_s", "for how long the vault locks a point, in seconds; 0 for not at all"),
        ("regions.NAME.locked_until", "when the lock of its newest point ends; `null`: it was never locked"),
        (
            "regions.NAME.lock_lapsed",
            "whether the vault locks its points, and its newest one is not locked now: nothing keeps it from a thief",
        ),
        (
            "exposure.NAME.seconds",
            "what losing this region now would cost, worst over components; `null`: not known, or all of it. Of a component that no other region holds (`unprotected`): the age of what would be lost with the region",
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
            "the worst of them: `ok`, `warn` (over 80 % of the RPO, or suspect), `unknown`, `breach` or `unprotected`",
        ),
        (
            "components.NAME.suspect",
            "why the newest point of all is [suspect](#safety-rules) for it, and does not count; mostly none",
        ),
    ),
    "protect": (
        ("point", "the point's name"),
        ("grade", "the worst grade of its groups"),
        ("created_at", "when it was made"),
        ("copies_required", "in how many regions it must be complete"),
        (
            "regions.NAME.complete",
            "whether this region holds all of it, and a recovery would take it from there",
        ),
        ("regions.NAME.error", "why not, or `null`"),
        *_GROUPS,
        ("components.NAME.snapshot", "the name of its tree in the vault"),
        ("components.NAME.as_of", "the moment that it is from"),
        ("components.NAME.carried", "`true`: unchanged, and taken over from the point before, unread"),
        ("components.NAME.bytes", "its size"),
        ("components.NAME.new_bytes", "of these, not in the vault before (file listings count too)"),
        ("components.NAME.stored_bytes", "what those take there"),
        ("components.NAME.seconds", "how long the capture took"),
        ("components.NAME.error", "why it could not be captured and is as old as before, or `null`"),
        (
            "measured.NAME",
            "of a component that was measured with the point: why that is not its baseline, or `null`",
        ),
        ("unverifiable.NAME", "as of `status`"),
        (
            "components.NAME.suspect",
            "why no recovery takes the point by itself: `dense` (looks encrypted), with it `rewritten` and `dedup_lost`; `shrank`; mostly none",
        ),
    ),
    "protect --due": (
        (
            "at_work",
            "another protect of this pipeline is at work on this machine, and nothing was captured here",
        ),
        ("units[].components[]", "what is captured together"),
        ("units[].every_s", "how old it may become: its fastest member's cadence, or an RPO that is shorter"),
        ("units[].due", "whether it was due"),
        (
            "units[].why",
            "`never captured`, `its age`, `a region lacks its newest copy` or `dated ahead of this clock`; `null` where it is not due",
        ),
        ("units[].due_at", "when it is due by its age, as it was found; `null`: never captured"),
        ("next_at", "when the next unit is due; `null` where that is not known"),
        ("protect", "the document of `protect`, or `null` where no point was made"),
    ),
    "metrics": (
        ("pipeline", "its name"),
        ("samples[].metric", "the metric's name: [SCHEDULING.md](SCHEDULING.md#figures-for-prometheus)"),
        ("samples[].labels", "its labels, but for the pipeline"),
        ("samples[].value", "its value"),
        ("output", "the file that was written, or `null`"),
    ),
    "points list": (
        ("points[].point", "the point's name; newest first"),
        ("points[].created_at", "when it was made"),
        ("points[].grade", "its worst grade"),
        ("points[].suspect.NAME", "by component, why it is [suspect](#safety-rules); mostly empty"),
        (
            "points[].regions",
            "the regions that hold all of it; with `--vault`, that one alone is looked at",
        ),
        ("points[].forgotten_in", "with `--all`: the regions that have forgotten it"),
    ),
    "points show": (
        ("point", "its name"),
        ("grade", "its worst grade"),
        ("format", "1"),
        ("pipeline", "the pipeline"),
        ("primary", "the region that it was captured in"),
        ("created_at", "when it was made"),
        (
            "manifest",
            "the tree with the manifest and the golden sets; with `--manifest`, beside `point` alone: the manifest's text",
        ),
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
        ("components.NAME.suspect", "why the point is [suspect](#safety-rules); mostly none"),
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
        ("components.NAME.changed", "paths that differ in anything that is kept of them"),
        (
            "components.NAME.how[].path",
            "`how` only where more than bytes and times changed: the path",
        ),
        (
            "components.NAME.how[].what",
            "`type`, `mode`, `owner`, `group`, `target` of a symbolic link, `same file as` of a hard link, `attribute NAME`",
        ),
        (
            "components.NAME.how[].before",
            "what it was in the earlier point, or `null`; of an attribute a digest",
        ),
        ("components.NAME.how[].after", "and in the later one"),
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
        ("not_captured.NAME", "with a point: why a component could not be captured with it"),
        ("unverifiable.NAME", "as of `status`; without a point: of the newest"),
    ),
    "points bisect": (
        ("sandbox", "the sandbox"),
        ("trials[].point", "the point that was tried; in the order in which they were"),
        ("trials[].created_at", "when it was made"),
        ("trials[].verdict", "`pass`, `fail`, or `unknown`: it could not be tried, or not be told"),
        ("trials[].components.NAME", "the same of each component that is asked"),
        ("trials[].run", "the drill, as `evidence show` names it; `null` where none was begun"),
        *_below("trials[].checks[]", _CHECK),
        ("trials[].reason", "what does not pass, or why it is unknown; empty where all passes"),
        (
            "newest_passing",
            "the newest point that passes, or that was given as `--good` where none newer does; or `null`",
        ),
        ("tried", "whether that one was tried now, and not only given as good"),
        ("first_failing", "the oldest point that is known to fail, or that was given as `--bad`; or `null`"),
        ("untested[].point", "a point between these two of which nobody can tell"),
        ("untested[].reason", "why not"),
        ("newer_not_tried", "the points after `first_failing` that were not tried"),
        ("given_up", "whether three trials in a row told nothing, which ends the search"),
        ("next", "what to do now, to be typed"),
    ),
    "points accept": (
        ("point", "the point's name"),
        ("because", "the reason that was given"),
        ("suspect.NAME", "why it was suspect, by component; empty where it was accepted before"),
        ("regions", "the regions that list it, and have it on record now"),
    ),
    "points forget": (
        ("dry_run", "whether nothing was done, and this is what would be"),
        ("points[].point", "the point's name; newest first"),
        ("points[].created_at", "when it was made"),
        ("points[].grade", "its worst grade"),
        ("points[].regions", "the regions that listed it"),
        ("points[].kept", "`false`: it is forgotten"),
        (
            "points[].reasons",
            "why it stays: `last 3`, `daily 2026-11-20`, `newest exact`, `hold of NAME` and others",
        ),
        ("objections[].rule", "a safety rule that says no"),
        ("objections[].message", "what was seen"),
        ("objections[].next", "what to do"),
        ("overrides", "the rules that were named"),
        ("regions.NAME.forgotten", "how many points it was told to forget; `null` where it does not answer"),
        (
            "regions.NAME.prune_objects",
            "how many objects `vault prune` then marks, to remove them a day later; `null` where that cannot be told",
        ),
        ("regions.NAME.prune_bytes", "their size"),
        ("regions.NAME.error", "why it was not told, or what a prune frees is not known; or `null`"),
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
        ("rto.pipeline.p95_s", "and 95 times of 100"),
        ("rto.pipeline.objective_s", "the strictest RTO among the components"),
        ("rto.layers.NAME", "the same for each layer"),
        ("rto.components.NAME", "the same for each component"),
        ("unverifiable.NAME", "as of `status`"),
        ("rto.total.p50_s", "how long the whole plan takes, until the pipeline is protected again"),
        ("rto.total.p95_s", "and 95 times of 100"),
        *_below("rto.rests_on", _RESTS_ON),
        ("room[].path", "a folder that stands for its file system"),
        ("room[].components", "what is staged on it, beside what is live"),
        ("room[].needed_bytes", "the room that these take at most, all together"),
        ("room[].free_bytes", "what is free there now"),
        ("room[].enough", "whether it fits"),
        *_below(
            "longest[]",
            (
                (
                    "id",
                    "one of the longest steps on the way until all is verified, what would save most first",
                ),
                ("p50_s", "how long it is expected to take"),
                ("saves_s", "how much sooner all would be back if it took no time"),
            ),
        ),
        ("difference", "what differs from the plan in the file of `--diff`, else `null`"),
        ("difference.none", "whether both do the same"),
        (
            "difference.plan.NAME",
            "what differs of the whole, by field (`point`, `source`, …): `was` and `now`",
        ),
        ("difference.added", "ids of steps that the kept plan has not"),
        ("difference.removed", "ids of steps that it alone has"),
        (
            "difference.changed.NAME",
            "what differs of a step, by its id and field (such as `bytes`): `was` and `now`",
        ),
        ("difference.reordered", "whether the steps of both come in another order"),
    ),
    "recover": (
        *_RECOVERED,
        (
            "remarks[]",
            "what a warning says of regions that were not needed, of what was read in another region since it is not whole in this one, of what could not be verified, and of owners and attributes that could not be set",
        ),
        ("evidence.NAME.record", "the name of the signed record in that region's vault; or `null`"),
        ("evidence.NAME.error", "why it could not be written there; or `null`"),
        ("page", "the evidence as an HTML file on this machine; `null` where it could not be written"),
        ("error", "only where a step failed that matters: its error document"),
    ),
    "recover --into DIR": (
        ("point", "the point whose bytes these are"),
        ("grade", "its worst grade"),
        ("into", "the folder"),
        ("components.NAME.files", "how many files were written to the folder of that name"),
        (
            "components.NAME.kept",
            "how many of the files an earlier attempt had brought, so that they were not fetched again",
        ),
        ("components.NAME.bytes", "their size"),
        ("components.NAME.seconds", "how long that took"),
        ("overrides", "safety rules that were overridden"),
        ("lost_points", "as of `recover`"),
        (
            "remarks[]",
            "what a warning says of what was read in a later region since it is not whole in the first, and of owners and attributes that could not be set",
        ),
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
            "baseline.identities.NAME.NAME",
            "with `--save-baseline`: for each component measured the digests of the identity of what its answers depend on, for which it counts",
        ),
        ("baseline.identity_digest", "the digest of these"),
        ("baseline.profile", "`default`"),
        ("baseline.region", "where it was measured"),
        ("baseline.measured_at", "when"),
        (
            "baseline.components.NAME",
            "what was measured: `metrics` with `value`, `low`, `high`, `samples` and `unit`, and the load",
        ),
        ("regions.NAME", "with `--save-baseline`: why this region did not keep it, or `null`"),
        (
            "unverifiable.NAME",
            "with `--save-baseline`: of a component beside whose baseline some bounds can never be found to be kept: these, each with the reason",
        ),
    ),
    "run abort": (
        ("run", "the run"),
        ("state", "`rolled_back`; or `dirty`: not all could be undone"),
        ("page", "where the evidence lies as a page, or `null`"),
    ),
    "evidence list": (
        (
            "evidence[]",
            "of each run, newest first: the document of `recover` without `remarks`, `evidence`, `page` and `error`",
        ),
        ("evidence[].kind", "`recovery`, or `drill`: a trial in a sandbox, after which all was put back"),
    ),
    "evidence show": (
        ("format", "1"),
        ("kind", "`recovery` or `drill`"),
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
        *_FORESEEN,
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
            "of each step: `id`, `phase`, `component`, `result`, `started_s` (after the start of the run), `seconds`, `attempts`, `estimate_p50_s`, `estimate_p95_s`, `estimate_basis`, `observed` (found done by who went on with the run), `error`",
        ),
        ("versions", "of refloat and Python"),
        ("digests", "`plan`, `identity` and `vault`"),
    ),
    "vault init": (
        ("vault", "the vault's id"),
        ("key", "where the key went"),
        ("regions.NAME", "the address of each replica"),
        ("lock_s", "for how long what each point needs is locked, in seconds; 0 for not at all"),
    ),
    "vault check": (
        ("ok", "nothing is damaged or covered, no lock lapsed, and every region answers"),
        ("packs", "how many were looked at, over all regions"),
        ("chunks", "how many, over all regions"),
        ("bytes_read", "how much was read and verified"),
        ("damaged[].object", "the object"),
        ("damaged[].region", "where"),
        ("damaged[].affects", "names of the points that need it"),
        ("damaged[].reason", "what is wrong with it"),
        ("damaged[].next", "what to do about it"),
        (
            "covered[].object",
            "an object of a locked vault that is whole, and over which somebody put something",
        ),
        ("covered[].region", "where"),
        ("covered[].affects", "names of the points that use it"),
        ("covered[].reason", "what lies over it"),
        ("covered[].next", "what to do about it"),
        ("unreachable", "regions that do not answer"),
        (
            "behind.NAME",
            "`point`, `held_by`, `since`, `message` and `next`, as of `status`, only where there is some: by region, what it lacks of the end of another region's log for more than five minutes",
        ),
        (
            "unknown.NAME",
            "only where there is some: by region, why nobody can tell whether it lacks a newer point",
        ),
        ("read.NAME.since", "every pack that this machine ever read was read since; with `--read-data`"),
        ("read.NAME.unread_bytes", "of packs that this machine never read"),
        (
            "read.NAME.began_at",
            "null, or when the check of everything began that was stopped, and that this one went on with",
        ),
        ("read.NAME.before_bytes", "what that one had read before it was stopped"),
        (
            "locks.NAME.until",
            "in a locked vault: when the first lock ends of all that the newest point needs",
        ),
        ("locks.NAME.lapsed", "what of that is not locked now"),
    ),
    "vault repair": (
        (
            "regions.NAME.mended",
            "by object: the region, or the record, that the good copy came from, or what else was done",
        ),
        ("regions.NAME.left", "by object: what is wrong there still, and why it could not be mended"),
        ("regions.NAME.uncovered", "by object of a locked vault: what was done with what lay over it"),
        ("points.NAME.committed", "points that the region missed, and that count there now; only with a key"),
        ("points.NAME.lacking", "points that are not whole there"),
        ("points.NAME.records", "how many baselines and records of evidence came that it missed"),
        ("unreachable", "regions that do not answer"),
        ("key", "whether a key was given, so that more than names was looked at"),
    ),
    "vault add-region": (
        ("copied[].from", "the region that objects were copied from"),
        ("copied[].to", "the region that is added"),
        ("copied[].objects", "how many were copied"),
        ("copied[].bytes", "their bytes"),
        ("copied[].damaged", "what is not whole at the source, and was left behind"),
        ("copied[].waiting", "left behind until all that they may name is there"),
        ("copied[].seconds", "how long it took"),
        ("points.NAME.committed", "points that count in the region from now on; only with a key"),
        ("points.NAME.lacking", "points that are not whole there"),
        ("points.NAME.records", "how many baselines and records of evidence came"),
        ("unreachable", "other regions that do not answer"),
    ),
    "vault rejoin": (
        ("region", "the region"),
        ("dry_run", "whether nothing was done, and this is what would be"),
        ("rolled_back", "`null` where every entry that was seen of its log is there"),
        ("rolled_back.seen", "how many entries were seen"),
        ("rolled_back.left", "how many of them are there"),
        ("alone.points[].point", "a point that no other region lists"),
        ("alone.points[].created_at", "when its capture began"),
        ("alone.points[].grade", "its grade"),
        ("alone.objects", "how many objects no other region has"),
        ("alone.bytes", "their bytes"),
        ("alone.baselines", "how many baselines only it has"),
        ("alone.evidence", "how many records of evidence only it has"),
        ("missed", "points of the other regions that are to count there"),
        ("left_out", "points of the other regions that are older than its last one: they stay there alone"),
        ("committed", "points that count there from now on"),
        ("lacking", "points that are not whole there"),
        ("records", "how many baselines and records of evidence were brought, in any direction"),
        ("counts", "whether the region is again one to recover from; `null` where nothing was done"),
    ),
    "vault replicate": (
        ("copied[].from", "the region that objects were copied from"),
        ("copied[].to", "the region that lacked them"),
        ("copied[].objects", "how many were copied"),
        ("copied[].bytes", "their bytes"),
        ("copied[].damaged", "what is not whole at the source, and was left behind"),
        ("copied[].waiting", "left behind until all that they may name is there"),
        ("copied[].seconds", "how long it took"),
        ("points.NAME.committed", "points that count in the region from now on; only with a key"),
        ("points.NAME.lacking", "points that are not whole there"),
        ("points.NAME.records", "how many baselines and records of evidence came that it missed"),
        ("unreachable", "regions that do not answer, or hold no replica"),
    ),
    "vault prune": (
        ("dry_run", "whether nothing was done, and this is what would be"),
        ("regions.NAME.removed[].object", "marked a day ago or earlier, needed by no point, and removed"),
        ("regions.NAME.removed[].bytes", "its size"),
        ("regions.NAME.marked[].object", "needed by no point, and marked now"),
        ("regions.NAME.marked[].bytes", "its size"),
        ("regions.NAME.waiting[].object", "marked before"),
        ("regions.NAME.waiting[].until", "when it may go"),
        ("regions.NAME.locked[].object", "needed by no point, and locked: nobody can remove it yet"),
        ("regions.NAME.locked[].bytes", "its size"),
        ("regions.NAME.locked[].until", "when the lock ends"),
        (
            "regions.NAME.beside",
            "by tree that nobody recovers, of which all that it names stays: why nobody does",
        ),
        ("regions.NAME.unfinished_bytes", "what writes that were cut had left in a folder, removed"),
    ),
    "vault kit": (
        ("page", "where the page went; `null` of a kit in shares"),
        ("shares", "`null` of one page with the whole key"),
        ("shares.kit", "the number of the kit, which stands on each of its pages"),
        ("shares.threshold", "how many of the pages are needed"),
        ("shares.pages[]", "where the pages went"),
        ("vault", "the vault's id"),
        ("pipeline", "whose vault it is"),
        ("admin", "the fingerprint of the admin's public key"),
        ("roles[]", "the roles whose secrets are on the page"),
        ("needs_passphrase", "whether the key on the page is sealed for a passphrase; never in shares"),
        ("regions.NAME.vault", "the address of the replica"),
        ("regions.NAME.answers", "whether it answered"),
        ("regions.NAME.slot", "the last slot of its log of points; `null` where no point was ever seen"),
        ("regions.NAME.hash", "the hash of that entry"),
    ),
    "vault keys list": (
        ("vault", "the vault's id"),
        ("admin", "the fingerprint of the admin's public key"),
        ("holders[].role", "`writer`, `reader` or `operator`"),
        (
            "holders[].name",
            "what the admin calls the holder; `null` where nothing says so, as of a key that was made with the vault",
        ),
        ("holders[].fingerprint", "the signer id of the public key"),
        ("holders[].since", "since when it is called so; `null` likewise"),
        ("holders[].own", "whether it is in the key that was used"),
        ("holders[].removed_at", "when the admin removed it; `null` of a key that counts"),
        ("holders[].regions[]", "the regions that vouch for it"),
        ("kept[].kept_for", "`passphrase` or `recipient`: what opens a key that the vault keeps"),
        ("kept[].recipient", "the recipient's public key; `null` of a passphrase"),
        (
            "kept[].name",
            "what the admin calls it; `null` where nothing says so, as of one that `vault init` kept",
        ),
        ("kept[].fingerprint", "what `keys remove` takes"),
        ("kept[].holders[]", "the fingerprints of the keys that it opens"),
        ("kept[].since", "since when it is kept; `null` likewise"),
        ("kept[].removed_at", "when the admin removed it; `null` of one that counts"),
        ("kept[].regions[]", "the regions that keep it"),
        ("content_keys[].id", "a key that contents are sealed with"),
        ("content_keys[].affinity", "the class of contents that it seals"),
        ("content_keys[].readers[]", "the fingerprints of the readers that can open it"),
        ("content_keys[].current", "whether the key that was used seals new contents with it"),
        ("content_keys[].regions[]", "the regions that keep it"),
        ("unreachable", "regions that do not answer"),
    ),
    "vault keys add": (
        ("key", "where the new key file is; `null` without `--key`"),
        ("name", "what its holder is called"),
        ("given[].role", "a role that it has"),
        ("given[].fingerprint", "the signer id of its public key in that role"),
        ("kept_for[]", "`passphrase` or `recipient`: what opens the key that the vault keeps"),
        ("regions.NAME.written", "how many objects the region lacked and took"),
        ("lagging[]", "regions that do not vouch for it yet"),
    ),
    "vault keys export": (
        ("key", "where the new key file is"),
        ("name", "what its holder is called"),
        ("given[].role", "a role that it has"),
        ("given[].fingerprint", "the signer id of its public key in that role"),
        ("kept_for", "nothing: the vault keeps no copy"),
        ("regions.NAME.written", "how many objects the region lacked and took; none for the admin's part"),
        ("lagging", "regions that do not vouch for it yet"),
    ),
    "vault keys recipient": (
        ("key", "where the private key is"),
        ("recipient", "the public key, for `keys add --recipient`"),
        ("fingerprint", "the signer id of the public key"),
    ),
    "vault keys remove": (
        ("role", "the role of the key that was removed; not there for a passphrase or a recipient"),
        ("kept_for", "`passphrase` or `recipient`, where one of them was removed"),
        ("name", "what its holder is called; `null` where nothing says so"),
        ("fingerprint", "the signer id of the public key"),
        ("removed_at", "when it was removed first"),
        ("regions.NAME.written", "how many objects the region lacked and took"),
        ("regions.NAME.deleted", "how many sealed keys were deleted from it, of a passphrase or a recipient"),
        ("remark", "what a removal does not protect"),
    ),
    "vault keys rotate": (
        ("key", "the key file that has the new content key; `null` where the vault keeps the key"),
        ("before", "the id of the content key until now"),
        ("after", "the id of the content key from now on"),
        ("regions[]", "the regions that keep it: all"),
        ("remark", "what a rotation does not protect"),
    ),
    "vault keys restore": (
        ("key", "where the key file went"),
        ("vault", "the vault's id"),
        ("pipeline", "whose vault it is"),
        ("admin", "the fingerprint of the admin's public key: the same as when the page was printed"),
        ("roles[]", "the roles whose secrets are in the key file"),
        ("shares[]", "the shares that it was made from; none where a page had the whole key"),
    ),
    "vault ls": (
        ("point", "the point's name"),
        ("components.NAME.kind", "without a component: the connector of each"),
        ("components.NAME.files", "how many files it has"),
        ("components.NAME.bytes", "their size"),
        ("components.NAME.as_of", "the moment that it is from"),
        ("component", "with a component: its name"),
        ("entries[].path", "the path; what is not UTF-8 in it is replaced"),
        ("entries[].path_bytes", "where it is not UTF-8: its bytes, in base64; else `null`"),
        ("entries[].type", "`file`, `directory` or `symlink`"),
        ("entries[].mode", "its permissions; `null` of a link"),
        ("entries[].size", "of a file; else `null`"),
        ("entries[].mtime", "when it was changed last; `null` of a link"),
        ("entries[].target", "of a link: where it leads; else `null`"),
        ("entries[].target_bytes", "where that is not UTF-8: its bytes, in base64; else `null`"),
    ),
    "vault export": (
        ("point", "the point whose files these are"),
        ("grade", "its worst grade"),
        ("into", "the folder, or the archive"),
        ("components.NAME.files", "how many files of what was asked for are in the folder of that name"),
        ("components.NAME.bytes", "their size"),
        (
            "components.NAME.kept",
            "how many of them were there from an attempt that was stopped, exactly as stored",
        ),
        ("components.NAME.seconds", "how long that took"),
        ("remarks[]", "as of `recover --into`; an archive keeps all owners and attributes"),
    ),
    "demo": (
        ("protect", "the document of `protect`"),
        ("recover", "the document of `recover`"),
        ("refused.point", "the point whose index another embedder built"),
        ("refused.grade", "`broken`"),
        ("refused.invariant", "the invariant that does not hold"),
        ("refused.error", "how `recover` refused it"),
        ("back.filled", "the document of `vault add-region`, for the lost region that came back empty"),
        ("back.protect", "that of `protect`, from where it then runs"),
        ("back.check", "that of `vault check --read-data`"),
        ("status.protected", "the document of `status` once all is protected"),
        ("status.recovered", "that once all is recovered and the lost region is back"),
        ("ledger.answered", "answers that the client saw"),
        ("ledger.lost", "of these, not in the recovered log"),
        ("seconds", "how long the story took"),
    ),
}
"""What each command prints with ``--json``. A path covers what lies below it."""

NOTES: Mapping[str, str] = {
    "init": "Never over an existing file. `KIND` is one of [CONNECTORS.md](CONNECTORS.md).",
    "check": "Exit code 1 when a problem is an error: a component that does not answer, an invariant that does not hold, "
    "an RPO that the cadence can never meet, golden questions that cannot be read or do not fit the metrics. Exit code 2 when the manifest is wrong, "
    "which includes metrics, bounds and the probes' addresses. Without a key it says so and looks at what it can.",
    "status": "Losing a region where the pipeline does not run costs none of its data. It runs where its newest point was made (`runs_in`), before the first point in the manifest's `primary`; "
    "a warning says where the two differ: correct `primary` after a recovery. "
    "Exit code 0 only where all is `well`: every region answers, every component is inside its objective, none lacks for more than five minutes a newer point that another one holds, and the newest point is neither broken, unknown nor suspect, holds what could be captured of every component, and could be verified ([BASELINES.md](BASELINES.md)). Else 1; all that is known is printed nevertheless. With one region, which no other can replace, the state is `unprotected`, and the age of the newest point decides. With `--notify` what is beyond its RPO is sent where the manifest's `notify` says.",
    "protect": "Exit code 1 when a component could not be captured, a group is broken or unknown, the point is suspect, or fewer regions than `copies` hold the point. "
    "A group is unknown where its invariants could not be evaluated, for want of CPU time or memory; they are evaluated again when a point is chosen, and it is then taken like a fuzzy one, or passed over. "
    "What a connector raises costs its group alone, which is carried over from the point before. "
    "The point is then written all the same, graded for what it is. It runs at a low priority (nice 15), so that what serves on the same machine goes first; "
    "where a component of the manifest is a program that runs, such as an endpoint, it also keeps off half of the cores.\n\n"
    "`--due` captures what cadence and RPO ask for now and carries the rest over unseen: [SCHEDULING.md](SCHEDULING.md). "
    "Exit code 0 with `nothing is due` where nothing is, and where another protect of the pipeline is at work on this machine. "
    "Alerts go where the manifest's `notify` says: [Alerts](SCHEDULING.md#alerts).",
    "metrics": "In Prometheus' text format; with `--output` the file is the old one or the new one, never between, and standard output is empty. Exit code 1 or 4, and no file, where no region's vault answers.",
    "points": "A point may be named by the first digits of its name.",
    "points list": "A point that a region has forgotten is not complete there any more; one that all have forgotten is left out without `--all`.",
    "points bisect": "How it works, and what a sandbox is: [LAST_GOOD_POINT.md](LAST_GOOD_POINT.md). Nothing that lives is touched. Exit code 1 where no point is found, or too many could not be told.",
    "points accept": "For a [suspect](#safety-rules) point that you have looked at (`points diff`, `vault cat`): it is chosen again, and points after it are compared with what it holds. "
    "It takes the admin's key, and a signed record keeps the reason. One region's word is enough. Exit code 1 where a region does not answer.",
    "points forget": "Of each region's points `keep` keeps the last ones, and of each of so many hours, days, ISO weeks, months and years (in UTC) the newest that is neither broken nor unknown. "
    "A point stays where any region would keep it. Whatever `keep` says, these stay: the last point of each region's log, its newest exact one, the newest that a recovery would choose, "
    "the newest of which a recovery was verified, as far as the evidence tells, one that a run which is not over names, one that is newer than the clock, one that cannot be read, "
    "and, until a component's snapshots can be kept without the others, every point that is younger than the `hold` of a component in it.\n\n"
    "It takes the admin's key. Nothing is removed: a signed record says what is forgotten, and `refloat vault prune` then marks what only those points need, once every region has forgotten them. "
    "Until it is gone a forgotten point can still be named: `recover --point`. Five [safety rules](#safety-rules) hold all of it, and exit with 3; the dry run names them and exits with 0. "
    "Exit code 1 where a region does not answer: it keeps what it has, and is told the next time.",
    "plan": "Takes the point that `recover` would take: the newest that is neither broken, unknown nor suspect, or the one that you name. An unknown one is evaluated again first. `--save` and `--diff` let people agree on a plan and see later what became another: what is expected to take how long is no difference.",
    "recover": "Exit code 0 means that the run is `done` and, where the manifest asks to verify what was recovered, verified. With `--vault` no manifest is needed. "
    "`--only` recovers the named components alone. Without `--lost-at` the clocks of RTO and RPO start with the run, which flatters both. "
    "A killed run is resumed from any machine with `--resume`. "
    "What is gone or rotted in the region's replica is read in another region that has it whole, and a warning names the packs: `refloat vault repair` mends them. "
    "What is whole nowhere fails the run, which is put back; the next `refloat protect` stores anew what is still live.\n\n"
    "`--into` writes each component to `DIR/NAME`, exactly as captured, and the manifest with its golden sets to `DIR/manifest` "
    "(`DIR/point-manifest` where a component has that name). No region is named, nothing that runs is asked, and nothing is claimed or journaled; "
    "so `--to`, `--resume` and `--lost-at` say nothing with it. It is filled as `.DIR.refloat-partial` beside `DIR` and renamed when it is whole: "
    "after a kill the same command brings it again from the start. `DIR` is made for you alone (mode 700) unless it is there and empty. "
    "Each piece is taken from the first region where it is whole. Links come back as links and are never followed.",
    "run": "`--to` is the region whose runs are meant: the journal of a run is in the vault of the region that it recovers, or in the one that `--vault` named.",
    "run abort": "For a run that waits, was stopped or died: everything that it did is undone, in reverse. Exit code 0 where it is then `rolled_back`; 2 for one that is over, of which nothing is put back any more.",
    "verify": "Exit code 1 when a bound is not kept or not known to be, when a baseline did not reach every region, and when nothing answers, or not in time: then none is kept. "
    "Measure a baseline, with `--save-baseline`, whenever something changes that a component's answers depend on: without one that fits, a recovery waits for a person ([BASELINES.md](BASELINES.md)).",
    "evidence": "Signed by the operator's key and kept in every vault that was left.",
    "vault init": 'Refuses a place that is not empty. Where it was killed, the same command goes on with the key file that it made, and says so: until all is made, a file `.NAME.making` beside the key says which vault that is. It takes no key of another vault, nor of one that is made. The key opens everything and nothing opens the vault without it: keep two copies outside of all regions. `--lock` is for vaults whose regions are all buckets of S3 with object lock, needs `pip install "refloat[aws]"`, and tries whether each bucket keeps a lock, which leaves a small object below `proof/`; nobody can shorten or undo a lock, not the owner of the account either.',
    "vault check": "Exit code 4 when something is damaged or covered, 1 when a region does not answer or lacks for more than five minutes a newer point that another one holds, or what its newest point needs is not locked, though the vault is. Without `--read-data` it looks at what must be there; with it, every byte is read, opened and compared. A pack that anything else came upon and read as rotten, such as a recovery, an export or a capture, is named as damaged either way. "
    "In a locked vault it also names what lies over an object, such as a delete marker, which no recovery minds: somebody who should not did write there, and `refloat vault repair` takes it away. "
    "With `--share 1/30` as well, only so much of the packs' bytes is read, those first that were not read for longest; this machine remembers under `XDG_STATE_HOME` when it read which, also where the command is interrupted. So a share a day reads all of it within a month, and the text and the document say since when. "
    "A check of everything that was stopped is gone on with by the same command within 24 hours: what was read, and whole, is not read again, and the output says so and since when that is; `--share 1/1` reads all of it anew.",
    "vault repair": "In a locked vault what lies over an object is taken away too: a delete marker is removed, over anything else a copy of the object is written. Exit code 4 when something could not be mended, 1 when a region does not answer or must be looked at again. What has rotted inside of a pack that nothing has read yet is found only with `--read-data`. Where neither `REFLOAT_KEY_FILE` nor `REFLOAT_PASSPHRASE` is set, nobody is asked: an object whose bytes do not have its name is fetched from a region where they do, as is what only another region holds; what only a key shows, such as a log or a pack that no index object lists, is not looked at. With a key, points, baselines and evidence that a region missed come to count there, too.",
    "vault add-region": "For a region that is new in the manifest, whose disk was lost, or whose old address is gone for good and that has another one in the manifest now. The place must be empty (rule `vault_exists`); what `refloat vault replicate` copies is copied, no key is needed, and the same command goes on where it was stopped. "
    "With a key the points count there at once, and a log that was lost begins anew by the admin's word; without one, both come with the next `refloat protect`. Exit code 4 where something is damaged at the source.",
    "vault rejoin": "For a region that came back with an old state, as from a snapshot of its disk, or that went on by itself while the others did. What it alone holds is said first, and nothing of it is removed. Then it gets what it missed: objects, points, and baselines and evidence in both directions. "
    "Only when the newest point of every other region counts there does the admin say that what was seen of its log and is gone is gone, so that no rollback is told of it any more. Where it alone holds the newest point of all, exit code 4: `refloat protect` makes a newer one everywhere first. It takes a key with the roles of writer, operator and admin, and another region whose log is whole.",
    "vault replicate": "It takes no key: an object's name is the hash of its bytes, so every copy is verified by it, and what is damaged is left behind (exit code 4). Copied are keys, packs, index objects and points, in that order, so it may be stopped at any moment and the same command goes on. "
    "Without a key no index object is copied before every pack that the source lists is there, and no point before every index object is (exit code 1 where some wait). "
    "A place that holds nothing becomes a replica by `refloat vault add-region`. A region's log is its own and is not copied: points count there once a writer's key commits them, "
    "at once where a key is given, else with the next `refloat protect`; where the log itself was lost, it begins anew with the admin's key. `--limit` holds on average: what is read is paced, each object is written in one go.",
    "vault prune": "Nothing goes that a point needs which some region has not forgotten, or which a run that is not over names. It takes the admin's key. Nothing is removed or marked unless everything that every point of "
    "every region needs was found: exit code 4 where something is damaged or no index object lists it, 1 where a region does not answer, "
    "3 where a log of points is shorter than it was seen to be. What is marked goes a day later, when every capture that began before has ended; "
    "a capture that begins later does not rely on it. An index object that lists packs that go beside packs that stay is written anew without them at once, and the one that it replaces is marked with them. What is locked stays until its lock ends, and is told. To remove takes no space, so it works on a full disk.",
    "vault kit": "Without `--to` the page goes to standard output, for a printer; with it the page goes to the file alone. With `--json` it takes `--to`, and the document holds no secret. "
    "The page holds the key that `REFLOAT_KEY_FILE` names; where `REFLOAT_PASSPHRASE` opens the key, it is sealed for the passphrase on the page too. "
    "Print it anew when a region, the key or the passphrase changes.\n\n"
    "With `--shares N --threshold K` there are N pages in a folder, a file each, 2 ≤ K ≤ N ≤ 16: each has one share of the key, by SLIP-0039. "
    "Any K of them give the key back, and fewer tell nothing of it. No passphrase is needed then: the shares are in its place. "
    "All or none are written, and never to standard output, where they would be the whole key. Each page says which share of which kit it is, and has room for the names of those who keep the others. "
    "Shares of different kits do not go together. A kit is not withdrawn by a newer one: destroy the pages of the old one.",
    "vault keys list": "Exit code 1 when a region does not answer.",
    "vault keys add": "The new holder has secrets of its own, and the vault's catalogue key; a writer or a reader also has the key of chunk names. It takes the admin's role, and to add a reader also those of a reader and a writer, "
    "who opens each content key and seals it for the new one. Exit code 1 when a region does not answer or does not take it: the same command again goes on where it was cut, with the key file that is there. "
    "With `REFLOAT_NEW_PASSPHRASE` the new key is kept in every region as well, sealed for that passphrase; the holder then sets `REFLOAT_PASSPHRASE`. "
    "With `--recipient` it is kept there for a public key, and needs no `--key`. Without `--role` it is the key in use that is kept, for `--recipient` or `--passphrase`: to change a passphrase, add the new one, open with it, and remove the old one.",
    "vault keys export": "For a writer, a reader or an operator the same as `keys add --role`: secrets of its own, so that it can be removed alone, and a writer opens nothing that was stored before. "
    "The admin's part is that of the key in use, without the secrets of the other roles. The file has mode 0600, is there whole or not at all, and no other is written over; the same command again goes on where it was cut.",
    "vault keys recipient": "The holder keeps the private key, and sets `REFLOAT_KEY_FILE` to it; the public key is no secret, and a letter of it that was mistyped is found. No vault is needed for it. Of a private key that is there already the public one is said again; no other file is written over.",
    "vault keys remove": "Points that a writer has committed by now stay good, in each region up to the slot that its log has at this moment; what it signs later, or makes look older, commits nothing. "
    "A reader is given no content key from then on, and still opens what it could open: let each writer rotate. Of an operator, what it signed in each log by now stays good. A passphrase or a recipient that is removed opens nothing here any more; whoever kept a copy of the sealed key still opens that. Where a log is damaged and overridden, the points of a removed writer are left out. All regions must answer and their logs be whole. "
    "Nothing tells which points were made by a thief before: look at them. A key that was removed never counts again, and a refloat older than this verb does not know of it.",
    "vault keys rotate": "New points are sealed with a new key, so they take their whole size once. This protects the future only: whoever has the old key still reads what it sealed. "
    "The old key file still works, and every copy of it writes with the old key until it is replaced, as does a key that is kept for another passphrase or recipient. A passphrase or private key that opened the vault opens the new key from then on; where the vault is locked, what it opened before stays as long as its lock, and is not used any more. The signing key stays as it is. All regions must answer.",
    "vault keys restore": "A character that was mistyped is found, and its line named: exit code 4. Type the key lines alone if you like, in capitals or not; `O` and `0` are the same, so are `I`, `L` and `1`. "
    "A page whose key is sealed asks for the passphrase, or takes it from `REFLOAT_PASSPHRASE`.\n\n"
    "Of a kit in shares give as many pages as it needs, each in a file or all in one: the lines of each share, and the key lines of any one of them. "
    "Too few shares, or those of different kits, make no key file: exit code 2, and it says which are here. A share that is given twice counts once.",
    "vault ls": "A point may be named by the first digits of its name. `manifest` names the tree with the manifest and the golden sets, unless a component is called so. "
    "One line a path: what is not printable in it, or not UTF-8, stands with a backslash.",
    "vault cat": "Nothing that was not verified is handed on, so what came before a damaged piece may be there when it ends with 4. Links are not followed. "
    "Ends with 1, silently, where the reader stops reading. Has no `--json`.",
    "vault export": "Paths are as `vault ls` shows them. A pattern (`fnmatch`, case counts) without `/` is compared with the last name of a path, at any depth; one with `/` with the whole path, and its `*` crosses `/`. "
    "What matches brings all below it, and `--exclude` wins. Components come in the order in which serving needs them, then the manifest; within one, files that match its `priority` in the manifest come first. "
    "A file has its name only when it is whole. A component is ready when `ready NAME` is on stderr, when its line of `--events` comes, or when `ready` in the folder's `.refloat-export` names it: a server may be started on it while the rest still comes. "
    "That file goes when all is there. An export that was stopped, in whatever way, goes on when the same command is given again: files that are there are held against the vault, and replaced where they differ. "
    '`--events` prints `{"event": "ready", "component", "path", "path_bytes"}`, with `files` and `bytes` where `path` is `null` and so the whole component is there, and last `{"event": "done"}` with the keys below. '
    "`--tar` writes one archive instead (PAX: names of any bytes, times to the nanosecond), each component below its name, in the same order. A file has its name when it is whole; what goes to standard output is cut where the command ends with another code than 0, and ends with 1, silently, where the reader stops reading. An archive that was stopped begins anew. `--json` takes `--tar FILE`.",
    "demo": "Takes about a minute and leaves nothing behind without `--keep`.",
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *[[_cell(cell) for cell in row] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def _codes() -> str:
    every = [*_tree(errors.RefloatError), Defect]
    kinds = [
        kind for kind in every if "code" in vars(kind)
    ]  # one that has its parent's is for our own code to tell
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
    for call in (known for known in DOCUMENTS if known == verb or known.startswith(f"{verb} --")):
        rows = [(f"`{path}`", meaning) for path, meaning in DOCUMENTS[call]]
        parts += [f"`refloat {call} --json` prints:\n\n", _table(("key", "what it says"), rows)]
    return "".join(parts)


def _globals(command: Any) -> str:
    return (
        "## Options of every command\n\nThey may stand anywhere on the line.\n\n"
        + _parameters(command)
        + _examples(command)
    )


def manual() -> str:
    """The whole of CLI.md."""
    root = typer.main.get_command(whole())
    (_, top), *commands = _commands(root, "refloat")
    sections = "".join(_section(name, command) for name, command in commands)
    return (HEAD + _codes() + RULES + _globals(top) + sections).rstrip() + "\n"


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
