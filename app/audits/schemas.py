"""Audits as they are sent and answered."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.audits import AuditSpec, StoredAuditOptions, StoredAuditSpec
from app.contracts.base import Metadata
from app.contracts.catalogue import PresetName
from app.contracts.metrics.fields import MetricName
from app.contracts.policies.policy import PolicyId
from app.contracts.results.summary import AuditSummary
from app.contracts.sources import LanguageModelReference
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.policies.preregistration import Preregistration
from app.store.audits import Audit
from app.store.companions import Companion, CompanionRole
from app.store.core.identifiers import Prefix, format_id
from app.store.jobs.job import Job


class AuditCreate(AuditSpec):
    """An audit to run.

    `model` is an id, or a source. A source that was registered before keeps the revision that was pinned
    then; register it again to pin a newer one. The texts are those of `text_set`, an id, or of a `preset`:
    then a worker imports them first, unless the tenant has a text set of that preset.

    `control_text_set` holds texts of the same kind that the language model never saw: with them each text
    gets a p-value and a verdict. `reference_model` is a language model like `model` that never saw the texts:
    what is judged is then how much more strongly `model` has memorized them. Both are scored by audits of
    their own, the `companions`, and the audit ends once these have.

    `policy` is recorded before the first score, and a gate made that judges the audit by it.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["text_set"]}, {"required": ["preset"]}]}
    )

    model: LanguageModelReference
    text_set: Annotated[str, Field(max_length=100)] | None = None
    preset: PresetName | None = None
    reference_model: LanguageModelReference | None = None
    control_text_set: Annotated[str, Field(max_length=100)] | None = None
    policy: PolicyId | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text_set is None) == (self.preset is None):
            raise PydanticCustomError("text_set_or_preset", "Give either text_set or preset")
        return self

    def spec(self) -> AuditSpec:
        """What the workers need of it."""
        return AuditSpec(metrics=self.metrics, options=self.options)


class Progress(BaseModel):
    """How much of the work is done."""

    done: int
    total: int
    unit: Literal["texts"] = "texts"


class Digests(BaseModel):
    """Digests of what went into an audit: SHA-256 of the checkpoint's files, HMAC-SHA-256 of the texts.

    The latter is the `hmac_sha256` of the text set, under a key of the tenant. Each is null until it is
    known: a language model is validated first, and the texts of a preset imported. What an older release
    made of the texts is null until it is keyed.
    """

    model: str | None
    text_set: str | None


class PrefixToken(BaseModel):
    """What `options.prefix_token` came to for the language model: the tokens before each text.

    They condition `all` of it, for likelihoods and decoding alike, or its `first_token` only; `nothing`
    stands before a text whose first token is not scored. Nearly always one id; a few tokenizers add two.
    """

    ids: list[int]
    conditions: Literal["all", "first_token", "nothing"]


class Companions(BaseModel):
    """Audits that an audit waits for. Each can be read like any other; one that fails fails the audit."""

    control: Annotated[str | None, Field(description="Of `model` on the control texts.")] = None
    reference: Annotated[str | None, Field(description="Of the reference model on the texts.")] = None
    reference_control: Annotated[
        str | None, Field(description="Of the reference model on the control texts.")
    ] = None

    @classmethod
    def of(cls, companions: Sequence[Companion]) -> Self:
        """Their ids by role."""
        return cls(**{each.role: format_id(Prefix.AUDIT, each.audit_id) for each in companions})


class AuditOut(BaseModel):
    """One text set scored under one language model. The resource is the operation.

    `companions` is null without control texts and reference model.
    `prefix_token` is null until texts have been scored, and for audits of a release that did not record it.
    `waiting` says what it waits for, if something that it needs is away.
    """

    object: Literal["audit"] = "audit"
    id: str
    status: str
    model: str
    text_set: str
    reference_model: str | None = None
    control_text_set: str | None = None
    companions: Companions | None = None
    companion_of: Annotated[
        list[str],
        Field(description="The audits and studies that this audit was made for; empty if it was asked for."),
    ] = []
    metrics: list[MetricName]
    options: StoredAuditOptions
    prefix_token: PrefixToken | None = None
    recall_shots: Annotated[
        int | None,
        Field(
            description="How many of the leading control texts `membership.recall` puts before each text: 10 "
            "at most, in half of the context; they are no controls then. Null if it was not measured."
        ),
    ] = None
    derived_from: Annotated[
        str | None,
        Field(
            description="The audit of the same texts under the same language model from whose evidence this "
            "one follows, number for number, without the model. Texts whose evidence was gone when it was "
            "read, as after their deletion, went through the model all the same; null if there was no such "
            "audit, and all did."
        ),
    ] = None
    preregistration: Annotated[
        Preregistration | None,
        Field(description="The policy that was named when it was asked for; null if none was."),
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
    def of(
        cls,
        row: Audit,
        companions: Sequence[Companion] = (),
        in_flight: int = 0,
        waiting_job: Job | None = None,
        companion_of: Sequence[str] = (),
        preregistration: Preregistration | None = None,
        unkeyed: Collection[str] = (),
    ) -> Self:
        """The resource for a row.

        `in_flight` counts texts scored in shards not committed yet; `waiting_job` goes on once something is
        back; `companion_of` names what it was made for; `preregistration` is what it was asked for with;
        `unkeyed` are digests of texts that are not told.
        """
        texts = row.text_set_hmac_sha256
        spec = StoredAuditSpec.model_validate(row.spec)
        by_role = {each.role: each for each in companions}
        control, reference = by_role.get(CompanionRole.CONTROL), by_role.get(CompanionRole.REFERENCE)
        return cls(
            id=format_id(Prefix.AUDIT, row.id),
            status=row.status,
            model=format_id(Prefix.LANGUAGE_MODEL, row.language_model_id),
            text_set=format_id(Prefix.TEXT_SET, row.text_set_id),
            reference_model=reference and format_id(Prefix.LANGUAGE_MODEL, reference.language_model_id),
            control_text_set=control and format_id(Prefix.TEXT_SET, control.text_set_id),
            companions=Companions.of(companions) if companions else None,
            companion_of=list(companion_of),
            metrics=spec.metrics,
            options=spec.options,
            prefix_token=PrefixToken.model_validate(row.prefix_token) if row.prefix_token else None,
            recall_shots=row.recall_shots,
            derived_from=format_id(Prefix.AUDIT, row.derived_from) if row.derived_from else None,
            preregistration=preregistration,
            progress=Progress(done=row.texts_done + in_flight, total=row.texts_total),
            digests=Digests(
                model=row.language_model_digest, text_set=None if texts in unkeyed else texts or None
            ),
            summary=AuditSummary.model_validate(row.summary) if row.summary else None,
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
