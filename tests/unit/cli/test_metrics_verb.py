"""``refloat metrics``: what Prometheus reads, and what each figure says."""

from __future__ import annotations

import json
import stat
from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract_pins import printed, require_pinned
from refloat.cli.system import SystemClock
from refloat.flows.metrics import METRICS, Measured, Sample

Figures = dict[str, dict[tuple[str, ...], float]]


def parsed(text: str) -> Figures:
    """By metric and by the values of its labels but the pipeline, as Prometheus' own parser reads it."""
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, family.documentation) == ("gauge", METRICS[family.name])
        for sample in family.samples:
            assert sample.labels["pipeline"] == "small"
            rest = tuple(value for name, value in sample.labels.items() if name != "pipeline")
            assert rest not in found.setdefault(sample.name, {}), "twice"
            found[sample.name][rest] = sample.value
    return found


def test_prometheus_reads_every_metric(desk) -> None:
    assert parsed(desk.read("metrics")).keys() == METRICS.keys()


def test_the_figures_are_those_of_status_and_of_the_newest_point(desk, monkeypatch) -> None:
    desk.release(2)
    made = desk.ask("protect")
    later = datetime.fromisoformat(made["components"]["pages"]["as_of"]) + timedelta(seconds=50)
    monkeypatch.setattr(SystemClock, "now", lambda self: later)
    found, status = parsed(desk.read("metrics")), desk.ask("status")
    assert found["refloat_component_age_seconds"]["pages", "critical"] == pytest.approx(50, abs=0.001)
    assert found["refloat_component_rpo_objective_seconds"]["ledger", "operational"] == 1800
    assert found["refloat_component_exposure_seconds"]["pages", "eu"] == pytest.approx(50, abs=0.001)
    assert found["refloat_component_exposure_seconds"]["pages", "us"] == 0
    assert [s for (name, s), on in found["refloat_component_state"].items() if name == "pages" and on] == [
        "warn"
    ]
    assert found["refloat_region_reachable"] == {("eu",): 1, ("us",): 1}
    assert found["refloat_region_head"]["us",] == status["regions"]["us"]["head"]["slot"] == 1
    created = datetime.fromisoformat(made["created_at"]).timestamp()
    assert found["refloat_point_timestamp_seconds"][()] == pytest.approx(created, abs=1e-5)
    assert found["refloat_point_grade"] == {("exact",): 1, ("fuzzy",): 0, ("unknown",): 0, ("broken",): 0}
    for name in ("bytes", "new_bytes", "stored_bytes"):
        assert (
            found[f"refloat_point_{name}"][()] == sum(part[name] for part in made["components"].values()) > 0
        )
    seconds = sum(part["seconds"] for part in made["components"].values())
    assert found["refloat_point_capture_seconds"][()] == pytest.approx(seconds, abs=0.001)


def test_a_region_that_does_not_answer_is_0_and_what_is_not_known_is_left_out(desk) -> None:
    desk.vault("us").rename(desk.root / "gone")
    found = parsed(desk.read("metrics"))
    assert found["refloat_region_reachable"] == {("eu",): 1, ("us",): 0}
    assert ("us",) not in found["refloat_region_head"]
    assert ("pages", "eu") not in found["refloat_component_exposure_seconds"]
    assert found["refloat_component_state"]["pages", "unknown"] == 1


def test_before_the_first_point_there_are_objectives_and_no_ages(unprotected) -> None:
    found = parsed(unprotected.read("metrics"))
    assert "refloat_component_age_seconds" not in found and "refloat_point_bytes" not in found
    assert found["refloat_component_state"]["pages", "unprotected"] == 1


def test_the_file_is_written_whole_and_anybody_may_read_it(desk) -> None:
    file = desk.root / "refloat.prom"
    document = printed(desk, "metrics", "--output", str(file))
    assert parsed(file.read_text()).keys() == METRICS.keys()
    assert stat.S_IMODE(file.stat().st_mode) & 0o044, "node_exporter is another user"
    assert [path.name for path in desk.root.iterdir() if "partial" in path.name] == []
    assert document["output"] == str(file)
    assert {one["metric"] for one in document["samples"]} == METRICS.keys()
    require_pinned("metrics", "protected", document)


def test_a_file_that_cannot_be_written_is_told(desk) -> None:
    error = desk.error("metrics", "--output", str(desk.root / "nowhere" / "refloat.prom"), exits=1)
    assert error["file"] == str(desk.root / "nowhere" / "refloat.prom")


def test_the_old_file_stays_where_no_vault_answers(desk) -> None:
    file = desk.root / "refloat.prom"
    file.write_text("old\n")
    for region in ("eu", "us"):
        desk.vault(region).rename(desk.root / f"gone-{region}")
    desk.ask("metrics", "--output", str(file), exits=4)
    assert file.read_text() == "old\n", "its age tells"


def test_a_label_may_hold_anything() -> None:
    odd = 'a "quoted"\\ one\nin two lines'
    text = Measured("small", [Sample("refloat_build_info", 1, {"version": odd})]).text()
    assert parsed(text) == {"refloat_build_info": {(odd,): 1}}


def test_a_large_figure_keeps_its_digits() -> None:
    text = Measured("small", [Sample("refloat_point_bytes", 123_456_789_012_345, {})]).text()
    assert parsed(text) == {"refloat_point_bytes": {(): 123_456_789_012_345}}
    assert json.loads(json.dumps(Measured("small", []).document())) == {"pipeline": "small", "samples": []}


def test_a_newest_point_that_nothing_is_known_to_compare_with_is_counted(verified) -> None:
    assert parsed(verified.read("metrics"))["refloat_point_verifiable"] == {(): 1}
    verified.release(2)
    verified.ask("protect")
    assert verified.ask("status", exits=1)["newest"]["unverifiable"]
    assert parsed(verified.read("metrics"))["refloat_point_verifiable"] == {(): 0}
