"""Auditing: cut a text set into shards by token count, and score a shard. Rows in, science, rows out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb
from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec, StoredAuditSpec
from app.errors import NoSuchPrefixToken, ScoringFailed
from app.store.audits import Audit, copy_evidence, copy_scores, record_prefix_token
from app.store.jobs.queue import Lease, LeaseLost
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lifecycle import begin_operation, complete_shard, enqueue_shards
from app.store.text_sets import TextRow, TextSet, iterate_text_batches, read_texts
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.errors import PrefixTokenUnusable, ScoreNotFinite
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import SpecialTokens
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import ScoringOptions, TextInput, TextScore, count_tokens, score_texts


@dataclass(frozen=True, slots=True)
class TextFacts:
    """What a score row says of its text: everything but the text itself."""

    ordinal: int
    text_id: str
    group: str | None
    duplicates: int | None


def plan_audit(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Mark an audit as running and enqueue its shards.

    Returns:
        How many jobs this enqueued.

    Raises:
        LeaseLost: the audit was cancelled.
        LanguageModelChanged, LanguageModelRejected, HubUnreachable: see `ModelCache.get`.
    """
    audit_id = _audit_of(lease)
    with runtime.sessions.begin() as session:
        row = session.get_one(LanguageModelRow, lease.language_model_id)
        assert row.digest is not None
        audit = begin_operation(session, Audit, audit_id, row.digest)
        text_set = session.get_one(TextSet, audit.text_set_id)
    spec = StoredAuditSpec.model_validate(audit.spec)
    bounds = cut_text_set(
        runtime,
        text_set,
        spec.options.special_tokens,
        lambda: runtime.models.get(row, spec.options.dtype),
        lambda: keeper.report(0),
    )

    def write(session: Session) -> int:
        enqueue_shards(session, audit, bounds)
        return len(bounds)

    return finish(runtime, lease, write)


def cut_text_set(
    runtime: Runtime,
    text_set: TextSet,
    special_tokens: SpecialTokens,
    load: Callable[[], LanguageModel],
    on_batch: Callable[[], object],
) -> list[tuple[int, int]]:
    """Cut a text set into shards [start, stop), of so many tokens and texts as the settings allow.

    Args:
        runtime: this process.
        text_set: the set.
        special_tokens: what the string of a special token inside a text becomes.
        load: gives the language model whose tokens count; called if the tokens could exceed the limit.
        on_batch: called after each batch that was counted; may raise to stop.
    """
    settings = runtime.settings
    if text_set.byte_count <= settings.shard_tokens:
        # A token covers at least a byte, so nothing but the number of texts can cut.
        starts = range(0, text_set.text_count, settings.shard_texts)
        return [(start, min(start + settings.shard_texts, text_set.text_count)) for start in starts]
    language_model = load()

    def lengths() -> Iterator[int]:
        with runtime.sessions() as session:
            for batch in iterate_text_batches(session, text_set.id):
                yield from count_tokens(language_model, batch, special_tokens)
                on_batch()

    return list(cut_shards(lengths(), settings.shard_tokens, settings.shard_texts))


def cut_shards(lengths: Iterable[int], most_tokens: int, most_texts: int) -> Iterator[tuple[int, int]]:
    """Cut texts of these lengths into runs [start, stop) within both limits.

    A text that is longer than the limit is in a shard with none but texts without tokens.
    """
    start = stop = tokens = 0
    for length in lengths:
        if (tokens and tokens + length > most_tokens) or stop - start == most_texts:
            yield start, stop
            start, tokens = stop, 0
        stop += 1
        tokens += length
    yield start, stop


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
    audit_id = _audit_of(lease)
    start, stop = lease.payload["start"], lease.payload["stop"]
    with runtime.sessions() as session:
        audit = session.get_one(Audit, audit_id)
        row = session.get_one(LanguageModelRow, lease.language_model_id)
        texts = read_texts(session, audit.text_set_id, start, stop)
    spec = StoredAuditSpec.model_validate(audit.spec)
    language_model = runtime.models.get(row, spec.options.dtype)
    keeper.report(0)
    inputs = [text_input(text) for text in texts]
    try:
        prefix_token = resolve_prefix_token(spec.options.prefix_token, language_model)
        scores = score_texts(language_model, inputs, scoring_options(spec), on_progress=keeper.report)
    except PrefixTokenUnusable as error:
        raise NoSuchPrefixToken(error.detail) from None
    except ScoreNotFinite as error:
        raise ScoringFailed(str(error)) from None

    def write(session: Session) -> int:
        copy_scores(session, (score_row(audit_id, *pair) for pair in zip(texts, scores, strict=True)))
        if spec.options.token_evidence:
            copy_evidence(session, _evidence_rows(audit_id, texts, scores))
        enqueued = complete_shard(session, audit_id, len(texts))
        record_prefix_token(session, audit_id, asdict(prefix_token))
        return enqueued

    return finish(runtime, lease, write)


def _audit_of(lease: Lease) -> UUID:
    if lease.audit_id is None:
        raise LeaseLost
    return lease.audit_id


def text_input(row: TextRow) -> TextInput:
    """A stored text as the scorer takes it."""
    if row.prefix_chars is None:
        return TextInput(row.text)
    return TextInput(row.text, prefix=row.text[: row.prefix_chars], suffix=row.text[row.prefix_chars :])


def scoring_options(spec: AuditSpec) -> ScoringOptions:
    """What an audit measures, as the scorer takes it."""
    options = spec.options
    return ScoringOptions(
        metrics=frozenset(spec.metrics) - {"nl"},
        prefix_tokens=options.prefix_tokens,
        suffix_tokens=options.suffix_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        token_evidence=options.token_evidence,
        prefix_token=options.prefix_token,
        special_tokens=options.special_tokens,
    )


def score_row(audit_id: UUID, text: TextRow | TextFacts, score: TextScore) -> tuple[object, ...]:
    """A row for `copy_scores`."""
    return (
        audit_id,
        text.ordinal,
        text.text_id,
        text.group,
        text.duplicates,
        score.n_tokens,
        score.n_bytes,
        score.n_windows,
        score.log_likelihood,
        score.nl,
        score.nl_byte,
        score.perplexity,
        Jsonb(score.metrics),
        score.error,
    )


def _evidence_rows(
    audit_id: UUID, texts: Sequence[TextRow], scores: Sequence[TextScore]
) -> Iterable[tuple[object, ...]]:
    for text, score in zip(texts, scores, strict=True):
        evidence = score.evidence
        if evidence is not None:
            yield (
                audit_id,
                text.ordinal,
                _packed(evidence.token_ids, "<i4"),
                _packed(evidence.log_likelihood, "<f4"),
                _packed(evidence.rank, "<i4"),
                _packed(evidence.offsets, "<i4"),
            )


def _packed(array: np.ndarray, item: str) -> bytes:
    return array.astype(item, copy=False).tobytes()
