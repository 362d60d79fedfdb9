"""The structure of a report: sections of blocks. It knows no layout, and its strings are plain text."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from app.plots import Drawing

# How a column is set: `text` wraps, `number` stands to the right, `code` is monospaced and breaks anywhere.
Column: TypeAlias = Literal["text", "number", "code"]
NUMBER: Final[Column] = "number"
Outcome: TypeAlias = Literal["pass", "fail", "inconclusive", "none"]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Prose."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """Sentences that stand below each other."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells below a header; the first cell of each row names it."""

    caption: str
    header: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """Plots, and beside them the numbers that they show."""

    drawings: tuple[Drawing, ...]
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A formula in the notation of Typst's math mode, and the same in words for who does not see it."""

    math: str
    words: str


@dataclass(frozen=True, slots=True)
class Code:
    """What is typed or sent, line by line."""

    text: str


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A submitted text."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How something was judged, in one word and one sentence; `none` where nothing was to judge by."""

    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """Begins a part of a section."""

    text: str


Block: TypeAlias = Paragraph | Bullets | Table | Figure | Formula | Code | Excerpt | Verdict | Heading


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report; `name` is that of its anchor."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report.

    Attributes:
        title: what it is about.
        facts: pairs of a name and a value that identify it.
        finished: when the work ended, in ISO 8601: the report has no other clock.
        sections: in the order of reading.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    finished: str
    sections: tuple[Section, ...]
