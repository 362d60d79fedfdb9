"""Rows to test the store with."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec
from app.contracts.edits import EditSpec
from app.contracts.studies import StoredStudyModel, StoredStudySpec
from app.settings import Settings
from app.store.audits import Audit
from app.store.companions import link_audit
from app.store.core.identifiers import Prefix, format_id, new_id, parse_id
from app.store.core.sessions import sync_engine
from app.store.edits import Edit
from app.store.jobs.job import Job
from app.store.jobs.kinds import SCORE_SHARD
from app.store.jobs.owners import STUDY
from app.store.jobs.queue import add_job
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import ACTIVE, OperationStatus
from app.store.scores import ScoreRow
from app.store.studies import Study, StudyRole
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.store.token_evidence import Evidence, copy_evidence


def add_tenant(session: Session, name: str = "acme") -> UUID:
    tenant = Tenant(id=new_id(), name=name)
    session.add(tenant)
    session.flush()
    return tenant.id


def add_ready_model(session: Session, tenant_id: UUID, digest: str = "d" * 64) -> LanguageModel:
    row = LanguageModel(
        id=new_id(),
        tenant_id=tenant_id,
        status=LanguageModelStatus.READY,
        source={"type": "path", "path": "/models/tiny"},
        digest=digest,
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
        hmac_sha256="e" * 64,
        digest_is_keyed=True,
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
        text_set_hmac_sha256=text_set.hmac_sha256,
    )
    session.add(audit)
    session.flush()
    return audit


def score_row(audit_id: UUID, ordinal: int, nl: float | None, **facts: Any) -> ScoreRow:
    """A score of ten tokens and forty bytes, or of a text that could not be scored."""
    numbers = (None, None, None, None) if nl is None else (10 * nl, nl, nl / 4, 1.5)
    row = {"text_id": f"t{ordinal}", "group": None, "duplicates": None, "metrics": {}}
    row |= {"n_tokens": 10, "n_bytes": 40, "n_windows": 1}
    row |= dict(zip(("log_likelihood", "nl", "nl_byte", "perplexity"), numbers, strict=True))
    row["error"] = "no_tokens" if nl is None else None
    return ScoreRow(audit_id=audit_id, ordinal=ordinal, **row | facts)


def add_edit(session: Session, tenant_id: UUID, status: OperationStatus = OperationStatus.QUEUED) -> Edit:
    """An edit of a ready language model, without any job."""
    edit = Edit(
        id=new_id(),
        tenant_id=tenant_id,
        language_model_id=add_ready_model(session, tenant_id).id,
        name="edited-before",
        status=status,
        spec=EditSpec(method="svd").model_dump(),
    )
    session.add(edit)
    session.flush()
    return edit


def _end_of(status: OperationStatus) -> datetime | None:
    """When work of a status ended."""
    return None if status in ACTIVE else datetime.now(UTC)


def add_study(session: Session, audit: Audit, status: OperationStatus = OperationStatus.QUEUED) -> Study:
    """A study that waits, or has waited, for an audit."""
    model = format_id(Prefix.LANGUAGE_MODEL, audit.language_model_id)
    models = [StoredStudyModel(model=model, label="first", step=None)]
    study = Study(
        id=new_id(),
        tenant_id=audit.tenant_id,
        name="study",
        status=status,
        finished_at=_end_of(status),
        text_set_id=audit.text_set_id,
        text_set_hmac_sha256=audit.text_set_hmac_sha256,
        spec=StoredStudySpec(**audit.spec, kind="release", models=models).model_dump(),
    )
    session.add(study)
    link_audit(session, STUDY, study.id, audit, StudyRole.MODEL)
    session.flush()
    return study


def add_shard(session: Session, audit: Audit, *, priority: int = 0) -> Job:
    job = add_job(
        session,
        SCORE_SHARD,
        tenant_id=audit.tenant_id,
        language_model_id=audit.language_model_id,
        owner_id=audit.id,
        payload={"start": 0, "stop": 10},
        priority=priority,
    )
    session.flush()
    return job


def add_audit(settings: Settings, text_set_id: str, status: OperationStatus) -> Audit:
    """An audit of the set with token evidence for its first text."""
    engine = sync_engine(settings.require_database_url())
    with Session(engine, expire_on_commit=False) as session, session.begin():
        text_set = session.scalars(
            select(TextSet).where(TextSet.id == parse_id(Prefix.TEXT_SET, text_set_id))
        ).one()
        audit = Audit(
            tenant_id=text_set.tenant_id,
            language_model_id=add_ready_model(session, text_set.tenant_id).id,
            text_set_id=text_set.id,
            status=status,
            finished_at=_end_of(status),
            spec=AuditSpec().model_dump(),
            texts_total=text_set.text_count,
            text_set_hmac_sha256=text_set.hmac_sha256,
        )
        session.add(audit)
        session.flush()
        packed = b"\0\0\0\0"
        evidence = Evidence(
            ordinal=0, token_ids=packed, log_likelihoods=packed, ranks=packed, spans=packed * 2
        )
        copy_evidence(session, audit.id, [evidence])
    engine.dispose()
    return audit
