"""The user's own texts, inserted beside the suite's: canaries before a real training run."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from app.contracts.texts import TextRecord
from workers.suite.errors import PlantRejected
from workers.suite.texts import Draft, SuiteText
from workers.suite.tokenizer import END_OF_TEXT

GROUP = "planted"


@dataclass(frozen=True)
class Plant:
    """The texts of a file, one a line, and the digest of its bytes."""

    name: str
    texts: tuple[SuiteText, ...]
    lines: tuple[int, ...]  # of each text, for messages: they never quote a text
    sha256: str


def read_plant(path: Path) -> Plant:
    """Read a text set in JSONL: each record needs `duplicates`; `id` and `group` are made up where missing.

    Raises:
        PlantRejected: with the number of the line, if a record is no text record or lacks `duplicates`, says
            it is a member though it is not inserted (or the reverse), holds an end-of-text token, or if two
            have the same id or text.
    """
    content = path.read_bytes()
    texts: list[SuiteText] = []
    lines: list[int] = []
    ids: dict[str, int] = {}
    wordings: dict[str, int] = {}
    for line, record in _records(path, content):
        text = _text(path, line, record)
        for seen, key, what in ((ids, text.id, "id"), (wordings, text.text, "text")):
            if seen.setdefault(key, line) != line:
                raise PlantRejected(f"{path.name}, line {line}: the {what} of line {seen[key]} again.")
        texts.append(text)
        lines.append(line)
    if not texts:
        raise PlantRejected(f"{path.name} holds no records.")
    return Plant(path.name, tuple(texts), tuple(lines), hashlib.sha256(content).hexdigest())


def _records(path: Path, content: bytes) -> Iterator[tuple[int, TextRecord]]:
    for line, written in enumerate(content.splitlines(), start=1):
        if not written.strip():
            continue
        try:
            yield line, TextRecord.model_validate_json(written)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            field = first["loc"][0] if first["loc"] else "record"
            # What is no field's name is the user's own.
            known = field if field in ("record", *TextRecord.model_fields) else "unknown field"
            raise PlantRejected(f"{path.name}, line {line}: {known}: {first['msg']}.") from None


def _text(path: Path, line: int, record: TextRecord) -> SuiteText:
    def refuse(why: str) -> PlantRejected:
        return PlantRejected(f"{path.name}, line {line}: {why}.")

    if record.duplicates is None:
        raise refuse("duplicates is missing: how often to insert the text")
    if record.member is not None and record.member != (record.duplicates > 0):
        raise refuse("member contradicts duplicates")
    if not record.full_text.strip():
        raise refuse("the text is empty")
    if END_OF_TEXT in record.full_text:
        raise refuse(f"the text holds {END_OF_TEXT}, which ends a document")
    split = None if record.prefix is None or record.suffix is None else (record.prefix, record.suffix)
    return SuiteText(
        id=record.id or f"{GROUP}-{line:06}",
        group=record.group or GROUP,
        duplicates=record.duplicates,
        draft=Draft(
            record.full_text,
            choices=None if record.choices is None else tuple(record.choices),
            answer=record.answer,
            metadata=record.metadata or {},
            split=split,
        ),
        planted=True,
    )
