"""The linear maps of a transformer that an edit may change, found by their role in each layer.

Shapes: `in` inputs and `out` outputs of a projection; a weight is [out, in] whatever the module stores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from workers.science.errors import ProjectionNotFound

# Layers 23 to 25 of the 32 that arXiv 2510.24256 edits.
_FIRST_LAYER, _LAYERS, _DEPTH = 23, 3, 32


class Role(StrEnum):
    """What a projection does in its layer. An MLP without a gate has only `up` and `down`."""

    GATE = "gate"
    UP = "up"
    DOWN = "down"
    Q = "q"
    K = "k"
    V = "v"
    QKV = "qkv"
    O = "o"  # noqa: E741  the field's own letter


_GATE_UP = "gate_up_proj"
_MLP_NAMES = {
    "gate_proj": Role.GATE,
    "up_proj": Role.UP,
    "down_proj": Role.DOWN,
    "fc1": Role.UP,
    "fc2": Role.DOWN,
    "c_fc": Role.UP,
    "c_proj": Role.DOWN,
    "dense_h_to_4h": Role.UP,
    "dense_4h_to_h": Role.DOWN,
}
_ATTENTION_NAMES = {
    "q_proj": Role.Q,
    "k_proj": Role.K,
    "v_proj": Role.V,
    "qkv_proj": Role.QKV,
    "query_key_value": Role.QKV,
    "c_attn": Role.QKV,
    "o_proj": Role.O,
    "out_proj": Role.O,
    "c_proj": Role.O,
    "dense": Role.O,
}
# The submodules of a layer that hold them. OPT's MLP lies in the layer itself.
_NAMES_BY_PARENT = {
    "": _MLP_NAMES,
    "mlp": _MLP_NAMES,
    "self_attn": _ATTENTION_NAMES,
    "attention": _ATTENTION_NAMES,
    "attn": _ATTENTION_NAMES,
    "self_attention": _ATTENTION_NAMES,
}
_MLP_ROLES = frozenset({Role.GATE, Role.UP, Role.DOWN})


@dataclass(frozen=True)
class Projection:
    """One projection of one layer.

    Attributes:
        layer: index of its layer, from 0.
        role: what it does there.
        path: the module's path inside the model.
        module: the module that holds its weight.
        rows: its outputs within a fused module, else None.
        transposed: whether the module stores [in, out], as GPT-2's does.
    """

    layer: int
    role: Role
    path: str
    module: nn.Module
    rows: slice | None = None
    transposed: bool = False

    @property
    def key(self) -> str:
        """A stable name, such as `model.layers.3.mlp.up_proj` or `model.layers.3.mlp.gate_up_proj[gate]`."""
        return self.path if self.rows is None else f"{self.path}[{self.role}]"

    @property
    def parameter_name(self) -> str:
        """The name in the state dict of the parameter that holds the weight."""
        return f"{self.path}.weight"

    @property
    def weight(self) -> Tensor:
        """The weight [out, in]: a view of the parameter's own memory, without gradient."""
        return self.of_parameter(cast("Tensor", self.module.weight).detach())

    def of_parameter(self, parameter: Tensor) -> Tensor:
        """This projection's part, [out, in], of a tensor in the form of the module's parameter."""
        oriented = parameter.T if self.transposed else parameter
        return oriented if self.rows is None else oriented[self.rows]

    def write(self, weight: Tensor) -> None:
        """Overwrite the weight in place with `weight` [out, in], cast to the model's dtype.

        Raises:
            ValueError: if the shape is another.
        """
        own = self.weight
        if weight.shape != own.shape:
            raise ValueError(f"{self.key} is {list(own.shape)}, not {list(weight.shape)}")
        with torch.no_grad():
            own.copy_(weight)


def layer_count(model: nn.Module) -> int:
    """How many layers the model has."""
    return len(_layers(model)[1])


def layer_at_depth(layer: int, n_layers: int) -> int:
    """The layer that `layer` of 32 (arXiv 2510.24256) is in a model of another depth."""
    return min(round(n_layers * layer / _DEPTH), n_layers - 1)


def default_layers(n_layers: int, *, first: int = _FIRST_LAYER, count: int = _LAYERS) -> list[int]:
    """`count` layers from the one that `first` of 32 is, as far as the model has them.

    By default three late ones, those that 23 to 25 of 32 are (arXiv 2510.24256).
    """
    start = layer_at_depth(first, n_layers)
    return list(range(start, min(start + count, n_layers)))


def find_projections(
    model: nn.Module,
    *,
    layers: Sequence[int] | None = None,
    roles: Sequence[str] | None = None,
    default_roles: Sequence[str] = (Role.GATE, Role.UP),
) -> list[Projection]:
    """The projections of the chosen layers and roles, by layer, then in the order of `Role`.

    Args:
        model: a causal language model of transformers.
        layers: indices from 0; by default `default_layers`.
        roles: values of `Role`; by default `default_roles`, as far as the architecture has them.
        default_roles: values of `Role`.

    Raises:
        ProjectionNotFound: `role_unknown`, `layer_not_found`, or `projection_not_found`, which also covers
            layers whose MLP is of an unknown kind, such as a mixture of experts.
    """
    path, stack = _layers(model)
    wanted = _parse_roles(roles)
    defaults = [role for role in Role if role in default_roles]
    chosen = default_layers(len(stack)) if layers is None else sorted(set(layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= len(stack):
        raise ProjectionNotFound("layer_not_found", f"The model has layers 0 to {len(stack) - 1}.")
    found: list[Projection] = []
    for index in chosen:
        present = list(_projections_of_layer(f"{path}.{index}", index, stack[index]))
        by_role = {projection.role: projection for projection in present}
        missing = [role for role in wanted or () if role not in by_role]
        asked = [by_role[role] for role in wanted or defaults if role in by_role]
        if missing or not asked:
            raise ProjectionNotFound(
                "projection_not_found",
                f"Layer {index} has no {' or '.join(missing or defaults)} projection that can be "
                f"edited. The model has layers 0 to {len(stack) - 1}; layer {index} has "
                f"{_describe(present, stack[index])}.",
            )
        found += asked
    return found


def _parse_roles(roles: Sequence[str] | None) -> list[Role] | None:
    if roles is None:
        return None
    unknown = set(roles) - set(Role)
    if unknown or not roles:
        raise ProjectionNotFound("role_unknown", f"The roles of projections are {', '.join(Role)}.")
    return [role for role in Role if role in roles]


def _layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of layers with its path."""
    config: Any = model.config
    n_layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return path, module
    raise ProjectionNotFound("layer_not_found", f"No stack of layers is known in {type(model).__name__}.")


def _projections_of_layer(path: str, index: int, layer: nn.Module) -> Iterator[Projection]:
    has_experts = any("expert" in name for name, _ in layer.named_modules())
    for name, module in layer.named_modules():
        parent, _, leaf = name.rpartition(".")
        matrix = isinstance(module, nn.Linear | Conv1D)
        if not matrix or parent not in _NAMES_BY_PARENT:
            continue
        names = _NAMES_BY_PARENT[parent]
        full_path = f"{path}.{name}"
        if leaf == _GATE_UP and names is _MLP_NAMES and isinstance(module, nn.Linear) and not has_experts:
            half = module.out_features // 2  # the gate's rows come first
            yield Projection(index, Role.GATE, full_path, module, rows=slice(0, half))
            yield Projection(index, Role.UP, full_path, module, rows=slice(half, 2 * half))
        elif (role := names.get(leaf)) is not None and not (has_experts and role in _MLP_ROLES):
            yield Projection(index, role, full_path, module, transposed=isinstance(module, Conv1D))


def _describe(present: list[Projection], layer: nn.Module) -> str:
    if present:
        return ", ".join(f"{projection.role} ({projection.path})" for projection in present)
    names = [name for name, _ in layer.named_children()]
    return f"none that is known, only the modules {', '.join(names)}"
