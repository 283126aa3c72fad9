"""The process of the endpoint: load everything, refuse what does not fit together, serve."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydocs_assistant.paths import Region
from pydocs_assistant.refusals import RefusalError
from pydocs_assistant.registry import ask_for_champions

if TYPE_CHECKING:
    from fastapi import FastAPI

EXIT_REFUSED = 3


def serve(root: Path, *, host: str, port: int, fence: Path) -> int:
    """Serve until told to stop; return the exit code, 3 where the parts do not fit together."""
    try:
        app = _load(Region.at(root), fence.absolute())
    except (RefusalError, OSError, ValueError, sqlite3.Error) as error:
        print(f"refusing to start: {error}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
    import uvicorn

    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
    return 0


def _load(region: Region, fence: Path) -> FastAPI:
    """The application, with everything loaded: the heavy libraries while the registry is being asked."""
    champions = ask_for_champions(region)
    from pydocs_assistant import answering
    from pydocs_assistant.endpoint import Fence, application
    from pydocs_assistant.predictions import PredictionLog

    assistant = answering.load(region, champions())
    assistant.answer("What is a warm-up?", user="", count=1)
    return application(assistant, PredictionLog(region.predictions), Fence(fence))
