"""A pipeline whose points are tried in a sandbox."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one

from trial_bench import Answering, Bench, Endpoint, made


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with Endpoint(("127.0.0.1", 0), Answering) as server:
        server.pages, server.poisoned, server.versions = tmp_path / "bench" / "pages", 99, []
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture
def bench(tmp_path: Path, endpoint: Endpoint) -> Bench:
    return made(tmp_path, endpoint)
