"""``refloat plan``: what a recovery would do, without doing anything."""

from __future__ import annotations

import pytest

KEYS = {"hash", "point", "to", "phases", "rto", "room", "unverifiable", "longest", "difference"}
STEP_KEYS = {"id", "component", "layer", "action", "needs", "estimate"}


def test_the_document_has_exactly_these_keys(desk) -> None:
    document = desk.ask("plan", "--to", "us")
    assert document.keys() == KEYS
    assert [phase["name"] for phase in document["phases"]] == [
        "preflight",
        "stage",
        "validate",
        "activate",
        "reprotect",
    ]
    steps = [step for phase in document["phases"] for step in phase["steps"]]
    assert all(step.keys() >= STEP_KEYS for step in steps)
    assert all(
        step["estimate"].keys() == {"p50_s", "p95_s", "basis", "samples", "together"} for step in steps
    )
    assert document["rto"].keys() == {"pipeline", "layers", "components", "total", "rests_on"}
    assert document["rto"]["layers"].keys() == {"data"}
    assert document["rto"]["components"].keys() == {"pages", "ledger", "answers"}
    parts = [*document["rto"]["layers"].values(), *document["rto"]["components"].values()]
    for rto in (document["rto"]["pipeline"], *parts):
        assert rto.keys() == {"p50_s", "p95_s", "objective_s"}
        assert 0 < rto["p50_s"] <= rto["p95_s"]


def test_every_step_needs_only_steps_that_come_before_it(desk) -> None:
    seen: set[str] = set()
    for phase in desk.ask("plan", "--to", "us")["phases"]:
        for step in phase["steps"]:
            assert set(step["needs"]) <= seen, step["id"]
            seen.add(step["id"])


def test_it_changes_nothing_and_is_the_same_twice(desk) -> None:
    before = sorted(path for path in desk.root.rglob("*") if path.is_file())
    first, second = desk.ask("plan", "--to", "us"), desk.ask("plan", "--to", "us")
    assert first.pop("room") and second.pop("room")  # others write to the disk meanwhile
    assert first == second
    assert sorted(path for path in desk.root.rglob("*") if path.is_file()) == before


def test_it_is_exactly_what_recover_executes(desk) -> None:
    planned = desk.ask("plan", "--to", "us")
    desk.lose("eu")
    vault = str(desk.vault("us"))
    done = desk.ask("recover", "--vault", vault, "--to", "us")
    record = desk.ask("evidence", "show", done["run"], "--vault", vault)
    assert record["digests"]["plan"] == planned["hash"]
    assert [step["id"] for step in record["steps"]] == [
        step["id"] for phase in planned["phases"] for step in phase["steps"]
    ]


def test_estimates_are_assumed_until_a_run_was_timed(desk) -> None:
    def bases(plan) -> set[str]:
        steps = [step for phase in plan["phases"] for step in phase["steps"] if phase["name"] != "reprotect"]
        return {step["estimate"]["basis"] for step in steps}

    assert bases(desk.ask("plan", "--to", "us")) == {"assumed"}
    desk.ask("recover", "--to", "us")
    planned = desk.ask("plan", "--to", "us")
    assert bases(planned) == {"learnt"}
    assert planned["rto"]["rests_on"]["learnt"] > 0 == planned["rto"]["rests_on"]["assumed"]
    assert "of the steps that it waits for: learnt " in desk.read("plan", "--to", "us")


def test_only_some_components_can_be_planned_for(desk) -> None:
    document = desk.ask("plan", "--to", "us", "--only", "pages", "--only", "ledger")
    planned = {step["component"] for phase in document["phases"] for step in phase["steps"]}
    assert planned - {None} == {"pages", "ledger"}


def test_a_time_chooses_the_newest_point_not_after_it(desk) -> None:
    first = desk.ask("points", "list")["points"][0]
    desk.release(2)
    second = desk.ask("protect")
    assert desk.ask("plan", "--to", "us")["point"] == second["point"]
    assert desk.ask("plan", "--to", "us", "--at", first["created_at"])["point"] == first["point"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "asia"), "no region 'asia'"),
        (("--to", "us", "--at", "yesterday"), "--at:"),
        (("--to", "us", "--at", "2020-01-01T00:00:00Z"), "no point was made before that time"),
        (("--to", "us", "--point", "zz"), "no point here is called 'zz'"),
        (("--to", "us", "--only", "nothing"), "nothing"),
        ((), "--to"),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(desk, arguments: tuple[str, ...], words: str) -> None:
    error = desk.error("plan", *arguments, exits=2)
    assert words in error["message"]


def test_a_vault_without_a_point_says_what_to_do(unprotected) -> None:
    assert "protect` first" in unprotected.error("plan", "--to", "us", exits=2)["next"]


def test_a_broken_point_is_refused_and_the_override_is_named(desk) -> None:
    desk.release(2, pages=7)
    broken = desk.ask("protect", exits=1)["point"]
    error = desk.error("plan", "--to", "us", "--point", broken, exits=3)
    assert (error["code"], error["rule"]) == ("refused", "group_broken")
    assert "--override group_broken" in error["next"]
    glass = desk.ask("plan", "--to", "us", "--point", broken, "--override", "group_broken")
    assert glass["point"] == broken


def test_people_read_it_by_phase_and_layer(desk) -> None:
    out = desk.read("plan", "--to", "us")
    phases = ("preflight", "stage", "validate", "activate", "reprotect")
    told = [word for line in out.splitlines() for word in line.split() if word in phases[:1] + phases[2:]]
    assert list(dict.fromkeys(told))[-3:] == ["validate", "activate", "reprotect"]
    assert "assumed" in out and "touches what is live" in out


def test_a_plan_says_what_could_not_be_verified(verified) -> None:
    assert verified.ask("plan", "--to", "us")["unverifiable"] == {}
    verified.release(2)
    verified.ask("protect")
    assert verified.ask("plan", "--to", "us")["unverifiable"]["pages"].keys() == {"accuracy", "exact_match"}
    assert "could not be verified if it were recovered now: pages" in verified.said
    assert "could not be verified" in verified.read("points", "why")


def test_people_read_how_long_it_takes_by_layer_beside_the_objective(desk) -> None:
    rows = [line.split() for line in desk.read("plan", "--to", "us").splitlines()]
    told = {tuple(row[:-4]): row[-4:] for row in rows if row[-1:] in (["ok"], ["warn"], ["breach"])}
    assert told.keys() == {("pipeline",), ("layer", "data"), ("answers",), ("ledger",), ("pages",)}
    assert told["layer", "data"][2:] == ["5m", "ok"]
    assert any(row[:2] == ["protected", "again"] for row in rows)


def test_a_kept_plan_is_as_the_one_of_now_until_something_changes(desk) -> None:
    kept = str(desk.root / "us.plan")
    assert desk.ask("plan", "--to", "us", "--save", kept)["difference"] is None
    assert desk.ask("plan", "--to", "us", "--diff", kept)["difference"]["none"]
    assert f"as in {kept}\n" in desk.read("plan", "--to", "us", "--diff", kept)
    first = desk.ask("plan", "--to", "us")["point"]
    desk.release(2)
    second = desk.ask("protect")["point"]
    found = desk.ask("plan", "--to", "us", "--diff", kept, exits=1)["difference"]
    assert found["plan"]["point"] == {"was": first, "now": second}
    assert found["changed"]["stage.stage:pages"].keys() == {"bytes"}
    desk.ask("plan", "--to", "us", "--only", "pages", "--diff", kept, exits=1)
    desk.ask("plan", "--to", "us", "--save", kept, "--diff", kept, exits=1)  # and keeps the new one
    assert desk.ask("plan", "--to", "us", "--diff", kept)["difference"]["none"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"keep me", "no plan that refloat saved"),
        (b'{"format": 2}', "of its fields are wrong"),
        (b" " * (16 * 1024 * 1024 + 1), "too large"),
    ],
    ids=["nothing there", "something else", "another format", "too much"],
)
def test_what_is_no_kept_plan_is_neither_compared_with_nor_written_over(desk, content, says) -> None:
    path = desk.root / "notes"
    if content is not None:
        path.write_bytes(content)
        assert says in desk.error("plan", "--to", "us", "--save", str(path), exits=2)["message"]
        assert path.read_bytes() == content
    error = desk.error("plan", "--to", "us", "--diff", str(path), exits=2)
    assert says in error["message"] and error["file"] == str(path)


def test_it_says_what_takes_longest_and_what_that_would_save(desk) -> None:
    longest = desk.ask("plan", "--to", "us")["longest"]
    assert 1 <= len(longest) <= 5
    assert [one["saves_s"] for one in longest] == sorted((one["saves_s"] for one in longest), reverse=True)
    assert "to be back sooner: " in desk.read("plan", "--to", "us")
