"""A region whose bucket is gone for good, in the user's words over a real S3 server."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_region_whose_bucket_is_gone_gets_another_and_the_pipeline_comes_back_from_it(
    desk: Any, seaweedfs: Any, use: Any
) -> None:
    use(seaweedfs.environment())
    desk.write_manifest(us=seaweedfs.place())
    desk.release(1)
    desk.ask("vault", "init", "--key", "small.key")
    first = desk.ask("protect")["point"]

    desk.write_manifest(us=seaweedfs.place("refloat-other"))
    desk.release(2)
    second = desk.ask("protect", exits=1)
    assert "refloat vault add-region us" in second["regions"]["us"]["error"]
    done = desk.ask("vault", "add-region", "us")
    assert done["points"]["us"]["committed"] == [first, second["point"]]
    assert desk.ask("vault", "add-region", "us")["copied"][0]["objects"] == 0

    desk.said = ""
    assert desk.ask("protect")["regions"]["us"]["complete"]
    assert desk.ask("vault", "check", "--read-data")["ok"]
    desk.ask("status")
    assert "rolled back" not in desk.said and "is gone" not in desk.said
    live = desk.live("eu")
    shutil.rmtree(desk.folder / "eu")
    desk.ask("recover", "--to", "us")
    assert desk.live("us") == live
