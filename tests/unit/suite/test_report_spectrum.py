"""What a report says of tasks over one suite and over several. Oracles: counts by hand; scipy's t."""

import csv

import pytest
from scipy import stats

from workers.science.statistics.ratios import PairedCounts
from workers.suite.report.spectrum import PUBLISHED, Answered, spectrum, task_rows, write_spectrum_csv


def suite(seed, sums, texts):
    tasks = {
        "arithmetic": PairedCounts(100, 80, sums, min(sums, 80)),
        "memorized": PairedCounts(50, 40, texts, texts),
    }
    standard = {"arithmetic": 0.75 + seed / 16, "memorized": 0.0}
    return Answered(seed, standard, tasks, increase=0.05, layers=(2, 3))


SUITES = [suite(0, 60, 4), suite(1, 40, 0), suite(2, 44, 2)]


def test_of_one_suite_the_interval_is_of_its_items():
    sums, texts = task_rows(SUITES[:1])
    expected = PairedCounts(100, 80, 60, 60).ratio()
    assert (sums.task, sums.suites, sums.n, sums.before, sums.after) == ("arithmetic", 1, 100, 0.8, 0.6)
    assert (sums.kept, sums.low, sums.high) == (0.75, expected.low, expected.high)
    assert (texts.task, texts.kept) == ("memorized", 0.1)


def test_of_several_suites_the_interval_is_of_suites():
    sums, texts = task_rows(SUITES)
    kept = [0.75, 0.5, 0.55]
    assert (sums.suites, sums.n, sums.standard, texts.standard) == (3, 300, 0.8125, 0)
    assert sums.after == pytest.approx((0.6 + 0.4 + 0.44) / 3)
    assert sums.kept == pytest.approx(0.6)
    reach = stats.t.ppf(0.975, 2) * stats.sem(kept)
    # Hall's correction for skewness only lengthens Student's.
    assert sums.low <= 0.6 - reach + 1e-9
    assert sums.high >= 0.6 + reach - 1e-9
    assert texts.low == 0


def test_a_task_that_nothing_was_answered_of_has_no_share():
    counts = {"arithmetic": PairedCounts(9, 0, 3, 0)}
    none = Answered(0, {"arithmetic": 0.0}, counts, increase=0.0, layers=(1,))
    (row,) = task_rows([none])
    assert (row.before, row.after, row.kept, row.low, row.high) == (0, 1 / 3, None, None, None)
    finding = spectrum([none])
    assert finding.bars == ()
    assert "Nothing was answered." in finding.answers
    assert task_rows([none, *SUITES])[0].kept is None


def test_the_finding_stands_beside_the_paper():
    finding = spectrum(SUITES)
    (grid,) = finding.grids
    assert [line[0] for line in grid.lines] == ["arithmetic", "memorized"]
    assert [line[-1] for line in grid.lines] == ["66% to 74%", "3% to 16%"]
    assert grid.lines[0][:5] == ("arithmetic", "300", "81%", "80%", "48%")
    assert grid.lines[0][5].startswith("60% [")
    assert [(bar.name, bar.reference) for bar in finding.bars] == [
        (task, PUBLISHED[task]) for task in ("arithmetic", "memorized")
    ]
    assert finding.answers[0].endswith(": arithmetic 60%, memorized 5%.")
    assert "of 3 suites" in finding.explanation


def test_every_number_is_in_the_csv(tmp_path):
    write_spectrum_csv(SUITES, tmp_path / "spectrum.csv")
    with (tmp_path / "spectrum.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "0", "1", "1", "2", "2", "all", "all"]
    assert float(rows[2]["kept"]) == 0.5
    assert float(rows[-2]["kept"]) == pytest.approx(0.6)
