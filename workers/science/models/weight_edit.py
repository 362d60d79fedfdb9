"""A weight without its low-curvature directions, and weights put in place for a while or for one pass.

Shapes: `out` outputs and `in` inputs of a projection, B rows of T places, H hidden.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from workers.science.curvature.kfac import Eigenbasis
from workers.science.curvature.spectrum import KeptPairs, select_top_mass
from workers.science.models.projections import Projection


def project(weight: Tensor, basis: Eigenbasis, kept: KeptPairs) -> Tensor:
    """The weight's part in the kept pairs of eigenvectors: U_G (C * M) U_A^T with C = U_G^T W U_A.

    Args:
        weight: [out, in].
        basis: eigenvectors of the two factors.
        kept: which pairs are kept; M is one there and zero elsewhere.

    Returns:
        [out, in] in the basis' dtype (arXiv 2510.24256).
    """
    outputs, inputs = basis.output_vectors, basis.input_vectors
    coefficients = outputs.T @ weight.detach().to(outputs) @ inputs
    places = torch.arange(coefficients.shape[1], device=coefficients.device)
    dropped = places >= kept.kept_per_output.to(coefficients.device)[:, None]
    projected: Tensor = outputs @ coefficients.masked_fill_(dropped, 0) @ inputs.T
    return projected


def keep_top_mass(weight: Tensor, basis: Eigenbasis, keep_mass: float) -> tuple[Tensor, KeptPairs]:
    """The weight's part in the pairs that hold a share of the curvature mass, and which these are.

    Args:
        weight: [out, in].
        basis: eigenvectors of the two factors, with their eigenvalues.
        keep_mass: in (0, 1].

    Raises:
        ValueError: see `select_top_mass`.
    """
    kept = select_top_mass(basis.output_values, basis.input_values, keep_mass)
    return project(weight, basis, kept), kept


def without_low_curvature(
    projections: Iterable[Projection], bases: Mapping[str, Eigenbasis], keep_mass: float
) -> list[tuple[Projection, Tensor]]:
    """The weights [out, in] of projections, each with its part that `keep_top_mass` keeps.

    Args:
        projections: what is edited.
        bases: by projections' keys.
        keep_mass: in (0, 1].
    """
    return [(each, keep_top_mass(each.weight, bases[each.key], keep_mass)[0]) for each in projections]


@contextmanager
def replaced(weights: Sequence[tuple[Projection, Tensor]]) -> Iterator[None]:
    """Write new weights [out, in] and put the very bits that were there back afterwards."""
    originals = [(projection, projection.weight.clone()) for projection, _ in weights]
    try:
        for projection, weight in weights:
            projection.write(weight)
        yield
    finally:
        for projection, original in reversed(originals):
            projection.write(original)


def hidden_states_with(model: Any, weights: Sequence[tuple[Projection, Tensor]], input_ids: Tensor) -> Tensor:
    """Last hidden states [B, T, H] with other weights in place of the model's own, which stay untouched.

    Args:
        model: a causal language model of transformers.
        weights: [out, in] each; gradients reach them.
        input_ids: int64 [B, T].
    """
    base = model.base_model
    prefix = "" if base is model else f"{model.base_model_prefix}."
    parameters: dict[str, Tensor] = {}
    for projection, weight in weights:
        name = projection.parameter_name.removeprefix(prefix)
        if name not in parameters:
            parameters[name] = base.get_parameter(name).detach().clone()
        # Writing into a view of the clone lets fused projections share one parameter.
        projection.of_parameter(parameters[name]).copy_(weight)
    hidden: Tensor = functional_call(
        base, parameters, kwargs={"input_ids": input_ids, "use_cache": False}
    ).last_hidden_state
    return hidden
