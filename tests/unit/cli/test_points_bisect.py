"""``refloat points bisect``, as a person types it: each trial, what is found, and what to do next."""

from __future__ import annotations

import json

import pytest

from contract_pins import printed, require_pinned
from small_desk import VERIFY

SANDBOX = 'sandboxes: {{bench: {{vars: {{url: "{url}"}}}}}}\n'
PLACES = """\
regions:
  eu: {{vault: "eu/vault", vars: {{url: "http://127.0.0.1:1"}}}}
  us: {{vault: "us/vault", vars: {{url: "http://127.0.0.1:2"}}}}
"""
ASKED = VERIFY.replace("{url}", "${{region.url}}").replace(
    "bounds: {{accuracy: {{drop_at_most: 0.01}}, exact_match: {{drop_at_most: 0.01}},",
    "bounds: {{accuracy: {{at_least: 1}},",
)


@pytest.fixture
def poisoned(desk, endpoint):
    """A pipeline of five points, of which the last two answer wrongly; their names, oldest first."""
    golden = [
        {"id": f"q{n}", "request": {"question": f"w{n}"}, "expected": {"topic": f"W{n}"}} for n in range(5)
    ]
    (desk.root / "golden.jsonl").write_text("".join(json.dumps(question) + "\n" for question in golden))
    desk.write_manifest(ASKED, SANDBOX, regions=PLACES, url=endpoint.url)
    for version in (2, 3, 4, 5):
        desk.release(version)
        desk.ask("protect")

    def topic_of(question: str) -> str:
        version = json.loads((desk.root / "bench" / "pages" / "current.json").read_text())["version"]
        return question.upper() if version < 4 else "poison"

    endpoint.topic_of = topic_of
    desk.points = [point["point"] for point in reversed(desk.ask("points", "list")["points"])]
    return desk


def test_the_documents_of_a_search(poisoned, endpoint) -> None:
    bisect = ("points", "bisect", "--sandbox", "bench")
    require_pinned("points bisect", "found", printed(poisoned, *bisect, "--bad", poisoned.points[3]))
    require_pinned("evidence list", "drills", printed(poisoned, "evidence", "list"))
    relative = VERIFY.replace("{url}", "${{region.url}}")
    poisoned.write_manifest(
        relative, SANDBOX, regions=PLACES.replace("http://127.0.0.1:1", "{url}"), url=endpoint.url
    )
    topic_of, endpoint.topic_of = endpoint.topic_of, str.upper
    printed(poisoned, "verify", "--save-baseline")
    endpoint.topic_of = topic_of
    poisoned.write_manifest(relative, SANDBOX, regions=PLACES, url=endpoint.url)
    good = printed(poisoned, "protect")["point"]
    poisoned.release(6)
    printed(poisoned, "protect")
    held = printed(poisoned, *bisect, "--good", good, exits=0)
    require_pinned("points bisect", "held against a baseline", held)
    poisoned.write_manifest(ASKED, SANDBOX, regions=PLACES, url=endpoint.url)
    (poisoned.root / "bench").mkdir(exist_ok=True)
    (poisoned.root / "bench" / "ledger.db").write_text("somebody else's")
    require_pinned("points bisect", "given up", printed(poisoned, *bisect, exits=1))


def test_the_last_good_point_is_found_and_said_how_it_is_recovered(poisoned) -> None:
    found = poisoned.ask("points", "bisect", "--sandbox", "bench")
    assert found["newest_passing"] == poisoned.points[2] and found["tried"] is True
    assert found["first_failing"] == poisoned.points[3]
    assert [(trial["point"], trial["verdict"]) for trial in found["trials"]] == [
        (poisoned.points[2], "pass"),
        (poisoned.points[4], "fail"),
        (poisoned.points[3], "fail"),
    ]
    assert found["trials"][1]["components"] == {"pages": "fail"}
    assert found["newer_not_tried"] == [] and found["untested"] == [] and found["given_up"] is False
    assert found["next"] == poisoned.pasted(f"recover --to eu --point {poisoned.points[2][:12]}")
    assert not (poisoned.root / "bench" / "pages").exists()
    drills = {trial["run"] for trial in found["trials"]}
    listed = poisoned.ask("evidence", "list")["evidence"]
    assert {(record["run"], record["kind"], record["state"]) for record in listed} == {
        (run, "drill", "rolled_back") for run in drills
    }
    for region in ("eu", "us"):
        assert poisoned.ask("run", "list", "--to", region)["runs"] == []
        assert poisoned.error("recover", "--to", region, "--resume", "latest", exits=2)["code"] == "usage"
        assert poisoned.error("run", "abort", "latest", "--to", region, exits=2)["code"] == "usage"
    assert poisoned.ask("vault", "check", "--read-data")["ok"]
    run = sorted(drills)[0]
    assert poisoned.ask("evidence", "show", run)["kind"] == "drill"


def test_a_person_reads_each_trial_and_what_was_not_tried(poisoned) -> None:
    points = poisoned.points
    out = poisoned.read("points", "bisect", "--sandbox", "bench", "--good", points[1], "--bad", points[3])
    assert f"tried {points[2][:12]}: pass" in poisoned.said
    assert f"the newest point that passes is {points[2][:12]}" in out
    assert f"{points[3][:12]} is the oldest that is known to fail" in out
    assert f"newer than the first that fails, and not tried: {points[4][:12]}" in out
    assert f"next: {poisoned.pasted(f'recover --to eu --point {points[2][:12]}')}" in out
    assert "drill" in poisoned.read("evidence", "list")
    (trial, *_) = poisoned.ask("evidence", "list")["evidence"]
    shown = poisoned.read("evidence", "show", trial["run"])
    assert "was tried in bench: its answers pass; all was put back" in shown
    assert poisoned.error("evidence", "show", "latest", exits=2)["next"], "no recovery was made"


@pytest.mark.parametrize(
    ("options", "exits", "message"),
    [
        (["--sandbox", "bnch"], 2, "the manifest knows no sandbox 'bnch'"),
        (["--sandbox", "bench", "--component", "ledger"], 2, "the manifest verifies no component 'ledger'"),
        (["--sandbox", "bench", "--good", "zz"], 2, "no point is called 'zz'"),
        (["--sandbox", "bench", "--bad", "zz"], 2, "--bad: no point here begins with 'zz'"),
    ],
)
def test_what_is_not_there_is_said(desk, endpoint, options, exits, message) -> None:
    (desk.root / "golden.jsonl").write_text('{"id": "q", "request": {}, "expected": {}}\n')
    desk.write_manifest(ASKED, SANDBOX, regions=PLACES, url=endpoint.url)
    error = desk.error("points", "bisect", *options, exits=exits)
    assert message in error["message"] and error["next"]


def test_a_sandbox_in_a_region_is_refused_by_name(desk, endpoint) -> None:
    desk.write_manifest(
        ASKED, SANDBOX.replace("vars", "at: {{pages: {{path: us/pages}}}}, vars"), regions=PLACES
    )
    (desk.root / "golden.jsonl").write_text('{"id": "q", "request": {}, "expected": {}}\n')
    error = desk.error("points", "bisect", "--sandbox", "bench", exits=3)
    assert error["rule"] == "sandbox_shared"
    assert f"pages in bench would use {desk.root}/us/pages, which is used by pages in us" in error["message"]
