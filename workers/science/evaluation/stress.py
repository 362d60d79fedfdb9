"""Do memories come back? Coarser weights, and a little further training.

Every change to the weights is undone before the function returns.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import Rows
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput, extracted

_INT8_LEVELS = 127
_INT4_LEVELS = 7
# Inputs that share a scale, as in arXiv 2306.00978.
_INT4_GROUP = 128
_MATRIX = 2  # dimensions


@dataclass(frozen=True, slots=True)
class FineTuning:
    """A short benign fine-tune: AdamW on clean text."""

    steps: int = 20
    batch_blocks: int = 8
    learning_rate: float = 1e-4
    seed: int = 0


@contextmanager
def rounded_weights(language_model: LanguageModel, rounding: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put every matrix of the model's layers through a rounding, for a while."""
    with _restored(language_model.model) as matrices:
        for matrix in matrices:
            matrix.copy_(rounding(matrix))
        yield


def to_int8(weight: Tensor) -> Tensor:
    """Round to 8 bits: symmetric, one scale a row (absolute maximum / 127)."""
    return _rounded(weight, _INT8_LEVELS)


def to_int4(weight: Tensor) -> Tensor:
    """Round to 4 bits: symmetric, one scale for each 128 inputs of a row (absolute maximum / 7)."""
    groups = torch.split(weight, _INT4_GROUP, dim=-1)
    return torch.cat([_rounded(group, _INT4_LEVELS) for group in groups], dim=-1)


def _rounded(weight: Tensor, levels: int) -> Tensor:
    """Round to whole multiples, up to `levels` either way, of one scale a row."""
    scale = weight.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny) / levels
    return (weight / scale).round().clamp(-levels, levels) * scale


def to_bfloat16(weight: Tensor) -> Tensor:
    """Round to bfloat16."""
    return weight.to(torch.bfloat16).to(weight.dtype)


@contextmanager
def fine_tuned(
    language_model: LanguageModel, blocks: Rows, tuning: FineTuning, on_step: Callable[[int], None]
) -> Iterator[None]:
    """Train the model's matrices on clean text for a few steps, for a while.

    Args:
        language_model: the model.
        blocks: the clean text, drawn from with replacement by the seed.
        tuning: how.
        on_step: told the steps done; may raise to stop.
    """
    model = language_model.model
    with _restored(model) as matrices, torch.enable_grad():
        required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            for parameter, _ in required:
                parameter.requires_grad = False
            for matrix in matrices:
                matrix.requires_grad = True
            _train(language_model, matrices, blocks, tuning, on_step)
        finally:
            for parameter, before in required:
                parameter.requires_grad = before
                parameter.grad = None
        with torch.no_grad():
            yield


def _train(
    language_model: LanguageModel,
    matrices: Sequence[Tensor],
    blocks: Rows,
    tuning: FineTuning,
    on_step: Callable[[int], None],
) -> None:
    generator = torch.Generator().manual_seed(tuning.seed)
    optimizer = torch.optim.AdamW(matrices, lr=tuning.learning_rate)
    for step in range(tuning.steps):
        part = blocks.part(torch.randint(len(blocks), (tuning.batch_blocks,), generator=generator))
        ids, mask = (tensor.to(language_model.device) for tensor in (part.ids, part.mask))
        ignored = -100  # the label that the library's cross-entropy skips
        loss = language_model.model(
            input_ids=ids, labels=ids.masked_fill(~mask, ignored), use_cache=False
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step + 1)


@contextmanager
def _restored(model: Any) -> Iterator[Sequence[Tensor]]:
    """The matrices of the model's layers; their bits are put back at the end."""
    layers = [module for module in model.base_model.modules() if isinstance(module, torch.nn.ModuleList)]
    unique = {
        parameter.data_ptr(): parameter
        for layer in layers
        for parameter in layer.parameters()
        if parameter.dim() == _MATRIX
    }
    matrices = list(unique.values())
    kept = [matrix.detach().clone() for matrix in matrices]
    try:
        with torch.no_grad():
            yield matrices
    finally:
        with torch.no_grad():
            for matrix, before in zip(matrices, kept, strict=True):
                matrix.copy_(before)


@torch.no_grad()
def recites(
    language_model: LanguageModel, texts: Sequence[TextInput], options: ScoringOptions
) -> list[bool | None]:
    """Which texts are recited strictly, in order; None for one that is not long enough.

    Raises:
        ScoreNotFinite: see `score_texts`.
    """
    quick = replace(options, metrics=frozenset({"extraction"}), decode=False, token_evidence=False)
    return [extracted(score) for score in score_texts(language_model, texts, quick)]
