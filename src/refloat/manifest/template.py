"""The manifest that ``refloat init`` writes: short, complete, and explained by its own comments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_PATHS = {
    "mlflow": ("tracking_uri: {database}", "artifacts: {artifacts}"),
    "predictions": (
        "path: {path}",
        "# probes: {{source: probe}}   # how an answer is marked that no user asked for: X-Refloat-Probe",
    ),
    "process": (
        "command: {words}",
        "cwd: {here}",
        "health: {health}   # where it answers 200 once it runs",
    ),
}
PORT_DEFAULT = 8000
PORT_MAX = 65535
_PORT_OPTION = re.compile(r"^(?:--(?:[a-z]+-)*port=|-p=?)(\d{1,5})$")
_PORT_BEHIND = re.compile(r"^(?:-[^=]*=)?[^/=]*:(\d{1,5})$")


@dataclass(frozen=True)
class Start:
    """A component to begin with: its name, its kind, and where it lies (for a process: its command)."""

    name: str
    kind: str
    path: str


def template(pipeline: str, regions: Mapping[str, str], primary: str, components: Sequence[Start]) -> str:
    """A commented manifest for ``pipeline``; ``regions`` maps names to the addresses of their vaults.

    ``parse`` accepts what comes out when the names are names; connectors judge the settings later.
    """
    lines = [
        "# What refloat protects, and where it can be recovered to. See it checked: refloat check",
        "version: 1",
        f"pipeline: {pipeline}",
        "",
        "# A region is a place that can fail as one, with its replica of the vault: s3://bucket, or a path.",
        "regions:",
        *(line for name, vault in regions.items() for line in _region(name, vault)),
        f"primary: {primary}   # where the pipeline runs now",
        "",
        "# critical: RTO 5m, RPO 1m; operational: 4h, 30m; development: 3d, 2d. To change them, for example:",
        "# tiers: {critical: {rto: 10m, rpo: 5m, every: 2m}}",
        "",
        "components:",
        *(line for component in components for line in _component(component, regions, primary)),
        *_groups([component.name for component in components]),
        *_verify(components),
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """``text`` as a double-quoted YAML scalar (YAML 1.2, section 7.3.1)."""
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _region(name: str, vault: str) -> list[str]:
    return [
        f"  {name}:",
        f"    vault: {quoted(vault)}",
        '    # vars: {root: "/srv/models"}            # used as ${region.root} below',
        '    # addresses: {models: "s3://models/"}    # rewritten where data moves between regions',
        "    # domain: {site: fra, provider: aws}     # what the region shares its fate with",
    ]


def _component(component: Start, regions: Iterable[str], primary: str) -> list[str]:
    return [
        f"  {component.name}:",
        f"    kind: {component.kind}",
        "    tier: operational        # critical, operational or development",
        "    with:",
        *(f"      {line}" for line in _settings(component.kind, component.path)),
        *_elsewhere(component, [region for region in regions if region != primary]),
        "    # needs: []              # what must run before it",
        "    # refers_to: []          # what it points to: captured after it, switched before it",
    ]


def _elsewhere(component: Start, others: Sequence[str]) -> list[str]:
    """Where it lies in every other region: never where it is live, which a trial on one machine would exchange."""
    if component.kind == "process" or "${region" in component.path or not others:
        return ["    # at: {}                 # settings that differ in one region, by region"]
    lines = ["    at:                      # where it is recovered to, and what else differs there"]
    for region in others:
        settings = _settings(component.kind, _beside(component.path, region))
        told = ", ".join(line for line in settings if not line.startswith("#"))
        lines.append(f"      {region}: {{{told}}}")
    return lines


def _beside(path: str, region: str) -> str:
    """A path of its own beside another: ``/srv/ledger.db`` is ``/srv/ledger-us.db`` in us."""
    folder, slash, name = path.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    own = f"{stem}-{region}{dot}{suffix}" if stem else f"{name}-{region}"
    return f"{folder}{slash}{own}"


def _settings(kind: str, path: str) -> list[str]:
    values = {
        "path": quoted(path),
        "database": quoted(f"sqlite:///{path}/mlflow.db"),
        "artifacts": quoted(f"{path}/artifacts"),
        "words": "[" + ", ".join(quoted(word) for word in _words(path)) + "]",
        "here": quoted("."),
        "health": quoted(f"{_address(path)}/health"),
    }
    lines = _PATHS.get(kind)
    return [f"path: {quoted(path)}"] if lines is None else [line.format(**values) for line in lines]


def _address(command: str) -> str:
    """Where a program listens, as its own command line says it: by an option, or behind the colon of an address."""
    words = _words(command)
    pairs = [f"{before}={word}" for before, word in pairwise(words)]
    said = [
        found
        for form in (_PORT_OPTION, _PORT_BEHIND)
        for word in (*words, *pairs)
        if (found := form.search(word))
    ]
    ports = [int(found[1]) for found in said if 0 < int(found[1]) <= PORT_MAX]
    return f"http://127.0.0.1:{ports[0] if ports else PORT_DEFAULT}"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or [command]
    except ValueError:  # a quotation mark without its partner
        return command.split()


def _groups(names: Sequence[str]) -> list[str]:
    """Where two or more are named: one alone fits together with nothing."""
    if len(names) < 2:
        return []
    return [
        "",
        "# Components that must fit together, and what must be true of them (CEL over their facts).",
        "# groups:",
        "#   serving:",
        f"#     members: [{', '.join(names)}]",
        "#     skew: 5s",
        "#     must: []    # such as a.models.embedder.champion.digest == b.tables.passages.embedder",
    ]


def _verify(components: Sequence[Start]) -> list[str]:
    running = next((component for component in components if component.kind == "process"), None)
    if running is None:
        return []
    return [
        "",
        "# How a recovered component proves that it answers as well as before.",
        "# verify:",
        f"#   {running.name}:",
        f"#     probe: {{http: {quoted(f'{_address(running.path)}/answer')}}}",
        "#     golden: golden/answers.jsonl",
        "#     bounds: {latency_p95: {at_most: 1.25x}, throughput: {at_least: 0.8x}}",
    ]
