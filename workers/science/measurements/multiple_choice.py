"""`multiple_choice`: which of several answers the model finds likeliest.

Sources: lm-evaluation-harness 0.4.13, `output_type: multiple_choice` (`acc`, `acc_norm`); HUBBLE
(arXiv 2510.19811), its tasks of test sets, biographies and chats.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from workers.science.measurements.measurement import MeasuredText, Measurement, OnProgress, Subject
from workers.science.measurements.metadata import AskedCounts, AskedStatus, read_asked
from workers.science.measurements.questions import NAME, Question, question_of
from workers.science.metrics.metric import MetricResult
from workers.science.progress import counted_from

# Enough to fill many batches.
_CHARACTERS_AT_ONCE: Final = 2**20


def judged(question: Question, log_likelihoods: Sequence[float]) -> MetricResult:
    """Which choice is the likeliest, and where the right one stands.

    Of equally likely choices the first counts. Length-normalised log-likelihoods are divided by the number
    of characters of the choice (harness: `acc_norm`).

    Args:
        question: with its choices.
        log_likelihoods: of each choice, in nats, at most 0.
    """
    # An empty choice has no length to divide by, and nothing to say against one.
    lengths = [max(1, len(choice)) for choice in question.choices]
    by_length = [number / length for number, length in zip(log_likelihoods, lengths, strict=True)]
    chosen, chosen_normalized = _first_greatest(log_likelihoods), _first_greatest(by_length)
    right = log_likelihoods[question.answer]
    others = [number for place, number in enumerate(log_likelihoods) if place != question.answer]
    ahead = [
        number > right or (number == right and place < question.answer)
        for place, number in enumerate(log_likelihoods)
    ]
    return {
        "status": "ok",
        "chosen": chosen,
        "correct": chosen == question.answer,
        "chosen_normalized": chosen_normalized,
        "correct_normalized": chosen_normalized == question.answer,
        "rank": 1 + sum(ahead),
        "margin": right - max(others) if others else None,
        "log_likelihoods": list(log_likelihoods),
    }


def _first_greatest(numbers: Sequence[float]) -> int:
    return max(range(len(numbers)), key=numbers.__getitem__)


def _without_numbers(status: AskedStatus) -> MetricResult:
    fields = ("chosen", "correct", "chosen_normalized", "correct_normalized", "rank", "margin")
    return {"status": status, **dict.fromkeys(fields), "log_likelihoods": None}


def log_likelihoods_of(
    subject: Subject, questions: Sequence[Question], on_progress: OnProgress
) -> Iterator[list[float] | None]:
    """The log-likelihoods of each question's choices, in nats; None where one cannot be scored.

    Args:
        subject: what is measured, and how.
        questions: the questions.
        on_progress: told how many questions are done, about; may raise to stop the work.
    """
    done = 0
    for part in _parts(questions):
        yield from _scored(subject, part, counted_from(done, on_progress))
        done += len(part)
        on_progress(done)


def _parts(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions a few at a time: a hundred choices of each ask for a hundred times its tokens."""
    part: list[Question] = []
    room = _CHARACTERS_AT_ONCE
    for question in questions:
        characters = sum(len(context) + len(text) for context, text in question.asked)
        if part and characters > room:
            yield part
            part, room = [], _CHARACTERS_AT_ONCE
        part.append(question)
        room -= characters
    if part:
        yield part


def _scored(
    subject: Subject, questions: Sequence[Question], on_progress: OnProgress
) -> list[list[float] | None]:
    from workers.science.scoring.continuations import (  # noqa: PLC0415 - brings torch
        Continuation,
        continuation_log_likelihoods,
    )

    continuations = [Continuation(*pair) for question in questions for pair in question.asked]
    found = iter(
        continuation_log_likelihoods(
            subject.language_model,
            continuations,
            subject.prefix_token,
            subject.scoring.special_tokens,
            lambda done: on_progress(done * len(questions) // len(continuations)),
        )
    )
    scored: list[list[float] | None] = []
    for question in questions:
        numbers = [number for number in islice(found, len(question.asked)) if number is not None]
        scored.append(numbers if len(numbers) == len(question.asked) else None)
    return scored


def _measure(
    subject: Subject, texts: Sequence[MeasuredText], on_progress: OnProgress
) -> list[MetricResult | None]:
    statuses, questions = read_asked(texts, question_of)
    found: list[MetricResult | None] = [_without_numbers(status) for status in statuses]
    answers = log_likelihoods_of(subject, list(questions.values()), on_progress)
    for (place, question), numbers in zip(questions.items(), answers, strict=True):
        found[place] = _without_numbers("unscorable") if numbers is None else judged(question, numbers)
    return found


MEASUREMENT: Final = Measurement(name=NAME, measure=_measure, summary=AskedCounts)
