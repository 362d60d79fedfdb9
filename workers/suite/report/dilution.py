"""Dilution: the same insertions in a corpus twice as long (HUBBLE, 100 and 500 billion tokens)."""

from collections.abc import Sequence

from workers.suite.report.audit import Audited
from workers.suite.report.dose_response import NL, STRICT, dose_rows, of_measure
from workers.suite.report.finding import ALL, OWN_GROUPS, Finding, Panel, Row, by_group, grid, written
from workers.suite.report.paired import DIFFERENCE, compare, levels, shown_both_ways
from workers.suite.variants import DILUTION, PERTURBED


def dilution(audited: Audited) -> Finding:
    """NL and strict of both models, the paired difference, and how far that goes beyond longer training."""
    rows = [row for model in (PERTURBED, DILUTION) for row in dose_rows(audited, model)]
    differences = compare(audited, DILUTION, PERTURBED)
    shown = shown_both_ways(differences)
    pooled = [row for row in rows if row.group == ALL]
    return Finding(
        name="dilution",
        title="Dilution",
        question="Is a text inserted as often memorized less in a corpus twice as long?",
        explanation=(
            "A difference of NL counts if it excludes 0 both as it is and beyond the same of texts that were "
            "never inserted. Where a text is recited whole anyway, dilution cannot show."
        ),
        answers=tuple(
            _answer(group, shown, of_measure(rows, STRICT)) for group in OWN_GROUPS if group in audited.groups
        ),
        rows=(*rows, *differences),
        grids=(grid(by_group([*rows, *differences]), _column),),
        panels=(
            *(
                Panel(title, y_title, of_measure(pooled, measure), lambda row: row.model, legend="model")
                for title, y_title, measure in (
                    ("Likelihood, all three", "NL, nats a token", NL),
                    ("Recitation, all three", "share recited strictly", STRICT),
                )
            ),
            Panel(
                "Diluted less perturbed",
                "difference of NL, nats a token",
                of_measure(by_group(differences), DIFFERENCE),
                lambda row: row.group,
                baseline=0.0,
            ),
        ),
    )


def _answer(group: str, shown: Sequence[Row], strict: Sequence[Row]) -> str:
    """Where NL is shown to differ, and where the share of recited texts differs most."""
    less = levels(row for row in shown if row.group == group and row.value < 0) or "no number of"
    more = levels(row for row in shown if row.group == group and row.value > 0) or "none"
    before, after = (
        {row.duplicates: row for row in strict if (row.model, row.group) == (model, group)}
        for model in (PERTURBED, DILUTION)
    )
    place = max(before, key=lambda duplicates: abs(after[duplicates].value - before[duplicates].value))
    if before[place].value == after[place].value:
        recited = "As many texts are recited at every number."
    else:
        recited = (
            f"Recitation differs most at {place}: strict {written(before[place])} if perturbed, "
            f"{written(after[place])} if diluted."
        )
    return f"{group}: the diluted model's NL is lower at {less} duplicates, higher at {more}. {recited}"


def _column(row: Row) -> str:
    return f"{row.measure}, {row.model}" if row.measure in (NL, STRICT) else row.measure
