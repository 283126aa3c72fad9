"""``refloat vault add-region`` and ``rejoin``: a region that is new, was lost, or came back with an old state."""

from __future__ import annotations

import shutil

import pytest

from contract_pins import printed, require_pinned

EU_US_ASIA = (
    'regions:\n  eu: {{vault: "eu/vault"}}\n  us: {{vault: "us/vault"}}\n  asia: {{vault: "asia/vault"}}\n'
)
ROLLED_BACK = ("rolled back", "is gone")


def names(desk, region: str) -> list[str]:
    return [p["point"] for p in desk.ask("points", "list", "--vault", str(desk.vault(region)))["points"]]


def problems(desk) -> dict[str, str]:
    """What ``check`` says of the regions, and what to do."""
    found = desk.answer("check")[1]["problems"]
    return {p["where"]: p["next"] for p in found if p["where"].startswith("regions.")}


def missed(desk, region: str = "us") -> str:
    """A region did not answer while a point was made; the point."""
    shutil.move(desk.vault(region), desk.root / "away")
    desk.release(2)
    point = desk.ask("protect", exits=1)["point"]
    shutil.move(desk.root / "away", desk.vault(region))
    return point


def put_back(desk, region: str = "us", *, points: int = 2) -> None:
    """A region is as it was before the last ``points`` were made."""
    shutil.copytree(desk.vault(region), desk.root / "old")
    for version in range(points):
        desk.release(2 + version)
        desk.ask("protect")
    shutil.rmtree(desk.vault(region))
    shutil.move(desk.root / "old", desk.vault(region))


def nothing_warns_of_a_rollback(desk) -> bool:
    heard = ""
    for verb in ("status", "protect", "check"):
        desk.read(verb)
        heard += desk.said
    return not any(word in heard for word in ROLLED_BACK)


# ------------------------------------------------------------------------------------------- add-region


def test_a_region_whose_disk_was_lost_is_filled_and_recovered_from_without_an_override(desk) -> None:
    first = names(desk, "us")
    shutil.rmtree(desk.vault("us"))
    desk.release(2)
    failed = desk.ask("protect", exits=1)
    assert "refloat vault add-region us" in failed["regions"]["us"]["error"]
    assert problems(desk) == {"regions.us": desk.pasted("vault add-region us")}
    done = printed(desk, "vault", "add-region", "us")
    require_pinned("vault add-region", "a lost region", done)
    assert done["points"]["us"]["committed"] == [*first, failed["point"]]
    assert problems(desk) == {}
    assert nothing_warns_of_a_rollback(desk)
    assert desk.ask("vault", "check", "--read-data")["ok"]
    desk.lose("eu")
    done = desk.ask("recover", "--vault", str(desk.vault("us")), "--to", "us")
    assert done["state"] == "done" and desk.pages("us")["current.json"] == '{"version": 2}'


def test_without_a_key_a_lost_region_is_filled_and_counts_after_the_next_protect(desk) -> None:
    before = names(desk, "us")
    shutil.rmtree(desk.vault("us"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("REFLOAT_KEY_FILE")
        assert desk.ask("vault", "replicate", exits=1)["unreachable"] == ["us"]
        assert not desk.vault("us").exists(), "an empty place is made a replica only where that is asked"
        done = desk.ask("vault", "add-region", "us")
    assert done["points"] == {} and done["copied"][0]["objects"]
    made = desk.ask("protect")
    assert made["regions"]["us"]["complete"] and "begins anew" in desk.said
    assert sorted(names(desk, "us")) == sorted([*before, made["point"]])
    assert nothing_warns_of_a_rollback(desk)


def test_a_third_region_gets_all_that_the_others_hold(desk) -> None:
    desk.write_manifest(regions=EU_US_ASIA)
    assert problems(desk) == {"regions.asia": desk.pasted("vault add-region asia")}
    desk.ask("vault", "add-region", "asia", "--from", "us", "--limit", "64MiB")
    assert names(desk, "asia") == names(desk, "eu")
    assert desk.ask("protect")["regions"]["asia"]["complete"]


def test_a_region_whose_address_is_gone_for_good_is_filled_at_its_new_one(desk) -> None:
    before = names(desk, "eu")
    shutil.rmtree(desk.vault("us"))
    desk.write_manifest(regions='regions:\n  eu: {{vault: "eu/vault"}}\n  us: {{vault: "elsewhere/vault"}}\n')
    desk.ask("vault", "add-region", "us")
    assert sorted(names(desk, "eu")) == sorted(before)
    assert problems(desk) == {} and nothing_warns_of_a_rollback(desk)
    desk.ask("recover", "--to", "us")


def test_the_same_command_goes_on_where_it_was_killed(desk) -> None:
    before = names(desk, "eu")
    shutil.rmtree(desk.vault("us"))
    desk.ask("vault", "add-region", "us")
    for folder in ("packs", "index", "points", "log"):
        shutil.rmtree(desk.vault("us") / folder)
    again = desk.ask("vault", "add-region", "us")
    assert again["copied"][0]["objects"] and names(desk, "us") == before
    assert desk.ask("vault", "add-region", "us")["copied"][0]["objects"] == 0


def test_a_place_that_is_not_empty_is_left_alone(desk) -> None:
    (desk.vault("us") / "vault.json").unlink()
    assert problems(desk) == {"regions.us": desk.pasted("vault repair")}
    assert desk.error("vault", "add-region", "us", exits=3)["rule"] == "vault_exists"
    assert "asia" in desk.error("vault", "add-region", "asia", exits=2)["message"]


def test_an_old_key_file_accepts_the_log_that_began_anew_and_not_one_cut_later(desk) -> None:  # fault 54
    desk.ask("protect")
    old = desk.key.read_bytes()
    shutil.rmtree(desk.vault("us"))
    desk.ask("vault", "add-region", "us")
    for _ in range(2):
        desk.ask("protect")
    pinned = desk.key.read_bytes()
    desk.key.write_bytes(old)
    where = ("recover", "--vault", str(desk.vault("us")), "--to", "us")
    desk.lose("eu")
    desk.key.write_bytes(pinned)
    last = max((desk.vault("us") / "log" / "points").iterdir())
    kept = last.read_bytes()
    last.unlink()
    assert desk.error(*where, exits=3)["rule"] == "log_rolled_back"
    last.write_bytes(kept)
    desk.key.write_bytes(old)
    assert desk.ask(*where)["state"] == "done"


# ---------------------------------------------------------------------------------------------- rejoin


def test_a_region_that_came_back_with_an_old_state_rejoins_and_is_recovered_from(desk) -> None:
    put_back(desk)
    before = names(desk, "us")
    assert problems(desk) == {"regions.us": desk.pasted("vault rejoin us")}
    assert desk.error("recover", "--to", "us", exits=3)["next"].startswith(desk.pasted("vault rejoin us"))
    planned = printed(desk, "vault", "rejoin", "us", "--dry-run")
    require_pinned("vault rejoin", "what would be done", planned)
    assert planned["rolled_back"] == {"seen": 3, "left": 1} and len(planned["missed"]) == 2
    assert names(desk, "us") == before
    done = printed(desk, "vault", "rejoin", "us")
    require_pinned("vault rejoin", "an old state", done)
    assert done["committed"] == planned["missed"] and done["counts"]
    assert sorted(names(desk, "us")) == sorted(names(desk, "eu"))
    assert problems(desk) == {} and nothing_warns_of_a_rollback(desk)
    desk.lose("eu")
    done = desk.ask("recover", "--vault", str(desk.vault("us")), "--to", "us")
    assert done["state"] == "done" and desk.pages("us")["current.json"] == '{"version": 3}'


def test_a_region_that_went_on_from_an_old_state_rejoins_as_well(desk) -> None:
    put_back(desk)
    desk.release(4)
    desk.ask("protect", exits=1)
    assert "rolled back" in desk.said and desk.pasted("vault rejoin us") in desk.said
    assert desk.ask("vault", "rejoin", "us")["counts"]
    assert nothing_warns_of_a_rollback(desk)


def test_what_a_region_alone_holds_is_shown_and_stays(desk) -> None:
    shutil.copytree(desk.vault("us"), desk.root / "us-then")
    shutil.move(desk.vault("eu"), desk.root / "eu-away")
    desk.release(2)
    alone = desk.ask("protect", exits=1)["point"]
    shutil.move(desk.root / "eu-away", desk.vault("eu"))
    shutil.move(desk.vault("us"), desk.root / "us-away")
    desk.release(3)
    desk.ask("protect", exits=1)
    shutil.move(desk.root / "us-away", desk.vault("us"))
    assert problems(desk)["regions.us"] == desk.pasted("vault rejoin us")
    done = printed(desk, "vault", "rejoin", "us")
    require_pinned("vault rejoin", "it alone held some", done)
    assert [point["point"] for point in done["alone"]["points"]] == [alone]
    assert done["alone"]["objects"] and done["counts"]
    assert alone in names(desk, "us")
    newest = names(desk, "eu")[0]
    assert names(desk, "us")[0] == newest, "what came later elsewhere is the newest here, too"


def test_a_region_that_alone_holds_the_newest_point_is_no_copy_of_an_older_one(desk) -> None:
    # fault 54
    shutil.move(desk.vault("us"), desk.root / "us-away")
    desk.release(2)
    desk.ask("protect", exits=1)
    shutil.move(desk.root / "us-away", desk.vault("us"))
    shutil.move(desk.vault("eu"), desk.root / "eu-away")
    desk.release(3)
    newest = desk.ask("protect", exits=1)["point"]
    shutil.move(desk.root / "eu-away", desk.vault("eu"))
    done = desk.ask("vault", "rejoin", "us", exits=4)
    assert not done["counts"] and desk.pasted("protect") in desk.said
    assert names(desk, "us")[0] == newest
    desk.ask("protect")
    assert desk.ask("vault", "rejoin", "us")["counts"]


def test_a_rejoin_that_was_killed_before_its_end_is_begun_again_and_ends(desk, monkeypatch) -> None:
    from refloat.flows import rejoin as flow

    put_back(desk)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flow, "accept_gone", killed)
        desk.ask("vault", "rejoin", "us", exits=130)
    assert problems(desk) == {"regions.us": desk.pasted("vault rejoin us")}
    assert desk.ask("vault", "rejoin", "us")["counts"]
    assert problems(desk) == {}


def test_nothing_rejoins_where_no_other_log_is_whole(desk) -> None:
    put_back(desk)
    shutil.rmtree(desk.vault("eu"))
    assert "no other region" in desk.error("vault", "rejoin", "us", exits=2)["message"]
    assert "asia" in desk.error("vault", "rejoin", "asia", exits=2)["message"]


# ------------------------------------------------------------------------------ baselines and evidence


def test_evidence_that_a_region_missed_is_brought_by_the_next_protect(desk) -> None:
    shutil.move(desk.vault("eu"), desk.root / "away")
    run = desk.ask("recover", "--to", "us")["run"]
    shutil.move(desk.root / "away", desk.vault("eu"))
    where = ("evidence", "list", "--vault", str(desk.vault("eu")))
    assert desk.ask(*where)["evidence"] == []
    desk.ask("protect", "--region", "us")
    assert [told["run"] for told in desk.ask(*where)["evidence"]] == [run]
    desk.ask("protect", "--region", "us")
    assert len(desk.ask(*where)["evidence"]) == 1


def test_repair_brings_points_and_evidence_that_a_region_missed(desk) -> None:
    shutil.move(desk.vault("eu"), desk.root / "away")
    run = desk.ask("recover", "--to", "us")["run"]
    shutil.move(desk.root / "away", desk.vault("eu"))
    assert problems(desk)["regions.eu"] == desk.pasted("vault repair")
    done = printed(desk, "vault", "repair")
    require_pinned("vault repair", "points and records", done)
    assert done["points"]["eu"]["records"] == 1 and len(done["points"]["eu"]["committed"]) == 1
    assert names(desk, "eu") == names(desk, "us")
    assert [told["run"] for told in desk.ask("evidence", "list")["evidence"]] == [run]
    assert desk.ask("vault", "repair")["points"]["eu"] == {"committed": [], "lacking": [], "records": 0}
