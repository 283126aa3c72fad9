"""Where an operator works: a small pipeline of two regions, and the commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refloat.cli.main import run


@dataclass
class Desk:
    """The operator's folder; what the commands said is kept, to be searched for secrets."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    said: str = ""

    def write_manifest(self, **places: str) -> None:
        """Say where the regions' vaults are: in folders here, but where ``places`` names another address."""
        vaults = {region: f"{self.folder}/{region}-vault" for region in ("eu", "us")} | places
        (self.folder / "refloat.yaml").write_text(
            "version: 1\npipeline: small\nprimary: eu\nregions:\n"
            + "".join(f"  {region}: {{vault: '{place}'}}\n" for region, place in vaults.items())
            + f"components:\n  pages: {{kind: files, with: {{path: '{self.folder}/${{region}}/pages'}}}}\n"
        )

    def release(self, version: int) -> None:
        """Write another page."""
        pages = self.folder / "eu" / "pages"
        pages.mkdir(parents=True, exist_ok=True)
        (pages / f"{version}.txt").write_text(f"release {version}\n" * 500)

    def live(self, region: str) -> dict[str, str]:
        """The pages of a region."""
        return {path.name: path.read_text() for path in (self.folder / region / "pages").iterdir()}

    def lose_pipeline(self) -> None:
        """Nothing is left of it but its vaults."""
        shutil.rmtree(self.folder / "eu")
        (self.folder / "refloat.yaml").unlink()

    def ask(self, *arguments: str, exits: int = 0) -> Any:
        """What a command answers; it must end with the exit code given."""
        code = run(["--json", "--debug", *arguments])
        out, err = self.capture.readouterr()
        self.said += out + err
        assert code == exits, (out, err)
        return json.loads(out)

    def complete(self) -> list[list[str]]:
        """Where each point is complete, newest first."""
        return [point["regions"] for point in self.ask("points", "list")["points"]]
