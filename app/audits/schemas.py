"""Audits, their scores and their evidence as they are sent and answered."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue

from app.contracts import AuditOptions, AuditSpec, LanguageModelReference, Metadata, Metric
from app.problems import Problem
from app.store.audits import Audit, Score
from app.store.identifiers import Prefix, format_id
from app.store.jobs import Job
from app.waiting import Waiting


class AuditCreate(AuditSpec):
    """An audit to run.

    `model` is an id, or a source. A source that was registered before keeps the revision that was pinned
    then; register it again to pin a newer one.
    """

    model: LanguageModelReference
    text_set: Annotated[str, Field(max_length=100)]
    metadata: Metadata = {}

    def spec(self) -> AuditSpec:
        """What the workers need of it."""
        return AuditSpec(metrics=self.metrics, options=self.options)


class Progress(BaseModel):
    """How much of the work is done."""

    done: int
    total: int
    unit: Literal["texts"] = "texts"


class Digests(BaseModel):
    """SHA-256 digests of what went into an audit: the checkpoint's files, and the texts in order."""

    model: str | None
    text_set: str


class Interval(BaseModel):
    """A mean with its percentile-bootstrap 95 % interval; the interval is null for fewer than two texts."""

    n: int
    mean: float
    low: float | None
    high: float | None


class Level(BaseModel):
    """The texts of one group with one known number of duplicates."""

    group: str | None
    duplicates: int | None
    nl: Interval
    strict: Interval | None
    loose: Interval | None


class Gain(BaseModel):
    """How much higher the mean NL is at the most duplicates than at the fewest, with its 95 % interval.

    In nats per token; positive means that inserted texts are memorized. `n` is the smaller of the two
    numbers of texts; the interval is null when that is one.
    """

    from_duplicates: int
    to_duplicates: int
    n: int
    mean: float
    low: float | None
    high: float | None


class AuditSummary(BaseModel):
    """What an audit found, over all texts that could be scored."""

    texts: int
    errors: int
    tokens: int
    log_likelihood: float
    perplexity: float | None
    nl: Interval | None
    nl_byte: Interval | None
    strict: Interval | None
    loose: Interval | None
    similarity: Interval | None
    levels: list[Level]
    dose_response: list[Level]
    gain: Gain | None


class AuditOut(BaseModel):
    """One text set scored under one language model. The resource is the operation.

    `waiting` says what it waits for, if something that it needs is away.
    """

    object: Literal["audit"] = "audit"
    id: str
    status: str
    model: str
    text_set: str
    metrics: list[Metric]
    options: AuditOptions
    progress: Progress
    digests: Digests
    summary: AuditSummary | None
    waiting: Waiting | None = None
    error: Problem | None
    metadata: dict[str, JsonValue]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Audit, in_flight: int = 0, waiting_job: Job | None = None) -> Self:
        """The resource for a row.

        `in_flight` counts texts scored in shards not committed yet; `waiting_job` goes on once something is
        back.
        """
        spec = AuditSpec.model_validate(row.spec)
        return cls(
            id=format_id(Prefix.AUDIT, row.id),
            status=row.status,
            model=format_id(Prefix.LANGUAGE_MODEL, row.language_model_id),
            text_set=format_id(Prefix.TEXT_SET, row.text_set_id),
            metrics=spec.metrics,
            options=spec.options,
            progress=Progress(done=row.texts_done + in_flight, total=row.texts_total),
            digests=Digests(model=row.language_model_digest, text_set=row.text_set_sha256),
            summary=AuditSummary.model_validate(row.summary) if row.summary else None,
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


class ScoreOut(BaseModel):
    """The numbers of one text. Natural logs; a higher `nl` means more strongly memorized.

    `error` names why a text could not be scored; its numbers are then null.
    """

    text_id: str
    ordinal: int
    group: str | None
    duplicates: int | None
    n_tokens: int
    n_bytes: int
    n_windows: int
    log_likelihood: float | None
    nl: float | None
    nl_byte: float | None
    perplexity: float | None
    extraction: dict[str, Any] | None = None
    verbatim: dict[str, Any] | None = None
    p_z: dict[str, Any] | None = None
    error: str | None

    @classmethod
    def of(cls, row: Score) -> Self:
        """The resource for a row."""
        return cls(
            text_id=row.text_id,
            ordinal=row.ordinal,
            group=row.group,
            duplicates=row.duplicates,
            n_tokens=row.n_tokens,
            n_bytes=row.n_bytes,
            n_windows=row.n_windows,
            log_likelihood=row.log_likelihood,
            nl=row.nl,
            nl_byte=row.nl_byte,
            perplexity=row.perplexity,
            error=row.error,
            **row.metrics,
        )


class Token(BaseModel):
    """One token of a text as the language model saw it: rank 1 means it was the model's first choice."""

    token_id: int
    text: str
    start: int
    end: int
    log_likelihood: float
    rank: int
    matched: bool


class TokenEvidenceOut(BaseModel):
    """The tokens of one text: the evidence behind its score."""

    object: Literal["token_evidence"] = "token_evidence"
    audit: str
    text_id: str
    tokens: list[Token]
