"""How a text with choices asks its question: what stands before each choice, and what is scored."""

from dataclasses import dataclass
from typing import Final

from workers.science.measurements.measurement import MeasuredText
from workers.science.measurements.metadata import MetadataMalformed, asked_of, string

NAME: Final = "multiple_choice"
# What lm-evaluation-harness puts between a question and an answer unless a task says otherwise.
_DELIMITER: Final = " "
_FIELDS: Final = frozenset({"question", "target", "delimiter"})
# Characters of the longest label, such as `(a) `.
_LABEL: Final = 4


@dataclass(frozen=True, slots=True)
class Question:
    """A question with several answers.

    Attributes:
        choices: the answers; their lengths in characters normalise.
        answer: the index of the right one.
        asked: for each choice, the context and the text that is scored after it.
    """

    choices: tuple[str, ...]
    answer: int
    asked: tuple[tuple[str, str], ...]


def question_of(text: MeasuredText) -> Question | None:
    """The question that a text asks; None if it has no choices, or none of them is the right one.

    Raises:
        MetadataMalformed: the metadata asks in a form that is none.
    """
    if not text.choices or text.answer is None:
        return None
    choices, answer = text.choices, text.answer
    found = asked_of(text, NAME, _FIELDS)
    if found is not None:
        if ("question" in found) == ("target" in found):
            raise MetadataMalformed
        delimiter = string(found, "delimiter", _DELIMITER)
        if "target" in found:
            target = delimiter + string(found, "target")
            return Question(choices, answer, tuple((choice, target) for choice in choices))
        return _after(string(found, "question"), delimiter, choices, answer)
    if text.text.prefix is not None and text.text.suffix is not None:
        suffix, right = text.text.suffix, choices[answer]
        delimiter = suffix.removesuffix(right) if suffix.endswith(right) else _DELIMITER
        return _after(text.text.prefix, delimiter, choices, answer)
    return _of_whole_text(text.text.text, choices, answer)


def _of_whole_text(text: str, choices: tuple[str, ...], answer: int) -> Question:
    """A text that lists its choices and ends with the right one asks what stands before it.

    Label and choice together are the answer, so that the question gives no label away. Other texts are the
    question as they are.
    """
    listed = _as_listed(text, choices)
    if listed is None or not text.endswith(listed[answer]):
        return _after(text, _DELIMITER, choices, answer)
    before = text.removesuffix(listed[answer])
    question = before.rstrip()
    return _after(question, before[len(question) :], listed, answer)


def _as_listed(text: str, choices: tuple[str, ...]) -> tuple[str, ...] | None:
    """The choices with their labels, if any (`B. the red bowl`), if lines before the last list them all."""
    lines = text.splitlines()[:-1]
    listed = [
        next((line for line in lines if line.endswith(choice) and len(line) - len(choice) <= _LABEL), None)
        for choice in choices
    ]
    labelled = tuple(line for line in listed if line is not None)
    return labelled if len(set(labelled)) == len(choices) else None


def _after(question: str, delimiter: str, choices: tuple[str, ...], answer: int) -> Question:
    return Question(choices, answer, tuple((question, delimiter + choice) for choice in choices))
