"""A region whose log is damaged is passed over, and never in silence."""

from __future__ import annotations


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


def test_protecting_goes_on_and_warns_of_what_a_recovery_would_be_refused_for(desk) -> None:
    desk.ask("protect")
    spoil_log(desk)
    desk.ask("protect")
    assert "us cannot be recovered from as it is" in desk.said


def test_status_says_which_region_is_damaged_and_counts_on_it_no_more(desk) -> None:
    spoil_log(desk)
    document = desk.ask("status", exits=1)
    assert "damaged" in document["regions"]["us"]["error"]
    assert document["regions"]["us"]["reachable"] is True
    assert document["components"]["pages"]["exposure"]["eu"]["seconds"] is None
    assert "us is damaged" in desk.said


def test_protecting_warns_that_a_log_was_rolled_back(desk) -> None:
    for _ in range(2):
        desk.ask("protect")
    for slot in (1, 2):
        (desk.vault("us") / "log" / "points" / f"{slot:016d}").unlink()
    desk.ask("protect")
    assert "the log of points in us was rolled back" in desk.said
    assert desk.error("recover", "--to", "us", exits=3)["rule"] == "log_rolled_back"
