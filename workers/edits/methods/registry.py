"""What computes the new weights of an edit: one object a method, found by the name that the edit asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

from torch import Tensor, nn

from app.contracts.edit_methods import METHODS as CONTRACTS
from app.contracts.edits import EditSpec
from app.errors import EditFailed
from workers.edits.inputs import EditInputs
from workers.edits.progress import EditProgress
from workers.running.runtime import Runtime
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, default_layers, find_projections, layer_count

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class EditedWeights:
    """New weights, and how they came about.

    Attributes:
        weights: each projection with its new weight [out, in].
        matrices: what the receipt says of each (see `describe_matrix`).
        parameters: what the receipt says of the method's run.
        frontier: the settings that a search tried, if it was one.
        warnings: what is doubtful about them, as the receipt says it.
    """

    weights: list[tuple[Projection, Tensor]]
    matrices: list[JSONObject]
    parameters: JSONObject = field(default_factory=dict)
    frontier: list[JSONObject] | None = None
    warnings: list[JSONObject] = field(default_factory=list)


class Run(Protocol):
    """From an edit's settings to new weights; the model's own stay as they are."""

    def __call__(
        self, runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
    ) -> EditedWeights:
        """Compute the new weights.

        Raises:
            ProjectionNotFound: the model has no such layer or projection.
            EditFailed: a text set that the method needs cannot be used.
            NoFeasibleSetting: no setting of a search keeps the constraint.
        """


@dataclass(frozen=True)
class EditMethod:
    """An edit method by the name that its contract has (see `app.contracts.edit_methods`).

    Attributes:
        name: the name.
        run: what computes the weights.
        learns_curvature_of: the projections whose factors `run` asks for, of an edit and its base; None of a
            method without curvature.
    """

    name: str
    run: Run
    learns_curvature_of: Callable[[EditSpec, nn.Module], list[Projection]] | None = None


_METHODS: Final[dict[str, EditMethod]] = {}
METHODS: Final[Mapping[str, EditMethod]] = MappingProxyType(_METHODS)


def register(method: EditMethod) -> EditMethod:
    """Add a method.

    Raises:
        ValueError: the name is taken, or no contract has it.
    """
    if method.name in _METHODS or method.name not in CONTRACTS:
        raise ValueError(f"the edit method {method.name} is there already, or has no contract")
    _METHODS[method.name] = method
    return method


def find_method(name: str) -> EditMethod:
    """The method of a name.

    Raises:
        EditFailed: this release of the worker has none.
    """
    if name not in _METHODS:
        raise EditFailed(f"This worker cannot run the edit method {name!r}.")
    return _METHODS[name]


def chosen_layers(spec: EditSpec, model: nn.Module) -> list[int]:
    """The layers that an edit names, or the default ones of its method."""
    if isinstance(spec.layers, list):
        return spec.layers
    default = CONTRACTS[spec.method].default_layers
    return default_layers(layer_count(model), first=default.first, count=default.count)


def chosen_projections(spec: EditSpec, model: nn.Module, layers: list[int] | None = None) -> list[Projection]:
    """The projections that an edit names, or the default ones of its method, in `layers` or its own.

    Raises:
        ProjectionNotFound: see `find_projections`.
    """
    return find_projections(
        model,
        layers=chosen_layers(spec, model) if layers is None else layers,
        roles=spec.projections,
        default_roles=CONTRACTS[spec.method].default_projections or (),
    )


def describe_matrix(projection: Projection) -> JSONObject:
    """What the receipts of all methods say of a matrix."""
    return {
        "projection": projection.key,
        "layer": projection.layer,
        "role": str(projection.role),
        "shape": list(projection.weight.shape),
    }
