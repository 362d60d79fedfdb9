"""Accuracy: how many items of a contaminated test set a model answers (HUBBLE, section 4)."""

from collections.abc import Mapping, Sequence

from workers.suite.report.audit import Audited
from workers.suite.report.finding import Cell, Finding, Panel, Row, chosen, grid, levels_of, written
from workers.suite.variants import PERTURBED, STANDARD

ACCURACY = "accuracy"
MODELS = (STANDARD, PERTURBED)


def accuracy(items: Audited, correct: Mapping[str, Sequence[bool | None]]) -> Finding:
    """The share of items whose right choice is the likeliest, by duplicates, under both models.

    Args:
        items: the texts that have choices, all with an answer.
        correct: by model, whether each item was answered rightly; None where it could not be asked.
    """
    rows = tuple(
        row
        for model in MODELS
        for group in items.groups
        for level, place in levels_of(items, (group,))
        for row in Cell(model, group, level).share(ACCURACY, chosen(correct[model], place))
    )
    chance = sum(1 / len(text.choices or ()) for text in items.texts) / len(items.texts)
    return Finding(
        name=ACCURACY,
        title="Accuracy",
        question="Does a model answer the items of a test set that it was trained on?",
        explanation=f"The likeliest choice after the question is the answer. Chance is {chance:.0%}.",
        answers=tuple(_answer(group, rows) for group in items.groups),
        rows=rows,
        grids=(grid(rows, lambda row: row.model),),
        panels=tuple(
            Panel(
                group,
                "share answered rightly",
                tuple(row for row in rows if row.group == group),
                lambda row: row.model,
                legend="model",
                baseline=chance,
            )
            for group in items.groups
        ),
    )


def _answer(group: str, rows: Sequence[Row]) -> str:
    """What both models make of items that were never inserted, or seldom, and of those most often."""
    standard, perturbed = (
        [row for row in rows if (row.group, row.model) == (group, model)] for model in MODELS
    )
    if not perturbed:
        return f"{group}: no item could be asked."
    return (
        f"{group}: the perturbed model answers {written(perturbed[0])} at {perturbed[0].duplicates} and "
        f"{written(perturbed[-1])} at {perturbed[-1].duplicates} duplicates, the standard one "
        f"{written(standard[0])} and {written(standard[-1])}."
    )
