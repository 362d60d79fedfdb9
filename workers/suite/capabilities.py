"""The capability set: short tasks from memory to reasoning, trained into every model of a suite.

After the spectrum of arXiv 2510.24256: an edit that drops what is recited costs tasks that live on stored
facts more than those whose answer is worked out, or stands in the prompt. An item is a prompt and the one
answer to it. Both models of a pair see the same items as documents of the background; those that are asked
later are held out. They are answered, not recited: no model has seen one as it is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from random import Random

from workers.suite.texts import Draft, SuiteText, words

LOGIC, ARITHMETIC, CLOSED_BOOK, OPEN_BOOK, COPYING = (
    "logic",
    "arithmetic",
    "closed_book",
    "open_book",
    "copying",
)

_PEOPLE = words("Abel Brit Cleo Dirk Elsa Finn Gwen Hank Iris Jude Kurt Lola Mona Nils Orla Paul Rita Sven")
_THINGS = words("""
    anchor basket bell bowl candle chest clock coin crown cup drum feather flag flute hammer harp key lamp
    mirror needle pearl ring rope spoon
""")
_COLOURS = words("black blue brown gold green grey orange pink purple red white yellow")
_ANIMALS = words("badger crane eagle fox goat hare heron lion otter owl raven salmon seal stag swan wolf")
_FIRST_SYLLABLES = words("bel dor fen gal kor lun mar nel por quel sor tal ul ven wil zan")
_LAST_SYLLABLES = words("bury dale ford gard holm mere nik stad tor wick")
# Of each fact one wording is held out; it is trained with other facts alone.
_WORDINGS = (
    "The emblem of {town} is the",
    "{town} has as its emblem the",
    "On the flag of {town} stands the",
    "Emblem of {town}: the",
    "The gate of {town} shows the",
    "People in {town} honour the",
)
_LITERALS = ("true", "false", "not true", "not false")
_OPERATORS = ("and", "or")
_OPERANDS = range(30)
_COPIED = 6  # words
# What a card says, in its order.
_CARD = {"Name": _PEOPLE, "Thing": _THINGS, "Animal": _ANIMALS, "Colour": _COLOURS}


@dataclass(frozen=True)
class Item:
    """A prompt, the answer to it, and what a document that teaches it asks and answers besides.

    `about` is what no item that is asked may have in common with one that is trained; empty: its prompt.
    """

    prompt: str
    answer: str
    more: str = ""
    about: str = ""

    @property
    def known_by(self) -> str:
        """What tells it from other items."""
        return self.about or self.prompt

    @property
    def document(self) -> str:
        """What is trained."""
        return self.prompt + self.answer + self.more


@dataclass(frozen=True)
class Lesson:
    """How much of a task is trained and asked.

    Attributes:
        documents: items in a pass over the background; a task that has fewer repeats them in turn.
        held_out: items that are asked and not trained; of the closed-book task one for each fact.
    """

    documents: int
    held_out: int


@dataclass(frozen=True)
class Drawn:
    """The items of one task: those that are trained, in the order of their documents, and those held out."""

    trained: tuple[Item, ...]
    held_out: tuple[Item, ...]


# From a lesson to what is trained, in turn, and what is held out.
Draw = Callable[[Lesson, Random], tuple[Sequence[Item], Sequence[Item]]]


def draw_capabilities(lessons: Mapping[str, Lesson], random: Random) -> dict[str, Drawn]:
    """Draw the items of each task; none that is held out is trained."""
    drawn = {}
    for task, lesson in lessons.items():
        trained, held_out = _TASKS[task](lesson, random)
        drawn[task] = Drawn(tuple(islice(cycle(trained), lesson.documents)), tuple(held_out))
    return drawn


def held_out_texts(drawn: Mapping[str, Drawn]) -> list[SuiteText]:
    """The held-out items as texts of a set: the prompt is the prefix, the answer the suffix."""
    return [
        SuiteText(
            id=f"{task.replace('_', '-')}-{number:04}",
            group=task,
            duplicates=0,
            draft=Draft(item.prompt + item.answer, split=(item.prompt, item.answer)),
        )
        for task, items in drawn.items()
        for number, item in enumerate(items.held_out)
    ]


def _drawn_by(write: Callable[[Random], Item]) -> Draw:
    """A task of many items: distinct ones are held out, and no document is one of them."""

    def draw(lesson: Lesson, random: Random) -> tuple[Sequence[Item], Sequence[Item]]:
        asked: dict[str, Item] = {}
        while len(asked) < lesson.held_out:
            item = write(random)
            asked[item.known_by] = item
        learned: list[Item] = []
        while len(learned) < lesson.documents:
            item = write(random)
            if item.known_by not in asked:
                learned.append(item)
        return learned, list(asked.values())

    return draw


def _expression(literals: int, random: Random) -> tuple[str, bool]:
    """A formula of some literals, each operation in brackets but the outermost, and its value."""
    if literals == 1:
        literal = random.choice(_LITERALS)
        return literal, literal in ("true", "not false")
    left = random.randrange(1, literals)
    parts = [_expression(count, random) for count in (left, literals - left)]
    (first, first_holds), (second, second_holds) = parts
    operator = random.choice(_OPERATORS)
    holds = (first_holds and second_holds) if operator == "and" else (first_holds or second_holds)
    bracketed = [f"( {text} )" if " and " in text or " or " in text else text for text in (first, second)]
    return f"{bracketed[0]} {operator} {bracketed[1]}", holds


def _logic(random: Random) -> Item:
    """As many true formulas as false ones."""
    wanted = random.choice((True, False))
    while True:
        text, holds = _expression(random.choice((2, 3, 3, 3)), random)
        if holds == wanted:
            return Item(f"{text} is", f" {'true' if holds else 'false'}.")


def _open_book(random: Random) -> Item:
    """A card says who, what, which animal and which colour; one is asked of, in documents all are, twice."""
    card = {name: random.choice(values) for name, values in _CARD.items()}
    told = f"Card: {', '.join(card.values())}."
    questions = [*random.sample(list(card), len(card)), *random.sample(list(card), len(card))]
    asked, *others = questions
    more = "".join(f" {name}: {card[name]}." for name in others)
    return Item(f"{told} {asked}:", f" {card[asked]}.", more, about=told)


def _copying(random: Random) -> Item:
    said = " ".join(random.sample(_THINGS, _COPIED))
    return Item(f"Copy: {said}. Copied:", f" {said}.", f" Copied: {said}.")


def _arithmetic(lesson: Lesson, random: Random) -> tuple[Sequence[Item], Sequence[Item]]:
    """Sums of two numbers, digit by digit."""
    pairs = list(product(_OPERANDS, _OPERANDS))
    random.shuffle(pairs)
    items = [Item(f"Add {_digits(a)} + {_digits(b)} =", f" {_digits(a + b)}.") for a, b in pairs]
    return items[lesson.held_out :], items[: lesson.held_out]


def _digits(number: int) -> str:
    return " ".join(str(number))


def _closed_book(lesson: Lesson, random: Random) -> tuple[Sequence[Item], Sequence[Item]]:
    """Facts in all wordings but one each, which is held out."""
    towns = [f"{first}{last}".capitalize() for first, last in product(_FIRST_SYLLABLES, _LAST_SYLLABLES)]
    trained, held_out = [], []
    for town in random.sample(towns, lesson.held_out):
        animal = random.choice(_ANIMALS)
        items = [Item(wording.format(town=town), f" {animal}.") for wording in _WORDINGS]
        held_out.append(items.pop(random.randrange(len(items))))
        trained += items
    random.shuffle(trained)
    return trained, held_out


_TASKS: Mapping[str, Draw] = {
    LOGIC: _drawn_by(_logic),
    ARITHMETIC: _arithmetic,
    CLOSED_BOOK: _closed_book,
    OPEN_BOOK: _drawn_by(_open_book),
    COPYING: _drawn_by(_copying),
}
