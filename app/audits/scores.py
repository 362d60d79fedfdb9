"""Reading the scores of an audit: pages of them, one of them, and the tokens behind it."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.score_schemas import ScoreOut
from app.audits.tokens import TextTokens
from app.errors import AuditNotSucceeded, NotFound
from app.http.pagination import Page, decode_cursor, encode_cursor, invalid_cursor
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id
from app.store.operations import OperationStatus, get_operation
from app.store.score_findings import read_findings
from app.store.score_pages import list_by_q_value, list_recited, list_scores
from app.store.scores import Score, ScoreOrder, find_score
from app.store.tenants import Principal
from app.store.texts import find_text
from app.store.token_evidence import read_evidence
from app.store.trail import Action, record_request


def get_succeeded_audit(session: Session, tenant_id: UUID, audit_id: UUID) -> Audit:
    """An audit whose scores are all there.

    Raises:
        NotFound: no such audit for this tenant.
        AuditNotSucceeded: it has not ended, or ended otherwise.
    """
    audit = get_operation(session, Audit, tenant_id, audit_id)
    if audit.status != OperationStatus.SUCCEEDED:
        raise AuditNotSucceeded(f"The audit is {audit.status}; scores are given out once it has succeeded.")
    return audit


def take_export(session: Session, principal: Principal, audit_id: UUID, media_type: str) -> Audit:
    """An audit of which all scores are to be given out.

    Raises:
        NotFound: no such audit for this tenant.
        AuditNotSucceeded: it has not ended, or ended otherwise.
    """
    audit = get_succeeded_audit(session, principal.tenant_id, audit_id)
    public_id = format_id(Prefix.AUDIT, audit.id)
    record_request(session, principal, Action.SCORES_EXPORTED, public_id, {"media_type": media_type})
    return audit


def scores_page(
    session: Session,
    tenant_id: UUID,
    audit_id: UUID,
    *,
    order: ScoreOrder,
    group: str | None,
    limit: int,
    cursor: str | None,
) -> Page[ScoreOut]:
    """A page of an audit's scores.

    Raises:
        NotFound: no such audit for this tenant.
        AuditNotSucceeded: it has not ended, or ended otherwise.
        ValidationFailed: the cursor belongs to another list or order.
    """
    audit = get_succeeded_audit(session, tenant_id, audit_id)
    after = _after(audit, order, cursor)
    rows = list_scores(session, audit.id, order=order, group=group, after=after, limit=limit + 1)
    return _scores_page(session, audit, rows, limit, order)


def scores_by_q_value(
    session: Session, tenant_id: UUID, audit_id: UUID, *, group: str | None, limit: int, cursor: str | None
) -> Page[ScoreOut]:
    """A page of an audit's scores that have a q-value, the least first.

    Raises:
        NotFound, AuditNotSucceeded, ValidationFailed: see `scores_page`.
    """
    audit = get_succeeded_audit(session, tenant_id, audit_id)
    after = _after_number(audit, "q", cursor)
    rows = list_by_q_value(session, audit.id, group=group, after=after, limit=limit + 1)
    return _scores_page(session, audit, rows, limit, "q")


def recited_scores(
    session: Session, tenant_id: UUID, audit_id: UUID, *, group: str | None, limit: int, cursor: str | None
) -> Page[ScoreOut]:
    """A page of an audit's scores of texts that are recited exactly, most memorized first.

    Raises:
        NotFound, AuditNotSucceeded, ValidationFailed: see `scores_page`.
    """
    audit = get_succeeded_audit(session, tenant_id, audit_id)
    after = _after_number(audit, "recited", cursor)
    rows = list_recited(session, audit.id, group=group, after=after, limit=limit + 1)
    return _scores_page(session, audit, rows, limit, "recited")


def _after(audit: Audit, order: str, cursor: str | None) -> tuple[float | None, int] | None:
    """The row after which a page of scores begins; None for the first page.

    Raises:
        ValidationFailed: the cursor belongs to another list or order.
    """
    if cursor is None:
        return None
    kind, number, ordinal = decode_cursor(cursor, str, (float, type(None)), int)
    if kind != order or not 0 <= ordinal < audit.texts_total:
        raise invalid_cursor()
    return number, ordinal


def _after_number(audit: Audit, order: str, cursor: str | None) -> tuple[float, int] | None:
    """As `_after`, of a list in which every row has the number.

    Raises:
        ValidationFailed: the cursor belongs to another list or order.
    """
    after = _after(audit, order, cursor)
    if after is None:
        return None
    number, ordinal = after
    if number is None:
        raise invalid_cursor()
    return number, ordinal


def _scores_page(session: Session, audit: Audit, rows: list[Score], limit: int, order: str) -> Page[ScoreOut]:
    """A page of up to `limit + 1` rows, with what was found of their texts."""
    has_more = len(rows) > limit
    shown = rows[:limit]
    findings = read_findings(session, audit.id, shown)
    next_cursor = None
    if has_more:
        last = shown[-1]
        number = findings[last.ordinal].q_value if order == "q" else last.nl
        next_cursor = encode_cursor(order, number, last.ordinal)
    data = [ScoreOut.of(row, findings.get(row.ordinal)) for row in shown]
    return Page(data=data, has_more=has_more, next_cursor=next_cursor)


def read_score(session: Session, tenant_id: UUID, audit_id: UUID, text_id: str) -> ScoreOut:
    """The numbers of one text of an audit, which stay when the texts are erased.

    Raises:
        NotFound: no such audit for this tenant, or no such text.
        AuditNotSucceeded: the audit has not ended, or ended otherwise.
    """
    audit = get_succeeded_audit(session, tenant_id, audit_id)
    text = find_text(session, audit.text_set_id, text_id)
    row = find_score(session, audit.id, text_id, None if text is None else text.ordinal)
    if row is None:
        raise NotFound("The audit has no such text.")
    return ScoreOut.of(row, read_findings(session, audit.id, [row]).get(row.ordinal))


def read_tokens(session: Session, principal: Principal, audit_id: UUID, text_id: str) -> TextTokens:
    """The tokens of one text of an audit.

    Raises:
        NotFound: no such audit or text, or no evidence was kept, or the texts were erased.
        AuditNotSucceeded: the audit has not ended, or ended otherwise.
    """
    audit = get_succeeded_audit(session, principal.tenant_id, audit_id)
    text = find_text(session, audit.text_set_id, text_id)
    evidence = None if text is None else read_evidence(session, audit.id, text.ordinal)
    if text is None or evidence is None:
        raise NotFound("There is no token evidence for this text.")
    public_id = format_id(Prefix.AUDIT, audit.id)
    record_request(session, principal, Action.TOKENS_READ, public_id, {"ordinal": text.ordinal})
    return TextTokens(public_id, text_id, text.text, evidence)
