"""What a job can work for: where it is stored, until when it is wanted, and how it ends."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement

from app.errors import LanguageModelRejected
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.edits import Edit
from app.store.gates import Gate
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.model_lines import ModelVersion
from app.store.operations import ACTIVE, Operation, OperationStatus
from app.store.studies import Study
from app.store.text_sets import TextSet, TextSetStatus


def _always(row: object) -> bool:  # noqa: ARG001 - whatever it is
    return True


@dataclass(frozen=True)
class Owner:
    """A kind of row that jobs work for.

    Attributes:
        kind: as `jobs.owner_kind` says it.
        table: its rows; they have an `id`, a `status` and an `error`.
        active: the statuses of one that has not ended, so that its jobs are wanted.
        failed: the status of one whose job was given up.
        ended_at: by each status that ends it, the column that says when; none where there is none.
        error_of: the `error` that is recorded, made of the problem of the job.
        finished_by: the kind of the job that ends it once its companion audits have succeeded; None for what
            never has any.
        is_ready: whether its row lacks nothing but its companions, so that this job can be added.
    """

    kind: str
    table: type[Operation | LanguageModel | TextSet]
    active: Collection[StrEnum]
    failed: StrEnum
    ended_at: Mapping[StrEnum, str | None]
    error_of: Callable[[JSONObject], JSONObject] = dict
    finished_by: str | None = None
    is_ready: Callable[[Any], bool] = _always

    def is_active(self) -> ColumnElement[bool]:
        """The condition that one has not ended."""
        return self.table.status.in_(self.active)


def _rejection(problem: JSONObject) -> JSONObject:
    """It is rejected for whatever reason, and the status says whose that is."""
    return LanguageModelRejected(str(problem["detail"])).problem() | {"status": problem["status"]}


def _operation(table: type[Operation]) -> Owner:
    """Whatever a client requests and follows ends alike."""
    ends = (OperationStatus.SUCCEEDED, OperationStatus.FAILED, OperationStatus.CANCELLED)
    return Owner(
        kind=table.noun,
        table=table,
        active=ACTIVE,
        failed=OperationStatus.FAILED,
        ended_at=dict.fromkeys(ends, "finished_at"),
    )


AUDIT: Final = replace(_operation(Audit), finished_by="summarize_audit", is_ready=Audit.is_scored)
EDIT: Final = _operation(Edit)
STUDY: Final = replace(_operation(Study), finished_by="finish_study")
# It waits for no audits of its own but for its subject.
GATE: Final = replace(_operation(Gate), finished_by="evaluate_gate")
# No job ends it but the last of its audits, studies and gates.
MODEL_VERSION: Final = _operation(ModelVersion)
# A job of its own validates it.
LANGUAGE_MODEL: Final = Owner(
    kind="language_model",
    table=LanguageModel,
    active=(LanguageModelStatus.QUEUED,),
    failed=LanguageModelStatus.REJECTED,
    ended_at={LanguageModelStatus.READY: "ready_at", LanguageModelStatus.REJECTED: None},
    error_of=_rejection,
)
# A job of its own imports it, if its texts were not sent.
TEXT_SET: Final = Owner(
    kind="text_set",
    table=TextSet,
    active=(TextSetStatus.IMPORTING,),
    failed=TextSetStatus.FAILED,
    ended_at=dict.fromkeys((TextSetStatus.READY, TextSetStatus.FAILED, TextSetStatus.CANCELLED)),
)

OWNERS: Final[dict[str, Owner]] = {
    owner.kind: owner for owner in (AUDIT, EDIT, STUDY, GATE, MODEL_VERSION, LANGUAGE_MODEL, TEXT_SET)
}


def owner_of(table: type[Operation]) -> Owner:
    """The entry of a kind of operation."""
    return OWNERS[table.noun]
