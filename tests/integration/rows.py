"""Rows to test the store with."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts import AuditSpec
from app.store.audits import Audit
from app.store.identifiers import new_id
from app.store.jobs import Job, JobKind, add_job
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.tenants import Tenant
from app.store.text_sets import TextSet


def add_tenant(session: Session, name: str = "acme") -> UUID:
    tenant = Tenant(id=new_id(), name=name)
    session.add(tenant)
    session.flush()
    return tenant.id


def add_ready_model(session: Session, tenant_id: UUID) -> LanguageModel:
    row = LanguageModel(
        id=new_id(),
        tenant_id=tenant_id,
        status=LanguageModelStatus.READY,
        source={"type": "path", "path": "/models/tiny"},
        digest="d" * 64,
    )
    session.add(row)
    session.flush()
    return row


def add_audit_rows(session: Session, tenant_id: UUID, *, texts: int = 10) -> Audit:
    """An audit of a ready language model, without any job."""
    model = add_ready_model(session, tenant_id)
    text_set = TextSet(
        id=new_id(),
        tenant_id=tenant_id,
        name="set",
        sha256="e" * 64,
        text_count=texts,
        byte_count=100 * texts,
        group_counts={},
        duplicate_counts={},
    )
    session.add(text_set)
    session.flush()
    audit = Audit(
        id=new_id(),
        tenant_id=tenant_id,
        language_model_id=model.id,
        text_set_id=text_set.id,
        spec=AuditSpec().model_dump(),
        texts_total=texts,
        text_set_sha256=text_set.sha256,
    )
    session.add(audit)
    session.flush()
    return audit


def add_shard(session: Session, audit: Audit, *, priority: int = 0) -> Job:
    job = add_job(
        session,
        JobKind.SCORE_SHARD,
        tenant_id=audit.tenant_id,
        language_model_id=audit.language_model_id,
        audit_id=audit.id,
        payload={"start": 0, "stop": 10},
        priority=priority,
    )
    session.flush()
    return job
