"""Whatever reads a stored text gets it through one place, so that texts may be stored in another form."""

import struct
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.store import text_sets
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.lifecycle import succeed_audit
from app.store.scores import EvidenceRow, copy_evidence
from app.store.tenants import Tenant
from tests.integration.rows import add_ready_model
from workers.audits.rows import text_input

TEXT = "naïve 𝄞 end"
CHOICES = ["one", "two"]
SOURCE = Path(text_sets.__file__).parents[2]
STORED = ("stored_text", "stored_choices")


def test_no_other_module_names_what_is_stored() -> None:
    readers = {
        path.relative_to(SOURCE).as_posix()
        for package in ("app", "workers")
        for path in (SOURCE / package).rglob("*.py")
        if any(name in path.read_text() for name in STORED)
    }
    assert readers == {"app/store/text_sets.py"}
    mapped = {column.name for column in text_sets.TextRow.__table__.columns}
    assert {"text", "choices"} <= mapped
    assert not {"text", "choices"} & set(vars(text_sets.TextRow)), (
        "only the name of the stored form is mapped"
    )


async def test_texts_stored_in_another_form_are_given_out_as_they_were_sent(
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stored backwards: what would not come through the one place would be seen backwards."""
    texts = [{"id": "t", "prefix": TEXT[:6], "suffix": TEXT[6:], "choices": CHOICES, "answer": 1}]
    text_set = (await client.post("/v1/text-sets", json={"name": "set", "texts": texts})).json()["id"]
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        model = format_id(Prefix.LANGUAGE_MODEL, add_ready_model(session, tenant_id).id)
    request = {"model": model, "text_set": text_set}
    audit = (await client.post("/v1/audits", json=request, headers={"Idempotency-Key": "k"})).json()["id"]
    audit_id, text_set_id = parse_id(Prefix.AUDIT, audit), parse_id(Prefix.TEXT_SET, text_set)
    assert audit_id is not None
    assert text_set_id is not None
    with sessions.begin() as session:
        arrays = {"token_ids": [5], "log_likelihoods": [0], "ranks": [1]}
        packed = {name: struct.pack("<i", *items) for name, items in arrays.items()}
        spans = struct.pack("<2i", 0, 5)
        packed |= dict.fromkeys(("means", "deviations", "sampling_log_likelihoods"))
        copy_evidence(session, [EvidenceRow(audit_id=audit_id, ordinal=0, spans=spans, **packed)])
        succeed_audit(session, session.get_one(Audit, audit_id).id, {})
    database.execute('UPDATE texts SET text = reverse(text), choices = \'["eno", "owt"]\'')
    monkeypatch.setattr(text_sets, "clear_text", lambda stored: stored[::-1])

    (shown,) = (await client.get(f"/v1/text-sets/{text_set}/texts")).json()["data"]
    assert (shown["text"], shown["choices"]) == (TEXT, CHOICES)
    (token,) = (await client.get(f"/v1/audits/{audit}/scores/t/tokens")).json()["tokens"]
    assert token["text"] == TEXT[:5]
    with sessions() as session:
        for rows in (
            text_sets.read_texts(session, text_set_id, 0, 1),
            text_sets.read_page(session, text_set_id, 0, limit=10, max_bytes=1000),
        ):
            (row,) = rows
            assert (row.text, row.choices) == (TEXT, CHOICES)
            assert text_input(row).prefix == TEXT[:6]
        assert list(text_sets.iterate_text_batches(session, text_set_id)) == [[TEXT]]
