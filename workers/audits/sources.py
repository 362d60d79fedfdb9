"""From which audit another one can be derived: whose evidence has all that it asks for."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec, StoredAuditSpec
from app.contracts.metrics.fields import ALWAYS
from app.store.audits import Audit, evidence_sources
from app.store.language_models import LanguageModel as LanguageModelRow
from workers.audits.controls import control_set_for_shots
from workers.science.metrics.metric import Need
from workers.science.metrics.registry import METRICS

# Options that decide the likelihood of every token.
_CONDITIONS: Final = ("dtype", "prefix_token", "special_tokens")
_SPLIT: Final = ("prefix_tokens", "suffix_tokens")
# What is kept only if the same metric asked for it, and the options that it was asked for with.
_ASKED_FOR: Final[Mapping[Need, tuple[str, ...]]] = {
    Need.CONTINUATION: _SPLIT,
    Need.SAMPLING: (*_SPLIT, "temperature", "top_k"),
}


def find_source(session: Session, audit: Audit, language_model: LanguageModelRow) -> Audit | None:
    """The newest audit from whose rows and evidence another one follows; None if there is none."""
    wanted = StoredAuditSpec.model_validate(audit.spec)
    if control_set_for_shots(session, audit.id, wanted) is not None:
        return None
    if language_model.digest is None or language_model.context_length is None:
        return None
    candidates = evidence_sources(
        session,
        tenant_id=audit.tenant_id,
        language_model_digest=language_model.digest,
        text_set_hmac_sha256=audit.text_set_hmac_sha256,
    )
    covering = (each for each in candidates if covers(StoredAuditSpec.model_validate(each.spec), wanted))
    return next(covering, None)


def covers(source: AuditSpec, wanted: AuditSpec) -> bool:
    """Whether all that is wanted follows from the rows and the evidence that an audit keeps."""
    if not source.options.token_evidence or not _same(source, wanted, _CONDITIONS):
        return False
    return all(_follows(name, source, wanted) for name in wanted.metrics if name != ALWAYS)


def _follows(name: str, source: AuditSpec, wanted: AuditSpec) -> bool:
    if name not in METRICS:
        return False
    decisive = [_ASKED_FOR[need] for need in METRICS[name].needs if need in _ASKED_FOR]
    return not decisive or (name in source.metrics and all(_same(source, wanted, each) for each in decisive))


def _same(source: AuditSpec, wanted: AuditSpec, options: Sequence[str]) -> bool:
    return all(getattr(source.options, name) == getattr(wanted.options, name) for name in options)
