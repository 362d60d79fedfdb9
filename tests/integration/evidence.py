"""Work that evidence is about, and a format of its own for a test."""

import httpx
import pytest
from sqlalchemy.orm import Session

from app.evidence import service
from app.evidence.format import EvidenceFormat
from app.evidence.registry import FORMATS
from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from tests.evidence_records import audit_out
from tests.integration.rows import add_audit, score_row

TEXTS = [f"text number {number} of the set, zebra {number * number}" for number in range(25)]


async def scored_audit(
    client: httpx.AsyncClient, settings: Settings, status: OperationStatus = OperationStatus.SUCCEEDED
) -> str:
    """An audit of uploaded texts with a row for each; the last text is the most memorized."""
    records = [{"text": text, "member": place % 2 == 0} for place, text in enumerate(TEXTS)]
    uploaded = await client.post("/v1/text-sets", json={"name": "set", "texts": records})
    audit = add_audit(settings, uploaded.json()["id"], status)
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        session.add(audit)
        audit.finished_at = audit.created_at
        audit.metadata_ = {"note": TEXTS[0]}
        summary = audit_out(1, 1, 1, texts=len(TEXTS)).summary
        assert summary is not None
        audit.summary = summary.model_dump(mode="json")
        count = len(TEXTS)
        copy_scores(session, (score_row(audit.id, place, place - float(count)) for place in range(count)))
        public_id = format_id(Prefix.AUDIT, audit.id)
    engine.dispose()
    return public_id


def toy(monkeypatch: pytest.MonkeyPatch, **parts: object) -> None:
    """A format that is called toy."""
    options = {"name": "toy", "title": "toy", "media_type": "application/jsonl", "suffix": "jsonl", **parts}
    made = EvidenceFormat(**options)  # type: ignore[arg-type]
    monkeypatch.setattr(service, "FORMATS", {**FORMATS, "toy": made})
