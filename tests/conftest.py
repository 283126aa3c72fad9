"""What holds for every test: a slow machine is no defect, so no example has a deadline; the longest files go first.

A limit of time only ends what hangs: a minute for a test, five where it is marked ``slow``, and no less than
``STUCK_S`` more for its fixtures or where Python itself cannot be interrupted. The stacks of all threads are printed.
"""

from __future__ import annotations

import faulthandler
import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

EXAMPLES = int(os.environ.get("REFLOAT_EXAMPLES", "50"))  # of a property whose test says no number of its own
settings.register_profile("refloat", parent=settings(), max_examples=EXAMPLES, deadline=None, print_blob=True)
settings.load_profile("refloat")

TESTS = Path(__file__).parent
LONGEST_FIRST = (
    "sim/test_simulation.py",
    "scenarios/test_demo_story.py",
    "unit/flows/test_cut_anywhere.py",
    "services/test_object_lock.py",
    "scenarios/test_killed_at_random.py",
    "scenarios/test_signals_at_work.py",
    "scenarios/test_unreadable_files.py",
    "scenarios/test_ten_minutes_of_a_newcomer.py",
    "services/test_toxic_store.py",
    "scenarios/test_disks.py",
    "unit/examples/test_pydocs_endpoint.py",
    "unit/cli/test_bad_vaults.py",
    "unit/run/test_killed_at_every_step.py",
    "unit/connectors/test_beside.py",
    "services/test_stores.py",
    "unit/flows/test_forget.py",
    "scenarios/test_secrets.py",
    "unit/cli/test_contract.py",
    "unit/connectors/test_mlflow.py",
    "unit/connectors/test_lancedb.py",
    "unit/examples/test_pydocs_texts.py",
    "unit/cli/test_bad_input.py",
    "unit/vault/test_replica.py",
    "unit/run/test_engine.py",
    "unit/connectors/test_process.py",
    "sim/test_power_loss.py",
    "scenarios/test_bytes_only.py",
    "services/test_s3_end_to_end.py",
)
"""Files of half a minute and more: one that came last would keep one worker busy and the others waiting."""

SLOW_S = 300
STUCK_S = 600  # what trains models or starts servers for a whole session counts here, not as its first test's

_PLACES = {TESTS / name: place for place, name in enumerate(LONGEST_FIRST)}
assert all(path.is_file() for path in _PLACES), "a file has another name now"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for disks, servers and processes of their own a good deal."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--all-tried`` is for machines that are known to have all that a test may need."""
    parser.addoption("--all-tried", action="store_true", help="fail where any test was skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error, for what is said when nothing else can be."""
    config.stash[_STDERR] = os.dup(2)


_STDERR = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by file; within a file the order stays. ``--no-loadscope-reorder`` lets the workers keep to it."""
    items.sort(key=lambda item: _PLACES.get(item.path, len(_PLACES)))
    for item in items if _is_limited(config) else ():
        if item.get_closest_marker("slow") and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SLOW_S))


def _is_limited(config: pytest.Config) -> bool:
    """Whether a test may not take as long as it likes: in a soak, with ``--timeout 0``, it may."""
    return bool(config.getoption("timeout") != 0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process, with all stacks, where neither the test nor its fixtures can be interrupted."""
    if _is_limited(item.config):
        marker = item.get_closest_marker("timeout")
        own_s = float(marker.args[0]) if marker else SLOW_S
        faulthandler.dump_traceback_later(own_s + STUCK_S, exit=True, file=item.config.stash[_STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ``--all-tried`` a run in which something was skipped is not green."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--all-tried") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped stands at the end once more, by reason: green is not all that there is to try."""
    skipped = terminalreporter.stats.get("skipped", [])
    counted = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)
    for reason, count in counted.most_common():
        terminalreporter.write_line(f"{count} skipped, {reason}", yellow=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def _asked_once() -> Iterator[None]:
    """Whether a signature is one, and what key a passphrase stands for: pure and dear, and many tests ask the same.

    Both for each input once in a process, which keeps nothing else of it.
    """
    from refloat.vault import keyfile, keys, kit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "is_signed", functools.cache(keys.is_signed))
        key_of = functools.cache(keyfile.passphrase_key)
        for room in (keyfile, kit):
            patch.setattr(room, "passphrase_key", key_of)
        yield


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pure and dear is done once for each input: for tests that do the same a hundred times."""
    from refloat.testing import world
    from refloat.testing.remembered import remembered

    monkeypatch.setattr(world, "parse", functools.cache(world.parse))
    for where, name, stand_in in remembered():
        monkeypatch.setattr(where, name, stand_in)
