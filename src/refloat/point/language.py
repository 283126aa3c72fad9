"""CEL, the language of invariants (https://github.com/google/cel-spec), without the command line of its package.

That command line takes five sixths of the time that the package takes to import, and nobody here calls it.
"""

from __future__ import annotations

from refloat.stand_in import stand_ins

__all__ = ["Context", "compile", "evaluate"]

with stand_ins({"cel.cli": ()}):
    from cel import Context, compile, evaluate
