"""Where everything of a region lies, and how files get there whole."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Region:
    """The folders and files below one root. ``root`` is absolute."""

    root: Path

    @classmethod
    def at(cls, root: Path) -> Region:
        """The region whose root is ``root``, relative to the current folder where it is not absolute."""
        return cls(root.absolute())

    @property
    def app(self) -> Path:
        """The code and the settings that the endpoint runs with."""
        return self.root / "app"

    @property
    def data_set(self) -> Path:
        """The versioned data set of passages, with the file that names its current version."""
        return self.root / "data"

    @property
    def features_offline(self) -> Path:
        """Every version of the features, for training."""
        return self.root / "features" / "offline"

    @property
    def features_online(self) -> Path:
        """The newest features of each passage, for answering."""
        return self.root / "features" / "online.db"

    @property
    def artifacts(self) -> Path:
        """Where the model registry keeps the models' files."""
        return self.root / "mlflow" / "artifacts"

    @property
    def database(self) -> Path:
        """The database of the experiment tracker and model registry."""
        return self.root / "mlflow" / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        """The address of that database."""
        return f"sqlite:///{self.database}"

    @property
    def index(self) -> Path:
        """The vector index."""
        return self.root / "index"

    @property
    def prompts(self) -> Path:
        """The prompt templates and the file that names the active one."""
        return self.root / "prompts"

    @property
    def flags(self) -> Path:
        """The feature flags and the experiment."""
        return self.root / "flags" / "flags.json"

    @property
    def state(self) -> Path:
        """The record of which steps of the build are done."""
        return self.root / "state" / "state.db"

    @property
    def predictions(self) -> Path:
        """The log of every question and its answer."""
        return self.root / "predictions" / "answers.jsonl"

    @property
    def golden(self) -> Path:
        """Questions with the answers that are expected."""
        return self.root / "golden" / "answers.jsonl"


def now() -> str:
    """This moment as RFC 3339 in UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, then rename it there, so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def write_json(path: Path, document: object) -> None:
    """Write ``document`` as JSON that a person can read, whole or not at all."""
    write_whole(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """``sha256:`` and the SHA-256 of what ``sha256sum`` prints for a folder's files, sorted by path.

    It names a model by its bytes: the index records it, and the endpoint compares.
    """
    files = sorted(
        (file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file()
    )
    listing = "".join(f"{file_digest(file)}  {name}\n" for name, file in files)
    return "sha256:" + hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()
