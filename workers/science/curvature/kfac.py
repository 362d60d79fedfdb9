"""Kronecker factors of the Fisher information of projections, and their eigenvectors.

Martens and Grosse (arXiv 1503.05671), as arXiv 2510.24256 uses it on MLP projections.
Shapes: `out` outputs and `in` inputs of a projection, D inputs or outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from workers.science.curvature.chunks import Chunks
from workers.science.curvature.collection import Labels, Part, collect_sums
from workers.science.curvature.factor_hooks import FactorSums
from workers.science.curvature.packed import squared_distance, squared_norm, unpack
from workers.science.curvature.spectrum import decomposition_dtype
from workers.science.errors import ScienceError, ScoreNotFinite
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import TokenBlocks


@dataclass(frozen=True)
class Factors:
    """What the curvature of the loss in one projection's weight is a Kronecker product of.

    Attributes:
        activations: A = E[a a^T], float32 [in, in], of the projection's inputs. Projections that read the
            same input share one tensor.
        gradients: G = E[g g^T], float32 [out, out], of the gradients of a position's summed loss with respect
            to the projection's outputs.
        tokens: predicting positions that both are means over.
        activations_error: how far A has settled (see `mean_of_halves`).
        gradients_error: the same of G.
    """

    activations: Tensor
    gradients: Tensor
    tokens: int
    activations_error: float | None = None
    gradients_error: float | None = None


@dataclass(frozen=True)
class Eigenbasis:
    """Eigenvectors (columns) and eigenvalues (descending, not negative) of both factors.

    Attributes:
        output_vectors: U_G [out, out].
        output_values: lambda [out].
        input_vectors: U_A [in, in].
        input_values: mu [in].
    """

    output_vectors: Tensor
    output_values: Tensor
    input_vectors: Tensor
    input_values: Tensor


def collect_factors(
    language_model: LanguageModel,
    blocks: TokenBlocks,
    projections: Sequence[Projection],
    *,
    labels: Labels = "sampled",
    seed: int = 0,
    batch_blocks: int | None = None,
    chunks: Chunks | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Factors]:
    """Collect the factors of all projections in one pass over blocks of tokens.

    Means are over the positions that predict a real token. Sums are float32 whatever the model's dtype.
    Sampled labels invert the model's cumulative distribution at uniform numbers, one for each place, drawn
    from `seed` in the order of the blocks; how the blocks are batched changes them by rounding only.
    Layers below the first projection run without a graph and no weight gradient is ever computed. Hooks,
    gradient flags and the training mode are as before afterwards, also when it fails.

    Args:
        language_model: the model.
        blocks: the texts that they average over.
        projections: those to collect for.
        labels: `sampled` from the model (the Fisher information) or `gold` (the empirical one).
        seed: of the sampled labels.
        batch_blocks: blocks in a batch; by default what suits the device.
        chunks: how the blocks are cut into sums that are added along a tree; by default as always.
        on_progress: told how many blocks are done, by the thread that did them; may raise to stop.

    Returns:
        Factors by the projections' keys, each on the device of the projection's weight.

    Raises:
        ScienceError: `text_set_empty`, if no position predicts a token.
        ScoreNotFinite: `factors_not_finite`.
        ValueError: if there is no projection or `labels` is neither.
    """
    part = Part.whole(blocks, chunks)
    sums = collect_sums(
        language_model,
        part,
        projections,
        labels=labels,
        seed=seed,
        batch_blocks=batch_blocks,
        on_progress=on_progress,
    )
    return _factors([sums[node] for node in part.nodes], projections)


def mean_of_halves(
    sums: Sequence[Tensor | None], tokens: Sequence[int], width: int
) -> tuple[Tensor, float | None]:
    """The mean outer product from the sums of a collection's halves, and how far it has settled.

    How far is the estimated standard error of the mean relative to its size: the root of the expected squared
    Frobenius distance between this mean and that of endless text of the same kind, over the mean's own norm.
    With halves of w and 1 - w of the tokens it is sqrt(w (1 - w)) ||F1 - F2|| / ||F||, half of the halves'
    relative distance where they are alike in size: the variance estimate of two random groups (Wolter,
    Introduction to Variance Estimation, section 2.2). It takes chunks of text for independent of each other.

    Args:
        sums: packed sums of both halves, or of the first alone; None where no position was. They are used up.
        tokens: predicting positions of each.
        width: D, rows and columns of the matrix.

    Returns:
        The mean [D, D], and its relative error in [0, inf); None where a half has no position.

    Raises:
        ScoreNotFinite: `factors_not_finite`.
    """
    first, *others = [(each, count) for each, count in zip(sums, tokens, strict=True) if each is not None]
    total, all_tokens = first[0], sum(tokens)
    distance: float | None = None
    for second, count in others:
        # ||S1 - (n1 / n2) S2|| / n1 is the distance of the means.
        squared = squared_distance(total, second, first[1] / count, width)
        distance = sqrt(first[1] * count) / all_tokens * sqrt(squared) / first[1]
        total.add_(second)
    total.div_(all_tokens)
    lowest, highest = torch.aminmax(total)  # both are NaN if any number is; takes no memory
    if not torch.isfinite(highest - lowest):
        raise ScoreNotFinite(
            "factors_not_finite", "The curvature is not finite in this dtype; collect it in float32."
        )
    if distance is not None:
        norm = sqrt(squared_norm(total, width))
        distance = distance / norm if norm else 0.0
    return unpack(total, width), distance


def eigenbases(
    factors: Mapping[str, Factors], *, on_progress: Callable[[int], None] | None = None
) -> dict[str, Eigenbasis]:
    """The eigenbasis of each projection; a factor that several share is decomposed once.

    Decomposed in float64 on a CPU, in float32 on a GPU, and kept in that precision.

    Args:
        factors: by the projections' keys.
        on_progress: told after each projection how many are done; may raise to stop.
    """
    decomposed: dict[int, tuple[Tensor, Tensor]] = {}
    bases: dict[str, Eigenbasis] = {}
    for key, factor in factors.items():
        shared = id(factor.activations)
        if shared not in decomposed:
            decomposed[shared] = _decompose(factor.activations)
        input_values, input_vectors = decomposed[shared]
        output_values, output_vectors = _decompose(factor.gradients)
        bases[key] = Eigenbasis(output_vectors, output_values, input_vectors, input_values)
        if on_progress is not None:
            on_progress(len(bases))
    return bases


def _decompose(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, descending, and eigenvectors; what rounding made negative becomes zero."""
    matrix = factor.to(decomposition_dtype(factor.device))
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def _factors(halves: Sequence[FactorSums], projections: Sequence[Projection]) -> dict[str, Factors]:
    """The means of halves, which are used up: of two forms of a matrix only one is kept in memory."""
    tokens = [half.tokens for half in halves]
    if not sum(tokens):
        raise ScienceError("text_set_empty", "No text has a token that can be predicted.")
    sources = {path: source for half in halves for path, source in half.sources.items()}
    shared: dict[str, tuple[Tensor, float | None]] = {}
    factors = {}
    for projection in projections:
        outputs, inputs = projection.weight.shape
        source = sources[projection.path]
        if source not in shared:
            parts = [half.activations.pop(source, None) for half in halves]
            shared[source] = mean_of_halves(parts, tokens, inputs)
        parts = [half.gradients.pop(projection.key, None) for half in halves]
        gradients, gradients_error = mean_of_halves(parts, tokens, outputs)
        activations, activations_error = shared[source]
        factors[projection.key] = Factors(
            activations, gradients, sum(tokens), activations_error, gradients_error
        )
    return factors
