"""Recover a whole AI pipeline, together, in another region, and prove that it answers as well as before.

What is in ``__all__`` is loaded when it is first asked for, so that ``import refloat`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Manifest", "Vault", "accept", "protect", "recover", "verify"]

if TYPE_CHECKING:
    __version__: str
    from refloat.api import Manifest as Manifest
    from refloat.api import Vault as Vault
    from refloat.api import accept as accept
    from refloat.api import protect as protect
    from refloat.api import recover as recover
    from refloat.api import verify as verify
else:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from refloat.registry import refloat_version

            return refloat_version()
        if name not in __all__:
            raise AttributeError(f"module 'refloat' has no attribute {name!r}")
        from refloat import api

        return getattr(api, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
