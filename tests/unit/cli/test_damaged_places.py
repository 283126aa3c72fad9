"""A region whose log is damaged is passed over, and never in silence."""

from __future__ import annotations

from refloat.vault.quarantine import quarantine
from refloat.vault.stores import open_store


def spoil_log(desk, region: str = "us") -> None:
    slot = desk.vault(region) / "log" / "points" / f"{0:016d}"
    content = bytearray(slot.read_bytes())
    content[len(content) // 2] ^= 1
    slot.write_bytes(content)


def test_the_points_of_the_other_regions_are_listed_with_a_warning(desk) -> None:
    desk.ask("protect")
    spoil_log(desk)
    points = desk.ask("points", "list")["points"]
    assert [point["regions"] for point in points] == [["eu"], ["eu"]]
    assert "us is passed over" in desk.said


def test_a_region_that_is_not_there_is_not_left_out_in_silence(desk) -> None:
    (desk.vault("us") / "vault.json").unlink()
    desk.ask("points", "list")
    assert "us is passed over: there is no vault" in desk.said


def complete(desk, region: str = "us") -> bool:
    """Whether a point is complete in a region, by what `protect` says of it; the other region is well."""
    regions = desk.ask("protect", exits=1)["regions"]
    assert regions["eu"] == {"complete": True, "error": None} and regions[region]["error"]
    assert f"region {region}: not complete: " in desk.said
    return regions[region]["complete"]


def test_a_point_is_not_complete_where_a_recovery_would_be_refused_for_a_damaged_log(desk) -> None:
    desk.ask("protect")
    spoil_log(desk)
    assert not complete(desk) and desk.pasted("vault check") in desk.said
    assert desk.error("recover", "--to", "us", exits=4)["code"] == "vault_damaged"
    desk.ask("vault", "repair")
    assert desk.ask("protect")["regions"]["us"]["complete"]


def test_a_point_is_not_complete_where_a_pack_that_it_needs_is_in_quarantine(desk) -> None:
    pack = next(path.name for path in (desk.vault("us") / "packs").rglob("*") if path.is_file())
    quarantine(open_store(str(desk.vault("us"))), pack)
    assert not complete(desk) and desk.pasted("vault repair") in desk.said
    desk.ask("vault", "repair")
    assert desk.ask("protect")["regions"]["us"]["complete"]


def test_a_point_is_not_complete_where_the_log_has_a_hole(desk) -> None:
    desk.ask("protect")
    desk.ask("protect")
    (desk.vault("us") / "log" / "points" / f"{1:016d}").unlink()
    assert not complete(desk)


def test_status_says_which_region_is_damaged_and_counts_on_it_no_more(desk) -> None:
    spoil_log(desk)
    document = desk.ask("status", exits=1)
    assert "damaged" in document["regions"]["us"]["error"]
    assert document["regions"]["us"]["reachable"] is True
    assert document["components"]["pages"]["exposure"]["eu"]["seconds"] is None
    assert "us cannot be recovered from: slot 0 of 'points'" in desk.said


def test_a_point_is_not_complete_where_the_log_was_rolled_back_until_the_region_rejoins(desk) -> None:
    for _ in range(2):
        desk.ask("protect")
    for slot in (1, 2):
        (desk.vault("us") / "log" / "points" / f"{slot:016d}").unlink()
    for _ in range(2):
        assert not complete(desk) and "the log of points in us was rolled back" in desk.said
        assert desk.pasted("vault rejoin us") in desk.said
    document = desk.ask("status", exits=1)
    assert "was rolled back" in document["regions"]["us"]["error"] and not document["well"]
    assert document["components"]["pages"]["exposure"]["eu"]["seconds"] is None, "us is no copy"
    assert desk.pasted("vault rejoin us") in desk.said
    for verb in ("vault prune", "points forget"):
        assert "vault rejoin us" in desk.error(*verb.split(), exits=3)["next"]
    assert desk.error("recover", "--to", "us", exits=3)["rule"] == "log_rolled_back"
    desk.ask("vault", "rejoin", "us")
    assert desk.ask("protect")["regions"]["us"]["complete"] and desk.ask("status")["well"]
