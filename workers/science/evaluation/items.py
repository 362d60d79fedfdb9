"""Questions with a known answer: the likeliest choice, and short answers recited exactly."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from workers.science.evaluation.stress import recites
from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.multiple_choice import MEASUREMENT as MULTIPLE_CHOICE
from workers.science.measurements.options import MeasurementOptions
from workers.science.models.loading import LanguageModel
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.texts import PrefixTokenChoice, ScoringOptions, TextInput

_CHOICES = ScoringOptions(metrics=frozenset(), token_evidence=False)
# Few enough to stay small, enough to fill batches.
_ITEMS_AT_ONCE = 256

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of `n` items were right, as a share; None without items."""

    n: int
    accuracy: float | None


def choices_right(
    language_model: LanguageModel,
    items: Iterable[MeasuredText],
    prefix_token: PrefixTokenChoice = "auto",  # noqa: S107 - a token of the vocabulary
) -> Iterator[bool | None]:
    """Of each item in order, whether its right choice is the likeliest; None where it cannot be asked.

    The items are gone through a few at a time. `prefix_token` stands before a question.
    """
    options = replace(_CHOICES, prefix_token=prefix_token)
    subject = Subject(
        language_model=language_model,
        prefix_token=resolve_prefix_token(prefix_token, language_model),
        scoring=options,
        options=MeasurementOptions(),
    )
    for part in _parts(items):
        for found in MULTIPLE_CHOICE.measure(subject, part, lambda _: None):
            correct = None if found is None else found["correct"]
            yield None if correct is None else bool(correct)


def answers_right(
    language_model: LanguageModel,
    items: Iterable[TextInput],
    prefix_token: PrefixTokenChoice = "auto",  # noqa: S107 - a token of the vocabulary
) -> Iterator[bool | None]:
    """Of each item in order, whether greedy decoding says its suffix after its prefix; None without one.

    The items are gone through a few at a time. `prefix_token` stands before a prefix.
    """
    options = ScoringOptions(prefix_token=prefix_token)
    for part in _parts(items):
        yield from recites(language_model, part, options)


def _parts(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    remaining = iter(items)
    while part := list(islice(remaining, _ITEMS_AT_ONCE)):
        yield part


def accuracy_of(answered: Iterable[bool | None]) -> Accuracy:
    """The share of right answers among questions that could be asked.

    Args:
        answered: as `choices_right` and `answers_right` say.
    """
    n = right = 0
    for correct in answered:
        n += correct is not None
        right += correct or 0
    return Accuracy(n, right / n if n else None)
