"""Audits, their scores and their evidence as they are sent and answered."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, Field, JsonValue, create_model

from app.contracts.audits import AuditSpec, StoredAuditOptions, StoredAuditSpec
from app.contracts.base import Metadata
from app.contracts.metrics.fields import UNSCORED, MetricName, score_fields
from app.contracts.results.summary import AuditSummary
from app.contracts.sources import LanguageModelReference
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id
from app.store.jobs.queue import Job
from app.store.scores import Score


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


class PrefixToken(BaseModel):
    """What `options.prefix_token` came to for the language model: the tokens before each text.

    They condition `all` of it, for likelihoods and decoding alike, or its `first_token` only; `nothing`
    stands before a text whose first token is not scored. Nearly always one id; a few tokenizers add two.
    """

    ids: list[int]
    conditions: Literal["all", "first_token", "nothing"]


class AuditOut(BaseModel):
    """One text set scored under one language model. The resource is the operation.

    `prefix_token` is null until texts have been scored, and for audits of a release that did not record it.
    `waiting` says what it waits for, if something that it needs is away.
    """

    object: Literal["audit"] = "audit"
    id: str
    status: str
    model: str
    text_set: str
    metrics: list[MetricName]
    options: StoredAuditOptions
    prefix_token: PrefixToken | None = None
    derived_from: Annotated[
        str | None,
        Field(
            description="The audit of the same texts under the same language model from whose evidence this one "
            "follows, number for number, without the model; null if its texts went through the model."
        ),
    ] = None
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
        spec = StoredAuditSpec.model_validate(row.spec)
        return cls(
            id=format_id(Prefix.AUDIT, row.id),
            status=row.status,
            model=format_id(Prefix.LANGUAGE_MODEL, row.language_model_id),
            text_set=format_id(Prefix.TEXT_SET, row.text_set_id),
            metrics=spec.metrics,
            options=spec.options,
            prefix_token=PrefixToken.model_validate(row.prefix_token) if row.prefix_token else None,
            derived_from=format_id(Prefix.AUDIT, row.derived_from) if row.derived_from else None,
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


class _TextScore(BaseModel):
    """Every text has these, whatever was measured."""

    text_id: str
    ordinal: Annotated[int, Field(description="The text's place in its set, from 0.")]
    group: Annotated[str | None, Field(description="As uploaded; null where it was not given.")]
    duplicates: Annotated[
        int | None, Field(description="Known insertions, as uploaded; null where they were not given.")
    ]
    n_tokens: Annotated[int, Field(description="Tokens scored.")]
    n_bytes: Annotated[int, Field(description="Bytes of the text in UTF-8.")]
    n_windows: Annotated[int, Field(description="Windows of the model's context that it was scored in.")]
    log_likelihood: Annotated[
        float | None, Field(description="Of the whole text, in nats, at most 0; " + UNSCORED)
    ]
    nl: Annotated[
        float | None,
        Field(description="`log_likelihood` per token, in nats: NL(x) of arXiv 2510.19811; " + UNSCORED),
    ]
    nl_byte: Annotated[
        float | None, Field(description="`log_likelihood` per UTF-8 byte, in nats; " + UNSCORED)
    ]
    perplexity: Annotated[float | None, Field(description="exp(-`nl`), at least 1; " + UNSCORED)]


if TYPE_CHECKING:
    _MeasuredScore = _TextScore
else:
    _MeasuredScore = create_model("_MeasuredScore", __base__=_TextScore, **score_fields())


class ScoreOut(_MeasuredScore):
    """The numbers of one text. Natural logs; a higher `nl` means more strongly memorized.

    `n_tokens` counts those that are scored: all, or all but the first without a prefix token.
    `error` names why a text could not be scored; its numbers are then null.
    """

    error: Annotated[
        str | None, Field(description="Why the text could not be scored, as `no_tokens`; null if it was.")
    ]

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


_OLDER_EVIDENCE = "null as well in the evidence of an older release."


class Token(BaseModel):
    """One token of a text as the language model saw it: rank 1 means it was the model's first choice.

    The numbers of a first token are null where nothing stood before it (`prefix_token: "none"`).
    """

    token_id: int
    text: str
    start: int
    end: int
    log_likelihood: float | None
    rank: int | None
    matched: bool | None
    mean: Annotated[
        float | None,
        Field(
            description="Mean log-likelihood of a token drawn from the model at this place: minus its entropy, "
            f"in nats, at most 0 (arXiv 2404.02936); {_OLDER_EVIDENCE}"
        ),
    ]
    deviation: Annotated[
        float | None,
        Field(description=f"Standard deviation of the same, in nats, at least 0; {_OLDER_EVIDENCE}"),
    ]


class TokenEvidenceOut(BaseModel):
    """The tokens of one text: the evidence behind its score."""

    object: Literal["token_evidence"] = "token_evidence"
    audit: str
    text_id: str
    tokens: list[Token]
