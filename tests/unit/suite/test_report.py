"""What the report makes of numbers whose truth is known."""

import numpy as np
import pytest

from app.contracts.texts import TextRecord
from workers.science.scoring.texts import TextScore
from workers.suite.report.audit import Audited
from workers.suite.report.dose_response import dose_response
from workers.suite.report.finding import ALL, OWN_GROUPS
from workers.suite.report.minimal_pair import minimal_pair
from workers.suite.report.paired import BEYOND, DIFFERENCE, compare, excludes_zero, shown_both_ways, verdict
from workers.suite.report.separation import separation

LEVELS = {0: 60, 1: 30, 16: 12}
FORM = {"copyright/passages": -0.3, "privacy/biographies": 2.0, "test_set/multiple_choice": 5.0}
DOSE = {0: 0.0, 1: 0.0, 16: 1.0}


def score(nl, recited):
    return TextScore(
        n_tokens=100,
        n_bytes=400,
        nl=nl,
        metrics={
            "extraction": {"strict": recited},
            "membership": dict.fromkeys(("loss", "zlib", "min_k", "min_k_pp"), nl),
        },
    )


@pytest.fixture(scope="module")
def audited():
    """Groups that gain by their form, and texts of level 16 that gain 1 nat a token beyond that.

    A planted group has no texts that were never inserted, and none long enough to split.
    """
    rng = np.random.default_rng(0)
    texts, standard, perturbed = [], [], []
    for group, form in FORM.items():
        for level, count in LEVELS.items():
            for _ in range(count):
                texts.append(TextRecord(id=f"t{len(texts)}", text="a", group=group, duplicates=level))
                nl = -6 + rng.normal(scale=0.5)
                standard.append(score(nl, recited=False))
                gain = form + DOSE[level] + rng.normal(scale=0.1)
                perturbed.append(score(nl + gain, recited=level == 16))
    for _ in range(3):
        texts.append(TextRecord(id=f"p{len(texts)}", text="a", group="planted", duplicates=7))
        standard.append(score(-5.0, recited=None))
        perturbed.append(score(-1.0 + rng.normal(scale=0.1), recited=None))
    return Audited(tuple(texts), {"standard": standard, "perturbed": perturbed})


def found(rows, group, duplicates, measure):
    (row,) = [r for r in rows if (r.group, r.duplicates, r.measure) == (group, duplicates, measure)]
    return row


def test_what_a_form_gains_is_taken_off_what_a_text_gains(audited):
    """Oracle: the gains that the numbers were drawn with."""
    rows = compare(audited, "perturbed", "standard")
    for group, form in FORM.items():
        inserted = found(rows, group, 16, DIFFERENCE)
        assert inserted.low < form + 1 < inserted.high
        beyond = found(rows, group, 16, BEYOND)
        assert beyond.low < 1 < beyond.high
        assert beyond.high - beyond.low < 0.3
        nothing = found(rows, group, 1, BEYOND)
        assert nothing.low < 0 < nothing.high
    assert found(rows, "planted", 7, DIFFERENCE).value == pytest.approx(4.0, abs=0.3)
    assert not [row for row in rows if row.group == "planted" and row.measure == BEYOND]
    assert found(rows, ALL, 16, DIFFERENCE).n == 36


def test_a_verdict_names_the_levels_that_show_something(audited):
    rows = compare(audited, "perturbed", "standard")
    said = verdict(rows, "privacy/biographies", "more", "less")
    assert said.startswith("privacy/biographies: more at 16; no difference is shown at 1 duplicates. At 16: ")
    reverse = compare(audited, "standard", "perturbed")
    assert ": less at 16; " in verdict(reverse, "privacy/biographies", "more", "less")
    assert "nothing to compare with" in verdict(rows, "planted", "more", "less")


def test_a_difference_at_the_ceiling_does_not_count():
    """Both models recite the text of level 64; what changes for other texts is not a change of it."""
    rng = np.random.default_rng(1)
    texts, first, second = [], [], []
    for level, nl, change in ((0, -3.0, -0.3), (4, -2.0, -0.8), (64, -0.02, 0.0)):
        for _ in range(30):
            texts.append(TextRecord(id=f"t{len(texts)}", text="a", group="g", duplicates=level))
            second.append(score(nl, recited=level == 64))
            first.append(score(nl + change + rng.normal(scale=abs(change) / 10 + 1e-4), recited=level == 64))
    rows = compare(Audited(tuple(texts), {"first": first, "second": second}), "first", "second")
    assert excludes_zero(found(rows, "g", 64, BEYOND))
    assert [(row.group, row.duplicates) for row in shown_both_ways(rows)] == [("g", 4)]


def test_scores_separate_what_was_inserted_often_and_nothing_else(audited):
    finding = separation(audited)
    assert {row.group for row in finding.rows} == set(OWN_GROUPS)
    for group in FORM:
        assert found(finding.rows, group, 16, "reference").value == pytest.approx(1.0)
        for measure in ("loss", "reference"):
            halves = found(finding.rows, group, 0, measure)
            assert halves.n == LEVELS[0] // 2
            assert halves.low < 0.5 < halves.high
        said = next(said for said in finding.answers if said.startswith(group))
        assert "reference from 16 on. AUC of the loss at 16: " in said


def test_shares_count_only_texts_that_can_tell(audited):
    finding = dose_response(audited)
    assert found(finding.rows, "privacy/biographies", 16, "strict").value == 1.0
    assert found(finding.rows, "planted", 7, "NL").n == 3
    assert not [row for row in finding.rows if (row.group, row.measure) == ("planted", "strict")]
    (grid,) = finding.grids
    assert grid.header == ("texts", "duplicates", "n", "NL", "strict")
    assert grid.lines[-1][:3] == ("planted", "7", "3")
    assert not grid.lines[-1][4]


def test_the_standard_model_is_said_to_recite_what_it_recites(audited):
    assert (
        minimal_pair(audited).answers[-1]
        == f"The standard model recites 0 of the {len(audited.texts)} texts."
    )
