"""Digests that an older release made are keyed before they are signed, and nobody has to wait for that."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.audits.service import require_other_texts
from app.errors import ValidationFailed
from app.signing.keys import read_signing_keys, rotate_signing_key
from app.store.conversion import convert_some
from app.store.data_keys import keyed_digest
from app.store.deletion import add_receipt, get_receipt
from app.store.edits import EditTextSet
from app.store.keyed_digests import digest_of, key_digest
from app.store.operations import OperationStatus
from app.store.text_sets import TextSet
from app.text_sets.schemas import TextSetOut
from tests.integration.rows import add_audit_rows, add_edit, add_tenant

PLAIN = "e" * 64


def add_old_set(session: Session, tenant_id: UUID) -> TextSet:
    """A text set as a process of an older release writes it, with an audit that is under way."""
    audit = add_audit_rows(session, tenant_id)
    text_set = session.get_one(TextSet, audit.text_set_id)
    text_set.digest_is_keyed = None
    session.flush()
    return text_set


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


def test_the_conversion_leaves_a_set_alone_that_is_being_erased(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        text_set = add_old_set(session, add_tenant(session))
        text_set_id = text_set.id
        session.connection().exec_driver_sql(
            "INSERT INTO texts (text_set_id, ordinal, text_id, text) VALUES (%s, 0, 'a', 'clear')",
            (text_set_id,),
        )
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
