"""Scoring a shard: texts in, science, rows out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec, StoredAuditSpec
from app.contracts.metrics.fields import ALWAYS
from app.contracts.workload import Texts, audit_tokens, what_is_measured
from app.errors import NoSuchPrefixToken, ScoringFailed
from app.store.audits import Audit, record_conditions
from app.store.jobs.leases import Lease, LeaseLost
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lifecycle import complete_shard
from app.store.scores import copy_scores
from app.store.texts import ClearText, read_texts
from app.store.token_evidence import copy_evidence
from workers.audits.controls import control_set_for_shots
from workers.audits.measure import add_measurements, measurement_options
from workers.audits.rows import evidence_rows, score_row, text_input
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.errors import PrefixTokenUnusable, ScoreNotFinite
from workers.science.measurements.measurement import Subject
from workers.science.measurements.registry import MEASUREMENTS
from workers.science.models.loading import LanguageModel
from workers.science.scoring.greedy import end_token_ids
from workers.science.scoring.prefix_token import PrefixToken, resolve_prefix_token
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.shots import MOST_SHOTS, choose_shots
from workers.science.scoring.texts import ScoringOptions, TextScore


def score_shard(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Score the texts of a shard and write their rows.

    Returns:
        How many jobs this enqueued: one, the summary, if the shard was the last.

    Raises:
        LeaseLost: the audit was cancelled or the lease ran out.
        ScoringFailed: a number was not finite.
        NoSuchPrefixToken: the language model lacks the prefix token.
        LanguageModelChanged, LanguageModelRejected, HubUnreachable: see `ModelCache.get`.
    """
    if lease.audit_id is None:
        raise LeaseLost
    audit_id = lease.audit_id
    start, stop = lease.payload["start"], lease.payload["stop"]
    with runtime.sessions() as session:
        audit = session.get_one(Audit, audit_id)
        row = session.get_one(LanguageModelRow, lease.language_model_id)
        texts = read_texts(session, audit.text_set_id, start, stop)
        spec = StoredAuditSpec.model_validate(audit.spec)
        controls = control_set_for_shots(session, audit_id, spec)
        leading = [] if controls is None else read_texts(session, controls, 0, MOST_SHOTS)
    language_model = runtime.models.get(row, spec.options.dtype)
    keeper.report(0)
    try:
        prefix_token = resolve_prefix_token(spec.options.prefix_token, language_model)
        end_tokens = sorted(end_token_ids(language_model))
        shots = choose_shots(language_model, [text.text for text in leading], spec.options.special_tokens)
        options = replace(scoring_options(spec), shots=shots)
        scores = _score_and_measure(language_model, prefix_token, texts, spec, options, keeper.report)
    except PrefixTokenUnusable as error:
        raise NoSuchPrefixToken(error.detail) from None
    except ScoreNotFinite as error:
        raise ScoringFailed(str(error)) from None

    size = Texts(len(texts), sum(score.n_tokens for score in scores))
    units = audit_tokens(spec.metrics, spec.options, size)
    runtime.meter.note(units, what_is_measured(spec), row)

    def write(session: Session) -> int:
        copy_scores(session, (score_row(audit_id, *pair) for pair in zip(texts, scores, strict=True)))
        if spec.options.token_evidence:
            copy_evidence(session, audit_id, evidence_rows(texts, scores))
        enqueued = complete_shard(session, audit_id, len(texts))
        record_conditions(
            session,
            audit_id,
            prefix_token=asdict(prefix_token),
            end_tokens=end_tokens,
            recall_shots=None if controls is None else len(shots),
        )
        return enqueued

    return finish(runtime, lease, write)


def _score_and_measure(
    language_model: LanguageModel,
    prefix_token: PrefixToken,
    texts: Sequence[ClearText],
    spec: AuditSpec,
    scoring: ScoringOptions,
    report: Callable[[int], None],
) -> list[TextScore]:
    """The scores of texts, and what the audit's measurements find of them.

    Reports as many texts as there are when all is done, and a part of them that never falls before.
    """
    names = [name for name in spec.metrics if name in MEASUREMENTS]
    steps = 1 + len(names)
    scores = score_texts(
        language_model,
        [text_input(text) for text in texts],
        scoring,
        on_progress=lambda done: report(done // steps),
    )
    subject = Subject(
        language_model=language_model,
        prefix_token=prefix_token,
        scoring=scoring,
        options=measurement_options(spec.options),
    )
    return add_measurements(
        subject, names, texts, scores, on_progress=lambda done: report((len(texts) + done) // steps)
    )


def scoring_options(spec: AuditSpec) -> ScoringOptions:
    """What an audit measures, as the scorer takes it."""
    options = spec.options
    return ScoringOptions(
        metrics=frozenset(spec.metrics) - {ALWAYS} - MEASUREMENTS.keys(),
        prefix_tokens=options.prefix_tokens,
        suffix_tokens=options.suffix_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        min_k=options.min_k,
        token_evidence=options.token_evidence,
        prefix_token=options.prefix_token,
        special_tokens=options.special_tokens,
    )
