"""Edits as they are sent and answered."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.base import Described, Metadata
from app.contracts.edit_methods import METHODS
from app.contracts.edit_methods.kfac import DEFAULT_RETAIN_WEIGHT, Sweep
from app.contracts.edit_methods.kfac_recovery import recovery_steps_of
from app.contracts.edits import EditMethod, EditSpec
from app.contracts.policies.policy import PolicyId
from app.contracts.results.evaluations import Evaluation
from app.contracts.results.frontier import FrontierPoint
from app.contracts.results.receipt_facts import EditWarning
from app.contracts.results.receipts import Receipt
from app.contracts.sources import LanguageModelReference
from app.contracts.texts import TextSetId, TextSetRole
from app.http.problems import Problem
from app.http.waiting import Waiting
from app.policies.preregistration import Preregistration
from app.store.artifacts import ARTIFACT_NAME, MAX_NAME_CHARS
from app.store.core.identifiers import Prefix, format_id
from app.store.edits import Edit, EditTextSet
from app.store.jobs.job import Job

# What some methods read and others would ignore.
_OPTIONS_OF_METHODS = frozenset().union(*(method.read_options for method in METHODS.values()))


class EditCreate(EditSpec):
    """An edit to run: which language model, by which method, and what to measure before and after.

    K-FAC needs a calibration set and no forget set, unless settings are searched (`sweep`, or `layers` as
    "auto"): then the forget set is what the search aims at. BalancedSubnet needs both. SVD needs neither.
    K-FAC keeps the curvature of a retain set too, with the weight `retain_weight` (0.1 unless given), and
    `recovery` trains the edited matrices on it for a few steps.

    `policy` is recorded before anything is measured, and a gate made that judges the edit by it.
    """

    model: LanguageModelReference
    name: Annotated[str, Field(pattern=ARTIFACT_NAME, max_length=MAX_NAME_CHARS)]
    calibration_text_set: TextSetId | None = None
    retain_text_set: TextSetId | None = None
    forget_text_set: TextSetId | None = None
    policy: PolicyId | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        method = METHODS[self.method]
        if self.model_fields_set & (_OPTIONS_OF_METHODS - method.read_options):
            raise PydanticCustomError("parameter_of_another_method", "A parameter of another method")
        if self.searches and not method.searches:
            raise PydanticCustomError("search_needs_kfac", "The settings of this method cannot be searched")
        for refusal in method.refusals:
            if refusal.applies(self):
                raise PydanticCustomError(refusal.code, refusal.message)
        if self.calibration_text_set is None and TextSetRole.CALIBRATION in method.needs:
            raise PydanticCustomError("calibration_missing", "This method needs a calibration text set")
        if self.forget_text_set is None:
            # A search aims at it.
            if self.searches or TextSetRole.FORGET in method.needs:
                raise PydanticCustomError("forget_set_missing", "This needs a forget text set")
        elif self.evaluation.unseen_text_set == self.forget_text_set:
            raise PydanticCustomError("unseen_was_seen", "The unseen set must not be the forget set")
        self._check_retained()
        return self

    def _check_retained(self) -> None:
        retained, evaluation = self.retain_text_set, self.evaluation
        if retained is None:
            sweep = self.sweep or Sweep()
            wanted = (
                self.retain_weight,
                self.recovery,
                sweep.retain_weight,
                sweep.recovery_steps,
                self.constraint.max_nl_drop,
            )
            if any(each is not None for each in wanted):
                raise PydanticCustomError("retain_set_missing", "This needs a retain text set")
            return
        if "retain_weight" not in METHODS[self.method].options:
            raise PydanticCustomError("parameter_of_another_method", "A parameter of another method")
        if retained in {self.forget_text_set, evaluation.memorized_text_set, evaluation.unseen_text_set}:
            raise PydanticCustomError("retained_is_memorized", "The retain set must not be what is memorized")
        if retained == evaluation.control_text_set:
            raise PydanticCustomError("control_was_retained", "The control set must not be the retain set")
        if retained == evaluation.clean_text_set and any(recovery_steps_of(self)):
            raise PydanticCustomError(
                "clean_was_retained", "The clean set must not be what recovery trains on"
            )

    def spec(self) -> EditSpec:
        """What the workers need of it."""
        spec = EditSpec.model_validate(self.model_dump(include=set(EditSpec.model_fields)))
        if self.retain_text_set is not None and spec.retain_weight is None:
            return spec.model_copy(update={"retain_weight": DEFAULT_RETAIN_WEIGHT})
        return spec

    def text_sets(self) -> dict[TextSetRole, str]:
        """The public ids of the text sets by role, the defaults of an evaluation included."""
        evaluation = self.evaluation
        given = {
            TextSetRole.CALIBRATION: self.calibration_text_set,
            TextSetRole.RETAIN: self.retain_text_set,
            TextSetRole.FORGET: self.forget_text_set,
            TextSetRole.MEMORIZED: evaluation.memorized_text_set or self.forget_text_set,
            TextSetRole.UNSEEN: evaluation.unseen_text_set,
            TextSetRole.CONTROL: evaluation.control_text_set,
            TextSetRole.CLEAN: evaluation.clean_text_set or self.calibration_text_set,
            TextSetRole.ITEMS: evaluation.items_text_set,
        }
        return {role: public_id for role, public_id in given.items() if public_id is not None}


class EditProgress(BaseModel):
    """How far an edit has come: per cent, and the stage that its worker reported last."""

    done: int
    total: int = 100
    unit: Literal["percent"] = "percent"
    stage: str | None


class EditOut(Described):
    """An edited language model in the making. The resource is the operation."""

    object: Literal["edit"] = "edit"
    id: str
    status: str
    model: str
    method: EditMethod
    name: str
    text_sets: dict[str, str]
    spec: dict[str, Any]
    progress: EditProgress
    receipt: Receipt | None
    """How it was made; null until it has succeeded."""
    evaluation: Evaluation | None
    """What changed; null until it has succeeded."""
    warnings: list[EditWarning] = []
    """What is doubtful about it; none until it has ended. A search that fails for want of a feasible setting
    leaves them too."""
    frontier: list[FrontierPoint] | None
    """Every setting that was tried; null without a search or a mass to adapt, and until that has ended. A
    search that fails for want of a feasible setting leaves it too."""
    preregistration: Preregistration | None = None
    """The policy that was named when it was asked for; null if none was."""
    artifact: str | None
    """Where its files are; null until it has succeeded."""
    edited_model: str | None
    """The id under which it can be audited and edited; null until it has succeeded."""
    model_repo: str | None
    """Its name on this service's Hub routes; null until it has succeeded."""
    waiting: Waiting | None = None
    """What it waits for, if something that it needs is away; else null."""
    error: Problem | None
    """Why it failed; null unless it did."""
    metadata: dict[str, JsonValue]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(
        cls,
        row: Edit,
        text_sets: dict[TextSetRole, EditTextSet],
        tenant_name: str,
        percent: int = 0,
        stage: str | None = None,
        waiting_job: Job | None = None,
        preregistration: Preregistration | None = None,
    ) -> Self:
        """The resource for a row.

        `percent` and `stage` are what its worker reported; `waiting_job` goes on once something is back.
        """
        return cls(
            id=format_id(Prefix.EDIT, row.id),
            status=row.status,
            model=format_id(Prefix.LANGUAGE_MODEL, row.language_model_id),
            method=row.spec["method"],
            name=row.name,
            text_sets={
                role: format_id(Prefix.TEXT_SET, used.text_set_id) for role, used in text_sets.items()
            },
            spec={key: value for key, value in row.spec.items() if key != "method"},
            progress=EditProgress(done=100 if row.artifact_id else percent, stage=stage),
            receipt=row.receipt,
            evaluation=Evaluation.model_validate(row.evaluation) if row.evaluation else None,
            warnings=(row.receipt or row.frontier or {}).get("warnings", []),
            frontier=row.frontier["points"] if row.frontier else None,
            preregistration=preregistration,
            artifact=format_id(Prefix.ARTIFACT, row.artifact_id) if row.artifact_id else None,
            edited_model=format_id(Prefix.LANGUAGE_MODEL, row.edited_model_id)
            if row.edited_model_id
            else None,
            model_repo=f"{tenant_name}/{row.name}" if row.artifact_id else None,
            waiting=Waiting.of(waiting_job),
            error=Problem.model_validate(row.error) if row.error else None,
            metadata=row.metadata_,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )
