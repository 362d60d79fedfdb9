"""From submitted records to rows: validation, digest and counts, in one pass and with flat memory."""

import hashlib
from collections.abc import Iterator
from typing import Final
from uuid import UUID

import orjson
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.contracts.refusals import MAX_FIELD_ERRORS, validation_problem
from app.contracts.texts import TextRecord
from app.errors import FieldError, ValidationFailed
from app.intake.formats import COLUMNS, Row
from app.sealing.texts import TextSetSealer
from app.settings import Settings
from app.store.data_keys import keyed_digest
from app.store.texts import ClearText, CopyRow, copy_row

MAX_DISTINCT_COUNTS: Final = 1000
BATCH_TEXTS: Final = 500
BATCH_BYTES: Final = 2**20


class Intake:
    """What went through: the digest of all texts in order, and how many there are of each kind.

    Args:
        text_set_id: which set they are of.
        sealer: what seals them.
        settings: with the limits.
    """

    def __init__(self, text_set_id: UUID, sealer: TextSetSealer, settings: Settings) -> None:
        self.text_count = 0
        self.byte_count = 0
        self.group_counts: dict[str, int] = {}
        self.duplicate_counts: dict[str, int] = {}
        self._digest = hashlib.sha256()
        self._text_set_id = text_set_id
        self._sealer = sealer
        self._max_texts = settings.max_texts
        self._max_text_chars = settings.max_text_chars

    @property
    def sha256(self) -> str:
        """The digest of the texts and their facts.

        It is taken over one line of compact JSON for each text in order, an array `[id, text, prefix_chars,
        duplicates, group, member, choices, answer, metadata]` with the keys of `metadata` sorted, in UTF-8,
        ended by a newline. The same texts have the same digest in whichever format they came. It is stored
        only under a key: who guesses the texts could try them against it.
        """
        return self._digest.hexdigest()

    def facts(self, session: Session, tenant_id: UUID) -> dict[str, object]:
        """What went through, as columns of a tenant's text set.

        Raises:
            KeyUnavailable: the key of digests cannot be opened.
        """
        return {
            "hmac_sha256": keyed_digest(session, tenant_id, self.sha256),
            "digest_is_keyed": True,
            "text_count": self.text_count,
            "byte_count": self.byte_count,
            "group_counts": self.group_counts,
            "duplicate_counts": self.duplicate_counts,
        }

    def batches(self, rows: Iterator[Row]) -> Iterator[list[CopyRow]]:
        """Validated rows of a COPY, in batches that take a few milliseconds each.

        Raises:
            ValidationFailed: a record breaks the contract or a limit, or there is none.
        """
        batch: list[CopyRow] = []
        full_at = self.byte_count + BATCH_BYTES
        for record in self._records(rows):
            batch.append(self._admit(record))
            if len(batch) == BATCH_TEXTS or self.byte_count >= full_at:
                yield batch
                batch = []
                full_at = self.byte_count + BATCH_BYTES
        if batch:
            yield batch
        if self.text_count == 0:
            raise ValidationFailed("A text set holds at least one text.", [FieldError("", "empty_text_set")])

    def _records(self, rows: Iterator[Row]) -> Iterator[TextRecord]:
        """The records until the first bad one; from there on only errors are collected, up to a number."""
        errors: list[FieldError] = []
        for row in rows:
            if isinstance(row, FieldError):
                errors.append(row)
            else:
                record = self._validate(*row)
                if isinstance(record, list):
                    errors += record
                elif not errors:
                    yield record
            if len(errors) >= MAX_FIELD_ERRORS:
                break
        if errors:
            raise ValidationFailed(
                "The texts break the contract; `errors` says where (up to 100 places).",
                errors[:MAX_FIELD_ERRORS],
            )

    def _validate(self, pointer: str, raw: object) -> TextRecord | list[FieldError]:
        if isinstance(raw, dict) and len(raw) > len(COLUMNS):
            return [FieldError(pointer, "extra_forbidden")]
        try:
            record = TextRecord.model_validate(raw)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            failed = validation_problem(details, skip=0)
            return [FieldError(pointer + field.pointer, field.code) for field in failed.errors]
        if len(record.full_text) > self._max_text_chars:
            return [FieldError(f"{pointer}/text", "text_too_long")]
        if self.text_count >= self._max_texts:
            raise ValidationFailed(
                f"A text set holds at most {self._max_texts} texts.", [FieldError(pointer, "too_many_texts")]
            )
        return record

    def _admit(self, record: TextRecord) -> CopyRow:
        text = ClearText(
            ordinal=self.text_count,
            text_id=record.id or str(self.text_count),
            text=record.full_text,
            prefix_chars=None if record.prefix is None else len(record.prefix),
            duplicates=record.duplicates,
            group=record.group,
            member=record.member,
            choices=record.choices,
            answer=record.answer,
            metadata=record.metadata,
        )
        self._digest.update(_digested_line(text))
        self.text_count += 1
        self.byte_count += len(text.text.encode())
        _count(self.group_counts, record.group)
        _count(self.duplicate_counts, record.duplicates)
        return copy_row(self._sealer, self._text_set_id, text)


def _digested_line(text: ClearText) -> bytes:
    """What a digest of texts takes of one of them."""
    facts = (text.text_id, text.text, text.prefix_chars, text.duplicates, text.group, text.member)
    return orjson.dumps(
        (*facts, text.choices, text.answer, text.metadata),
        option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE,
    )


def _count(counts: dict[str, int], value: str | int | None) -> None:
    if value is None:
        return
    key = str(value)
    if key in counts or len(counts) < MAX_DISTINCT_COUNTS:
        counts[key] = counts.get(key, 0) + 1
