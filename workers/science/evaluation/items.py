"""Questions with a known answer: the likeliest choice, and short answers recited exactly."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from workers.science.models.loading import LanguageModel
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

_CHOICES = ScoringOptions(metrics=frozenset(), token_evidence=True)
_ANSWERS = ScoringOptions(metrics=frozenset({"extraction"}), token_evidence=False, decode=False)
# Few enough that a hundred choices each stay small, enough to fill batches.
_ITEMS_AT_ONCE = 256

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with its choices; `answer` is the index of the right one."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of `n` items were right, as a share; None without items."""

    n: int
    accuracy: float | None


def choice_accuracy(language_model: LanguageModel, items: Iterable[ChoiceItem]) -> Accuracy:
    """The share of items whose right choice is the likeliest continuation of the question.

    A choice's score is the sum of the log-likelihoods of its tokens after the question and a space, as
    lm-evaluation-harness scores `acc` of a multiple-choice task. Items with a choice that cannot be scored
    are left out. The items are gone through a few at a time.
    """
    return _accuracy(_answers(language_model, part) for part in _parts(items))


def _answers(language_model: LanguageModel, items: Sequence[ChoiceItem]) -> list[bool]:
    inputs = [TextInput(f"{item.question} {choice}") for item in items for choice in item.choices]
    scores = iter(score_texts(language_model, inputs, _CHOICES))
    answered = []
    for item in items:
        continuations = []
        for evidence in [next(scores).evidence for _ in item.choices]:
            if evidence is not None:
                after = evidence.offsets[:, 1] > len(item.question)
                continuations.append(float(evidence.log_likelihood[after].sum()))
        if len(continuations) == len(item.choices):
            answered.append(continuations.index(max(continuations)) == item.answer)
    return answered


def answer_accuracy(language_model: LanguageModel, items: Iterable[TextInput]) -> Accuracy:
    """The share of items whose suffix is what greedy decoding says after the prefix, such as 12 + 5 = 17."""
    return _accuracy(
        [
            bool(strict)
            for score in score_texts(language_model, part, _ANSWERS)
            if score.error is None and (strict := score.metrics["extraction"]["strict"]) is not None
        ]
        for part in _parts(items)
    )


def _parts(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    remaining = iter(items)
    while part := list(islice(remaining, _ITEMS_AT_ONCE)):
        yield part


def _accuracy(parts: Iterable[Sequence[bool]]) -> Accuracy:
    n = right = 0
    for answered in parts:
        n += len(answered)
        right += sum(answered)
    return Accuracy(n, right / n if n else None)
