"""``refloat verify``: measuring how the pipeline answers, and holding it against the baseline."""

from __future__ import annotations

import shutil

from small_desk import GROUP, VERIFY, make_slow

CHECKS = ["accuracy", "exact_match", "errors"]


def test_what_is_measured_is_kept_in_every_region(verified) -> None:
    document = verified.ask("verify", "--save-baseline")
    assert document.keys() == {"baseline", "regions", "unverifiable"}
    assert document["unverifiable"] == {}
    assert document["regions"] == {"eu": None, "us": None}
    assert document["baseline"]["identities"]["pages"].keys() == {"pages", "ledger"}, (
        "and what is grouped with it"
    )
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
    assert "pages, ledger changed since the baseline of" in unknown[0]["reason"]
    assert unknown[0]["baseline"] == 1, "the near one is shown"


def test_what_the_answers_do_not_depend_on_does_not_count(verified) -> None:
    """The log is neither needed by the pages nor grouped with them: another log, and nothing to measure anew."""
    (verified.root / "eu" / "answers.jsonl").write_text('{"id": "first", "time": "2026-11-02T00:00:00Z"}\n')
    assert verified.ask("verify")["verified"] is True
    verified.ask("protect")
    assert verified.ask("plan", "--to", "us")["unverifiable"] == {}


def test_a_bound_on_speed_is_held_against_a_near_baseline_and_says_so(verified, endpoint) -> None:
    verified.write_manifest(
        GROUP, VERIFY.replace("errors:", "latency_p50: {{at_most: 500x}}, errors:"), url=endpoint.url
    )
    verified.ask("verify", "--save-baseline")
    verified.release(2)
    checks = {check["name"]: check for check in verified.ask("verify", exits=1)["checks"]}
    assert checks["latency_p50"]["verdict"] == "pass"
    assert "beside a near baseline: pages, ledger changed since" in checks["latency_p50"]["reason"]
    assert "pages latency_p50: beside a near baseline" in verified.said


def test_absolute_bounds_and_golden_answers_verify_without_any_baseline(
    unprotected, verified, endpoint
) -> None:
    bounds = (
        "bounds: {{accuracy: {{at_least: 0.9}}, latency_p95: {{at_most: 20s}}, errors: {{at_most: 0.5}}}}"
    )
    absolute = VERIFY.replace(VERIFY[VERIFY.index("bounds:") : VERIFY.index("\n    concurrency")], bounds)
    shutil.rmtree(verified.vault("eu") / "log" / "baselines")
    shutil.rmtree(verified.vault("us") / "log" / "baselines")
    verified.write_manifest(GROUP, absolute, url=endpoint.url)
    assert verified.ask("verify")["verified"] is True
    endpoint.topic_of = str.title
    judged = verified.ask("verify", exits=1)
    assert [c["name"] for c in judged["checks"] if c["verdict"] == "fail"] == ["accuracy"]


def test_a_baseline_of_errors_is_refused_and_the_good_one_stays(verified, endpoint) -> None:
    endpoint.shutdown()
    endpoint.socket.close()
    error = verified.error("verify", "--save-baseline", exits=1)
    assert "100% of" in error["message"] and "none is kept" in error["message"]
    assert error["component"] == "pages"
    assert len(list((verified.vault("us") / "log" / "baselines").iterdir())) == 1


def test_a_measurement_that_time_cut_off_is_refused_and_the_good_one_stays(verified, monkeypatch) -> None:
    make_slow(monkeypatch)
    error = verified.error("verify", "--save-baseline", exits=1)
    assert "time was up when pages had been asked" in error["message"] and "none is kept" in error["message"]
    assert "in verify.pages, give `within` more time" in error["next"]
    assert len(list((verified.vault("us") / "log" / "baselines").iterdir())) == 1


def test_a_baseline_that_leaves_a_bound_undecided_is_told_by_the_verb_that_makes_it(
    verified, endpoint
) -> None:
    few = VERIFY.replace("errors:", "latency_p95: {{at_most: 500x}}, errors:")
    verified.write_manifest(GROUP, few, url=endpoint.url)
    reason = "the baseline's 40 samples are too few to tell: `samples` must be 72 or more"
    assert verified.ask("verify", "--save-baseline")["unverifiable"] == {"pages": {"latency_p95": reason}}
    told = f"pages: latency_p95 ({reason})"
    assert f"warning: some bounds can never be verified beside it: {told}" in verified.said
    made = verified.ask("protect")
    assert made["unverifiable"] == {"pages": {"latency_p95": reason}}
    assert f"it could not be verified if it were recovered now: {told}" in verified.said
    assert verified.ask("plan", "--to", "us")["unverifiable"] == {"pages": {"latency_p95": reason}}
    verified.write_manifest(GROUP, few.replace("samples: 40", "samples: 72"), url=endpoint.url)
    assert verified.ask("verify", "--save-baseline")["unverifiable"] == {}
    assert verified.ask("protect")["unverifiable"] == {}


def test_questions_that_there_was_no_time_to_ask_have_not_failed(verified, monkeypatch) -> None:
    golden = verified.root / "golden.jsonl"
    lines = [golden.read_text().replace('"id": "q', f'"id": "{n}q') for n in range(6)]
    golden.write_text("".join(lines))
    verified.ask("verify", "--save-baseline")
    make_slow(monkeypatch)
    document = verified.ask("verify", exits=1)
    assert document["verified"] is None
    assert [(check["name"], check["verdict"]) for check in document["checks"]] == [
        ("accuracy", "unknown"), ("exact_match", "unknown"), ("errors", "pass"),
    ]  # fmt: skip
    assert "warning: pages exact_match: there was no time to ask " in verified.said


def test_a_longer_within_gives_every_measurement_more_time(verified, endpoint, monkeypatch) -> None:
    make_slow(monkeypatch)
    verified.write_manifest(GROUP, VERIFY + "    within: 1h\n", url=endpoint.url)
    assert verified.ask("verify", "--save-baseline")["regions"] == {"eu": None, "us": None}


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
