"""Canaries: secrets that a pipeline is given and that must stand in nothing that refloat says, stores or starts.

A manifest takes them from the environment and from files; the key and a passphrase are secrets as well. Every verb is
run, with ``--json`` and ``--debug`` too, and most of them once more where they fail in a way that quotes what they
were given. Then all that was said, written, sealed and started is searched.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.system import SystemClock
from refloat.demo.scenery import free_ports
from refloat.vault.keyfile import KeyFile
from refloat.vault.keys import Role
from refloat.vault.replica import Replica
from refloat.vault.stores import open_store

pytestmark = pytest.mark.slow

CANARIES = {
    "an address of a vault": "canary-vault-8c1f",
    "a folder's name": "canary-folder-77d2",
    "a token in a file": "canary-file-51e0",
    "a token in an environment": "canary-env-a94b",
    "a word of a command": "canary-word-30fe",
    "a probe's key": "canary-probe-e6c8",
    "a passphrase": "canary passphrase 0b5d",
}
WRONG = "canary wrong passphrase"
CANARIES["a wrong passphrase"] = WRONG
PYTHON = os.path.realpath(sys.executable)  # with few packages, which are read at every inspection
POLL_S = 0.05
SECONDS_MAX = 30.0

MANIFEST = """\
version: 1
pipeline: small
primary: eu
regions:
  eu: {{vault: "{root}/eu/vault", vars: {{port: "{eu}"}}}}
  us: {{vault: "{root}/us/${{env:VAULT_US}}", vars: {{port: "{us}"}}}}
components:
  pages:
    kind: files
    with: {{path: "{root}/${{region}}/${{file:folder.txt}}", expose: {{current: current.json}}}}
  ledger:
    kind: sqlite
    with: {{path: "{root}/${{region}}/ledger.db", select: {{version: "SELECT max(version) FROM release"}}}}
  server:
    kind: process
    needs: [pages]
    with:
      command: ["{python}", serve.py, "${{region.port}}", "${{env:WORD}}"]
      cwd: "{root}/${{region}}/app"
      env: {{TOKEN: "${{file:token.txt}}", OTHER: "${{env:TOKEN}}"}}
      health: "http://127.0.0.1:${{region.port}}/health"
      log: "{root}/logs/${{region}}.log"
verify:
  server:
    probe: {{http: "http://127.0.0.1:${{region.port}}/answer?key=${{env:PROBE}}"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}}}
    bounds: {{accuracy: {{drop_at_most: 0.01}}, errors: {{at_most: 0.5}}}}
    samples: 40
    warmup: 0
groups:
  serving:
    members: [pages, ledger]
    must: [pages.current.version == ledger.version]
"""

SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    wbufsize = 4096

    def do_GET(self):
        self.answer(b"well")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(json.dumps({"topic": asked["question"]}).encode())

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words):
        pass

if os.path.exists("fail"):
    sys.exit(f"I was given {os.environ['TOKEN']} and {os.environ['OTHER']} and {sys.argv}")
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@dataclass
class Watch:
    """What passes by: the command lines of all processes, and what lies in the folder for temporary files."""

    temporary: Path
    lines: set[bytes] = field(default_factory=set)
    files: set[bytes] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        while not self.over.wait(POLL_S):
            self._read(Path("/proc").glob("[0-9]*/cmdline"), self.lines)
            self._read(self.temporary.rglob("*"), self.files)

    def _read(self, places: Iterable[Path], into: set[bytes]) -> None:
        with contextlib.suppress(OSError):
            for place in places:
                with contextlib.suppress(OSError):
                    into.add(place.read_bytes())


@dataclass
class Story:
    """An operator with secrets, and everything that was said to them."""

    operator: Any
    commands: Any
    watch: Watch
    said: dict[str, str] = field(default_factory=dict)
    key: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        root: Path = self.operator.root
        return root

    @property
    def pages(self) -> Path:
        return self.root / "eu" / CANARIES["a folder's name"]

    @contextlib.contextmanager
    def pages_away(self) -> Iterator[None]:
        away = self.root / "eu" / "away"
        self.pages.rename(away)
        yield
        away.rename(self.pages)

    @property
    def vaults(self) -> dict[str, Path]:
        return {"eu": self.root / "eu" / "vault", "us": self.root / "us" / CANARIES["an address of a vault"]}

    def run(self, *argv: str, exits: int = 0, flags: Sequence[str] = ("--json", "--debug")) -> Any:
        """A command that is given every secret; its document where it prints one."""
        words = (*flags, "-f", str(self.operator.manifest), *argv)
        given = {
            "VAULT_US": CANARIES["an address of a vault"],
            "TOKEN": CANARIES["a token in an environment"],
            "WORD": CANARIES["a word of a command"],
            "PROBE": CANARIES["a probe's key"],
        }
        ended = self.commands.run(self.operator, *words, env={**given, **self.key})
        assert ended.code == exits, ended
        self.said[f"{len(self.said)}: refloat {' '.join(words)}"] = ended.out + ended.err
        return ended.document if "--json" in flags else None

    def in_every_way(self, *argv: str, exits: int = 0) -> Any:
        """A command that changes nothing, as people read it and as programs do, with all that it can tell."""
        self.run(*argv, exits=exits, flags=("--debug",))
        return self.run(*argv, exits=exits)

    def with_key_file(self) -> None:
        self.key = {"REFLOAT_KEY_FILE": str(self.operator.key)}

    def with_passphrase(self, passphrase: str = CANARIES["a passphrase"]) -> None:
        self.key = {"REFLOAT_PASSPHRASE": passphrase}


# ------------------------------------------------------------------------------------------------- the story


def prepare(operator: Any) -> None:
    """A pipeline with a server, and everything that it takes late."""
    root, desk = operator.root, operator.manifest.parent
    eu, us = free_ports(2)
    operator.has_key = False
    operator.manifest.write_text(MANIFEST.format(root=root, eu=eu, us=us, python=PYTHON))
    (desk / "folder.txt").write_text(CANARIES["a folder's name"] + "\n")
    (desk / "token.txt").write_text(CANARIES["a token in a file"] + "\n")
    golden = [
        {"id": f"q{n}", "request": {"question": f"{n}"}, "expected": {"topic": f"{n}"}} for n in range(10)
    ]
    (desk / "golden.jsonl").write_text("".join(json.dumps(question) + "\n" for question in golden))
    (root / "eu" / "pages").rename(root / "eu" / CANARIES["a folder's name"])
    for folder in ("logs", "eu/app", "us/app"):
        (root / folder).mkdir(parents=True)
    for region in ("eu", "us"):
        (root / region / "app" / "serve.py").write_text(SERVER)


@contextlib.contextmanager
def serving(root: Path) -> Iterator[None]:
    """The pipeline's own server in eu, which refloat did not start."""
    port = json_port(root)
    process = subprocess.Popen([sys.executable, "serve.py", port], cwd=root / "eu" / "app")
    try:
        until = time.monotonic() + SECONDS_MAX
        while not listens(int(port)):
            assert process.poll() is None and time.monotonic() < until, "nobody listens"
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether anybody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def json_port(root: Path) -> str:
    """The port of eu, as the manifest says it."""
    text = (root / "desk" / "refloat.yaml").read_text()
    return text.partition('port: "')[2].partition('"')[0]


def what_goes_well(story: Story) -> None:
    """Every verb as it should go; the vault keeps the key for a passphrase, and half is done with that."""
    story.with_passphrase()
    story.run("vault", "init", "--key", str(story.operator.key))
    with story.pages_away():
        story.in_every_way("protect", exits=1)  # and no earlier point to carry them over from
    with serving(story.root):
        story.run("check")
        story.run("verify", "--save-baseline", flags=())
        story.run("protect", flags=())
        story.with_key_file()
        story.run("verify")
        story.run("protect")
    for looking in (("points", "list"), ("vault", "repair"), ("vault", "check", "--read-data")):
        story.run(*looking)
    for looking in (("status",), ("plan", "--to", "us")):
        story.in_every_way(*looking)
    point = story.run("points", "list")["points"][0]["point"]
    for looking in (("points", "show", point), ("points", "why", point), ("vault", "ls", point)):
        story.run(*looking)
    story.run("recover", "--into", str(story.root / "out"))


def what_goes_wrong(story: Story) -> None:
    """Failures that quote what they were given, if anything does."""
    story.in_every_way("verify", exits=1)  # nothing listens there any more
    with story.pages_away():
        story.in_every_way("check", exits=1)
        story.run("protect", exits=1)
        story.run("protect", exits=1, flags=("--debug",))
    story.with_passphrase(WRONG)
    story.in_every_way("status", exits=4)
    story.with_key_file()
    place = story.vaults["us"]
    place.rename(place.with_name("away"))
    place.touch()
    for verb in (("status",), ("check",), ("protect",), ("vault", "check"), ("vault", "repair")):
        story.in_every_way(*verb, exits=1)
    place.unlink()
    place.with_name("away").rename(place)
    pack = max(place.glob("packs/*/*"), key=lambda path: path.stat().st_size)
    whole = pack.read_bytes()
    pack.write_bytes(whole[:-9] + b"x" * 9)
    story.in_every_way("vault", "check", "--read-data", exits=4)
    pack.write_bytes(whole)


def what_is_recovered(story: Story) -> None:
    """A run whose server says what it was given and ends, one that is blocked, and one that succeeds."""
    fail, target = story.root / "us" / "app" / "fail", story.root / "us" / CANARIES["a folder's name"]
    fail.touch()
    failed = story.run("recover", "--to", "us", exits=1)
    assert failed["state"] == "rolled_back"
    target.mkdir()
    (target / "foreign").touch()
    blocked = story.run("recover", "--to", "us", exits=3)
    assert blocked["state"] == "blocked"
    shutil.rmtree(target)
    fail.unlink()
    done = story.run("recover", "--to", "us")
    assert done["state"] == "done"
    story.in_every_way("run", "show", failed["run"], "--to", "us")
    for run in (failed["run"], blocked["run"], done["run"]):
        page = story.root / f"{run}.html"
        story.run("evidence", "show", run, "--html", str(page), flags=("--debug",))
        story.said[str(page)] = page.read_text()
    for looking in (("run", "list", "--to", "us"), ("evidence", "list"), ("status",)):
        story.run(*looking)


def stop_the_server(root: Path) -> None:
    for known in root.glob("us/.refloat-server.pid.json"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(json.loads(known.read_text())["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def story(
    operator_of: Callable[[Path], Any], commands: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """All of it, told once, and watched meanwhile."""
    operator = operator_of(tmp_path_factory.mktemp("secrets"))
    prepare(operator)
    told = Story(operator, commands, Watch(operator.temporary))
    watching = threading.Thread(target=told.watch.look)
    watching.start()
    try:
        what_goes_well(told)
        what_goes_wrong(told)
        what_is_recovered(told)
    finally:
        told.watch.over.set()
        watching.join()
        stop_the_server(operator.root)
    yield told


# -------------------------------------------------------------------------------------------------- the search


def secrets(story: Story) -> dict[str, bytes]:
    """Every canary, and every secret of the key file as it stands there and as bytes, by what it is."""
    key = json.loads(story.operator.key.read_bytes())
    private = {name: key[name] for name in ("catalogue_key", "chunk_name_key")}
    private |= {f"{role}.signing": key[role]["signing"] for role in ("writer", "operator", "admin")}
    private |= {"reader.opening": key["reader"]["opening"], **key["writer"]["content"]}
    return {
        **{what: canary.encode() for what, canary in CANARIES.items()},
        **{f"the key's {name}": secret.encode() for name, secret in private.items()},
        **{f"the bytes of the key's {name}": bytes.fromhex(secret) for name, secret in private.items()},
    }


def leaks(story: Story, content: bytes, but: Collection[str] = ()) -> list[str]:
    return [what for what, secret in secrets(story).items() if what not in but and secret in content]


def test_nothing_that_any_command_says_holds_a_secret(story: Story) -> None:  # fault 66
    found = {line: what for line, said in story.said.items() if (what := leaks(story, said.encode()))}
    assert found == {}


def test_no_page_state_or_temporary_file_holds_a_secret(story: Story) -> None:  # fault 66
    written = [path for place in (story.operator.home,) for path in place.rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in written), "the pages of evidence are there"
    found = {str(path): what for path in written if (what := leaks(story, path.read_bytes()))}
    assert found == {}
    assert [what for content in story.watch.files for what in leaks(story, content)] == []


def test_no_process_is_given_a_secret_on_its_command_line(story: Story) -> None:  # fault 66
    """But for the word that the manifest itself puts on a command's line."""
    assert any(b"serve.py" in line for line in story.watch.lines), "processes were seen at all"
    assert [
        (what, line) for line in story.watch.lines for what in leaks(story, line, but=["a word of a command"])
    ] == []


def test_no_vault_holds_a_secret_neither_as_it_is_stored_nor_once_it_is_opened(story: Story) -> None:
    # fault 66
    for region, place in story.vaults.items():
        for path in place.rglob("*"):
            if path.is_file():
                assert leaks(story, path.read_bytes()) == [], path
        opened = list(everything_in(region, place, story))
        assert len(opened) > 20, "it was opened"
        found = {name: what for name, content in opened if (what := leaks(story, content))}
        assert found == {}, region


def everything_in(region: str, place: Path, story: Story) -> Iterator[tuple[str, bytes]]:
    """What a thief of the key would read in a vault: every chunk, point and entry of every log."""
    replica = Replica.open(region, open_store(str(place)), KeyFile.load(story.operator.key), SystemClock())
    for committed in replica.points():
        yield committed.name, repr(replica.read_point(committed.name)).encode()
    for pack in replica.index.packs:
        for chunk in replica.read_directory(pack.name, pack.size).entries["name"]:
            yield f"{pack.name} {chunk.tobytes().hex()}", replica.read_chunk(chunk.tobytes())
    slots = [path for path in place.glob("log/**/*") if path.is_file()]
    logs = sorted({str(path.parent.relative_to(place / "log")) for path in slots})
    for stream in logs:
        role = Role.WRITER if stream == "points" else Role.OPERATOR
        for entry in replica.log(stream, role).entries():
            yield f"{stream}/{entry.slot}", repr(entry.body).encode()


SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, print); time.sleep(60)"


def test_a_command_that_crashes_leaves_no_core(story: Story) -> None:  # fault 66
    """The key would be in it."""
    if not leaves_a_core(story, "-c", SLEEPER):
        pytest.skip("CORE OF A CRASH NOT TRIED: this machine keeps none of any program")
    assert not leaves_a_core(story, "-m", "refloat", "-f", str(story.operator.manifest), "check")


def leaves_a_core(story: Story, *program: str) -> bool:
    """Whether a Python whose limits allow it leaves a core when it crashes, once it has a handler for SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, *program],
        cwd=story.operator.home,
        env=story.operator.environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2),
    )
    caught = 0
    while not caught & 1 << signal.SIGTERM - 1:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    process.send_signal(signal.SIGABRT)
    _, ended = os.waitpid(process.pid, 0)
    process.returncode = -signal.SIGABRT
    assert os.WIFSIGNALED(ended)
    return os.WCOREDUMP(ended)
