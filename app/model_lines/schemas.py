"""Model lines and their versions as they are sent and answered."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter

from app.audits.schemas import Progress
from app.contracts.audits import AuditSpec
from app.contracts.base import Contract, Described, Metadata, Name
from app.contracts.policies import SubjectKind
from app.contracts.policies.policy import Description, PolicyId
from app.contracts.results.gates import Outcome
from app.contracts.results.studies import Change, Comparison
from app.contracts.sources import LanguageModelReference
from app.contracts.texts import TextSetId
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.store.core.identifiers import Prefix, format_id
from app.store.gates import Gate
from app.store.jobs.job import Job
from app.store.model_lines import ModelLine, ModelVersion


class StandingCheck(AuditSpec):
    """An audit of every version of a line, and from the second on a study with the one before it.

    `control_text_set` is as in an audit, and serves the study too.
    """

    text_set: TextSetId
    control_text_set: TextSetId | None = None
    policies: Annotated[
        list[PolicyId],
        Field(max_length=8, description="Each judges the audit of every version, and is pre-registered."),
    ] = []
    study_policies: Annotated[
        list[PolicyId],
        Field(
            max_length=8,
            description="Each judges the study of every version with the one before it: "
            "`no_newly_memorized` and other rules that apply to a `release`.",
        ),
    ] = []


STANDING_CHECKS: TypeAdapter[list[StandingCheck]] = TypeAdapter(list[StandingCheck])


class ModelLineCreate(Contract):
    """A line of versions of a language model, all of which are judged by the same checks."""

    name: Name
    description: Description | None = None
    checks: Annotated[
        list[StandingCheck], Field(min_length=1, max_length=16, description="They never change.")
    ]
    metadata: Metadata = {}


class ModelLineOut(Described):
    """A line of versions. It never changes: other checks are another line."""

    object: Literal["model_line"] = "model_line"
    id: str
    name: str
    """No other line of the tenant has it."""
    description: str | None
    checks: list[StandingCheck]
    metadata: dict[str, JsonValue]
    created_at: datetime

    @classmethod
    def of(cls, row: ModelLine) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.MODEL_LINE, row.id),
            name=row.name,
            description=row.description,
            checks=STANDING_CHECKS.validate_python(row.checks),
            metadata=row.metadata_,
            created_at=row.created_at,
        )


class ModelVersionCreate(Contract):
    """A version to register: its language model, an id or a source as in an audit; and what it is called."""

    model: LanguageModelReference
    label: Name
    metadata: Metadata = {}


class VersionCheck(Described):
    """A standing check of a version."""

    text_set: str
    control_text_set: str | None
    audit: str
    """Of this version."""
    study: str | None
    """Of this version with the one before it; null of the first."""


class VersionGate(Described):
    """A gate of a version."""

    gate: str
    policy: str
    policy_name: str
    policy_version: int
    subject_kind: SubjectKind
    subject: str
    status: str
    outcome: Outcome | None
    """Null until it was decided."""


class ModelVersionOut(Described):
    """A version of a model line. The resource is the operation: it ends when all that it made has ended."""

    object: Literal["model_version"] = "model_version"
    id: str
    line: str
    label: str
    status: str
    """`succeeded` once all its audits, studies and gates have; one that has not fails it."""
    outcome: Outcome | None
    """`fail` if a gate fails, else `inconclusive` if one is, else `pass`; null until it has succeeded, and if
    the line names no policy."""
    model: str
    previous: str | None
    """The version that it is compared with: the newest before it that had not failed nor been cancelled."""
    checks: list[VersionCheck]
    """In the line's order."""
    gates: list[VersionGate]
    progress: Progress
    """Over all audits that it waits for."""
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
        row: ModelVersion,
        checks: Sequence[VersionCheck],
        gates: Sequence[Gate],
        progress: tuple[int, int],
        waiting_job: Job | None = None,
    ) -> Self:
        """The resource for a row, its checks and gates; `progress` counts texts, done and total."""
        previous = row.previous_id
        done, total = progress
        return cls(
            id=format_id(Prefix.MODEL_VERSION, row.id),
            line=format_id(Prefix.MODEL_LINE, row.model_line_id),
            label=row.label,
            status=row.status,
            outcome=row.outcome,
            model=format_id(Prefix.LANGUAGE_MODEL, row.language_model_id),
            previous=None if previous is None else format_id(Prefix.MODEL_VERSION, previous),
            checks=list(checks),
            gates=[_gate(gate) for gate in gates],
            progress=Progress(done=done, total=total),
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


def _gate(row: Gate) -> VersionGate:
    return VersionGate(
        gate=format_id(Prefix.GATE, row.id),
        policy=format_id(Prefix.POLICY, row.policy_id),
        policy_name=row.spec["policy_name"],
        policy_version=row.spec["policy_version"],
        subject_kind=row.subject_kind,
        subject=row.public_subject_id,
        status=row.status,
        outcome=row.outcome,
    )


class CheckDiff(Described):
    """What changed in a standing check."""

    text_set: str
    study: str
    """Where all of it is from."""
    comparison: Comparison
    """Differences of mean NL and of recited texts: of all texts, by duplicates, by group."""
    change: Change
    """What became of single texts."""


class ModelVersionDiff(Described):
    """What changed from one version of a line to the next."""

    object: Literal["model_version_diff"] = "model_version_diff"
    version: str
    label: str
    previous: str
    previous_label: str
    checks: list[CheckDiff]
    """In the line's order."""
