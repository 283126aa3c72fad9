"""``refloat evidence``: the signed records, from whichever replica is left."""

from __future__ import annotations

import pytest


@pytest.fixture
def recovered(desk):
    desk.lose("eu")
    desk.where = ("--vault", str(desk.vault("us")))
    desk.done = desk.ask("recover", *desk.where, "--to", "us")
    return desk


def test_the_list_tells_what_recover_told(recovered) -> None:
    document = recovered.ask("evidence", "list", *recovered.where)
    assert document.keys() == {"evidence"}
    (record,) = document["evidence"]
    told = {key: value for key, value in recovered.done.items() if key in record}
    assert record == {**told, "kind": "recovery"}
    assert set(recovered.done) - set(record) == {"evidence", "page", "remarks"}


def test_recover_and_the_record_say_how_far_off_the_estimate_was(desk) -> None:
    (told,) = [line for line in desk.read("recover", "--to", "us").splitlines() if line.startswith("took ")]
    assert " expected; 95 of 100 within " in told
    assert told in desk.read("evidence", "show", "latest").splitlines()
    foreseen = desk.ask("evidence", "show", "latest")["foreseen"]
    assert foreseen["inside"] is (foreseen["seconds"] <= foreseen["p95_s"])
    (listed,) = desk.ask("evidence", "list")["evidence"]
    assert listed["foreseen"] == foreseen


def test_records_are_listed_newest_first(recovered) -> None:
    again = ("--to", "us", "--override", "target_primary")
    second = recovered.ask("recover", *recovered.where, *again)["run"]
    listed = recovered.ask("evidence", "list", *recovered.where)["evidence"]
    assert [record["run"] for record in listed] == [second, recovered.done["run"]]


def test_a_record_is_in_every_replica_that_was_left(desk) -> None:
    run = desk.ask("recover", "--to", "us")["run"]
    for region in ("eu", "us"):
        assert desk.ask("evidence", "show", run, "--vault", str(desk.vault(region)))["run"] == run


def test_the_page_is_written_where_it_is_wished(recovered) -> None:
    page = recovered.root / "run.html"
    shown = recovered.ask(
        "evidence", "show", recovered.done["run"][:5], "--html", str(page), *recovered.where
    )
    assert shown["run"] == recovered.done["run"]
    assert shown["pipeline"] == "small"
    assert recovered.done["run"] in page.read_text()


def test_a_record_that_was_changed_is_not_shown(recovered) -> None:
    (slot,) = recovered.vault("us").glob("log/evidence/*")
    slot.chmod(0o600)
    content = bytearray(slot.read_bytes())
    content[len(content) // 2] ^= 1
    slot.write_bytes(content)
    error = recovered.error("evidence", "show", recovered.done["run"], *recovered.where, exits=4)
    assert error["code"] == "vault_damaged"


def test_no_such_run_exits_2(recovered) -> None:
    error = recovered.error("evidence", "show", "nothing", *recovered.where, exits=2)
    assert error["next"] == f"refloat -f {recovered.manifest} evidence list --vault {recovered.vault('us')}"


def test_a_page_that_cannot_be_written_is_told(recovered) -> None:
    nowhere = str(recovered.root / "no" / "such" / "page.html")
    code, document = recovered.answer(
        "evidence", "show", recovered.done["run"], "--html", nowhere, *recovered.where
    )
    assert code == 1
    assert document["error"]["file"] == nowhere
    assert "the folders above it exist" in document["error"]["next"]


def test_people_read_the_outcome_first(recovered) -> None:
    out = recovered.read("evidence", "show", recovered.done["run"], *recovered.where)
    assert out.splitlines()[0].startswith("small is back in us")
    assert recovered.done["run"] in recovered.read("evidence", "list", *recovered.where)
