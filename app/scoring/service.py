"""Scoring a few texts is an audit like any other, ahead of the long ones."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.schemas import AuditOut
from app.audits.scores import scores_page
from app.audits.service import add_audit
from app.http.idempotency import answer_once
from app.language_models.service import resolve_language_model
from app.scoring.schemas import MAX_TEXTS, ScoreList, ScoreRequest
from app.settings import Settings
from app.store.core.identifiers import Prefix, parse_id
from app.store.scores import ScoreOrder
from app.store.tenants import Principal
from app.store.trail import Action, record_request
from app.text_sets.service import store_texts

# Someone waits for the answer: ahead of audits, which have priority 0.
PRIORITY = 10
TEXT_SET_NAME = "score request"


def request_scores(
    session: Session, principal: Principal, key: str | None, request: ScoreRequest, settings: Settings
) -> AuditOut:
    """Store the texts and accept their audit.

    Raises:
        NotFound: no such language model for this tenant.
        LanguageModelNotReady: the language model was rejected.
        SourceNotAllowed: an inline path outside the allow-listed roots.
        ValidationFailed: two texts share an id, a text is too long, or the language model is known to lack
            the prefix token.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> AuditOut:
        language_model = resolve_language_model(session, principal, request.model, settings.model_roots)
        rows = ((f"/texts/{place}", record) for place, record in enumerate(request.texts))
        text_set = store_texts(
            session, principal, name=TEXT_SET_NAME, metadata={}, rows=rows, settings=settings
        )
        audit = add_audit(session, language_model, text_set, request.spec(), priority=PRIORITY)
        answer = AuditOut.of(audit)
        record_request(session, principal, Action.WORK_REQUESTED, answer.id)
        return answer

    return answer_once(session, principal, key, "score", request, AuditOut, create)


def read_scores(session: Session, tenant_id: UUID, audit: AuditOut) -> ScoreList:
    """All scores of a succeeded audit of a few texts.

    Raises:
        AuditNotSucceeded: it has not ended, or ended otherwise.
    """
    audit_id = parse_id(Prefix.AUDIT, audit.id)
    assert audit_id is not None
    page = scores_page(
        session, tenant_id, audit_id, order=ScoreOrder.ORDINAL, group=None, limit=MAX_TEXTS, cursor=None
    )
    return ScoreList(audit=audit.id, text_set=audit.text_set, data=page.data)
