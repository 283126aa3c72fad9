"""The whole small world played from one seed, and judged after every step: see ``seeds`` and ``oracle``."""

from refloat.testing.simulation.oracle import Broken
from refloat.testing.simulation.seeds import Story, simulate
from refloat.testing.simulation.world import SimulatedWorld

__all__ = ["Broken", "SimulatedWorld", "Story", "simulate"]
