"""Timing: what is left of insertions in one part of the training (HUBBLE, figure 3)."""

from workers.suite.report.audit import Audited
from workers.suite.report.dose_response import NL, STRICT, dose_rows, of_measure
from workers.suite.report.finding import ALL, OWN_GROUPS, Finding, Panel, Row, by_group, grid
from workers.suite.report.paired import BEYOND, compare, verdict
from workers.suite.variants import STANDARD, TIMING_WINDOWS, timing_model

EARLY, LATE = timing_model(0, 25), timing_model(75, 100)


def timing(audited: Audited) -> Finding:
    """NL at the end of the training by the window of the insertions, and late less early ones."""
    models = [STANDARD, *(timing_model(*window) for window in TIMING_WINDOWS)]
    rows = [row for model in models for row in dose_rows(audited, model)]
    differences = compare(audited, LATE, EARLY)
    pooled = [row for row in rows if row.group == ALL]
    return Finding(
        name="timing",
        title="Timing",
        question="Is a text forgotten that was seen early in training and not again?",
        explanation=(
            "NL of texts inserted in (75,100) less NL if inserted in (0,25), beyond the same of texts that "
            "were never inserted:"
        ),
        answers=tuple(
            verdict(differences, group, "(0,25) ends lower", "(0,25) ends higher")
            for group in OWN_GROUPS
            if group in audited.groups
        ),
        rows=(*rows, *differences),
        grids=(
            grid(of_measure(pooled, NL), lambda row: f"NL, {window(row)}"),
            grid(of_measure(pooled, STRICT), lambda row: f"strict, {window(row)}"),
            grid(by_group(differences), lambda row: f"(75,100) less (0,25), {row.measure}"),
        ),
        panels=(
            Panel(
                "At the end of the training",
                "NL, nats a token",
                of_measure(pooled, NL),
                window,
                legend="inserted in, % of training",
            ),
            Panel(
                "(75,100) less (0,25), beyond never inserted",
                "difference of NL, nats a token",
                of_measure(by_group(differences), BEYOND),
                lambda row: row.group,
                baseline=0.0,
            ),
        ),
    )


def window(row: Row) -> str:
    """The part of the training that took the insertions, as HUBBLE writes it."""
    return "never" if row.model == STANDARD else f"({row.model.partition('/')[2].replace('-', ',')})"
