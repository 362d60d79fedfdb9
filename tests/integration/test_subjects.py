"""The text set and the language model of a request, found with one statement: whose, and locked how far."""

import psycopg
import pytest
from psycopg.errors import LockNotAvailable
from sqlalchemy import func
from sqlalchemy.orm import Session, sessionmaker

from app.store.language_models import LanguageModel
from app.store.subjects import find_subjects
from app.store.text_sets import TextSet
from tests.integration.rows import add_audit_rows, add_tenant

SUBJECTS = (TextSet, LanguageModel)


def test_both_stay_as_they_are_until_the_transaction_ends(
    sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
    ids = {"text_sets": audit.text_set_id, "language_models": audit.language_model_id}

    def lock(table: str, how: str) -> None:
        database.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR {how} NOWAIT", [ids[table]])

    with sessions.begin() as session:
        found = find_subjects(session, audit.tenant_id, *ids.values())
        assert found is not None
        assert [row.id for row in found] == list(ids.values())
        for table in ids:
            lock(table, "SHARE")  # another request finds it too
            with pytest.raises(LockNotAvailable):
                lock(table, "NO KEY UPDATE")
    for table in ids:
        lock(table, "UPDATE")


def test_nothing_of_another_tenant_is_found(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        other = add_audit_rows(session, add_tenant(session, "other"))
        text_set, model = audit.text_set_id, audit.language_model_id
        assert find_subjects(session, audit.tenant_id, text_set, model) is not None
        assert find_subjects(session, audit.tenant_id, other.text_set_id, model) is None
        assert find_subjects(session, audit.tenant_id, text_set, other.language_model_id) is None
        assert find_subjects(session, other.tenant_id, text_set, model) is None
        assert find_subjects(session, audit.tenant_id, None, model) is None
        assert find_subjects(session, audit.tenant_id, text_set, None) is None


@pytest.mark.parametrize("deleted", SUBJECTS)
def test_what_was_deleted_is_not_found(
    sessions: sessionmaker[Session], deleted: type[TextSet | LanguageModel]
) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        ids = audit.text_set_id, audit.language_model_id
        session.get_one(deleted, ids[SUBJECTS.index(deleted)]).deleted_at = func.clock_timestamp()
        session.flush()
        assert find_subjects(session, audit.tenant_id, *ids) is None
