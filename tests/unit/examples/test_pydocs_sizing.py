"""What the example's points ask of each region, counted, and held against docs/SIZING.md as the small pipeline is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from pydocs_assistant.paths import Region
from pydocs_region import EXAMPLE
from sizing import BYTES_READ, BYTES_WRITTEN, counted, require_told
from small_desk import Desk, seated

HEAD = "| of the example | reads | listings | writes | KiB read | KiB written |"


@pytest.fixture
def desk(
    copied: Region, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """The example in its own region, which nobody serves now, with its manifest and empty vaults."""
    desk = seated(tmp_path, monkeypatch, capsys)
    here = Path(sys.executable).parent  # the command begins with `python`, which is looked up on the path
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")
    text = (EXAMPLE / "refloat.yaml").read_text().replace("/srv/pydocs/eu", str(copied.root))
    desk.manifest.write_text(text.replace("/srv/pydocs", str(tmp_path)))
    desk.ask("vault", "init", "--key", "small.key")
    return desk


@pytest.mark.slow
def test_the_page_says_what_the_example_asks_of_a_region(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as tally:
        rows = {"protect, the first": tally.of(desk, "protect")}
        rows["protect, nothing changed"] = tally.of(desk, "protect")
        brought = tally.of(desk, "recover --into brought")
    require_told(HEAD, rows)
    assert 1 <= brought[BYTES_READ] / rows["protect, the first"][BYTES_WRITTEN] <= 2.5
