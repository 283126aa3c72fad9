"""The recipe of `vault-1-gaps`: run once, on 2026-11-29, with refloat 0.1.0 and Python 3.11; tests never run it.

``python tests/golden/make_vault_1_gaps.py`` measures an endpoint that is grouped with a folder and keeps that as its
baseline, makes a point, takes the log away, and makes a second point, which says that the log could not be captured.
It writes the one replica, its key, and ``expected.json``: the points, and what each lacks.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "vault-1-gaps"
ROOT = Path("/srv/golden")  # an error names what it could not read, wherever that lies
MANIFEST = """\
version: 1
pipeline: golden
primary: eu
regions:
  eu: {{vault: vault-1-gaps/eu}}
components:
  pages:
    kind: files
    with: {{path: pages}}
  flags:
    kind: files
    with: {{path: flags}}
  answers:
    kind: predictions
    with: {{path: answers.jsonl}}
groups:
  serving: {{members: [pages, flags]}}
verify:
  pages:
    probe: {{http: "{url}"}}
    golden: golden.jsonl
    metrics: {{accuracy: {{equal: {{expected: topic, found: topic}}}}, exact_match: {{same: [topic]}}}}
    bounds: {{accuracy: {{drop_at_most: 0.01}}, exact_match: {{drop_at_most: 0}}, latency_p95: {{at_most: 2x}}}}
    samples: 100
"""


def echo() -> Any:
    """The endpoint of the scenarios, which answers each question well."""
    spec = importlib.util.spec_from_file_location("echo", HERE.parent / "scenarios" / "echo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refloat(root: Path, *words: str, exits: int = 0) -> dict[str, Any]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("REFLOAT_")}
    env |= {"REFLOAT_KEY_FILE": "vault-1-gaps/key", "XDG_CACHE_HOME": str(root / "cache")}
    command = [sys.executable, "-m", "refloat", "--json", *words]
    done = subprocess.run(command, cwd=root, env=env, check=False, stdout=subprocess.PIPE)
    assert done.returncode == exits
    return dict(json.loads(done.stdout))


def story(root: Path, url: str, golden: str) -> dict[str, object]:
    (root / "vault-1-gaps").mkdir()
    for folder in ("pages", "flags"):
        (root / folder).mkdir()
        (root / folder / "one.txt").write_text(f"what is in {folder}\n")
    (root / "answers.jsonl").write_text('{"id": "a1", "time": "2026-11-29T12:00:00Z"}\n')
    (root / "golden.jsonl").write_text(golden)
    (root / "refloat.yaml").write_text(MANIFEST.format(url=url))
    refloat(root, "vault", "init", "--key", "vault-1-gaps/key")
    baseline = refloat(root, "verify", "--save-baseline")["baseline"]
    whole = refloat(root, "protect")["point"]
    (root / "answers.jsonl").unlink()
    made = refloat(root, "protect", exits=1)
    errors = {name: part["error"] for name, part in made["components"].items() if part["error"]}
    return {"points": {whole: {}, made["point"]: errors}, "identities": baseline["identities"]["pages"]}


def main() -> None:
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} is there already, and old bytes are not made anew")
    scene = echo()
    ROOT.mkdir()
    with scene.echoing() as url:
        expected = story(ROOT, url, scene.GOLDEN)
    (ROOT / "vault-1-gaps" / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.copytree(ROOT / "vault-1-gaps", GOLDEN)
    shutil.rmtree(ROOT)


if __name__ == "__main__":
    main()
