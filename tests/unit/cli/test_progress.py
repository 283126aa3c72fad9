"""How far work is, in words: nothing that is not known is said."""

from __future__ import annotations

from refloat.cli.progress import LINE_EVERY_S, Lines, Work

MIB = 1024**2


def test_what_is_done_its_rate_and_what_is_left_are_told_as_far_as_they_are_known():
    work = Work(100 * MIB, "bytes", 50.0)
    assert work.told(50.0) == "0%, 0 B of 100.0 MiB"
    work.done = 25 * MIB
    assert work.told(50.5) == "25%, 25.0 MiB of 100.0 MiB", "half a second says no rate"
    assert work.told(60.0) == "25%, 25.0 MiB of 100.0 MiB, 2.5 MiB/s, 30s left"
    assert work.told(60.0, 80) == "25.0 MiB of 100.0 MiB, 2.5 MiB/s, 30s left"
    assert work.told(60.0, 40) == "25%, 2.5 MiB/s, 30s left"
    work.done = 100 * MIB
    assert work.summed_up(60.0) == "100.0 MiB, 10s, 10.0 MiB/s"
    assert work.told(60.0) == "100%, 100.0 MiB, 10.0 MiB/s"


def test_where_the_total_is_not_known_or_was_a_wrong_guess_no_share_is_told():
    for total in (None, 0, 2 * MIB):
        work = Work(total, "bytes", 0.0, done=4 * MIB)
        assert work.told(2.0) == "4.0 MiB, 2.0 MiB/s"
        assert work.told(2.0, 40) == "4.0 MiB, 2.0 MiB/s"
        assert work.told(0.0, 40) == "4.0 MiB"
    assert Work(None, "objects", 0.0, done=8).told(4.0) == "8 objects, 2 objects/s"


def test_long_work_says_now_and_then_in_a_log_how_far_it_is():
    now, told = [0.0], list[str]()
    lines = Lines(told.append, lambda: now[0])
    lines.start("copy", 1000 * MIB)
    for second in range(1, 101):
        now[0] = float(second)
        lines.advance("copy", 10 * MIB)
        lines.advance("never begun", 10 * MIB)
    lines.finish("copy")
    assert told == [
        "copy: 30%, 300.0 MiB of 1000.0 MiB, 10.0 MiB/s, 1m 10s left",
        "copy: 60%, 600.0 MiB of 1000.0 MiB, 10.0 MiB/s, 40s left",
        "copy: 90%, 900.0 MiB of 1000.0 MiB, 10.0 MiB/s, 10s left",
        "copy: 1000.0 MiB, 1m 40s, 10.0 MiB/s",
    ]
    assert LINE_EVERY_S == 30
