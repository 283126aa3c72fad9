"""Two writers, and two orchestrators, at once: real processes, and one of them stopped while the other takes over.

``# fault 15`` and ``# fault 24`` of the fault matrix.
"""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from placed import Place

pytestmark = pytest.mark.slow

SECONDS_MAX = 50.0  # only what never ends takes as long
ROUNDS = 2
STOP_AFTER = 12  # entries of the journal: in the course of its steps


@pytest.fixture
def living(operator_of, tmp_path):
    """A pipeline that lives, and of which there is a point."""
    operator = operator_of(tmp_path)
    operator.here("vault", "init", "--key", str(operator.key))
    operator.here("protect")
    yield operator
    operator.end()


def ended(process) -> tuple[int, dict]:
    out, err = process.communicate(timeout=SECONDS_MAX)
    assert out, err
    return process.returncode, json.loads(out)


def test_two_writers_at_once_and_both_points_land_in_both_regions(living) -> None:  # fault 15
    for round in range(ROUNDS):
        living.release(2 + round, pages=10)
        pair = [living.start("-f", str(living.manifest), "protect") for _ in range(2)]
        made = [ended(process) for process in pair]
        assert [code for code, _ in made] == [0, 0], made
        names = {document["point"] for _, document in made}
        listed = living.here("points", "list")["points"]
        complete = [entry["point"] for entry in listed if entry["regions"] == ["eu", "us"]]
        assert names == set(complete[:2])
        assert len(complete) == len(listed) == 3 + 2 * round
    assert living.here("vault", "check", "--read-data")["ok"]


def test_a_timer_that_comes_while_a_protect_is_at_work_finds_it_and_leaves_it_alone(living) -> None:
    living.release(9, pages=10)
    always = living.manifest.read_text().replace(
        "tier: critical", "tier: critical\n    protect: {every: 1ms}"
    )
    living.manifest.write_text(always)
    pausing = Place(signal.SIGSTOP, of="^os.link .*/us/vault/points/")
    first = living.stopped("-f", str(living.manifest), "protect", "--due", place=pausing)
    second = living.here("protect", "--due")
    assert second["at_work"] and second["protect"] is None
    first.send_signal(signal.SIGCONT)
    code, made = ended(first)
    assert code == 0
    assert living.here("points", "list")["points"][0]["point"] == made["protect"]["point"]
    killed = living.stopped("-f", str(living.manifest), "protect", "--due", place=pausing)
    killed.kill()
    killed.communicate()
    assert not living.here("protect", "--due")["at_work"], "what is dead holds nobody up"


@pytest.fixture(scope="module")
def lost(operator):
    """Another, of which one region is left."""
    operator.here("protect")
    operator.before = operator.live("eu")
    operator.lose("eu")
    shutil.copytree(operator.root / "us", operator.root / "us-as-it-was")
    return operator


def put_back(lost) -> tuple[str, ...]:
    shutil.rmtree(lost.root / "us")
    shutil.copytree(lost.root / "us-as-it-was", lost.root / "us")
    return ("--vault", lost.vault("us"), "--to", "us")


PAUSES = {
    "before it claims": Place(signal.SIGSTOP, of="^os.link .*/log/targets/us/"),
    "when it has claimed": Place(signal.SIGSTOP, of="^os.link .*/log/runs/"),
    "amid its steps": Place(signal.SIGSTOP, of="^os.link .*/log/runs/", nth=STOP_AFTER),
}


@pytest.mark.parametrize("pause", PAUSES)
def test_of_two_recoveries_into_one_region_one_wins_and_the_other_touches_nothing(
    lost, pause: str
) -> None:  # fault 24
    where = put_back(lost)
    first = lost.stopped("recover", *where, place=PAUSES[pause])
    other = ended(lost.start("recover", *where))
    first.send_signal(signal.SIGCONT)
    pair = [ended(first), other]
    if pause == "before it claims":
        pair.reverse()
    (won, document), (lost_it, refused) = pair
    assert (won, lost_it) == (0, 3), pair
    assert refused["error"]["rule"] in ("target_claimed", "target_foreign")
    assert document["state"] == "done"
    runs = lost.refloat("run", "list", *where)["runs"]
    assert [run["run"] for run in runs if run["state"] == "done"] == [document["run"]]
    assert lost.live("us") == lost.before


def test_an_orchestrator_that_wakes_up_after_it_was_succeeded_stops_and_touches_nothing(
    lost,
) -> None:  # faults 24, 25, 26
    where = put_back(lost)
    sleeper = lost.stopped("recover", *where, place=PAUSES["amid its steps"])
    (run,) = (entry["run"] for entry in lost.refloat("run", "list", *where)["runs"])
    held = lost.refloat("recover", *where, "--resume", run, exits=3)
    assert held["error"]["rule"] == "target_claimed"
    done = lost.refloat("recover", *where, "--resume", run, "--override", "target_claimed")
    assert (done["run"], done["state"], done["overrides"]) == (run, "done", ["target_claimed"])
    journal, live = lost.entries(), lost.live("us")
    assert live == lost.before
    sleeper.send_signal(signal.SIGCONT)
    code, document = ended(sleeper)
    assert (code, document["error"]["code"]) == (1, "hold_lost")
    assert lost.entries() == journal, "it wrote an entry after its successor's last"
    assert lost.live("us") == live
    assert lost.refloat("run", "show", run, *where)["state"] == "done"
