"""Scoring a shard: texts in, science, rows out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Final

from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec, StoredAuditSpec
from app.contracts.metrics.fields import ALWAYS
from app.contracts.workload import Texts, audit_tokens, most_tokens_of_part, what_is_measured
from app.errors import NoSuchPrefixToken, ScoringFailed
from app.store.audits import Audit, record_conditions
from app.store.enqueueing import enqueue_shards
from app.store.jobs.claiming import others_wait
from app.store.jobs.leases import Lease, LeaseLost
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lifecycle import complete_shard
from app.store.scores import copy_scores
from app.store.texts import ClearText, read_texts
from app.store.token_evidence import copy_evidence
from workers.audits.controls import control_set_for_shots
from workers.audits.measure import add_measurements, measurement_options
from workers.audits.plan import cut_shards
from workers.audits.rows import evidence_rows, score_row, text_input
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.errors import PrefixTokenUnusable, ScoreNotFinite
from workers.science.measurements.measurement import Subject
from workers.science.measurements.registry import MEASUREMENTS
from workers.science.scoring.greedy import end_token_ids
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.shots import MOST_SHOTS, choose_shots
from workers.science.scoring.texts import ScoringOptions, TextScore

_CHARACTERS_OF_A_TOKEN: Final = 4


def score_shard(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Score the texts of a shard and write their rows.

    Where somebody waits for the worker, what is left of the shard becomes a shard of its own.

    Returns:
        How many jobs this enqueued: one, the summary, if the shard was the last, or what is left of it.

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
        subject = Subject(
            language_model=language_model,
            prefix_token=prefix_token,
            scoring=options,
            options=measurement_options(spec.options),
        )
        scores = _score_until_others_wait(runtime, lease, _parts(runtime, row, texts), spec, subject, keeper)
    except PrefixTokenUnusable as error:
        raise NoSuchPrefixToken(error.detail) from None
    except ScoreNotFinite as error:
        raise ScoringFailed(str(error)) from None

    texts, done = texts[: len(scores)], start + len(scores)
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
        if done < stop:
            enqueue_shards(session, audit, [(done, stop)])
            enqueued += 1
        return enqueued

    return finish(runtime, lease, write)


def _parts(
    runtime: Runtime, row: LanguageModelRow, texts: Sequence[ClearText]
) -> Iterator[Sequence[ClearText]]:
    """The texts of a shard in parts of about half a second each, which do not depend on who waits when."""
    tokens = most_tokens_of_part(row.parameter_count, on_processor=runtime.machine.threads > 0)
    if tokens is None:
        yield texts
        return
    lengths = (len(text.text) // _CHARACTERS_OF_A_TOKEN for text in texts)
    for start, stop in cut_shards(lengths, tokens, len(texts)):
        yield texts[start:stop]


def _score_until_others_wait(
    runtime: Runtime,
    lease: Lease,
    parts: Iterator[Sequence[ClearText]],
    spec: AuditSpec,
    subject: Subject,
    keeper: LeaseKeeper,
) -> list[TextScore]:
    """The scores of the first parts: of all, unless somebody waits for the worker after one of them."""
    scores: list[TextScore] = []
    for part in parts:
        if scores:
            with runtime.sessions() as session:
                if others_wait(session, lease, runtime.queue):
                    break
        scores += _score_and_measure(subject, part, spec, partial(_report_from, keeper, len(scores)))
    return scores


def _report_from(keeper: LeaseKeeper, before: int, done: int) -> None:
    """Report the texts of a part together with those before it."""
    keeper.report(before + done)


def _score_and_measure(
    subject: Subject,
    texts: Sequence[ClearText],
    spec: AuditSpec,
    report: Callable[[int], None],
) -> list[TextScore]:
    """The scores of texts, and what the audit's measurements find of them.

    Reports as many texts as there are when all is done, and a part of them that never falls before.
    """
    names = [name for name in spec.metrics if name in MEASUREMENTS]
    steps = 1 + len(names)
    scores = score_texts(
        subject.language_model,
        [text_input(text) for text in texts],
        subject.scoring,
        on_progress=lambda done: report(done // steps),
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
