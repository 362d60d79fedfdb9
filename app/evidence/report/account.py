"""What a report says that depends on the kind of work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.evidence.record import EvidenceRecord, RecordedModel
from app.evidence.report.document import Block
from app.evidence.report.numbers import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The parts of a report that an audit, a study and an edit tell differently.

    Attributes:
        title: of the report.
        question: what was asked, in one sentence.
        short: what was found, a sentence each.
        judged: how the work itself was judged, apart from gates.
        numbers: tables.
        figures: plots with their tables.
        limits: what this work cannot show, a sentence each.
        path: where the work was requested.
        request: what was sent there.
    """

    title: str
    question: str
    short: tuple[str, ...]
    numbers: tuple[Block, ...]
    figures: tuple[Block, ...]
    limits: tuple[str, ...]
    path: str
    request: Mapping[str, Any]
    judged: tuple[Block, ...] = ()


def described(model: RecordedModel) -> str:
    """A language model in words: its name, revision and size."""
    revision = f"@{model.revision[:12]}" if model.revision else ""
    known = [
        *([model.architecture] if model.architecture else []),
        *([f"{number(model.parameters)} parameters"] if model.parameters else []),
    ]
    return f"{model.name}{revision}" + (f" ({', '.join(known)})" if known else "")


def named_text_set(record: EvidenceRecord, role: str) -> str:
    """A text set in words, by its role."""
    for each in record.text_sets:
        if each.role == role:
            return f"\u201c{each.name}\u201d"
    return "of its text set"
