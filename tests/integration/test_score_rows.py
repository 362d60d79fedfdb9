"""Rows of scores and of their evidence: written by name, each value in its column."""

from dataclasses import fields

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.store.core.base import Base
from app.store.scores import (
    EvidenceRow,
    Score,
    ScoreRow,
    TokenEvidence,
    copy_evidence,
    copy_scores,
    read_evidence,
)
from tests.integration.rows import add_audit_rows, add_tenant

TABLES: list[tuple[type[Base], type]] = [(Score, ScoreRow), (TokenEvidence, EvidenceRow)]


@pytest.mark.parametrize(("table", "row"), TABLES)
def test_a_row_has_a_field_for_each_column(table: type[Base], row: type) -> None:
    assert {field.name for field in fields(row)} == set(table.__table__.columns.keys())


def test_each_value_comes_back_from_the_column_of_its_name(sessions: sessionmaker[Session]) -> None:
    """No two values are equal, so that none can be in the column of another."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        score = ScoreRow(
            error="e",
            metrics={"extraction": {"strict": True, "text": "naïve"}},
            perplexity=1.5,
            nl_byte=-0.25,
            nl=-1.0,
            log_likelihood=-10.0,
            n_windows=3,
            n_bytes=40,
            n_tokens=10,
            duplicates=2**40,
            group="g",
            text_id="t",
            ordinal=7,
            audit_id=audit.id,
        )
        evidence = EvidenceRow(
            sampling_log_likelihoods=b"q",
            deviations=b"d",
            means=b"m",
            spans=b"s",
            ranks=b"r",
            log_likelihoods=b"l",
            token_ids=b"t",
            ordinal=7,
            audit_id=audit.id,
        )
        copy_scores(session, [score])
        copy_evidence(session, [evidence])
    with sessions() as session:
        stored = session.scalars(select(Score)).one()
        for field in fields(ScoreRow):
            assert getattr(stored, field.name) == getattr(score, field.name), field.name
        packed = read_evidence(session, audit.id, 7)
        for field in fields(EvidenceRow):
            assert getattr(packed, field.name) == getattr(evidence, field.name), field.name
