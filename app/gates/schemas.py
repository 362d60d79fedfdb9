"""Gates as they are sent and answered."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.base import Contract, Described, Metadata
from app.contracts.policies import SubjectKind
from app.contracts.policies.policy import PolicyId
from app.contracts.results.gates import Outcome, RuleOutcome
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.store.core.identifiers import Prefix, format_id
from app.store.gates import Gate
from app.store.jobs.job import Job

SubjectId = Annotated[str, Field(max_length=100)]


class GateCreate(Contract):
    """A gate: a policy, and the audit, study or edit that it judges once that has succeeded."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["audit"]}, {"required": ["study"]}, {"required": ["edit"]}]
        }
    )

    policy: PolicyId
    audit: SubjectId | None = None
    study: SubjectId | None = None
    edit: SubjectId | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(each is not None for each in (self.audit, self.study, self.edit)) != 1:
            raise PydanticCustomError("one_subject", "Give one of audit, study and edit")
        return self

    def subject(self) -> tuple[SubjectKind, str]:
        """The kind of the subject and its id."""
        if self.audit is not None:
            return "audit", self.audit
        if self.study is not None:
            return "study", self.study
        assert self.edit is not None
        return "edit", self.edit


class GateSubject(Described):
    """What a gate judges."""

    kind: SubjectKind
    id: str


class GateProgress(Described):
    """How many rules are decided."""

    done: int
    total: int
    unit: Literal["rules"] = "rules"


class GateOut(Described):
    """A policy on a subject. The resource is the operation: it waits for its subject, then decides.

    `status` says whether it was decided, and `outcome` what.
    """

    object: Literal["gate"] = "gate"
    id: str
    status: str
    policy: str
    policy_name: str
    policy_version: int
    policy_sha256: str
    """The digest of the policy, as the policy has it."""
    subject: GateSubject
    outcome: Outcome | None
    """`fail` if a rule fails, else `inconclusive` if one is, else `pass`; null until it has succeeded."""
    rules: list[RuleOutcome]
    """Each rule and what became of it, in the policy's order; empty until it has succeeded."""
    preregistered: bool
    """Whether the subject named the policy when it was asked for, so before its first score."""
    progress: GateProgress
    waiting: Waiting | None = None
    """What it waits for, if something that it or its subject needs is away; else null."""
    error: Problem | None
    """Why it failed; null unless it did. A gate whose `outcome` is `fail` has not failed itself."""
    metadata: dict[str, JsonValue]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: Gate, waiting_job: Job | None = None) -> Self:
        """The resource for a row; `waiting_job` goes on once something is back."""
        rules = row.result["rules"] if row.result else []
        return cls(
            id=format_id(Prefix.GATE, row.id),
            status=row.status,
            policy=format_id(Prefix.POLICY, row.policy_id),
            policy_name=row.spec["policy_name"],
            policy_version=row.spec["policy_version"],
            policy_sha256=row.spec["policy_sha256"],
            subject=GateSubject(kind=row.subject_kind, id=row.public_subject_id),
            outcome=row.outcome,
            rules=[RuleOutcome.model_validate(rule) for rule in rules],
            preregistered=row.preregistered,
            progress=GateProgress(done=len(rules), total=len(row.spec["rules"])),
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
