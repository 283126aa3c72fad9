"""Where the story plays: two regions on one disk, an operator's home, and commands run for real."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx

from refloat.errors import RefloatError

COMMAND_SECONDS_MAX = 300.0  # no command of the story takes this long; one that does is stuck
ENDPOINT_SECONDS_MAX = 60.0
PORTS = range(15_000, 20_000)  # below those of ip_local_port_range, of which anybody is given one meanwhile
TRIED_PORTS_MAX = 16
KEPT_FROM_ENVIRONMENT = ("LANG", "LC_ALL", "TMPDIR", "TERM", "COLUMNS", "NO_COLOR")


def example_folder() -> Path:
    """Where the example pipeline lies: inside the installed package, or beside it in a checkout.

    Raises ``RefloatError`` where neither is there.
    """
    installed = Path(str(files("refloat.demo"))) / "pydocs_assistant"
    checkout = Path(str(files("refloat"))).parents[1] / "examples" / "pydocs_assistant"
    for folder in (installed, checkout):
        if (folder / "refloat.yaml").exists():
            return folder
    raise RefloatError(
        "the example pipeline is not installed", next="install refloat from its wheel or checkout"
    )


def free_ports(count: int) -> list[int]:
    """Ports on loopback on which nobody listens right now, and which the system gives to nobody by itself.

    Raises ``RefloatError`` where there are too few.
    """
    found = [port for port in random.SystemRandom().sample(PORTS, TRIED_PORTS_MAX) if _is_free(port)]
    if len(found) < count:
        raise RefloatError("there is no free port on loopback", next="end what listens there, and try again")
    return found[:count]


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


@dataclass
class Scenery:
    """Every place and process of one telling, below one folder."""

    root: Path
    ports: Mapping[str, int]
    home: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def under(cls, root: Path) -> Scenery:
        """Lay out an empty folder: regions, the operator's desk, the client's."""
        for folder in ("eu", "us", "operator", "home", "client", "key"):
            (root / folder).mkdir(parents=True)
        eu, us = free_ports(2)
        return cls(root=root, ports={"eu": eu, "us": us}, home=root / "home")

    @property
    def key_file(self) -> Path:
        """The key, on neither region."""
        return self.root / "key" / "refloat.key"

    @property
    def manifest(self) -> Path:
        """The manifest on the operator's desk."""
        return self.root / "operator" / "refloat.yaml"

    def vault(self, region: str) -> Path:
        """A region's replica of the vault."""
        return self.root / region / "vault"

    def pipeline(self, region: str) -> Path:
        """Where the pipeline lives in a region."""
        return self.root / region / "pydocs"

    def url(self, region: str) -> str:
        """The endpoint's address in a region."""
        return f"http://127.0.0.1:{self.ports[region]}"

    def environment(self) -> dict[str, str]:
        """What a command is given: this Python first on the path, nothing else of the caller's own."""
        kept = {name: os.environ[name] for name in KEPT_FROM_ENVIRONMENT if name in os.environ}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        own = {"PATH": path, "HOME": str(self.home), "REFLOAT_KEY_FILE": str(self.key_file)}
        return {**kept, **own, "PYTHONUNBUFFERED": "1"}

    def write_manifest(self, primary: str = "eu") -> None:
        """The example's own manifest, with this telling's folders and ports in it, and where it runs now."""
        text = (example_folder() / "refloat.yaml").read_text().replace("primary: eu", f"primary: {primary}")
        self.manifest.parent.mkdir(exist_ok=True)
        for region, standing_port in (("eu", "8101"), ("us", "8102")):
            text = text.replace(f"/srv/pydocs/vaults/{region}", str(self.vault(region)))
            text = text.replace(f"/srv/pydocs/{region}", str(self.pipeline(region)))
            text = text.replace(standing_port, str(self.ports[region]))
        self.manifest.write_text(text)

    def refloat(self, *arguments: str, accept: Sequence[int] = (0,)) -> tuple[int, dict[str, Any]]:
        """Run a refloat command as a person would, and read the document it prints."""
        command = [sys.executable, "-m", "refloat", "--json", "--quiet", *arguments]
        ran = subprocess.run(
            command,
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        try:
            document = json.loads(ran.stdout)
        except ValueError:
            document = {
                "error": {"message": ran.stderr.strip()[-2000:] or f"it printed no JSON: {ran.stdout[:200]}"}
            }
        if ran.returncode not in accept:
            what = " ".join(arguments)
            message = document.get("error", {}).get("message") or json.dumps(document)[:2000]
            raise RefloatError(f"`refloat {what}` ended with {ran.returncode}: {message}")
        return ran.returncode, document

    def program(self, *arguments: str, code: Path | None = None) -> None:
        """Run a command of the example pipeline and wait for it."""
        ran = subprocess.run(
            self._program(*arguments),
            cwd=code or example_folder(),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
        if ran.returncode != 0:
            raise RefloatError(
                f"`pydocs_assistant {' '.join(arguments)}` failed: {ran.stderr.strip()[-2000:]}"
            )

    def spawn(self, *arguments: str, code: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command of the example pipeline; it is ended with the story if nothing ended it before."""
        log = (self.root / "client" / f"{arguments[0]}.log").open("ab")
        with log:
            process = subprocess.Popen(
                self._program(*arguments),
                cwd=code or example_folder(),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def _program(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pydocs_assistant", *arguments]

    def wait_ready(self, region: str) -> None:
        """Wait until the endpoint of a region is ready. Raises ``RefloatError`` when it is not in time."""
        end = time.monotonic() + ENDPOINT_SECONDS_MAX
        with httpx.Client(timeout=2) as client:
            while time.monotonic() < end:
                with contextlib.suppress(httpx.HTTPError):  # not listening yet
                    if client.get(self.url(region) + "/ready").status_code == 200:
                        return
                time.sleep(0.05)
        raise RefloatError(f"the endpoint in {region} was not ready within {ENDPOINT_SECONDS_MAX:g} s")

    def ask(self, region: str, question: str) -> None:
        """Ask the endpoint of a region one question. Raises ``RefloatError`` where it does not answer."""
        answer = httpx.post(self.url(region) + "/answer", json={"user": "visitor", "question": question})
        if answer.status_code != 200:
            raise RefloatError(f"the endpoint in {region} answered {answer.status_code}: {answer.text[:200]}")

    def set_aside(self, folder: str) -> None:
        """Keep a copy of a folder of the pipeline in eu."""
        shutil.copytree(self.pipeline("eu") / folder, self.root / "client" / folder)

    def put_back(self, folder: str) -> None:
        """Put the copy where the folder is."""
        shutil.rmtree(self.pipeline("eu") / folder)
        shutil.move(self.root / "client" / folder, self.pipeline("eu") / folder)

    def destroy(self, region: str, endpoint: subprocess.Popen[bytes]) -> None:
        """The disaster: kill the endpoint, delete all of the region, the operator's desk and their home."""
        endpoint.send_signal(signal.SIGKILL)
        endpoint.wait()
        for folder in (self.root / region, self.root / "operator", self.home):
            shutil.rmtree(folder)
        self.home = self.root / "empty_home"
        self.home.mkdir()

    def recovered_process(self) -> int | None:
        """The process that refloat started in us; None where none runs."""
        for file in self.pipeline("us").glob("*.pid.json"):
            return int(json.loads(file.read_text())["pid"])
        return None

    def stop_recovered(self) -> None:
        """End what refloat started in us, whose folder is about to go."""
        process = self.recovered_process()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def end(self) -> None:
        """End every process that the story started and that still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
