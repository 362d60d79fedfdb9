"""Estimating work that was asked for, from what its like took."""

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy.orm import Session

from app.contracts.texts import TextSetRole
from app.estimates.memory import Held, fits, fits_any, held_by_audits, held_by_edit, memory_of
from app.estimates.schemas import AuditEstimate, Estimate, WorkerClassEstimate
from app.estimates.seconds import Speeds
from app.estimates.work import Counted, Work, work_of_audits, work_of_edit
from app.settings import GPU_QUEUE, Settings
from app.store.audits import Audit, evidence_sources
from app.store.core.identifiers import Prefix, format_id
from app.store.edits import Edit
from app.store.keyed_digests import digest_of
from app.store.text_sets import TextSet
from app.store.throughput import LOADING, WorkerClass, read_throughput, seen_lately

_ONE_WORKER: Final = (
    "`seconds` is one idle worker of the class with the language models loaded; add `loading_seconds` where "
    "they are not, and what other work is ahead."
)
_NO_WORKER: Final = (
    "No worker was seen lately, so that it is not known how long this takes, nor whether it fits."
)
_IMPORTING: Final = "The texts are still to be imported; ask again when the text set is ready."
_NOT_VALIDATED: Final = "A language model was not validated yet, so that its size is not known."
_APPROXIMATE: Final = "Metrics that decode or ask questions of their own make `forward_passes` approximate."
_KNOWN_ALREADY: Final = (
    "An audit of the same texts under the same language model exists. Where its evidence has all that is "
    "asked for, nothing goes through the model, and this takes far less."
)
_ASSUMED: Final = "Of a language model that has audited nothing for you, tokens are a quarter of the bytes."


def estimate_audits(
    session: Session, audits: Sequence[tuple[str, Audit]], settings: Settings, *, of_study: bool = False
) -> Estimate:
    """What audits take, each in its role, and the study that compares them."""
    workers = seen_lately(session, GPU_QUEUE)
    work = work_of_audits(session, audits, settings, workers, of_study=of_study)
    return _answer(session, work, held_by_audits(session, audits), workers)


def estimate_edit(
    session: Session, edit: Edit, text_sets: dict[TextSetRole, TextSet], settings: Settings
) -> Estimate:
    """What an edit takes."""
    work = work_of_edit(session, edit, text_sets, settings)
    return _answer(session, work, held_by_edit(session, edit), seen_lately(session, GPU_QUEUE))


def _answer(session: Session, work: Work, held: Sequence[Held], workers: Sequence[WorkerClass]) -> Estimate:
    memory = memory_of(held)
    jobs = work.jobs or []
    speeds = Speeds(read_throughput(session, {LOADING, *(each.kind for each in jobs)}))
    models = list({each.language_model.id: each.language_model for each in held}.values())

    def on(worker: WorkerClass) -> WorkerClassEstimate:
        seconds, basis = (None, "unknown") if work.jobs is None else speeds.seconds(worker.name, jobs)
        return WorkerClassEstimate(
            worker_class=worker.name,
            device=worker.device,
            memory_bytes=worker.memory_bytes,
            last_seen_at=worker.last_seen_at,
            fits=fits(memory, worker),
            seconds=seconds,
            loading_seconds=speeds.loading_seconds(worker.name, models),
            basis=basis,
        )

    distinct = {(each.language_model.id, each.text_set.id): each.texts for each in work.counted}.values()
    known = [texts for texts in distinct if texts is not None]
    tokens = None if work.jobs is None else sum(texts.tokens for texts in known)
    passing = work.forward_tokens
    return Estimate(
        texts=sum(texts.count for texts in known),
        tokens=None if tokens is None else round(tokens),
        forward_passes=passing / tokens if tokens and passing is not None else None,
        forward_tokens=None if passing is None else round(passing),
        jobs=None if work.jobs is None else sum(each.count for each in jobs),
        companions=[_describe(each) for each in work.counted],
        memory=memory,
        by_worker_class=[on(worker) for worker in workers],
        fits=fits_any(memory, workers),
        notes=list(_notes(session, work, workers)),
    )


def _describe(counted: Counted) -> AuditEstimate:
    texts = counted.texts
    return AuditEstimate(
        role=counted.role,
        model=format_id(Prefix.LANGUAGE_MODEL, counted.language_model.id),
        text_set=format_id(Prefix.TEXT_SET, counted.text_set.id),
        texts=0 if texts is None else texts.count,
        tokens=None if texts is None else round(texts.tokens),
        tokens_basis=counted.basis,
    )


def _notes(session: Session, work: Work, workers: Sequence[WorkerClass]) -> Iterator[str]:
    yield _ONE_WORKER if workers else _NO_WORKER
    if work.jobs is None:
        yield _IMPORTING
    if any(each.language_model.parameter_count is None for each in work.counted):
        yield _NOT_VALIDATED
    if any(each.basis == "assumed" for each in work.counted):
        yield _ASSUMED
    if work.forward_tokens is not None and work.forward_tokens > sum(
        each.texts.tokens for each in work.counted if each.texts is not None
    ):
        yield _APPROXIMATE
    if any(_was_audited(session, each) for each in work.counted):
        yield _KNOWN_ALREADY


def _was_audited(session: Session, counted: Counted) -> bool:
    """Whether an audit of the tenant has scored the same texts, so that another may follow from it."""
    digest, text_set = counted.language_model.digest, counted.text_set
    return digest is not None and bool(
        evidence_sources(
            session,
            tenant_id=text_set.tenant_id,
            language_model_digest=digest,
            text_set_hmac_sha256=digest_of(session, text_set),
        )
    )
