"""The model registry: which model is the champion, where its files lie, and what their digest is.

MLflow takes more than a second to load. Only what trains loads it; the endpoint asks for the champions
in a process of its own (``ask_for_champions``), beside loading everything else.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydocs_assistant.paths import Region, folder_digest
from pydocs_assistant.refusals import NoChampionError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
EXPERIMENT = "pydocs_assistant"
MODELS = ("embedder", "classifier")
MODEL_FILE = "model.skops"


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a model. ``digest`` is that of its artifact folder, ``tags`` are the registry's."""

    name: str
    version: str
    folder: Path
    digest: str
    tags: dict[str, str]


Champions = dict[str, Registered]
"""The champion of each model, by the model's name."""


def create(region: Region) -> str:
    """Make the registry's database and an experiment whose artifacts stay in the region; return its id."""
    _quiet()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    region.artifacts.mkdir(parents=True, exist_ok=True)
    SqlAlchemyStore(
        region.tracking_uri, str(region.artifacts)
    )  # or the default experiment would lie elsewhere
    return str(client_of(region).create_experiment(EXPERIMENT, artifact_location=str(region.artifacts)))


def client_of(region: Region) -> MlflowClient:
    """A client of the region's registry."""
    _quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=region.tracking_uri, registry_uri=region.tracking_uri)


def champion(client: MlflowClient, name: str) -> Registered:
    """The champion of the model ``name``. Raises ``NoChampionError``."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(name, CHAMPION).version
    except MlflowException as error:
        raise NoChampionError(f"the registry names no champion of {name}: {error}") from error
    return registered(client, name, str(version))


def registered(client: MlflowClient, name: str, version: str) -> Registered:
    """One version of a model with its files. Raises ``NoChampionError`` when the files are gone."""
    found = client.get_model_version(name, version)
    folder = Path(client.get_model_version_download_uri(name, version).removeprefix("file://"))
    if not (folder / MODEL_FILE).is_file():
        raise NoChampionError(f"version {version} of {name} has no files at {folder}")
    return Registered(name, version, folder, folder_digest(folder), dict(found.tags))


def print_champions(root: Path) -> int:
    """Print the champions of a region as JSON; return the exit code, 1 where there is one missing."""
    region = Region.at(root)
    try:
        if not region.database.is_file():
            raise NoChampionError(f"there is no registry at {region.database}")
        client = client_of(region)
        found = {name: asdict(champion(client, name)) for name in MODELS}
    except NoChampionError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found, default=str))
    return 0


def ask_for_champions(region: Region) -> Callable[[], Champions]:
    """Begin to ask for the champions, in another process; call what is returned for the answer.

    The call raises ``NoChampionError``.
    """
    asking = subprocess.Popen(
        [sys.executable, "-m", "pydocs_assistant", "champions", "--root", region.root],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def answer() -> Champions:
        printed, complaint = asking.communicate()
        if asking.returncode != 0:
            lines = complaint.strip().splitlines() or ["it said nothing"]
            raise NoChampionError(lines[-1])
        return {name: _as_registered(found) for name, found in json.loads(printed).items()}

    return answer


def load_model(version: Registered) -> Any:
    """The model itself, read from its file: by skops, which runs no code that it does not know.

    MLflow adds a file to the folder of a model that it loads by name, which would change the digest.
    """
    import skops.io

    return skops.io.load(version.folder / MODEL_FILE, trusted=[])


def _as_registered(found: dict[str, Any]) -> Registered:
    return Registered(**found | {"folder": Path(found["folder"])})


def _quiet() -> None:
    """Keep the libraries' progress to themselves; what they warn of is done here on purpose."""
    import mlflow  # noqa: F401 - it sets its own level while it is imported

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
