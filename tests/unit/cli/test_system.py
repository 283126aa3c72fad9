"""What the command line takes from the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from refloat.cli.system import CAPTURE_NICENESS, give_way, leave_cores

STOPPED_AT_A_START = """
import signal, sys, threading, time
from refloat.cli import main
from refloat.vault.stores.local import LocalStore

start, create, delete = threading.Thread.start, LocalStore.create, LocalStore.delete
created = threading.Event()

def stopped_at_once(thread):
    start(thread)
    if thread.name.startswith("trial") and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGTERM)

def told(store, name, content):
    put = create(store, name, content)
    created.set()
    return put

def slow(store, name):
    time.sleep(0.5)  # whoever does not wait is gone by then
    delete(store, name)

threading.Thread.start, LocalStore.create, LocalStore.delete = stopped_at_once, told, slow
main.let_go = created.wait  # all is said, and something is there to be left
sys.argv[0] = "refloat"
main.main()
"""

GIVES_WAY = """
import os
from refloat.cli.system import SIGNALS, give_way
SIGNALS.watch()
os.nice({before})
give_way()
print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == os.SCHED_BATCH)
"""


def given_way(before: int) -> str:
    script = GIVES_WAY.format(before=before)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_a_capture_of_its_own_lets_what_serves_go_first() -> None:
    niceness = max(
        CAPTURE_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)
    )  # these tests may have one of their own
    assert given_way(0) == f"{niceness} True\n"


def test_one_that_was_told_to_yield_more_goes_on_doing_so() -> None:
    assert given_way(19) == "19 True\n"


def test_a_program_that_imports_refloat_keeps_its_priority() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    give_way()
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)) == before


LEAVES_CORES = """
import os, threading
from refloat.cli.system import SIGNALS, leave_cores

SIGNALS.watch()
end = threading.Event()
before = threading.Thread(target=end.wait)  # as a store's client, which is there before the manifest is known
before.start()
leave_cores()
after = threading.Thread(target=end.wait)
after.start()
print([sorted(os.sched_getaffinity(thread.native_id or 0)) for thread in (threading.main_thread(), before, after)])
end.set()
"""


def test_a_capture_leaves_half_of_the_cores_to_what_serves_in_every_thread() -> None:
    ours = sorted(os.sched_getaffinity(0))
    kept = ours[len(ours) // 2 :]
    assert kept and (len(kept) < len(ours) or len(ours) == 1)
    ran = subprocess.run([sys.executable, "-c", LEAVES_CORES], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{[kept] * 3}\n"


def test_of_one_core_nothing_is_left() -> None:
    first = min(os.sched_getaffinity(0))
    alone = f"import os; os.sched_setaffinity(0, [{first}])\n"
    ran = subprocess.run(
        [sys.executable, "-c", alone + LEAVES_CORES], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{[[first]] * 3}\n"


def test_a_program_that_imports_refloat_keeps_its_cores() -> None:
    before = os.sched_getaffinity(0)
    leave_cores()
    assert os.sched_getaffinity(0) == before


def test_a_thread_that_was_being_started_when_a_signal_came_ends_what_it_is_at(
    tmp_path: Path,
) -> None:  # fault 31
    manifest = tmp_path / "refloat.yaml"
    (tmp_path / "pages").mkdir()
    manifest.write_text(
        f"version: 1\npipeline: small\nprimary: eu\nregions: {{eu: {{vault: {tmp_path}/vault}}}}\n"
        f"components: {{pages: {{kind: files, with: {{path: {tmp_path}/pages}}}}}}\n"
    )
    making = ["-f", str(manifest), "vault", "init", "--key", str(tmp_path / "small.key")]
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED_AT_A_START, *making], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 143, ended
    assert [path.name for path in (tmp_path / "vault").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "small.key").exists()
