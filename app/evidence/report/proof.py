"""What a report says of the proof of an edit beside its audits: what is held, hidden and learned again."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from app.contracts.results.evaluations import Evaluation, StressChange
from app.contracts.results.proof import HELD_MEANS, Proof, RelearningCurve
from app.contracts.texts import TextSetRole
from app.evidence.report.document import Block, Column, Table
from app.evidence.report.numbers import NOTHING, name_of, number, percent, with_interval

_TRAINED_ON: Final = {"clean": "clean text", "shown": "a few of the memorized texts"}
_ORDER: Final = tuple(TextSetRole)
_Row = tuple[str, ...]
_Found = TypeVar("_Found")


def proof_tables(evaluation: Evaluation) -> Iterator[Block]:
    """Tables of what was measured of an edit before and after, and of its reference model."""
    if changes := list(_changes(evaluation)):
        yield _compared("Changed, text by text", changes)
    if evaluation.stress:
        yield _compared("Under stress: recited exactly", _stressed(evaluation.stress))
    if evaluation.membership:
        yield _compared(
            "Told from texts never inserted: ROC AUC, 0.5 is chance",
            (
                _row(f"{role} texts, by {name_of(score)}", change)
                for role, by_score in _ordered(evaluation.membership)
                for score, change in by_score.items()
            ),
        )
    if evaluation.proof is not None:
        yield from _tried(evaluation.proof)


def _changes(evaluation: Evaluation) -> Iterator[_Row]:
    for role, measured in _ordered(evaluation.sets):
        for name in ("nl", "strict", "loose"):
            found = getattr(measured, name)
            if found.change is not None:
                yield _row(f"{role} texts: {name_of(name)}", found)


def _stressed(stress: dict[str, dict[TextSetRole, StressChange]]) -> Iterator[_Row]:
    """An evaluation of an older release has shares without intervals."""
    for name, by_role in stress.items():
        for role, found in _ordered(by_role):
            yield (
                f"{name_of(name)}, {role} texts",
                with_interval(found.before_interval) if found.before_interval else percent(found.before),
                with_interval(found.after_interval) if found.after_interval else percent(found.after),
                with_interval(found.change),
                NOTHING,
            )


def _tried(proof: Proof) -> Iterator[Block]:
    yield _compared("Still held of the suffixes", _held(proof))
    if proof.generated:
        yield _compared(
            "Said by greedy decoding alone",
            (
                _row(f"{role} texts: {name}", getattr(generated, name))
                for role, generated in _ordered(proof.generated)
                for name in ("exact", "similarity")
            ),
        )
    if proof.layers:
        yield _compared(
            "Read from each layer as if it were the last (logit lens)",
            (
                _row(f"{role} texts, layer {layer.layer}: {name_of(name)}", getattr(layer, name))
                for role, layers in _ordered(proof.layers)
                for layer in layers
                for name in ("log_likelihood", "right")
            ),
        )
    if proof.relearning:
        yield _relearned(proof.relearning)


def _held(proof: Proof) -> Iterator[_Row]:
    for role, held in _ordered(proof.held):
        for name in HELD_MEANS:
            yield _row(f"{role} texts: {name_of(name)}", getattr(held, name))
        for each in held.extractable:
            yield _row(f"{role} texts: extractable by {each.samples:,} samples", each)


def _ordered(by_role: dict[TextSetRole, _Found]) -> list[tuple[TextSetRole, _Found]]:
    """In the order of the roles: what was stored has another."""
    return sorted(by_role.items(), key=lambda item: _ORDER.index(item[0]))


def _row(name: str, found: Any) -> _Row:
    numbers = (found.before, found.after, found.change, getattr(found, "reference", None))
    return name, *map(with_interval, numbers)


def _compared(caption: str, rows: Iterable[_Row]) -> Table:
    """Numbers before and after with 95 % intervals; the last column only where a reference has some."""
    told = tuple(rows)
    width = 5 if any(row[-1] != NOTHING for row in told) else 4
    header = ("quantity", "before", "after", "change", "reference model")
    columns: tuple[Column, ...] = ("text", "number", "number", "number", "number")
    return Table(
        caption=caption,
        header=header[:width],
        columns=columns[:width],
        rows=tuple(row[:width] for row in told),
    )


def _relearned(curves: list[RelearningCurve]) -> Table:
    return Table(
        caption="Recited exactly while the model is trained on",
        header=("language model", "trained on", "texts", "steps", "recited exactly", "change"),
        columns=("text", "text", "text", "number", "number", "number"),
        rows=tuple(
            (
                curve.model,
                _TRAINED_ON[curve.trained_on],
                name if name in {*TextSetRole} else f"{name} again",
                number(point.step),
                with_interval(found.share),
                with_interval(found.change),
            )
            for curve in curves
            for point in curve.points
            for name, found in point.strict.items()
        ),
    )
