"""The numbers of an edit's proof as one flat list: what each language model holds, and what changed.

Curves of relearning and readings by layer are no single numbers; the edit itself has them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from app.contracts.results.evaluations import Evaluation
from app.contracts.results.proof import HELD_MEANS, Held, MembershipChange, PairedMean, PairedShare
from app.contracts.texts import TextSetRole
from app.evidence.record import ModelRole

Bounds = tuple[float | None, float | None]
_Compared = PairedMean | PairedShare | MembershipChange
_SHARE: Final[Bounds] = (0.0, 1.0)
_CHANGE_OF_SHARE: Final[Bounds] = (-1.0, 1.0)
_CHANGED: Final = "The edited model's less the base's, text by text: "
_RECITED: Final = {
    "strict": "share of texts recited exactly; negative: fewer are.",
    "loose": "share of texts recited with a similarity of at least 0.75; negative: fewer are.",
}
_NL: Final = "mean log-likelihood per token in nats; negative: less likely."
_MEMBERSHIP: Final = (
    "ROC AUC by which the score {} tells the texts from those never inserted, 0 to 1. 0.5 is chance; below "
    "it a model avoids the texts."
)
_EXTRACTABLE: Final = "Share of texts that so many samples recite with a probability of at least a half."
_GENERATED: Final = {
    "exact": "Share of texts whose suffix greedy decoding says by itself.",
    "similarity": "Mean similarity of what greedy decoding says by itself to the suffix, 0 to 1.",
}


@dataclass(frozen=True, slots=True)
class Proved:
    """One number of a proof.

    Attributes:
        model: the language model that it is of.
        texts: whose texts.
        name: with dots.
        description: what it measures, its sign and its range.
        found: the number with its interval; None if it was not measured.
        within: the least and the most that it can be; None at a side without a bound.
        changed: whether it is what became of the base's number.
    """

    model: ModelRole
    texts: TextSetRole
    name: str
    description: str
    found: Any
    within: Bounds = (None, None)
    changed: bool = False


def proved(evaluation: Evaluation) -> Iterator[Proved]:
    """What was measured beside the audits, and what changed of their numbers."""
    for role, measured in evaluation.sets.items():
        yield _change(role, "nl", _NL, measured.nl.change)
        for name, what in _RECITED.items():
            yield _change(role, name, what, getattr(measured, name).change, _CHANGE_OF_SHARE)
    for role, by_score in (evaluation.membership or {}).items():
        for score, change in by_score.items():
            yield from _compared(role, f"membership.{score}", _MEMBERSHIP.format(score), change, _SHARE)
    proof = evaluation.proof
    if proof is None:
        return
    for role, held in proof.held.items():
        yield from _held(role, held)
    for role, generated in (proof.generated or {}).items():
        for name, what in _GENERATED.items():
            yield from _compared(role, f"generated.{name}", what, getattr(generated, name), _SHARE)


def _held(role: TextSetRole, held: Held) -> Iterator[Proved]:
    for name, within in HELD_MEANS.items():
        what = str(Held.model_fields[name].description)
        yield from _compared(role, name, what, getattr(held, name), within)
    for each in held.extractable:
        yield from _compared(role, f"extractable.{each.samples}", _EXTRACTABLE, each, _SHARE)


def _compared(role: TextSetRole, name: str, what: str, found: _Compared, within: Bounds) -> Iterator[Proved]:
    """A number of each language model, and what changed."""
    for model, value in (
        (ModelRole.BASE, found.before),
        (ModelRole.EDITED, found.after),
        (ModelRole.REFERENCE, found.reference),
    ):
        yield Proved(model, role, name, what, value, within)
    yield _change(role, name, what, found.change, _CHANGE_OF_SHARE if within == _SHARE else (None, None))


def _change(role: TextSetRole, name: str, what: str, change: Any, within: Bounds = (None, None)) -> Proved:
    return Proved(ModelRole.EDITED, role, f"{name}.change", _CHANGED + what, change, within, changed=True)
