"""The per-text rows of a record, read in pages by the thread that renders."""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

from anyio import from_thread
from sqlalchemy.orm import Session

from app.audits.score_schemas import ScoreOut
from app.evidence.record import RecordedRow
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.unit_of_work import Store
from app.store.operations import get_operation
from app.store.score_findings import read_findings
from app.store.scores import Score, read_scores
from app.store.texts import ClearText, read_members, read_page

_PAGE_ROWS: Final = 1000
_PAGE_BYTES: Final = 2**20


class Rows:
    """Rows of a tenant's audits; with their texts where these are asked for and were not erased.

    A page is a transaction: the rows of an audit that has succeeded do not change, and a slow reader holds no
    connection.
    """

    def __init__(self, store: Store, tenant_id: UUID, *, texts: bool) -> None:
        self._store = store
        self._tenant_id = tenant_id
        self._texts = texts

    def __call__(self, audit_id: str) -> Iterator[RecordedRow]:
        """The rows of an audit in the order of the texts. Runs in a worker thread of the event loop."""
        start = 0
        while page := from_thread.run(
            self._store.run, self._read_page, parse_id(Prefix.AUDIT, audit_id), start
        ):
            yield from page
            start += len(page)

    def _read_page(self, session: Session, audit_id: UUID | None, start: int) -> list[RecordedRow]:
        audit = get_operation(session, Audit, self._tenant_id, audit_id)
        texts: dict[int, ClearText] = {}
        stop = start + _PAGE_ROWS
        if self._texts:
            page = read_page(session, audit.text_set_id, start, limit=_PAGE_ROWS, max_bytes=_PAGE_BYTES)
            texts = {text.ordinal: text for text in page}
            stop = start + (len(page) or _PAGE_ROWS)
        return join_rows(session, audit, read_scores(session, audit.id, start, stop), texts)


def join_rows(
    session: Session, audit: Audit, scores: Sequence[Score], texts: dict[int, ClearText]
) -> list[RecordedRow]:
    """Some scores of an audit with what was found of their texts, and with the texts that are given."""
    findings = read_findings(session, audit.id, scores)
    members = read_members(session, audit.text_set_id, [score.ordinal for score in scores])
    return [
        RecordedRow(
            score=ScoreOut.of(score, findings.get(score.ordinal)),
            member=members.get(score.ordinal),
            text=texts.get(score.ordinal),
        )
        for score in scores
    ]
