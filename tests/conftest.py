"""What holds for every test: a machine that is slow for a moment is no defect, so no example has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("refloat", parent=settings(), deadline=None, print_blob=True)
settings.load_profile("refloat")
