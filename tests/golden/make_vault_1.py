"""The recipe of `vault-1`: run once, on 2026-11-24, with refloat 0.1.0 and Python 3.11; tests never run it.

``python tests/golden/make_vault_1.py`` builds a small pipeline with every oddity that a file system allows, protects
it four times with the real commands, recovers it once, and writes the two replicas, their key, and ``expected.json``:
what each point must give back, read from the sources themselves when they were captured. What is there is never made
anew: a later format gets a folder of its own, and this one must stay readable for good.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "vault-1"
PASSPHRASE = "not a secret: it opens the golden vault"
MANIFEST = """\
version: 1
pipeline: golden
primary: eu
regions:
  eu: {vault: vault-1/eu}
  us: {vault: vault-1/us}
components:
  pages:
    kind: files
    tier: critical
    with: {path: "${region}/pages", expose: {current: current.json}}
  settings:
    kind: files
    with: {path: "${region}/settings.json"}
  ledger:
    kind: sqlite
    with: {path: "${region}/ledger.db", select: {version: "SELECT max(version) FROM release"}}
  answers:
    kind: predictions
    with: {path: "${region}/answers.jsonl"}
groups:
  serving:
    members: [pages, ledger]
    must: [pages.current.version == ledger.version]
verify:
  pages:
    probe: {http: "http://127.0.0.1:PORT/"}
    golden: golden.jsonl
    metrics: {accuracy: {equal: {expected: topic, found: topic}}}
    bounds: {accuracy: {drop_at_most: 0.01}, errors: {at_most: 0.5}}
    concurrency: 2
    samples: 20
    warmup: 0
"""
PAGES = Path("eu/pages")
SECOND_NS = 1_000_000_000
ODD_NAMES = (
    *(b"not UTF-8 \xff\xfe", b"a new\nline", b"-rf", b"n" * 255),
    *("Käse 🧀".encode(), b"a\\b \x01\x7f"),
)


class Answers(BaseHTTPRequestHandler):
    """Answers every question with its topic."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"topic": "old bytes"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


# ------------------------------------------------------------------------------------------- the sources


def build() -> None:
    """Everything that is captured first."""
    (PAGES / "deep" / "deeper").mkdir(parents=True)
    (PAGES / "empty folder").mkdir()
    (PAGES / "empty file").touch()
    (PAGES / "deep" / "deeper" / "page.txt").write_text("what a page says\n" * 40)
    (PAGES / "deep" / "the same page.txt").write_text("what a page says\n" * 40)
    noise = random.Random(1).randbytes(12_000)
    (PAGES / "noise.bin").write_bytes(noise)
    lines = (f"{n >> 10:08x} the quick brown fox\n" for n in range(1 << 19))
    (PAGES / "large.txt").write_bytes("".join(lines).encode()[: 9 << 20])
    with (PAGES / "holes.bin").open("wb") as file:
        file.write(noise[:3000])
        file.seek(6 << 20)
        file.write(noise[-3000:])
        file.truncate(7 << 20)
    for name in ODD_NAMES:
        (PAGES / os.fsdecode(name)).write_bytes(b"called " + name)
    (PAGES / "link").symlink_to("deep/deeper/page.txt")
    (PAGES / "link to a folder").symlink_to("deep")
    (PAGES / "dangling").symlink_to("../nowhere/at all")
    (PAGES / os.fsdecode(b"link to \xff")).symlink_to(os.fsdecode(b"to \xff"))
    Path("eu/settings.json").write_text('{"temperature": 0.2}\n')
    Path("golden.jsonl").write_text(
        "".join(
            json.dumps({"id": f"q{n}", "request": {"question": n}, "expected": {"topic": "old bytes"}}) + "\n"
            for n in range(3)
        )
    )
    for n, (name, mode) in enumerate({"noise.bin": 0o444, "-rf": 0o755, "empty file": 0o600}.items()):
        (PAGES / name).chmod(mode)
        os.utime(PAGES / name, ns=(0, 1_600_000_000 * SECOND_NS + 123_456_789 + n))
    os.utime(PAGES / "large.txt", ns=(0, -5 * SECOND_NS + 1))
    for name, mode in {"deep": 0o2775, "empty folder": 0o1777, "deep/deeper": 0o555}.items():
        (PAGES / name).chmod(mode)
        os.utime(PAGES / name, ns=(0, 1_500_000_000 * SECOND_NS + mode))


def release(version: int, *, told: int | None = None) -> None:
    """A release of pages and ledger that agree, or pages that tell of another one."""
    (PAGES / "current.json").write_text(json.dumps({"version": told or version}))
    with contextlib.closing(sqlite3.connect("eu/ledger.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS release (version INTEGER, note TEXT)")
        database.execute("INSERT INTO release VALUES (?, ?)", (version, f"release {version}"))


def answer(n: int) -> None:
    with Path("eu/answers.jsonl").open("a") as log:
        log.write(
            json.dumps({"id": f"a{n}", "time": f"2026-11-24T00:00:{n:02d}Z", "topic": "old bytes"}) + "\n"
        )


# ------------------------------------------------------------------------------------------- what must come back


def text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def entry(path: Path, shown: bytes) -> dict[str, Any]:
    """What a path is, as the file system says it."""
    found = path.lstat()
    said: dict[str, Any] = {"path": text(shown)}
    if stat.S_ISLNK(found.st_mode):
        return said | {"type": "symlink", "target": text(os.fsencode(path.readlink()))}
    said |= {"mode": stat.S_IMODE(found.st_mode), "mtime_ns": found.st_mtime_ns}
    if stat.S_ISDIR(found.st_mode):
        return said | {"type": "directory"}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return said | {"type": "file", "size": found.st_size, "sha256": digest}


def below(path: Path, shown: bytes = b"content") -> list[dict[str, Any]]:
    """A path and everything below it, under the name that it has in a point."""
    found = [entry(path, shown)]
    if found[0]["type"] == "directory":
        for one in sorted(path.iterdir()):
            found += below(one, shown + b"/" + os.fsencode(one.name))
    return found


def rows(region: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"{region}/ledger.db")) as database:
        return list(database.iterdump())


def sources(region: str) -> dict[str, Any]:
    """Everything that a point must give back now. An SQLite database comes back by its rows, not by its bytes."""
    at = Path(region)
    return {
        "manifest": [
            entry(Path("refloat.yaml"), b"refloat.yaml"),
            {"path": text(b"verify"), "type": "directory"},
            entry(Path("golden.jsonl"), b"verify/pages.jsonl"),
        ],
        "components": {
            "pages": below(at / "pages"),
            "settings": below(at / "settings.json"),
            "answers": below(at / "answers.jsonl", b"log.jsonl"),
        },
        "rows": {"ledger": rows(region)},
    }


# ------------------------------------------------------------------------------------------- the story


def refloat(*arguments: str, exits: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "refloat", "--json", "--quiet", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != exits:
        sys.exit(f"refloat {' '.join(arguments)}: exit code {ran.returncode}: {ran.stdout}{ran.stderr}")
    return dict(json.loads(ran.stdout))


def story() -> dict[str, Any]:
    """Protect four times, recover once; what each point must give back."""
    points: dict[str, Any] = {}

    def keep(name: str, expected: dict[str, Any]) -> None:
        told = refloat("points", "show", name)
        carried = sorted(name for name, one in told["components"].items() if one["carried"])
        points[name] = {"grade": told["grade"], "carried": carried, **expected}

    def protect(exits: int = 0) -> None:
        expected = sources("eu")
        keep(refloat("protect", exits=exits)["point"], expected)

    os.environ["REFLOAT_PASSPHRASE"] = PASSPHRASE
    refloat("vault", "init", "--key", "vault-1.key")
    del os.environ["REFLOAT_PASSPHRASE"]
    os.environ["REFLOAT_KEY_FILE"] = "vault-1.key"
    release(1)
    answer(1)
    refloat("verify", "--save-baseline")
    protect()
    answer(2)
    protect()
    release(2, told=3)
    protect(exits=1)
    release(3)
    answer(3)
    refloat("verify", "--save-baseline")
    protect()
    refloat("recover", "--to", "us")
    (newest, *_) = refloat("points", "list")["points"]
    keep(newest["point"], sources("us"))  # a recovery protects what it recovered
    return points


def litter(replica: Path) -> None:
    """What is no object: a temporary file that a crash left, and a link where an object might be."""
    first = min((replica / "index").iterdir())
    first.with_name(f"{first.name}.0123456789abcdef~").write_bytes(first.read_bytes()[:100])
    first.with_name("0" * 64).symlink_to(first.name)


def main() -> None:
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} is there already, and old bytes are not made anew")
    scratch = Path("/tmp/golden")
    scratch.mkdir()
    os.chdir(scratch)
    os.umask(0o022)
    for name in [name for name in os.environ if name.startswith(("REFLOAT_", "XDG_"))]:
        del os.environ[name]
    os.environ["HOME"] = str(scratch / "home")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Path("eu").mkdir()
        build()
        Path("refloat.yaml").write_text(MANIFEST.replace("PORT", str(server.server_port)))
        points = story()
        server.shutdown()
    for region in ("eu", "us"):
        litter(Path("vault-1") / region)
    expected = {"points": points, "passphrase": PASSPHRASE}
    Path("vault-1/expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    shutil.copy("vault-1.key", "vault-1/vault-1.key")
    shutil.copytree("vault-1", GOLDEN, symlinks=True)


if __name__ == "__main__":
    main()
