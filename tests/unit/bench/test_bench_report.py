"""The pure parts of the benchmark: figures, ratios, tables, the order of contenders, the tree."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

BENCH = Path(__file__).resolve().parents[3] / "bench"
sys.path.insert(0, str(BENCH))
try:
    import run
    import tree
    from measure import alternating
    from report import MIB, Report, Section, Series, Table, draw, figure, markdown, paired_ratio
finally:
    sys.path.remove(str(BENCH))


def seconds(*values: float) -> Series:
    return Series(values, "s")


# ------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (0.5, "0.500"),
        (1.0449, "1.04"),
        (12.34, "12.3"),
        (182.4, "182"),
        (1234.5, "1234"),
        (1e9, "1000000000"),
        (-2.5, "-2.50"),
        (math.inf, "inf"),
    ],
)
def test_a_figure_has_three_significant_digits_and_no_exponent(value: float, shown: str) -> None:
    assert figure(value) == shown


@given(st.floats(min_value=0.01, max_value=1e12))
def test_a_figure_is_within_half_a_percent_of_its_value(value: float) -> None:
    shown = figure(value)
    assert "e" not in shown
    assert float(shown) == pytest.approx(value, rel=0.0051)


def test_a_series_shows_its_median_between_its_extremes() -> None:
    assert str(seconds(3.0, 1.0, 2.0, 10.0)) == "2.50 s (1.00 to 10.0)"


def test_a_series_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Series((), "s")


def test_an_aim_is_judged_by_the_median_and_not_by_the_best_run() -> None:
    assert seconds(1.0, 2.0, 2.1).against(2.0) == "at most 2.00 s: met"
    assert seconds(1.0, 2.1, 2.2).against(2.0) == "at most 2.00 s: NOT MET"


# ------------------------------------------------------------------------------------------- ratios


def test_a_ratio_of_pairs_does_not_see_what_slows_down_both_of_a_pair() -> None:
    machine = (1.0, 5.0, 2.0, 9.0, 1.0, 3.0)
    ratio = paired_ratio(seconds(*(1.5 * slow for slow in machine)), seconds(*machine))
    assert (ratio.value, ratio.low, ratio.high, ratio.pairs) == (1.5, 1.5, 1.5, 6)


def test_a_ratio_says_of_which_to_which() -> None:
    assert paired_ratio(seconds(4.0), seconds(2.0)).value == 2.0


def test_few_pairs_have_a_range_and_six_have_an_interval() -> None:
    five, six = (Series(tuple(float(n) for n in range(1, count + 1)), "s") for count in (5, 6))
    assert paired_ratio(five, seconds(*[1.0] * 5)).covers == "smallest and largest"
    assert paired_ratio(six, seconds(*[1.0] * 6)).covers == "95 % interval"


def test_the_interval_of_twenty_pairs_leaves_out_the_extremes() -> None:
    twenty = Series(tuple(float(n) for n in range(1, 21)), "s")
    ratio = paired_ratio(twenty, seconds(*[1.0] * 20))
    assert (ratio.low, ratio.value, ratio.high) == (6.0, 10.5, 15.0)


def test_series_that_do_not_pair_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio(seconds(1.0, 2.0), seconds(1.0))


@pytest.mark.parametrize(
    ("during", "verdict"),
    [
        ((1.0, 1.01, 1.02), "at most 1.05: met"),
        ((1.0, 1.01, 1.2), "at most 1.05: met, within the noise"),
        ((1.0, 1.10, 1.2), "at most 1.05: NOT MET, within the noise"),
        ((1.1, 1.15, 1.2), "at most 1.05: NOT MET"),
    ],
)
def test_a_ratio_says_when_noise_would_decide(during: tuple[float, ...], verdict: str) -> None:
    assert paired_ratio(seconds(*during), seconds(1.0, 1.0, 1.0)).against(1.05) == verdict


# ------------------------------------------------------------------------------------------- documents

SECTION = Section(
    name="start",
    title="Start",
    tables=(
        Table("Wall time", ("command", "wall time"), (("refloat --help", "182 ms"), ("a | b", "9 [red]ms"))),
    ),
    notes=("Nothing heavy is imported.",),
)


def report(*, quick: bool = False) -> Report:
    return Report("2026-11-23", quick, {"cores": "2"}, {"restic": "NOT INSTALLED"}, (SECTION,))


def test_the_document_holds_the_machine_the_versions_and_every_table() -> None:
    written = markdown(report())
    assert written.startswith("# Results\n")
    for line in (
        "Measured on 2026-11-23.",
        "| machine |  |\n| --- | ---: |\n| cores | 2 |",
        "| restic | NOT INSTALLED |",
        "## Start\n\n### Wall time\n\n| command | wall time |\n| --- | ---: |\n| refloat --help | 182 ms |",
        "- Nothing heavy is imported.",
    ):
        assert line in written
    assert written.endswith(".\n")


def test_a_cell_cannot_break_its_row() -> None:
    assert r"| a \| b | 9 [red]ms |" in markdown(report())


def test_a_quick_run_says_that_its_figures_mean_nothing() -> None:
    assert "mean nothing" in markdown(report(quick=True))
    assert "mean nothing" not in markdown(report())


def test_a_terminal_shows_the_same_cells_and_takes_none_for_markup() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        draw(SECTION, console)
    shown = captured.get()
    for text in ("Start", "Wall time", "refloat --help", "182 ms", "9 [red]ms", "Nothing heavy is imported."):
        assert text in shown


def test_a_row_that_does_not_fit_its_headings_is_refused() -> None:
    with pytest.raises(ValueError, match="Stored"):
        Table("Stored", ("a", "b"), (("1",),))


# ------------------------------------------------------------------------------------------- order and asking


def test_no_contender_is_always_the_first() -> None:
    assert list(alternating(("ours", "theirs"), 3)) == [
        ["ours", "theirs"],
        ["theirs", "ours"],
        ["ours", "theirs"],
    ]


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ([], BENCH / "RESULTS.md"),
        (["--quick"], None),
        (["--only", "vault"], None),
        (["--quick", "--output", "here.md"], Path("here.md")),
    ],
)
def test_only_a_whole_run_replaces_the_results(line: list[str], written: Path | None) -> None:
    assert run.destination(run.arguments(line)) == written


def test_results_that_have_nowhere_to_go_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        run.arguments(["--output", str(tmp_path / "missing" / "results.md")])
    assert refused.value.code == 2


def test_the_date_may_be_given() -> None:
    assert run.arguments(["--date", "2026-11-23"]).date.isoformat() == "2026-11-23"


def test_a_section_that_does_not_exist_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run.arguments(["--only", "nothing"])
    assert refused.value.code == 2
    assert "vault" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- the tree


def test_the_same_seed_makes_the_same_tree(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        tree.make(tmp_path / name, 2 * MIB, seed=seed)
    assert tree.digests(tmp_path / "one") == tree.digests(tmp_path / "two")
    assert tree.digests(tmp_path / "one") != tree.digests(tmp_path / "other")


def test_each_kind_is_a_quarter_of_the_tree(tmp_path: Path) -> None:
    tree.make(tmp_path, 8 * MIB, seed=7)
    for kind in ("text", "random", "arrays", "database"):
        assert tree.size(tmp_path / kind) == pytest.approx(2 * MIB, rel=0.1), kind


def test_a_change_touches_every_kind_and_little_of_it(tmp_path: Path) -> None:
    tree.make(tmp_path, 4 * MIB, seed=7)
    before = {path: path.read_bytes() for path in tree.files(tmp_path)}
    tree.change(tmp_path, seed=8)
    changed = {path.parent.name for path, old in before.items() if path.read_bytes() != old}
    assert changed == {"text", "random", "arrays", "database"}
    assert tree.size(tmp_path) == pytest.approx(4 * MIB, rel=0.15)
    (array,) = (path for path in before if path.parent.name == "arrays")
    differing = sum(old != new for old, new in zip(before[array], array.read_bytes(), strict=True))
    assert 0 < differing <= len(before[array]) // 100


def test_inserted_bytes_move_what_follows_them(tmp_path: Path) -> None:
    tree.make(tmp_path, 1 * MIB, seed=7)
    (path,) = (tmp_path / "random").iterdir()
    before = path.read_bytes()
    tree.change(tmp_path, seed=8)
    after = path.read_bytes()
    assert len(after) == len(before) + len(before) // 100
    assert after[-100:] == before[-100:]
