"""Paraphrase: is it the words that are memorized, or what they say (HUBBLE's paraphrase models)?"""

from workers.science.statistics.intervals import Moments
from workers.suite.report.audit import Audited
from workers.suite.report.dose_response import of_measure
from workers.suite.report.finding import (
    ALL,
    Cell,
    Finding,
    Panel,
    Row,
    by_group,
    grid,
    levels_of,
    named_groups,
    written,
)
from workers.suite.variants import PARAPHRASE, PERTURBED, STANDARD

OWN, UNSEEN, PREFERENCE = "NL of own words", "NL of an unseen wording", "prefers own words"
_MODELS = (STANDARD, PERTURBED, PARAPHRASE)


def paraphrase(own: Audited, unseen: Audited) -> Finding:
    """NL of own words and of a wording that no model saw, and the share whose own words are likelier.

    Args:
        own: the texts that have other wordings, in their own words.
        unseen: the same texts in a wording that was never inserted.
    """
    rows: list[Row] = []
    for model in _MODELS:
        nl, other = own.nl(model), unseen.nl(model)
        for name, groups in named_groups(own).items():
            for level, place in levels_of(own, groups):
                cell = Cell(model, name, level)
                rows += cell.mean(OWN, Moments.of(nl[place].tolist()))
                rows += cell.mean(UNSEEN, Moments.of(other[place].tolist()))
                rows += cell.share(PREFERENCE, (nl > other)[place].tolist())
    pooled = [row for row in rows if row.group == ALL]
    return Finding(
        name="paraphrase",
        title="Paraphrase",
        question="Does a model that never saw a text's own words, but others of the same facts, know it?",
        answers=tuple(_answer(group, rows, max(own.levels)) for group in own.groups),
        rows=tuple(rows),
        grids=tuple(
            grid(of_measure(by_group(rows), measure), lambda row: f"{row.measure}, {row.model}")
            for measure in (OWN, UNSEEN, PREFERENCE)
        ),
        panels=tuple(
            Panel(title, y_title, of_measure(pooled, measure), lambda row: row.model, legend="model")
            for title, y_title, measure in (
                ("Own words", "NL, nats a token", OWN),
                ("An unseen wording", "NL, nats a token", UNSEEN),
                ("Preference", "share whose own words are likelier", PREFERENCE),
            )
        ),
    )


def _answer(group: str, rows: list[Row], most: int) -> str:
    """What each model makes of texts that were inserted most often."""
    of_group = [row for row in rows if row.group == group]
    found, never = (
        {(row.model, row.measure): row for row in of_group if row.duplicates == level} for level in (most, 0)
    )
    own, unseen = (
        found[PARAPHRASE, measure].value - never[PARAPHRASE, measure].value for measure in (OWN, UNSEEN)
    )
    seen, others = (
        f"{written(found[model, PREFERENCE])} of these texts and "
        f"{written(never[model, PREFERENCE])} of those never inserted"
        for model in (PERTURBED, PARAPHRASE)
    )
    return (
        f"{group}: {most} other wordings raise the own words, which that model never saw, by {own:.2f} nats "
        f"a token over texts without any, and an unseen wording by {unseen:.2f}. Own words are preferred to "
        f"an unseen wording by the perturbed model, which saw them, in {seen}; by that of the paraphrases in "
        f"{others}."
    )
