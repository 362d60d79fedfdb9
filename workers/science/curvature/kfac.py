"""Kronecker factors of the Fisher information of projections, and their eigenvectors.

Martens and Grosse (arXiv 1503.05671), as arXiv 2510.24256 uses it on MLP projections.
Shapes: `out` outputs and `in` inputs of a projection, N predicting positions of a batch, T places of a block.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, get_args

import torch
from torch import Tensor

from workers.science.curvature.factor_hooks import FactorSums, Recorder
from workers.science.curvature.spectrum import decomposition_dtype
from workers.science.errors import ScienceError, ScoreNotFinite
from workers.science.models.gradients import frozen, loss_gradients
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import TokenBlocks
from workers.science.scoring.batching import map_on_cores
from workers.science.scoring.likelihood import base_hidden_states

Labels = Literal["sampled", "gold"]

# Enough tokens to keep the matrix products busy, few enough that a batch's graph stays small.
_CPU_BATCH_TOKENS = 1024
_GPU_BATCH_TOKENS = 8192
# Cores work on batches of their own, each with sums of its own, while those sums stay below this together.
_LANE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Factors:
    """What the curvature of the loss in one projection's weight is a Kronecker product of.

    Attributes:
        activations: A = E[a a^T], float32 [in, in], of the projection's inputs. Projections that read the
            same input share one tensor.
        gradients: G = E[g g^T], float32 [out, out], of the gradients of a position's summed loss with respect
            to the projection's outputs.
        tokens: predicting positions that both are means over.
    """

    activations: Tensor
    gradients: Tensor
    tokens: int


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


@dataclass(frozen=True)
class _Batch:
    """Blocks that go through the model at once, with the quantiles [blocks, T] of their sampled labels."""

    blocks: TokenBlocks
    quantiles: Tensor | None


def collect_factors(
    language_model: LanguageModel,
    blocks: TokenBlocks,
    projections: Sequence[Projection],
    *,
    labels: Labels = "sampled",
    seed: int = 0,
    batch_blocks: int | None = None,
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
        on_progress: told how many blocks are done, by the thread that did them; may raise to stop.

    Returns:
        Factors by the projections' keys, on the model's device.

    Raises:
        ScienceError: `text_set_empty`, if no position predicts a token.
        ScoreNotFinite: `factors_not_finite`.
        ValueError: if there is no projection or `labels` is neither.
    """
    if not projections or labels not in get_args(Labels):
        raise ValueError("give projections, and labels sampled or gold")
    tokens = blocks.predictions
    if tokens == 0:
        raise ScienceError("text_set_empty", "No text has a token that can be predicted.")
    on_cpu = language_model.device.type == "cpu"
    budget = _CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS
    size = batch_blocks or max(1, budget // blocks.ids.shape[1])
    batches = list(_batches(blocks, size, seed if labels == "sampled" else None))
    threads = torch.get_num_threads() if on_cpu else 1
    lanes = max(1, min(threads, len(batches), _LANE_BYTES // FactorSums.bytes_for(projections)))
    sums = [FactorSums() for _ in range(lanes)]
    with frozen(language_model.model), Recorder(projections) as recorder:
        _in_lanes(
            lambda batch, lane: _collect_batch(language_model, recorder, batch, lane),
            batches,
            sums,
            language_model.device,
            lambda done: on_progress and on_progress(min(len(blocks), done * size)),
        )
    return _factors(FactorSums.join(sums), projections, tokens)


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


def _batches(blocks: TokenBlocks, size: int, seed: int | None) -> Iterator[_Batch]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for start in range(0, len(blocks), size):
        part = blocks.part(slice(start, start + size))
        yield _Batch(part, None if generator is None else torch.rand(part.ids.shape, generator=generator))


def _in_lanes(
    function: Callable[[_Batch, FactorSums], None],
    batches: Sequence[_Batch],
    sums: Sequence[FactorSums],
    device: torch.device,
    on_done: Callable[[int], object],
) -> None:
    """Add every batch to the sums of its lane, the lanes beside each other on the cores.

    A lane is always given the same batches in the same order, so the sums come out the same again. The lanes
    tell `on_done` how many batches are done, one lane at a time. When it raises, or a batch fails, each lane
    ends after its batch in flight.
    """
    lock, stop = threading.Lock(), threading.Event()
    finished = count(1)

    def run(lane: int) -> None:
        try:
            for batch in batches[lane :: len(sums)]:
                if stop.is_set():
                    return
                function(batch, sums[lane])
                with lock:
                    on_done(next(finished))
        except BaseException:
            stop.set()
            raise

    list(map_on_cores(run, range(len(sums)), device))


def _collect_batch(
    language_model: LanguageModel, recorder: Recorder, batch: _Batch, sums: FactorSums
) -> None:
    """Run a batch forward, then its loss backward to the first projection, adding to the sums on the way."""
    device = language_model.device
    predicts = batch.blocks.predicts.flatten()
    positions = predicts.nonzero()[:, 0].to(device)
    if not len(positions):
        return
    with torch.enable_grad(), recorder.recording(positions, sums):
        hidden = base_hidden_states(language_model.model, batch.blocks.ids.to(device)).flatten(0, 1)[
            positions
        ]
    gold, quantiles = batch.blocks.labels.flatten(), batch.quantiles
    gradients = loss_gradients(
        language_model.model,
        hidden,
        labels=gold[predicts].to(device) if quantiles is None else None,
        quantiles=None if quantiles is None else quantiles.flatten()[predicts].to(device),
    )
    torch.autograd.backward(hidden, gradients)


def _factors(sums: FactorSums, projections: Sequence[Projection], tokens: int) -> dict[str, Factors]:
    for matrix in (*sums.activations.values(), *sums.gradients.values()):
        matrix.div_(tokens)
        lowest, highest = torch.aminmax(matrix)  # both are NaN if any number is; takes no memory
        if not torch.isfinite(highest - lowest):
            raise ScoreNotFinite(
                "factors_not_finite", "The curvature is not finite in this dtype; collect it in float32."
            )
    return {
        projection.key: Factors(
            activations=sums.activations[sums.sources[projection.path]],
            gradients=sums.gradients[projection.key],
            tokens=tokens,
        )
        for projection in projections
    }
