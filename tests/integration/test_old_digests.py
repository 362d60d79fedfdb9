"""Digests that an older release made are keyed before they are told or signed; no work waits for that."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.audits.schemas import AuditCreate
from app.audits.service import require_other_texts
from app.errors import ValidationFailed
from app.settings import Settings
from app.signing.keys import read_signing_keys, rotate_signing_key
from app.store.audits import Audit
from app.store.conversion import convert_some
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.data_keys import keyed_digest
from app.store.deletion import add_receipt, get_receipt
from app.store.edits import EditTextSet, text_sets_of
from app.store.gating import add_gate
from app.store.idempotency import IdempotencyKey
from app.store.keyed_digests import digest_of, key_digest
from app.store.language_models import LanguageModel
from app.store.operations import OperationStatus
from app.store.policies import Policy
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.text_sets.schemas import TextSetOut
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit_rows, add_edit, add_study, add_tenant
from workers.edits import inputs

PLAIN = "e" * 64


def add_old_set(session: Session, tenant_id: UUID) -> TextSet:
    """A text set as a process of an older release writes it, with an audit that is under way."""
    audit = add_audit_rows(session, tenant_id)
    text_set = session.get_one(TextSet, audit.text_set_id)
    text_set.digest_is_keyed = None
    session.flush()
    return text_set


def add_clear_text(session: Session, text_set: TextSet) -> None:
    session.connection().exec_driver_sql(
        "INSERT INTO texts (text_set_id, ordinal, text_id, text) VALUES (%s, 0, 'a', 'clear')",
        (text_set.id,),
    )


@pytest.mark.parametrize("had_receipt", [False, True])
def test_a_receipt_holds_no_digest_that_texts_can_be_tried_against(
    sessions: sessionmaker[Session], tmp_path: Path, *, had_receipt: bool
) -> None:
    rotate_signing_key(tmp_path)
    keys = read_signing_keys(tmp_path)
    with sessions.begin() as session:
        text_set = add_old_set(session, add_tenant(session))
        text_set.deleted_at = datetime.now(UTC)
        session.flush()
        if had_receipt:
            receipt = add_receipt(session, text_set, keys, reason="deleted")
        else:
            receipt = get_receipt(session, text_set.tenant_id, text_set.id, keys)
        keyed = keyed_digest(session, text_set.tenant_id, PLAIN)
        assert receipt.statement["predicate"]["hmac_sha256"] == keyed == text_set.keyed_digest
        assert receipt.statement["subject"][0]["digest"] == {"hmac_sha256": keyed}


def test_unfinished_work_holds_no_digest_back(
    sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        text_set = add_old_set(session, tenant_id)
        edit = add_edit(session, tenant_id)
        used = EditTextSet(edit_id=edit.id, role="clean", text_set_id=text_set.id, hmac_sha256=PLAIN)
        session.add(used)
        edit.status = OperationStatus.RUNNING
    with sessions.begin() as session:
        keyed = keyed_digest(session, tenant_id, PLAIN)
        while convert_some(session):
            pass
    query = "SELECT sha256 FROM edit_text_sets UNION SELECT text_set_sha256 FROM audits"
    assert database.execute(query).fetchall() == [(keyed,)]


def test_an_edit_that_begins_while_its_texts_are_converted_uses_the_keyed_digest(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it read just before would stay in its receipt and its audits."""
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        text_set, edit = add_old_set(session, tenant_id), add_edit(session, tenant_id)
        used = EditTextSet(edit_id=edit.id, role="clean", text_set_id=text_set.id, hmac_sha256=PLAIN)
        session.add(used)
        lease = SimpleNamespace(edit_id=edit.id, language_model_id=edit.language_model_id, payload={})
        keyed = keyed_digest(session, tenant_id, PLAIN)

    def read_before_the_conversion(session: Session, edit_ids: list[UUID]) -> object:
        found = text_sets_of(session, edit_ids)
        with sessions.begin() as converting:
            while convert_some(converting):
                pass
        return found

    monkeypatch.setattr(inputs, "text_sets_of", read_before_the_conversion)
    begun = inputs.begin(cast("Any", SimpleNamespace(sessions=sessions)), cast("Any", lease))
    assert [each.hmac_sha256 for each in begun.text_sets.values()] == [keyed]


def test_digests_are_converted_before_texts(
    sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    """There may be millions of texts, and what is told of them meanwhile is little."""
    with sessions.begin() as session:
        add_clear_text(session, add_old_set(session, add_tenant(session)))
    with sessions.begin() as session:
        assert convert_some(session) == 1
    assert database.execute("SELECT digest_is_keyed FROM text_sets").fetchall() == [(True,)]
    assert database.execute("SELECT text FROM texts").fetchall() == [("clear",)]


async def test_no_answer_tells_a_digest_that_is_not_keyed_yet(
    app: FastAPI, settings: Settings, sessions: sessionmaker[Session]
) -> None:
    """Neither that of audits, studies and pre-registrations, nor one that an older release answered."""
    key = make_key(settings)
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        text_set = add_old_set(session, tenant_id)
        audit = session.scalars(select(Audit)).one()
        study = add_study(session, audit)
        text_set_id = format_id(Prefix.TEXT_SET, text_set.id)
        alone = session.get_one(Audit, add_audit_of(session, audit))
        paths = [f"/v1/audits/{format_id(Prefix.AUDIT, each.id)}" for each in (audit, alone)]
        paths += ["/v1/audits", f"/v1/studies/{format_id(Prefix.STUDY, study.id)}", "/v1/studies"]
        register(session, tenant_id, audit)
        row = session.get_one(LanguageModel, audit.language_model_id)
        row.parameter_count, row.vocabulary_size = 1000, 100
        model = format_id(Prefix.LANGUAGE_MODEL, row.id)
    request = {"model": model, "text_set": text_set_id}
    headers = {"Idempotency-Key": "old"}
    async with client_of(app, key) as client:
        before = [(await client.get(path)).text for path in paths]
        assert [each for each in before if PLAIN in each or '"text_set' not in each] == []
        made = await client.post("/v1/audits", json=request, headers=headers)
        assert made.status_code == 202, made.text
        with sessions.begin() as session:
            answered_by_an_older_release(session, AuditCreate.model_validate(request))
        again = await client.post("/v1/audits", json=request, headers=headers)
        assert again.json() == made.json() | {"digests": made.json()["digests"] | {"text_set": None}}
        with sessions.begin() as session:
            keyed = keyed_digest(session, tenant_id, PLAIN)
            while convert_some(session):
                pass
        after = [(await client.get(path)).text for path in paths]
        assert [each for each in after if keyed not in each] == []


def add_audit_of(session: Session, other: Audit) -> UUID:
    """An audit that is part of nothing, of the texts of another."""
    row = Audit(
        id=new_id(),
        tenant_id=other.tenant_id,
        language_model_id=other.language_model_id,
        text_set_id=other.text_set_id,
        spec=other.spec,
        texts_total=other.texts_total,
        text_set_hmac_sha256=PLAIN,
    )
    session.add(row)
    session.flush()
    return row.id


def register(session: Session, tenant_id: UUID, audit: Audit) -> None:
    """Write down that an audit was asked for with a policy, as an older release did it."""
    facts = {"name": "policy", "version": 1, "description": "", "rules": [], "sha256": "a" * 64}
    policy = Policy(id=new_id(), tenant_id=tenant_id, **facts)
    session.add(policy)
    session.flush()
    gate = add_gate(session, tenant_id, policy, "audit", audit.id, preregistered=True)
    assert gate.text_set_hmac_sha256 == PLAIN


def answered_by_an_older_release(session: Session, request: AuditCreate) -> None:
    """Let the one answer that is kept be one of an older release."""
    row = session.scalars(select(IdempotencyKey)).one()
    sent = request.model_dump_json(exclude_unset=True)
    row.fingerprint = hashlib.sha256(f"audit\n{sent}".encode()).hexdigest()
    row.response = row.response | {"digests": row.response["digests"] | {"text_set": PLAIN}}


def test_the_conversion_leaves_a_set_alone_that_is_being_erased(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        text_set = add_old_set(session, add_tenant(session))
        text_set_id = text_set.id
        add_clear_text(session, text_set)
    with sessions.begin() as erasing:
        erasing.get_one(TextSet, text_set_id, with_for_update=True)
        with sessions.begin() as converting:
            assert convert_some(converting) == 0
    with sessions.begin() as session:
        assert convert_some(session) == 1


def test_the_same_texts_are_known_before_and_after(sessions: sessionmaker[Session]) -> None:
    """What is not keyed yet is told to nobody, and is no other set of texts for that."""
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        old, new = add_old_set(session, tenant_id), add_old_set(session, tenant_id)
        key_digest(session, new)
        assert TextSetOut.of(new).hmac_sha256 == digest_of(session, old) != PLAIN
        assert TextSetOut.of(old).hmac_sha256 is None
        with pytest.raises(ValidationFailed):
            require_other_texts(session, new, old)
