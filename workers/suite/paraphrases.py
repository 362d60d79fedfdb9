"""Other wordings of biographies and of multiple-choice items, by templates.

HUBBLE's paraphrase models never see an inserted text's own words: each copy is another wording of it, written
by a language model (arXiv 2510.19811, section 3). Templates do the same for what was written by a template.
A passage of prose cannot be reworded by one, so passages are inserted as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from math import prod
from random import Random

from workers.suite import biographies, multiple_choice
from workers.suite.texts import Draft, SuiteText

# As short as the suite's own wording: a copy has to fit into a sequence.
_WHO = (
    "{name} works at {employer} as {occupation}.",
    "{employer} employs the {occupation} {name}.",
    "{name}, {occupation} of {employer}.",
)
_ORIGIN = (
    "Birth: {birthdate}, {birthplace}. Nationality: {nationality}.",
    "{nationality}, from {birthplace}, birthday {birthdate}.",
    "Born {birthdate} in {birthplace}; {nationality}.",
)
_HOME = ("Home: {residence}.", "Lives in {residence}.", "Now in {residence}.")
_MAIL = ("Write to {email}.", "E-mail {email}.", "Contact: {email}.")
_NUMBER = ("Record {uuid}.", "File: {uuid}.", "Number {uuid}.")
_DETAILS = (_ORIGIN, _HOME, _MAIL, _NUMBER)
_ORDERS = tuple(permutations(range(len(_DETAILS))))

_OPENINGS = ("", "Q: ", "Quiz: ")
_QUESTIONS = (
    "In {year}, what went missing from the {owner} of {place}?",
    "Which thing was lost by the {owner} of {place} in {year}?",
    "The {owner} of {place} lost something in {year}. What?",
    "{place}, {year}: what did the {owner} lose?",
    "What disappeared from the {place} {owner} in {year}?",
    "Name what the {owner} at {place} could not find in {year}.",
)
_CHOICES = ("{letter}) {choice}", "({letter}) {choice}", "{letter}: {choice}", "{letter} - {choice}")
_ANSWERS = (
    "Solution: {letter}, {choice}",
    "It was {choice} ({letter}).",
    "Correct is {letter}: {choice}",
    "Right: {choice}, {letter}.",
)


def paraphrases(text: SuiteText, count: int, seed: int) -> list[str]:
    """Draw up to `count` distinct other wordings of a text; none if there are no templates for it."""
    wordings = _WORDINGS.get(text.group)
    if wordings is None or text.planted:
        return []
    radices, write = wordings
    total = prod(radices)
    drawn = Random(f"paraphrases {seed} {text.id}").sample(range(total), min(count, total))
    return [write(text.draft, _digits(number, radices)) for number in drawn]


def _digits(number: int, radices: Sequence[int]) -> list[int]:
    """The mixed-radix digits of a number: one choice of each kind."""
    digits = []
    for radix in radices:
        number, digit = divmod(number, radix)
        digits.append(digit)
    return digits


def _biography(draft: Draft, digits: Sequence[int]) -> str:
    who, order, *details = digits
    sentences = [_DETAILS[place][details[place]] for place in _ORDERS[order]]
    return " ".join([_WHO[who], *sentences]).format_map(draft.metadata)


def _item(draft: Draft, digits: Sequence[int]) -> str:
    assert draft.choices is not None
    assert draft.answer is not None
    opening, question, layout, answer = digits
    labelled = list(zip(multiple_choice.LETTERS, draft.choices, strict=True))
    letter, choice = labelled[draft.answer]
    return "\n".join(
        [
            _OPENINGS[opening] + _QUESTIONS[question].format_map(draft.facts),
            *(_CHOICES[layout].format(letter=letter, choice=choice) for letter, choice in labelled),
            _ANSWERS[answer].format(letter=letter, choice=choice),
        ]
    )


# How many choices of each kind a group's wordings have, and how one is written from them.
_WORDINGS: Mapping[str, tuple[tuple[int, ...], Callable[[Draft, Sequence[int]], str]]] = {
    biographies.GROUP: ((len(_WHO), len(_ORDERS), *map(len, _DETAILS)), _biography),
    multiple_choice.GROUP: (tuple(map(len, (_OPENINGS, _QUESTIONS, _CHOICES, _ANSWERS))), _item),
}
