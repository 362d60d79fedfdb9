"""Samples of rows that come one by one. Oracle: each row is in one with the probability room / rows."""

import math

import numpy as np
import pytest
from scipy import stats

from workers.science.metrics.membership import SCORES, SEED, MembershipSummary
from workers.science.statistics.reservoir import Reservoir


def filled(rows: int, *, room: int, seed: int = 0) -> Reservoir:
    reservoir = Reservoir(2, room=room, seed=seed)
    for row in range(rows):
        reservoir.add((row, -row))
    return reservoir


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_what_there_is_room_for_is_kept_in_order(rows: int) -> None:
    kept = filled(rows, room=7)
    assert (kept.rows, len(kept)) == (rows, rows)
    assert kept.column(0).tolist() == list(range(rows))
    assert kept.column(1).tolist() == [-row for row in range(rows)]


def test_of_more_rows_each_is_kept_whole_and_no_more_often_than_others() -> None:
    counts = np.zeros(40)
    for seed in range(2000):
        kept = filled(40, room=10, seed=seed)
        rows = kept.column(0)
        assert (kept.rows, len(kept), len(set(rows.tolist()))) == (40, 10, 10)
        assert kept.column(1).tolist() == (-rows).tolist()
        counts[rows.astype(int)] += 1
    # Without replacement each of 40 varies by 39/40 of what a chi-square of 39 expects, times 1 - 10/40.
    expected = 2000 * 10 / 40
    statistic = ((counts - expected) ** 2 / expected).sum() / (1 - 10 / 40) * 39 / 40
    assert stats.chi2.sf(statistic, 39) > 0.001
    assert filled(40, room=10, seed=3).column(0).tolist() == filled(40, room=10, seed=3).column(0).tolist()
    assert filled(40, room=10, seed=3).column(0).tolist() != filled(40, room=10, seed=4).column(0).tolist()


def summed(members: np.ndarray, others: np.ndarray, **room: int) -> dict:
    summary = MembershipSummary(**room)
    for scores, member in ((members, True), (others, False)):
        for score in scores.tolist():
            summary.add(dict.fromkeys(SCORES, score) | {"reference": None}, member=member)
    found = summary.result()
    assert found is not None
    return found


def test_a_sample_of_labelled_texts_ranks_as_all_do_within_its_interval_and_is_named() -> None:
    random = np.random.default_rng(0)
    within, errors = 0, []
    for _ in range(100):
        members, others = random.normal(1, 1, 1000), random.normal(0, 1, 3000)
        exact = summed(members, others)
        found = summed(members, others, room=200)
        assert exact["sample"] is None
        assert found["sample"] == {"n_members": 200, "n_others": 200, "seed": SEED}
        assert (found["n_members"], found["n_others"]) == (1000, 3000)
        area, reference = found["loss"]["auc"], exact["loss"]["auc"]["auc"]
        assert (area["n_members"], area["n_others"]) == (200, 200)
        assert found["reference"] is None
        within += area["low"] <= reference <= area["high"]
        errors.append(area["auc"] - reference)
    # The interval is for what all texts are drawn from; all of these lie nearer to it than that.
    assert within >= 93
    assert abs(np.mean(errors)) < 4 * np.std(errors) / math.sqrt(len(errors))
    assert found == summed(members, others, room=200)


def test_only_the_kind_of_which_there_are_many_is_sampled() -> None:
    members, others = np.arange(50.0), np.arange(500.0)
    found = summed(members, others, room=100)
    assert found["sample"] == {"n_members": 50, "n_others": 100, "seed": SEED}
    assert (found["n_members"], found["n_others"]) == (50, 500)
