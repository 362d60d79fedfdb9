"""Planning an audit: cut its text set into shards by token count, and enqueue them."""

from collections.abc import Callable, Iterable, Iterator

from sqlalchemy.orm import Session

from app.contracts.audits import StoredAuditSpec
from app.contracts.workload import most_tokens_of_shard
from app.errors import ImportFailed, TextsAwaited
from app.store.audits import Audit
from app.store.enqueueing import enqueue_derivation, enqueue_shards
from app.store.jobs.leases import Lease, LeaseLost
from app.store.keyed_digests import digest_of
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.lifecycle import begin_operation
from app.store.scores import iterate_token_counts
from app.store.text_sets import TextSet, TextSetStatus
from app.store.texts import iterate_text_batches
from workers.audits.sources import find_source
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import SpecialTokens, count_tokens


def plan_audit(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Mark an audit as running and enqueue its shards: of texts to score, or to derive from what is known.

    Returns:
        How many jobs this enqueued.

    Raises:
        LeaseLost: the audit was cancelled.
        TextsAwaited: its texts are being imported.
        ImportFailed: they could not be imported.
        LanguageModelChanged, LanguageModelRejected, HubUnreachable: see `ModelCache.get`.
    """
    if lease.audit_id is None:
        raise LeaseLost
    audit_id = lease.audit_id
    with runtime.sessions.begin() as session:
        row = session.get_one(LanguageModelRow, lease.language_model_id)
        assert row.digest is not None
        source = find_source(session, session.get_one(Audit, audit_id), row)
        audit = begin_operation(session, Audit, audit_id, row.digest)
        text_set = session.get_one(TextSet, audit.text_set_id)
        if text_set.status == TextSetStatus.IMPORTING:
            # A process of an older release, which knows of no imports, did not wait for it.
            raise TextsAwaited("The texts of the audit are being imported.")
        if text_set.status != TextSetStatus.READY:
            raise ImportFailed("The texts of the audit could not be imported.")
        audit.texts_total, audit.text_set_hmac_sha256 = text_set.text_count, digest_of(session, text_set)
    if source is not None:
        return _plan_derivation(runtime, lease, audit, source)
    spec = StoredAuditSpec.model_validate(audit.spec)
    bounds = cut_text_set(
        runtime,
        text_set,
        row.parameter_count,
        spec.options.special_tokens,
        lambda: runtime.models.get(row, spec.options.dtype),
        lambda: keeper.report(0),
    )

    def write(session: Session) -> int:
        enqueue_shards(session, audit, bounds)
        return len(bounds)

    return finish(runtime, lease, write)


def _plan_derivation(runtime: Runtime, lease: Lease, audit: Audit, source: Audit) -> int:
    """Enqueue the shards of an audit that follows from another one's evidence; no model counts its tokens."""
    settings = runtime.settings
    with runtime.sessions() as session:
        lengths = iterate_token_counts(session, source.id)
        bounds = list(cut_shards(lengths, settings.shard_tokens, settings.shard_texts))

    def write(session: Session) -> int:
        enqueue_derivation(session, audit, source, bounds)
        return len(bounds)

    return finish(runtime, lease, write)


def cut_text_set(
    runtime: Runtime,
    text_set: TextSet,
    parameter_count: int | None,
    special_tokens: SpecialTokens,
    load: Callable[[], LanguageModel],
    on_batch: Callable[[], object],
) -> list[tuple[int, int]]:
    """Cut a text set into shards [start, stop), of so many tokens and texts as one job may score.

    Args:
        runtime: this process.
        text_set: the set.
        parameter_count: of the language model; see `most_tokens_of_shard`.
        special_tokens: what the string of a special token inside a text becomes.
        load: gives the language model whose tokens count; called if the tokens could exceed the limit.
        on_batch: called after each batch that was counted; may raise to stop.
    """
    settings = runtime.settings
    most_tokens = most_tokens_of_shard(
        settings.shard_tokens, parameter_count, on_processor=runtime.machine.threads > 0
    )
    if text_set.byte_count <= most_tokens:
        # Most tokens cover a byte or more, so texts of so few bytes are one shard's work. Those that a
        # tokenizer makes of less (a dummy prefix, a character that normalization takes apart) may exceed
        # the limit; the number of texts bounds them all the same.
        starts = range(0, text_set.text_count, settings.shard_texts)
        return [(start, min(start + settings.shard_texts, text_set.text_count)) for start in starts]
    language_model = load()
    runtime.meter.note(text_set.byte_count)

    def lengths() -> Iterator[int]:
        with runtime.sessions() as session:
            for batch in iterate_text_batches(session, text_set.id):
                yield from count_tokens(language_model, batch, special_tokens)
                on_batch()

    return list(cut_shards(lengths(), most_tokens, settings.shard_texts))


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
