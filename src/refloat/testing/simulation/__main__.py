"""``python -m refloat.testing.simulation --seed 81``: tell one seed step by step; ``--seeds 10000`` plays many."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from refloat.testing.simulation.oracle import Broken
from refloat.testing.simulation.seeds import simulate


def main(arguments: Sequence[str]) -> int:
    """Play the seeds that are asked for; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=1, help="the first seed, told step by step if it is the only one"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="how many, one after the other")
    asked = parser.parse_args(arguments)
    broken = 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        try:
            story = simulate(seed)
        except Broken as error:
            _say(str(error))
            broken += 1
        else:
            if asked.seeds == 1:
                _say("\n".join(story.lines))
                _say(
                    f"seed {seed}: {story.operations} operations, {len(story.lines)} lines, trace {story.trace}"
                )
    if asked.seeds > 1:
        _say(f"{asked.seeds - broken} of {asked.seeds} seeds kept every promise")
    return 1 if broken else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
