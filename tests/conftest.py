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
    "scenarios/test_killed_at_random.py",
    "scenarios/test_demo_story.py",
    "unit/flows/test_cut_anywhere.py",
    "unit/examples/test_pydocs_endpoint.py",
    "services/test_object_lock.py",
    "scenarios/test_disks.py",
    "unit/flows/test_vault_heals.py",
    "unit/run/test_killed_at_every_step.py",
    "services/test_stores.py",
    "unit/connectors/test_process.py",
    "unit/cli/test_sick_region.py",
    "services/test_sick_bucket.py",
    "scenarios/test_signals.py",
    "unit/cli/test_recover_verb.py",
    "sim/test_power_loss.py",
    "unit/connectors/test_mlflow.py",
    "unit/cli/test_bad_input.py",
    "unit/connectors/test_lancedb.py",
    "unit/point/test_evaluate.py",
    "scenarios/test_two_at_once.py",
    "unit/cli/test_vault_init_again.py",
    "scenarios/test_ten_minutes_of_a_newcomer.py",
    "services/test_toxic_store.py",
    "unit/cli/test_contract.py",
    "unit/test_api.py",
    "services/test_s3_end_to_end.py",
    "unit/cli/test_scenarios_page.py",
    "unit/cli/test_bad_vaults.py",
    "scenarios/test_signals_at_work.py",
    "scenarios/test_killed_recovery.py",
    "format/test_golden.py",
    "scenarios/test_killed_protect.py",
    "unit/run/test_engine.py",
    "scenarios/test_unreadable_files.py",
    "services/test_first_week.py",
    "unit/examples/test_pydocs_texts.py",
    "unit/flows/test_forged_trees.py",
    "services/test_store_of_a_region.py",
    "services/test_azure_and_gcs.py",
    "unit/connectors/test_beside.py",
    "unit/cli/test_every_region_sick.py",
    "unit/flows/test_bisect_cut.py",
    "unit/vault/test_hostile.py",
    "scenarios/test_going_on.py",
    "unit/cli/test_vault_regions.py",
    "scenarios/test_bytes_only.py",
    "unit/flows/test_foreign_objects.py",
    "unit/flows/test_bisect.py",
    "unit/bench/test_bench_recovery.py",
    "scenarios/test_truncated.py",
    "unit/cli/test_alerts.py",
    "unit/evidence/test_assemble.py",
    "unit/vault/test_damage.py",
    "unit/cli/test_newer_elsewhere.py",
    "unit/vault/test_bit_flips.py",
    "unit/cli/test_main.py",
    "unit/flows/test_forget.py",
    "unit/cli/test_completion.py",
    "unit/vault/test_holders.py",
    "unit/cli/test_verify_verb.py",
    "unit/flows/test_rotten_packs.py",
    "unit/vault/test_replica.py",
    "scenarios/test_kit_in_shares.py",
    "unit/cli/test_protect_verb.py",
    "sim/test_state_machine.py",
    "scenarios/test_ransomware.py",
    "unit/test_fuzz_limits.py",
    "scenarios/test_components_at_fault.py",
    "unit/vault/test_local_store.py",
    "services/test_credentials.py",
    "unit/flows/test_partial_recovery.py",
    "scenarios/test_long_work.py",
    "unit/vault/test_prune.py",
    "unit/cli/test_contract_of_looking.py",
    "unit/cli/test_points_bisect.py",
    "unit/vault/test_prune_index.py",
    "unit/flows/test_recover_flow.py",
    "unit/flows/test_unknown_points.py",
    "unit/cli/test_recover_options.py",
    "format/test_keys_of_others.py",
    "unit/vault/test_bases.py",
    "unit/vault/test_writer.py",
    "unit/flows/test_where_it_runs.py",
    "unit/cli/test_closed_streams.py",
    "unit/cli/test_check_verify.py",
    "unit/vault/test_indexfile.py",
    "unit/cli/test_evidence_verb.py",
    "unit/cli/test_vault_keys.py",
)
"""Files of two seconds of processor time and more: one that came last would keep one worker busy and the others
waiting. ``--quick`` leaves them out."""

SLOW_S = 300
STUCK_S = 600  # what trains models or starts servers for a whole session counts here, not as its first test's

_PLACES = {TESTS / name: place for place, name in enumerate(LONGEST_FIRST)}
assert all(path.is_file() for path in _PLACES), "a file has another name now"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for disks, servers and processes of their own a good deal."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--all-tried`` is for machines that have all that a test may need, ``--quick`` for people who wait."""
    parser.addoption("--all-tried", action="store_true", help="fail where any test was skipped")
    parser.addoption("--quick", action="store_true", help="leave out the files that take longest")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--quick`` a file that takes long is not even read."""
    return True if config.getoption("--quick") and collection_path in _PLACES else None


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
    """Whether a signature is one, what key a passphrase stands for, what a manifest's YAML says: pure and dear.

    Many tests ask the same. Each input is asked once in a process, which keeps nothing else of it.
    """
    from refloat.manifest import document, parse
    from refloat.vault import keyfile, keys, kit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "is_signed", functools.cache(keys.is_signed))
        patch.setattr(parse, "read_document", functools.cache(document.read_document))
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
