"""``refloat verify``: measuring how the pipeline answers, and holding it against the baseline."""

from __future__ import annotations

import shutil

CHECKS = ["accuracy", "exact_match", "errors"]


def test_what_is_measured_is_kept_in_every_region(verified) -> None:
    document = verified.ask("verify", "--save-baseline")
    assert document.keys() == {"baseline", "regions"}
    assert document["regions"] == {"eu": None, "us": None}
    measured = document["baseline"]["components"]["pages"]["metrics"]
    assert measured["accuracy"]["value"] == 1
    assert measured["latency_p95"]["value"] > 0
    assert measured["throughput"]["unit"] == "1/s"


def test_unchanged_behaviour_passes(verified) -> None:
    document = verified.ask("verify")
    assert document.keys() == {"verified", "checks"}
    assert document["verified"] is True
    assert [(check["name"], check["verdict"]) for check in document["checks"]] == [
        (name, "pass") for name in CHECKS
    ]


def test_other_answers_fail_and_exit_1(verified, endpoint) -> None:
    endpoint.topic_of = str.lower
    document = verified.ask("verify", exits=1)
    assert document["verified"] is False
    verdicts = {check["name"]: check["verdict"] for check in document["checks"]}
    assert verdicts == {"accuracy": "fail", "exact_match": "fail", "errors": "pass"}


def test_an_endpoint_that_is_gone_fails_and_exits_1(verified, endpoint) -> None:
    endpoint.shutdown()
    endpoint.socket.close()
    document = verified.ask("verify", exits=1)
    assert document["verified"] is False
    assert {check["reason"] for check in document["checks"]} == {"no question was answered"}


def test_another_identity_has_no_baseline_and_is_unknown(verified) -> None:
    verified.release(2)
    document = verified.ask("verify", exits=1)
    assert document["verified"] is None
    unknown = [check for check in document["checks"] if check["verdict"] == "unknown"]
    assert {check["name"] for check in unknown} == {"accuracy", "exact_match"}
    assert "no baseline was measured for this identity" in unknown[0]["reason"]


def test_a_region_that_does_not_keep_the_baseline_is_told(verified) -> None:
    shutil.rmtree(verified.vault("us"))
    document = verified.ask("verify", "--save-baseline", exits=1)
    assert document["regions"]["eu"] is None


def test_a_manifest_that_asks_for_none_exits_2(desk) -> None:
    assert "verify:" in desk.error("verify", exits=2)["next"]


def test_a_golden_set_that_is_gone_exits_2_and_is_named(verified) -> None:
    (verified.root / "golden.jsonl").unlink()
    error = verified.error("verify", exits=2)
    assert error["code"] == "manifest"
    assert error["file"].endswith("golden.jsonl")
    assert "`golden` of verify.pages" in error["next"]


def test_people_read_before_and_now(verified) -> None:
    out = verified.read("verify")
    assert "baseline" in out and "now" in out and "pass" in out
