"""Evidence over HTTP: which formats there are, when, for whom, and what of texts is in it."""

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.evidence.registry import FORMATS
from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from app.store.tenants import Tenant
from tests.integration.rows import add_audit_rows, score_row

TEXTS = 5


def add_finished_audit(settings: Settings, status: OperationStatus = OperationStatus.SUCCEEDED) -> str:
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        audit = add_audit_rows(session, tenant_id, texts=TEXTS)
        audit.status = status
        audit.finished_at = audit.created_at
        copy_scores(session, (score_row(audit.id, place, -1.0 - place) for place in range(TEXTS)))
        public_id = format_id(Prefix.AUDIT, audit.id)
    engine.dispose()
    return public_id


@pytest.fixture
def audit(client: httpx.AsyncClient, settings: Settings) -> str:
    return add_finished_audit(settings)


async def test_every_format_of_finished_work_is_listed_and_given(
    client: httpx.AsyncClient, audit: str
) -> None:
    listed = (await client.get(f"/v1/audits/{audit}/evidence")).json()["data"]
    assert {each["name"] for each in listed} <= set(FORMATS)
    assert all(each["available"] for each in listed)
    for each in listed:
        answer = await client.get(f"/v1/audits/{audit}/evidence/{each['name']}")
        assert answer.status_code == 200, (each, answer.text)
        assert answer.headers["content-type"].partition(";")[0] == each["media_type"]
        assert answer.headers["content-disposition"].startswith(f'attachment; filename="{audit}.')
