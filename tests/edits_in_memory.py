"""Edits whose inputs are at hand, for tests of their proof without a database."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from app.contracts.edits import EditEvaluation, EditSpec
from app.contracts.texts import TextSetRole
from app.store.core.identifiers import new_id
from app.store.edits import EditTextSet
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.texts import ClearText
from workers.edits.inputs import EditInputs, Shards
from workers.running.runtime import Runtime
from workers.science.models.loading import LanguageModel
from workers.science.scoring.texts import TextInput


@dataclass(frozen=True)
class InputsInMemory(EditInputs):
    """The inputs of an edit whose texts are at hand."""

    at_hand: dict[TextSetRole, list[ClearText]] = field(default_factory=dict)

    def pages(self, _runtime: Runtime, role: TextSetRole, start: int = 0) -> Iterator[list[ClearText]]:
        rows = self.at_hand.get(role, [])[start:]
        return (rows[start : start + 2] for start in range(0, len(rows), 2))

    def shards(self, runtime: Runtime, role: TextSetRole, *_: Any) -> Shards:
        return cast("Shards", ShardsInMemory(list(self.pages(runtime, role))))


@dataclass(frozen=True)
class ShardsInMemory:
    """In the place of those that are read from the database: two texts each."""

    shards: list[list[ClearText]]

    @property
    def texts(self) -> int:
        return sum(map(len, self.shards))

    def __iter__(self) -> Iterator[list[ClearText]]:
        return iter(self.shards)


def inputs_with(texts: dict[TextSetRole, list[ClearText]] | None = None, **evaluation: Any) -> InputsInMemory:
    return InputsInMemory(
        edit_id=new_id(),
        tenant_id=new_id(),
        name="forgetful",
        spec=EditSpec(method="kfac", evaluation=EditEvaluation(**evaluation)),
        base=LanguageModelRow(id=new_id()),
        lineage=(),
        text_sets={
            role: EditTextSet(role=role, text_set_id=new_id(), hmac_sha256="0" * 64) for role in texts or {}
        },
        at_hand=texts or {},
    )


class RecordedProgress:
    """In the place of a worker's: it only writes down the shares that it is told."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.stages: list[str] = []

    def enter(self, stage: str) -> None:
        self.stages.append(stage)

    def repeat(self) -> None:
        pass

    def report(self, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.shares.append(done / total)


def with_scaled_up_projections(base: LanguageModel, factor: float) -> LanguageModel:
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight.mul_(factor)
    return LanguageModel(**{**vars(base), "model": model})


def rows_of(texts: Sequence[str]) -> list[ClearText]:
    return [ClearText(ordinal=place, text_id=str(place), text=text) for place, text in enumerate(texts)]


def bare(rows: Sequence[ClearText]) -> list[TextInput]:
    return [TextInput(row.text) for row in rows]
