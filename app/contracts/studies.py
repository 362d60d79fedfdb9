"""How a study is asked for."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.audits import AuditSpec, StoredAuditSpec
from app.contracts.base import Contract, Name
from app.contracts.sources import LanguageModelReference

MAX_MODELS: Final = 32

StudyKind = Literal["pair", "trajectory", "release"]
Step = Annotated[int, Field(ge=0, le=2**53, description="Of training, at which a checkpoint was taken.")]


class StudyModel(Contract):
    """A language model of a study: an id, or a source as in an audit; and what it is called there."""

    model: LanguageModelReference
    label: Name
    step: Step | None = None


class StudySpec(AuditSpec):
    """What a study measures of several language models, and how it compares them.

    A `pair` is two models of which the first is the baseline. A `trajectory` is the checkpoints of a run, by
    `step` if they have one, else as listed; or models that saw the same texts in different windows of
    training. A `release` is the versions of a model, the oldest first.
    """

    kind: StudyKind
    models: Annotated[list[StudyModel], Field(min_length=2, max_length=MAX_MODELS)]

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        steps = [each.step for each in self.models]
        if self.kind == "pair" and len(self.models) != 2:  # noqa: PLR2004 - a pair
            raise PydanticCustomError("pair_of_two", "A pair has two models")
        if len({each.label for each in self.models}) < len(self.models):
            raise PydanticCustomError("label_twice", "Each model needs a label of its own")
        if self.kind != "trajectory" and any(step is not None for step in steps):
            raise PydanticCustomError("step_of_trajectory", "Only the models of a trajectory have steps")
        if None in steps and any(step is not None for step in steps):
            raise PydanticCustomError("step_missing", "Give each model a step, or none")
        if None not in steps and len(set(steps)) < len(steps):
            raise PydanticCustomError("step_twice", "Each model needs a step of its own")
        return self

    def ordered(self) -> list[tuple[int, StudyModel]]:
        """The models in the order in which they are compared, each with its place in the request."""
        return sorted(enumerate(self.models), key=lambda each: each[1].step or 0)


class StoredStudyModel(Contract):
    """A language model of a study as it is kept, `model` by its id."""

    model: str
    label: str
    step: int | None


class StoredStudySpec(StoredAuditSpec):
    """What a study measures, read back from the store; the models in the order in which they are compared."""

    kind: StudyKind
    models: list[StoredStudyModel]
