"""The recipe of `vault-1-keys`: run once, on 2026-11-26, with refloat 0.1.0 and Python 3.11; tests never run it.

``python tests/golden/make_vault_1_keys.py`` protects a file with the real commands, keeps its key for two passphrases
and a recipient, lets one of the passphrases go, adds a second holder, who protects and recovers once, and removes its
writer and its operator. Then a program of the removed holder's signs on, and the owner as well. At last the admin says
that the vault is locked, as it may say in a copy of a bucket. It writes both replicas, the keys, and ``expected.json``:
what each point must give back, and which entries of each log are void.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from refloat.cli.system import SystemClock
from refloat.vault.keyfile import KeyFile, Role
from refloat.vault.keyobjects import lock_object
from refloat.vault.replica import Replica
from refloat.vault.stores.local import LocalStore
from refloat.vault.wraps import by_name

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "vault-1-keys"
REGIONS = ("eu", "us")
PASSPHRASE, GONE = "not a secret: it opens the golden vault", "not a secret: it was let go"
MANIFEST = """\
version: 1
pipeline: golden
primary: eu
regions:
  eu: {vault: vault-1-keys/eu}
  us: {vault: vault-1-keys/us}
components:
  settings:
    kind: files
    with: {path: "${region}/settings.json"}
"""


class Desk:
    """A folder with a manifest, where commands run with one key file or another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vault = root / "vault-1-keys"
        (root / "eu").mkdir()
        self.vault.mkdir()
        (root / "refloat.yaml").write_text(MANIFEST)

    def refloat(self, *words: str, key: str = "owner.key", **environment: str) -> dict[str, object]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("REFLOAT_")}
        env |= {"REFLOAT_KEY_FILE": f"vault-1-keys/{key}", **environment}
        command = [sys.executable, "-m", "refloat", "--json", *words]
        done = subprocess.run(command, cwd=self.root, env=env, check=True, stdout=subprocess.PIPE)
        return dict(json.loads(done.stdout))

    def replica(self, region: str, key: str) -> Replica:
        key_file = KeyFile.load(self.vault / key)
        return Replica.open(region, LocalStore(self.vault / region), key_file, SystemClock())

    def protect(self, version: int, key: str, region: str = "eu") -> dict[str, str]:
        """The name of a new point, and the SHA-256 of what it must give back."""
        (self.root / "refloat.yaml").write_text(MANIFEST.replace("primary: eu", f"primary: {region}"))
        content = json.dumps({"version": version}) + "\n"
        (self.root / region / "settings.json").write_text(content)
        point = str(self.refloat("protect", key=key)["point"])
        return {point: hashlib.sha256(content.encode()).hexdigest()}


def keep_for_others(desk: Desk) -> None:
    """Two passphrases and a recipient open the vault, and then one passphrase no more."""
    made = desk.refloat("vault", "keys", "recipient", "--key", "vault-1-keys/recipient.private")
    desk.refloat("vault", "keys", "add", "--name", "safe", "--recipient", str(made["recipient"]))
    add = ("vault", "keys", "add", "--passphrase", "--name")
    desk.refloat(*add, "desk", REFLOAT_NEW_PASSPHRASE=PASSPHRASE)
    before = fingerprints(desk)
    desk.refloat(*add, "old desk", REFLOAT_NEW_PASSPHRASE=GONE)
    (gone,) = fingerprints(desk) - before
    desk.refloat("vault", "keys", "remove", gone)


def fingerprints(desk: Desk) -> set[str]:
    kept = desk.refloat("vault", "keys", "list")["kept"]
    assert isinstance(kept, list)
    return {one["fingerprint"] for one in kept}


def sign_on(stale: Replica) -> None:
    """What a program of somebody who was removed signs, since it does not ask whether its key still counts."""
    last = stale.log("points", Role.WRITER).head()
    assert last is not None
    stale.log("points", Role.WRITER).append(last.body, last.refs)
    stale.log("targets/us", Role.OPERATOR).append({"type": "claimed", "run": "later", "epoch": 2})
    stale.log("evidence", Role.OPERATOR).append({"said": "later"})


def voids(replica: Replica) -> dict[str, list[bool]]:
    """Of each log, which entries are void."""
    roles = {"points": Role.WRITER, "prune": Role.ADMIN, "forgotten": Role.ADMIN, "renewed": Role.ADMIN}
    logs = {stream: replica.log(stream, roles.get(stream, Role.OPERATOR)) for stream in replica.streams()}
    return {stream: [entry.void for entry in log.entries()] for stream, log in logs.items()}


def lock(desk: Desk) -> None:
    term = by_name([lock_object(KeyFile.load(desk.vault / "owner.key"), 30 * 24 * 3600)])
    for region in REGIONS:
        for name, content in term.items():
            LocalStore(desk.vault / region).create(name, content)


def story(desk: Desk) -> dict[str, object]:
    desk.refloat("vault", "init", "--key", "vault-1-keys/owner.key")
    points = desk.protect(1, "owner.key")
    keep_for_others(desk)
    roles = ("--role", "writer", "--role", "reader", "--role", "operator")
    desk.refloat("vault", "keys", "add", *roles, "--name", "gone", "--key", "vault-1-keys/gone.key")
    points |= (captured := desk.protect(2, "gone.key"))
    desk.refloat("recover", "--to", "us", key="gone.key")
    listed = desk.refloat("points", "list")["points"]
    assert isinstance(listed, list)
    points |= dict.fromkeys(
        (listed[0]["point"],), next(iter(captured.values()))
    )  # it protects what came back
    stale = [desk.replica(region, "gone.key") for region in REGIONS]
    for role in (Role.WRITER, Role.OPERATOR):
        desk.refloat("vault", "keys", "remove", stale[0].keyring.signer(role))
    for replica in stale:
        sign_on(replica)
    points |= desk.protect(3, "owner.key", "us")
    lock(desk)
    return {
        "points": points,
        "void": {region: voids(desk.replica(region, "owner.key")) for region in REGIONS},
        "passphrase": PASSPHRASE,
        "passphrase_let_go": GONE,
    }


def main() -> None:
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} is there already, and old bytes are not made anew")
    with tempfile.TemporaryDirectory() as place:
        desk = Desk(Path(place))
        expected = story(desk)
        (desk.vault / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        shutil.copytree(desk.vault, GOLDEN)


if __name__ == "__main__":
    main()
