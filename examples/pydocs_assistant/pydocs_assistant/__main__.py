"""The command line of the assistant: build, serve, ask, rebuild-index."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def _quiet_libraries() -> None:
    """One thread for linear algebra, so that answers take even times; nothing is reported to anyone."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("LANCEDB_LOG", "error")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pydocs_assistant", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_build(verbs.add_parser("build", help="make everything of a region, or go on where a build ended"))
    _add_serve(verbs.add_parser("serve", help="answer questions over HTTP"))
    _add_ask(verbs.add_parser("ask", help="ask questions at a steady rate and keep a ledger of the answers"))
    _add_root(verbs.add_parser("champions", help="print the champions of the model registry as JSON"))
    _add_rebuild(
        verbs.add_parser("rebuild-index", help="build the index again, by the champion or another embedder")
    )
    return parser


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, required=True, help="the folder that holds the whole region")


def _add_build(parser: argparse.ArgumentParser) -> None:
    _add_root(parser)
    parser.add_argument("--dimension", type=int, default=96, help="length of the vectors")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_root(parser)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--fence-file", type=Path, help="while it exists, users are refused (ROOT/FENCE)")


def _add_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", required=True, help="address of the endpoint, for example http://127.0.0.1:8101"
    )
    parser.add_argument("--ledger", type=Path, required=True, help="JSON Lines file of what was answered")
    parser.add_argument("--rate", type=float, default=20.0, help="questions a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to ask")


def _add_rebuild(parser: argparse.ArgumentParser) -> None:
    _add_root(parser)
    parser.add_argument(
        "--dimension", type=int, help="length of another embedder's vectors; else by the champion"
    )


def _run(arguments: argparse.Namespace) -> int:
    """Run one verb; its libraries are imported only now, because some of them load slowly."""
    if arguments.verb == "ask":
        from pydocs_assistant.client import ask

        return ask(arguments.url, arguments.ledger, rate=arguments.rate, seconds=arguments.seconds)
    if arguments.verb == "serve":
        from pydocs_assistant.serve import serve

        fence = arguments.fence_file or arguments.root / "FENCE"
        return serve(arguments.root, host=arguments.host, port=arguments.port, fence=fence)
    if arguments.verb == "champions":
        from pydocs_assistant.registry import print_champions

        return print_champions(arguments.root)
    from pydocs_assistant.build import build, rebuild_index

    if arguments.verb == "build":
        return build(arguments.root, dimension=arguments.dimension)
    return rebuild_index(arguments.root, dimension=arguments.dimension)


def main() -> int:
    """Run the command line and return the exit code."""
    _quiet_libraries()
    return _run(_parser().parse_args())


if __name__ == "__main__":
    sys.exit(main())
