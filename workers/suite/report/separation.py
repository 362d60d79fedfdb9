"""Membership: how well scores tell inserted texts from those that never were (HUBBLE, table 3)."""

from collections.abc import Iterator

import numpy as np

from workers.science.statistics.ranking import roc_auc
from workers.suite.report.audit import Audited, Floats, Mask
from workers.suite.report.finding import (
    ALL,
    Cell,
    Finding,
    Panel,
    Row,
    grid,
    levels_of,
    named_groups,
    written,
)
from workers.suite.variants import PERTURBED, STANDARD

CHANCE = 0.5
SCORES = ("loss", "zlib", "min_k", "min_k_pp")
REFERENCE = "reference"
_HALVING_SEED = 0


def separation(audited: Audited) -> Finding:
    """ROC AUC of each membership score by group and duplicates; at 0, of two halves of what never was in.

    Groups are not pooled: where they differ in likelihood, that would hide what insertions do.
    """
    scores = {name: audited.membership(PERTURBED, name) for name in SCORES}
    scores[REFERENCE] = audited.nl(PERTURBED) - audited.nl(STANDARD)
    found = {
        name: tuple(_rows(name, levels_of(audited, groups), scores))
        for name, groups in named_groups(audited).items()
        if name != ALL
    }
    found = {name: rows for name, rows in found.items() if rows}
    rows = tuple(row for of_group in found.values() for row in of_group)
    return Finding(
        name="membership",
        title="Membership",
        question="How often does a text need to be inserted until its scores give it away?",
        answers=(_halves(rows), *(_answer(name, of_group) for name, of_group in found.items())),
        rows=rows,
        grids=(grid(rows, lambda row: row.measure, digits=3),),
        panels=tuple(
            Panel(name, "ROC AUC", of_group, lambda row: row.measure, legend="score", baseline=CHANCE)
            for name, of_group in found.items()
        ),
    )


def _rows(name: str, levels: list[tuple[int, Mask]], scores: dict[str, Floats]) -> Iterator[Row]:
    """Texts at each level against those at 0; without such there is nothing to tell them from."""
    if levels[0][0]:
        return
    never = np.flatnonzero(levels[0][1])
    drawn = np.random.default_rng(_HALVING_SEED).permutation(never)
    half = len(drawn) // 2
    for level, place in levels:
        members, others = (np.flatnonzero(place), never) if level else (drawn[:half], drawn[half:])
        for score, values in scores.items():
            yield from Cell(PERTURBED, name, level).auc(score, roc_auc(values[members], values[others]))


def _halves(rows: tuple[Row, ...]) -> str:
    """What is found where there is nothing to find."""
    halves = [row for row in rows if not row.duplicates]
    around = [row for row in halves if (row.low or 0) <= CHANCE <= (row.high or 1)]
    return (
        "At 0 duplicates two halves of the texts that were never inserted are told apart, which must give "
        f"chance: {len(around)} of {len(halves)} intervals hold 0.5."
    )


def _answer(group: str, rows: tuple[Row, ...]) -> str:
    """From which number of duplicates on each score is above chance, and the AUC of the loss at the most."""
    most = rows[-1].duplicates
    (loss,) = [row for row in rows if (row.measure, row.duplicates) == (SCORES[0], most)]
    first: dict[str, list[str]] = {}
    for score in (*SCORES, REFERENCE):
        shown = [
            row.duplicates
            for row in rows
            if row.measure == score and row.duplicates and row.low is not None and row.low > CHANCE
        ]
        first.setdefault(f"from {shown[0]} on" if shown else "nowhere", []).append(score)
    said = "; ".join(f"{', '.join(scores)} {where}" for where, scores in first.items())
    return f"{group}, above chance: {said}. AUC of the loss at {most}: {written(loss, 3)}."
