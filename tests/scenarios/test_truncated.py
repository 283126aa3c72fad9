"""Every kind of object of a vault cut to half, cut to nothing, and one byte too long: every command that reads it.

None ends in a traceback, what is damaged is named by the check, and no command takes it for what it was: it says the
same as before, from another copy or because it needs nothing of it, or it says which object is not what was written.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from echo import GOLDEN, echoing

from refloat.errors import VaultError
from refloat.testing.disk import folder_in_memory

pytestmark = pytest.mark.slow

CUTS: dict[str, Callable[[bytes], bytes]] = {
    "cut to half": lambda content: content[: len(content) // 2],
    "cut to nothing": lambda content: b"",
    "one byte longer": lambda content: content + b"\n",
}
KINDS = {
    "vault.json": ("points", "into", "status"),
    "keys": ("into", "runs"),
    "index": ("into",),
    "packs": ("ls", "into"),
    "points": ("show", "into", "status"),
    "log/points": ("points", "into", "status"),
    "log/baselines": ("verify",),
    "log/evidence": ("evidence",),
    "log/targets/us": ("runs",),
    "log/runs": ("runs", "run"),
}
"""The kinds of objects, and what reads them, beside the check."""

TRIED_MAX = (
    3  # of a kind: the first, the last, and what lies between; of the keys, each, since no two are alike
)

MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {{vault: "eu/vault"}}
  us: {{vault: "us/vault"}}
components:
  pages:
    kind: files
    with: {{path: "${{region}}/pages"}}
  ledger:
    kind: sqlite
    with: {{path: "${{region}}/ledger.db"}}
verify:
  pages:
    probe: {{http: "{url}"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}}}
    bounds: {{accuracy: {{drop_at_most: 0.01}}, errors: {{at_most: 0.5}}}}
    samples: 40
    warmup: 0
"""


@dataclass(frozen=True)
class Answer:
    """What a command said, and the bytes that it brought."""

    code: int
    document: dict[str, Any]
    err: str
    brought: dict[str, bytes]


@dataclass
class Desk:
    """A folder with a pipeline, its vaults, and one command after the other in this process."""

    root: Path
    process: Callable[..., tuple[int, dict[str, Any], str]]
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    before: dict[str, Answer] = field(default_factory=dict)

    @property
    def vault(self) -> Path:
        return self.root / "us" / "vault"

    def ask(self, *arguments: str) -> Answer:
        code, document, err = self.process(*arguments)
        into, brought = self.root / "out", {}
        if into.exists():
            brought = {
                str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()
            }
            shutil.rmtree(into)
        return Answer(code, document, err, brought)

    def done(self, *arguments: str) -> Any:
        answer = self.ask(*arguments)
        assert answer.code == 0, answer
        return answer.document


# ------------------------------------------------------------------------------------------------- the vault


@pytest.fixture(scope="module")
def desk(ask: Any) -> Iterator[Desk]:
    """A vault that holds an object of every kind: two points, a baseline, and a recovery with its evidence."""
    with (
        folder_in_memory() as root,
        pytest.MonkeyPatch.context() as patch,
        echoing() as address,
    ):
        for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "REFLOAT_KEY_FILE"):
            patch.delenv(variable, raising=False)
        patch.setenv("HOME", str(root / "home"))
        patch.chdir(root)
        made = Desk(root, ask)
        prepare(made, address, patch)
        yield made


def prepare(desk: Desk, url: str, patch: pytest.MonkeyPatch) -> None:
    (desk.root / "refloat.yaml").write_text(MANIFEST.format(url=url))
    (desk.root / "golden.jsonl").write_text(GOLDEN)
    patch.setenv("REFLOAT_PASSPHRASE", "so that a wrapped key is there")
    release(desk, 1)
    desk.done("vault", "init", "--key", "small.key")
    patch.delenv("REFLOAT_PASSPHRASE")
    patch.setenv("REFLOAT_KEY_FILE", str(desk.root / "small.key"))
    desk.done("protect")
    release(desk, 2)
    desk.done("verify", "--save-baseline")
    desk.done("protect")
    desk.done("recover", "--to", "us")
    desk.commands = commands(desk)
    desk.before = {name: desk.ask(*command) for name, command in desk.commands.items()}
    assert {name: answer.code for name, answer in desk.before.items()} == dict.fromkeys(desk.before, 0)


def release(desk: Desk, version: int) -> None:
    pages = desk.root / "eu" / "pages"
    pages.mkdir(parents=True, exist_ok=True)
    (pages / f"{version}.txt").write_text(f"what release {version} says\n" * 50)
    with contextlib.closing(sqlite3.connect(desk.root / "eu" / "ledger.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS release (version INTEGER)")
        database.execute("INSERT INTO release VALUES (?)", (version,))


def commands(desk: Desk) -> dict[str, tuple[str, ...]]:
    """Everything that reads the vault of the one region, which is all that there is."""
    only = ("--vault", str(desk.vault))
    newest = desk.done("points", "list", *only)["points"][0]["point"]
    (last,) = desk.done("run", "list", "--to", "us", *only)["runs"]
    return {
        "check": ("vault", "check", "--read-data", *only),
        "points": ("points", "list", *only),
        "show": ("points", "show", newest, *only),
        "ls": ("vault", "ls", newest, "pages", *only),
        "into": ("recover", "--into", str(desk.root / "out"), *only),
        "runs": ("run", "list", "--to", "us", *only),
        "run": ("run", "show", last["run"], "--to", "us", *only),
        "evidence": ("evidence", "list", *only),
        "status": ("status",),
        "verify": ("verify",),
    }


# ------------------------------------------------------------------------------------------------ the trials


def chosen(desk: Desk, kind: str) -> list[str]:
    """The objects of a kind to try."""
    found = []
    for path in sorted(path for path in desk.vault.rglob("*") if path.is_file()):
        name = str(path.relative_to(desk.vault))
        if max((known for known in KINDS if name.startswith(known)), key=len) == kind:
            found.append(name)
    return found if kind == "keys" or len(found) <= TRIED_MAX else [found[0], found[-1]]


@contextlib.contextmanager
def cut(desk: Desk, name: str, how: Callable[[bytes], bytes], *, everywhere: bool) -> Iterator[None]:
    """An object that is not what was written, in the one region or in both."""
    regions = ("eu", "us") if everywhere else ("us",)
    places = [place for region in regions if (place := desk.root / region / "vault" / name).exists()]
    whole = [path.read_bytes() for path in places]
    for path, content in zip(places, whole, strict=True):
        path.write_bytes(how(content))
    try:
        yield
    finally:
        for path, content in zip(places, whole, strict=True):
            path.write_bytes(content)
        for region in regions:
            shutil.rmtree(desk.root / region / "vault" / "quarantine", ignore_errors=True)


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_is_cut_or_too_long_is_named_and_nothing_is_made_of_it(
    desk: Desk, kind: str, how: str
) -> None:  # faults 1, 6
    names = chosen(desk, kind)
    assert names
    for name in names:
        with cut(desk, name, CUTS[how], everywhere=kind == "log/baselines"):
            is_named(desk.ask(*desk.commands["check"]), name)
            for command in KINDS[kind]:
                is_harmless(command, desk.ask(*desk.commands[command]), desk.before[command], name)


def is_named(checked: Answer, name: str) -> None:
    """By the check, which then has the exit code of damage."""
    assert checked.code == VaultError.exit_code, (name, checked)
    error = checked.document.get("error")
    named = [error["file"]] if error else [damage["object"] for damage in checked.document["damaged"]]
    assert name in named, (name, checked)


def is_harmless(command: str, answer: Answer, before: Answer, name: str) -> None:
    """It says what it said before, or that it cannot, and why; and nothing else."""
    told = (command, name, answer)
    assert answer.code in (0, 1, VaultError.exit_code), told
    if answer.code == 0:
        assert answer.brought == before.brought, told
        told_again = {"verify": ("verified",), "into": ("point", "grade"), "status": ("regions", "runs_in")}
        same = told_again.get(command, tuple(before.document))
        assert [answer.document[key] for key in same] == [before.document[key] for key in same], told
        return
    assert answer.brought == {}, told
    if command == "verify":  # the damaged baseline is passed over, and then there is none
        assert answer.document["verified"] is None and "no baseline" in json.dumps(answer.document), told
    else:
        assert name in json.dumps(answer.document) + answer.err, told
