"""Deriving a shard: the rows of an audit from the evidence of another one, without the language model.

What a metric reads of a text's tokens is what the forward pass found of them. Evidence keeps all of it but
what greedy decoding says where it leaves the text, and that is in the other audit's row. So whatever asks for
no more is computed here by the same functions, and has the same bits as if the texts had gone through the
model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from app.contracts.audits import AuditOptions, AuditSpec, StoredAuditSpec
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.jobs.leases import Lease, LeaseLost
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lifecycle import complete_shard, score_instead
from app.store.scores import (
    Score,
    ScoreRow,
    copy_scores,
    read_scores,
)
from app.store.texts import ClearText, read_texts
from app.store.token_evidence import Evidence, copy_evidence, read_evidence_of
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.metrics.metric import Need
from workers.science.metrics.registry import METRICS
from workers.science.metrics.splits import Splittable
from workers.science.metrics.tokens import ScoredTokens
from workers.science.models.tokenization import TokenizedText

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which the texts were scored.

    Attributes:
        context_length: tokens that the model sees at once.
        in_front: tokens that it saw before every text.
        end_tokens: those after which generation stops.
    """

    context_length: int
    in_front: int
    end_tokens: Sequence[int]


def derive_shard(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Write the rows of a shard from those of the audit that the payload names.

    Where its evidence was erased meanwhile, or lacks what a metric reads, as that of an older release, the
    texts of the shard go through the model instead.

    Returns:
        How many jobs this enqueued.

    Raises:
        LeaseLost: the audit was cancelled or the lease ran out.
    """
    if lease.audit_id is None:
        raise LeaseLost
    audit_id = lease.audit_id
    start, stop, source_id = lease.payload["start"], lease.payload["stop"], UUID(lease.payload["source"])
    with runtime.sessions() as session:
        audit = session.get_one(Audit, audit_id)
        language_model = session.get_one(LanguageModelRow, audit.language_model_id)
        texts = read_texts(session, audit.text_set_id, start, stop)
        known = read_scores(session, source_id, start, stop)
        evidence = read_evidence_of(session, source_id, start, stop)
    spec = StoredAuditSpec.model_validate(audit.spec)
    conditions = _conditions(audit, language_model)
    complete = {ordinal for ordinal, each in evidence.items() if _is_complete(each, spec)}
    whole = all(score.error is not None or score.ordinal in complete for score in known)
    if not whole or len(known) != len(texts):
        return finish(runtime, lease, lambda session: score_instead(session, audit_id, start, stop))
    rows: list[ScoreRow] = []
    for text, score in zip(texts, known, strict=True):
        keeper.report(len(rows))
        rows.append(derived_row(audit_id, text, score, evidence.get(score.ordinal), conditions, spec))
    kept = evidence.values() if spec.options.token_evidence else ()

    def write(session: Session) -> int:
        copy_scores(session, rows)
        copy_evidence(session, audit_id, (_kept_of(each, spec) for each in kept))
        return complete_shard(session, audit_id, len(texts))

    return finish(runtime, lease, write)


def _is_complete(evidence: Evidence, spec: AuditSpec) -> bool:
    """Whether evidence keeps all that the metrics read of it."""
    moments = evidence.means is not None and evidence.deviations is not None
    return moments and (evidence.sampling_log_likelihoods is not None or not _needs_sampling(spec))


def _needs_sampling(spec: AuditSpec) -> bool:
    return any(Need.SAMPLING in METRICS[name].needs for name in spec.metrics if name in METRICS)


def _conditions(audit: Audit, language_model: LanguageModelRow) -> Conditions:
    assert audit.prefix_token is not None
    assert audit.end_tokens is not None
    assert language_model.context_length is not None
    ids = audit.prefix_token["ids"] if audit.prefix_token["conditions"] == "all" else ()
    return Conditions(language_model.context_length, len(ids), audit.end_tokens)


def derived_row(
    audit_id: UUID,
    text: ClearText,
    known: Score,
    evidence: Evidence | None,
    conditions: Conditions,
    spec: AuditSpec,
) -> ScoreRow:
    """A text's row of one audit, from its row and its evidence in another one of the same texts."""
    metrics: JSONObject = {}
    if evidence is not None:
        tokens = scored_tokens(text.text, known.n_tokens, evidence, conditions, spec.options)
        splittable = _splittable(text, evidence, conditions, spec.options)
        for name, metric in METRICS.items():
            if name not in spec.metrics:
                continue
            decoded = Need.CONTINUATION in metric.needs
            metrics[name] = (
                known.metrics[name] if decoded else metric.compute(tokens, metric.splits(splittable))
            )
    same = {field.name: getattr(known, field.name) for field in fields(ScoreRow)}
    return ScoreRow(**same | {"audit_id": audit_id, "metrics": metrics})


def scored_tokens(
    text: str, n_scored: int, evidence: Evidence, conditions: Conditions, options: AuditOptions
) -> ScoredTokens:
    """A text's tokens as metrics read them, from its evidence."""
    token_ids = _unpacked(evidence.token_ids, "<i4").astype(np.int64)
    rank = _unpacked(evidence.ranks, "<i4")
    return ScoredTokens(
        text=text,
        token_ids=token_ids,
        # Of a first token that nothing conditions evidence says that there is no number.
        log_likelihood=np.where(rank == 0, np.float32(0), _unpacked(evidence.log_likelihoods, "<f4")),
        n_scored=n_scored,
        chosen=rank == 1,
        ends=np.isin(token_ids, conditions.end_tokens),
        mean=_unpacked(evidence.means, "<f4"),
        deviation=_unpacked(evidence.deviations, "<f4"),
        sampling_log_likelihood=_unpacked(evidence.sampling_log_likelihoods, "<f4"),
        continuation=None,
        after_shots=None,
        min_k=options.min_k,
    )


def _splittable(
    text: ClearText, evidence: Evidence, conditions: Conditions, options: AuditOptions
) -> Splittable:
    token_ids = _unpacked(evidence.token_ids, "<i4")
    tokens = TokenizedText(token_ids, _unpacked(evidence.spans, "<i4").reshape(-1, 2))
    return Splittable(
        n_tokens=len(token_ids),
        context_length=conditions.context_length,
        in_front=conditions.in_front,
        boundary=None if text.prefix_chars is None else tokens.tokens_within(text.prefix_chars),
        prefix_tokens=options.prefix_tokens,
        suffix_tokens=options.suffix_tokens,
    )


def _kept_of(evidence: Evidence, spec: AuditSpec) -> Evidence:
    """The same evidence for another audit; what sampling needs is kept for those that asked for it."""
    return evidence if _needs_sampling(spec) else replace(evidence, sampling_log_likelihoods=None)


def _unpacked(packed: bytes | None, item: str) -> Numbers:
    return np.frombuffer(packed or b"", item)
