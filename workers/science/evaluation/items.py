"""Questions with a known answer: the likeliest choice, and short answers recited exactly."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.multiple_choice import MEASUREMENT as MULTIPLE_CHOICE
from workers.science.measurements.options import MeasurementOptions
from workers.science.models.loading import LanguageModel
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import PrefixTokenChoice, ScoringOptions, TextInput

_CHOICES = ScoringOptions(metrics=frozenset(), token_evidence=False)
_ANSWERS = ScoringOptions(metrics=frozenset({"extraction"}), token_evidence=False, decode=False)
# Few enough to stay small, enough to fill batches.
_ITEMS_AT_ONCE = 256

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of `n` items were right, as a share; None without items."""

    n: int
    accuracy: float | None


def choice_accuracy(language_model: LanguageModel, items: Iterable[MeasuredText]) -> Accuracy:
    """The share of items whose right choice is the likeliest continuation of their question.

    See the measurement `multiple_choice`. Items that ask nothing, or with a choice that cannot be scored, are
    left out.
    """
    return _accuracy(choices_right(language_model, items))


def answer_accuracy(language_model: LanguageModel, items: Iterable[TextInput]) -> Accuracy:
    """The share of items whose suffix is what greedy decoding says after the prefix, such as 12 + 5 = 17."""
    return _accuracy(answers_right(language_model, items))


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
            yield _known(None if found is None else found["correct"])


def answers_right(
    language_model: LanguageModel,
    items: Iterable[TextInput],
    prefix_token: PrefixTokenChoice = "auto",  # noqa: S107 - a token of the vocabulary
) -> Iterator[bool | None]:
    """Of each item in order, whether greedy decoding says its suffix after its prefix; None without one.

    The items are gone through a few at a time. `prefix_token` stands before a prefix.
    """
    options = replace(_ANSWERS, prefix_token=prefix_token)
    for part in _parts(items):
        for score in score_texts(language_model, part, options):
            yield _known(None if score.error else score.metrics["extraction"]["strict"])


def _known(found: object) -> bool | None:
    return None if found is None else bool(found)


def _parts(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    remaining = iter(items)
    while part := list(islice(remaining, _ITEMS_AT_ONCE)):
        yield part


def _accuracy(answered: Iterable[bool | None]) -> Accuracy:
    n = right = 0
    for correct in answered:
        n += correct is not None
        right += correct or 0
    return Accuracy(n, right / n if n else None)
