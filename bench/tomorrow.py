"""refloat's command line with the clock a day on: by then what ``vault prune`` marked today may go."""

from __future__ import annotations

from datetime import datetime, timedelta

from refloat.__main__ import main
from refloat.cli.system import SystemClock
from refloat.limits import PRUNE_GRACE_S

_today = SystemClock.now


def now(clock: SystemClock) -> datetime:
    """When the grace of everything that is marked by now is over."""
    return _today(clock) + timedelta(seconds=PRUNE_GRACE_S)


if __name__ == "__main__":
    SystemClock.now = now  # type: ignore[method-assign]
    main()
