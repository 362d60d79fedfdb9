"""Language models as they are sent and answered."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, JsonValue

from app.contracts.base import Contract, Metadata
from app.contracts.sources import Source
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.store.core.identifiers import Prefix, format_id
from app.store.jobs.job import Job
from app.store.language_models import LanguageModel


class LanguageModelCreate(Contract):
    """A checkpoint to register."""

    source: Source
    metadata: Metadata = {}


class TokenizerOut(BaseModel):
    """What a checkpoint's tokenizer has to put before a text, and what it puts there by itself.

    `prefix_token_ids` is what `prefix_token: "auto"` follows; it is empty if the tokenizer adds nothing.
    """

    bos_token_id: int | None
    eos_token_id: int | None
    prefix_token_ids: list[int]


class LanguageModelOut(BaseModel):
    """A registered checkpoint. What a worker found in it is null until it is `ready`.

    `base_model` is what an edited model was derived from. `tokenizer` stays null for what was registered with
    a release that did not look. `waiting` says what its validation waits for, if something that it needs is
    away.
    """

    object: Literal["language_model"] = "language_model"
    id: str
    status: str
    source: dict[str, Any]
    base_model: str | None
    revision: str | None
    digest: str | None
    files: dict[str, str] | None
    architecture: str | None
    parameter_count: int | None
    context_length: int | None
    vocabulary_size: int | None
    tokenizer: TokenizerOut | None = None
    dtype: str | None
    waiting: Waiting | None = None
    error: Problem | None
    metadata: dict[str, JsonValue]
    created_at: datetime
    ready_at: datetime | None

    @classmethod
    def of(cls, row: LanguageModel, waiting_job: Job | None = None) -> Self:
        """The resource for a row; `waiting_job` validates it, once something is back."""
        return cls(
            id=format_id(Prefix.LANGUAGE_MODEL, row.id),
            status=row.status,
            source=row.source,
            base_model=format_id(Prefix.LANGUAGE_MODEL, row.base_model_id) if row.base_model_id else None,
            revision=row.revision,
            digest=row.digest,
            files=row.files,
            architecture=row.architecture,
            parameter_count=row.parameter_count,
            context_length=row.context_length,
            vocabulary_size=row.vocabulary_size,
            tokenizer=TokenizerOut.model_validate(row.tokenizer) if row.tokenizer else None,
            dtype=row.dtype,
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            ready_at=row.ready_at,
        )
