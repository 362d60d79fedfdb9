"""Dose and response: NL and strict extraction by duplicates in each domain (HUBBLE, figure 2)."""

from collections.abc import Sequence
from itertools import pairwise

from workers.science.statistics.intervals import Moments
from workers.suite.report.audit import Audited
from workers.suite.report.finding import (
    OWN_GROUPS,
    Cell,
    Finding,
    Panel,
    Row,
    by_group,
    chosen,
    grid,
    levels_of,
    named_groups,
)
from workers.suite.variants import PERTURBED

NL, STRICT = "NL", "strict"


def dose_response(audited: Audited) -> Finding:
    """NL and strict of the perturbed model by group and duplicates."""
    rows = dose_rows(audited, PERTURBED)
    nl, strict = of_measure(by_group(rows), NL), of_measure(by_group(rows), STRICT)
    return Finding(
        name="dose-response",
        title="Dose and response",
        question="Is a text memorized more the more often it was inserted, in each domain?",
        answers=tuple(_answer(group, nl, strict) for group in OWN_GROUPS if group in audited.groups),
        rows=rows,
        grids=(grid(rows, lambda row: row.measure),),
        panels=(
            Panel("Likelihood", "NL, nats a token", nl, lambda row: row.group),
            Panel("Recitation", "share recited strictly", strict, lambda row: row.group),
        ),
    )


def dose_rows(audited: Audited, model: str) -> tuple[Row, ...]:
    """Mean NL and the share that is recited strictly, of each group at each number of duplicates."""
    nl, strict = audited.nl(model), audited.strict(model)
    rows: list[Row] = []
    for name, groups in named_groups(audited).items():
        for level, place in levels_of(audited, groups):
            cell = Cell(model, name, level)
            rows += cell.mean(NL, Moments.of(nl[place].tolist()))
            rows += cell.share(STRICT, chosen(strict, place))
    return tuple(rows)


def of_measure(rows: Sequence[Row], measure: str) -> tuple[Row, ...]:
    """The rows of one measure."""
    return tuple(row for row in rows if row.measure == measure)


def _answer(group: str, nl: Sequence[Row], strict: Sequence[Row]) -> str:
    likelihood, recited = ([row for row in rows if row.group == group] for rows in (nl, strict))
    first, last = likelihood[0], likelihood[-1]
    return (
        f"{group}: NL {_course(likelihood)} from {first.value:.2f} at {first.duplicates} to "
        f"{last.value:.2f} at {last.duplicates} duplicates; strict {_course(recited)} from "
        f"{recited[0].value:.0%} to {recited[-1].value:.0%}."
    )


def _course(rows: Sequence[Row]) -> str:
    """How values go on from level to level."""
    steps = [after.value - before.value for before, after in pairwise(rows)]
    if all(step > 0 for step in steps):
        return "rises at every level,"
    if all(step >= 0 for step in steps):
        return "never falls from level to level,"
    return "goes, with a fall between levels,"
