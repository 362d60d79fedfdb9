"""The texts of a suite: what is inserted, how often, and the text sets written beside the models."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Draft:
    """A text before it is known how often it will be inserted."""

    text: str
    choices: tuple[str, ...] | None = None
    answer: int | None = None  # index into choices
    metadata: Mapping[str, Any] = field(default_factory=dict)
    split: tuple[str, str] | None = None  # prefix and suffix, whose concatenation is the text
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a template was filled with; not written


@dataclass(frozen=True)
class SuiteText:
    """A text with its place in the experiment."""

    id: str
    group: str
    duplicates: int
    draft: Draft
    planted: bool = False  # the user's own

    @property
    def text(self) -> str:
        """What is inserted and what is audited."""
        return self.draft.text

    def record(self) -> dict[str, Any]:
        """The text as one line of a text set."""
        record: dict[str, Any] = {
            "id": self.id,
            "text": self.text,
            "duplicates": self.duplicates,
            "group": self.group,
            "member": self.duplicates > 0,
        }
        if self.draft.split is not None:
            record |= dict(zip(("prefix", "suffix"), self.draft.split, strict=True))
        if self.draft.choices is not None:
            record["choices"] = list(self.draft.choices)
        if self.draft.answer is not None:
            record["answer"] = self.draft.answer
        if self.draft.metadata:
            record["metadata"] = dict(self.draft.metadata)
        return record


@dataclass(frozen=True)
class BackgroundText:
    """A document that every model of the suite was trained on."""

    id: str
    group: str
    text: str

    def record(self) -> dict[str, Any]:
        """The document as one line of a text set."""
        return {"id": self.id, "text": self.text, "group": self.group, "member": True}


def words(text: str) -> tuple[str, ...]:
    """The words of a list written as running text."""
    return tuple(text.split())


def write_text_set(path: Path, texts: Iterable[SuiteText | BackgroundText]) -> None:
    """Write texts as UTF-8 JSONL, one record a line, in the given order."""
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps(text.record(), ensure_ascii=False) + "\n")
