"""Studies as they are sent and answered."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from app.audits.schemas import Progress
from app.contracts.audits import StoredAuditOptions
from app.contracts.base import Described, Metadata, Name
from app.contracts.metrics.fields import MetricName
from app.contracts.policies.policy import PolicyId
from app.contracts.results.studies import StudyResult
from app.contracts.studies import StoredStudyModel, StoredStudySpec, StudyKind, StudySpec
from app.contracts.texts import TextSetId
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.policies.preregistration import Preregistration
from app.store.companions import Companion
from app.store.core.identifiers import Prefix, format_id
from app.store.jobs.job import Job
from app.store.scores import StudiedScore
from app.store.studies import Study, StudyRole


class StudyCreate(StudySpec):
    """A study to run: an audit of the same texts for each language model, compared when all have succeeded.

    `control_text_set` is for a `release`: texts that no version has seen more often than another. Without
    them single texts are compared, but none is called memorized. `policy` is recorded before the first score,
    and a gate made that judges the study by it.
    """

    name: Name
    text_set: TextSetId
    control_text_set: TextSetId | None = None
    policy: PolicyId | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check_controls(self) -> Self:
        if self.control_text_set is not None and self.kind != "release":
            raise PydanticCustomError("controls_of_release", "Only a release is compared with controls")
        return self


class StudiedModelOut(Described):
    """A language model of a study and its audits, which can be read like any other."""

    model: str
    label: str
    step: int | None
    audit: str
    """Of the study's text set."""
    control_audit: str | None
    """Of its control text set; null without one."""


class StudyTextOut(Described):
    """One text under the language models of a study, in their order."""

    text_id: str
    ordinal: int
    """The text's place in its set, from 0."""
    group: str | None
    duplicates: int | None
    nl: list[float | None]
    """In nats per token, at most 0; null where a text could not be scored."""
    strict: list[bool | None]
    """Whether the suffix is recited exactly; null if `extraction` was not asked for, or of a text without a
    suffix."""

    @classmethod
    def of(cls, rows: Sequence[StudiedScore]) -> Self:
        """The text of one score from each audit."""
        first = rows[0]
        return cls(
            text_id=first.text_id,
            ordinal=first.ordinal,
            group=first.group,
            duplicates=first.duplicates,
            nl=[row.nl for row in rows],
            strict=[row.strict for row in rows],
        )


class StudyOut(Described):
    """One text set under several language models. The resource is the operation."""

    object: Literal["study"] = "study"
    id: str
    name: str
    kind: StudyKind
    status: str
    text_set: str
    control_text_set: str | None
    models: list[StudiedModelOut]
    """In the order in which they are compared."""
    metrics: list[MetricName]
    options: StoredAuditOptions
    progress: Progress
    """Over all its audits: a text counts once for each language model."""
    text_set_hmac_sha256: Annotated[
        str | None,
        Field(
            description="The `hmac_sha256` of the text set: a digest of the texts under a key of the tenant; "
            "null where that is null."
        ),
    ] = None
    preregistration: Preregistration | None = None
    """The policy that was named when it was asked for; null if none was."""
    result: StudyResult | None
    """What it found; null until it has succeeded."""
    waiting: Waiting | None = None
    """What it waits for, if something that one of its audits needs is away; else null."""
    error: Problem | None
    """Why it failed; null unless it did."""
    metadata: dict[str, JsonValue]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(
        cls,
        row: Study,
        companions: Sequence[Companion],
        progress: tuple[int, int],
        waiting_job: Job | None = None,
        preregistration: Preregistration | None = None,
        unkeyed: Collection[str] = (),
    ) -> Self:
        """The resource for a row.

        `companions` are its audits; `progress` counts their texts, done and total; `waiting_job` goes on once
        something is back; `unkeyed` are digests of texts that are not told.
        """
        spec = StoredStudySpec.model_validate(row.spec)
        audits = {(each.role, each.position): format_id(Prefix.AUDIT, each.audit_id) for each in companions}

        def studied(position: int, model: StoredStudyModel) -> StudiedModelOut:
            return StudiedModelOut(
                model=model.model,
                label=model.label,
                step=model.step,
                audit=audits[StudyRole.MODEL, position],
                control_audit=audits.get((StudyRole.CONTROL, position)),
            )

        control, texts = row.control_text_set_id, row.text_set_hmac_sha256
        done, total = progress
        return cls(
            id=format_id(Prefix.STUDY, row.id),
            name=row.name,
            kind=spec.kind,
            status=row.status,
            text_set=format_id(Prefix.TEXT_SET, row.text_set_id),
            control_text_set=format_id(Prefix.TEXT_SET, control) if control else None,
            models=[studied(*each) for each in enumerate(spec.models)],
            metrics=spec.metrics,
            options=spec.options,
            progress=Progress(done=done, total=total),
            text_set_hmac_sha256=None if texts in unkeyed else texts,
            preregistration=preregistration,
            result=StudyResult.model_validate(row.result) if row.result else None,
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
