"""Rows of scores and of their evidence: written by name, each value in its column."""

from dataclasses import fields

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.store.scores import (
    Score,
    ScoreRow,
    copy_scores,
)
from app.store.token_evidence import Evidence, copy_evidence, read_evidence
from tests.integration.rows import add_audit_rows, add_tenant


def test_a_row_has_a_field_for_each_column() -> None:
    assert {field.name for field in fields(ScoreRow)} == set(Score.__table__.columns.keys())


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
        evidence = Evidence(
            sampling_log_likelihoods=b"samp",
            deviations=b"devi",
            means=b"mean",
            spans=b"spanspan",
            ranks=b"rank",
            log_likelihoods=b"logl",
            token_ids=b"toke",
            ordinal=7,
        )
        copy_scores(session, [score])
        copy_evidence(session, audit.id, [evidence])
    with sessions() as session:
        stored = session.scalars(select(Score)).one()
        for field in fields(ScoreRow):
            assert getattr(stored, field.name) == getattr(score, field.name), field.name
        assert read_evidence(session, audit.id, 7) == evidence
