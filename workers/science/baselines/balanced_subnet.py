"""BalancedSubnet (arXiv 2410.02159): learn which few weights to drop so that chosen texts are forgotten.

Shapes: `out` outputs and `in` inputs of a projection, B blocks of T places, N predicting positions, H hidden.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workers.science.errors import ScienceError
from workers.science.models.gradients import frozen, loss_gradients
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import Rows, TokenBlocks
from workers.science.models.weight_edit import hidden_states_with


@dataclass(frozen=True)
class BalancedSubnetOptions:
    """How the mask is learnt; the defaults are those of arXiv 2510.24256.

    Attributes:
        loss_weight: w in -(1 - w) * L_forget + w * L_retain, in [0, 1].
        epochs: passes over both sets.
        ratio: share of all weights of the projections that is dropped, in (0, 1).
        learning_rate: of stochastic gradient descent on the scores.
        momentum: of the same.
        weight_decay: of the same.
        batch_blocks: blocks in a batch.
    """

    loss_weight: float = 0.7
    epochs: int = 5
    ratio: float = 0.0015
    learning_rate: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_blocks: int = 8

    def __post_init__(self) -> None:
        if not (0 <= self.loss_weight <= 1 and 0 < self.ratio < 1):
            raise ValueError("loss_weight must be in [0, 1] and ratio in (0, 1)")
        if self.epochs < 1 or self.batch_blocks < 1:
            raise ValueError("epochs and batch_blocks must be at least 1")


@dataclass(frozen=True)
class _Mix:
    """Blocks to forget and to keep, of equal length, with what each place stands for."""

    blocks: TokenBlocks
    to_forget: Tensor  # bool [B]


def learn_subnet(
    language_model: LanguageModel,
    projections: Sequence[Projection],
    forget: Rows,
    retain: Rows,
    options: BalancedSubnetOptions | None = None,
    *,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Learn which weights to keep; the weights themselves stay as they are.

    Every weight has a score, first drawn Kaiming-uniform. In each step the weights with the lowest |score|,
    `ratio` of them across all projections, are zeroed; gradients pass straight through that choice to
    |score|. L_forget and L_retain are mean losses over the predicted tokens of each kind in a shuffled
    batch; a batch that lacks one kind has only the other's term. Dropout stays off.

    Args:
        language_model: the model.
        projections: those whose weights may be dropped.
        forget: texts to forget.
        retain: texts to keep.
        options: how to learn.
        seed: of the first scores and of the shuffling.
        on_progress: told how many blocks are done, of `epochs` times all blocks; may raise to stop.

    Returns:
        By the projections' keys bool [out, in], False for weights to drop: round(ratio * weights) in all.

    Raises:
        ScienceError: `text_set_empty`, if no position of either set predicts a token.
        ValueError: if there is no projection.
    """
    if not projections:
        raise ValueError("give projections")
    if not (forget.predictions and retain.predictions):
        raise ScienceError("text_set_empty", "Both sets of texts need a token that can be predicted.")
    options = options or BalancedSubnetOptions()
    generator = torch.Generator().manual_seed(seed)
    scores = [_first_scores(projection, generator) for projection in projections]
    optimizer = torch.optim.SGD(
        scores, lr=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )
    done = 0
    with frozen(language_model.model), torch.enable_grad():
        for mix in _batches(forget, retain, options, generator):
            optimizer.zero_grad()
            masks = _straight_through(scores, _keep_masks(scores, options.ratio))
            _descend(language_model, projections, masks, mix, options.loss_weight)
            optimizer.step()
            done += len(mix.blocks)
            if on_progress is not None:
                on_progress(done)
    keys = (projection.key for projection in projections)
    return dict(zip(keys, _keep_masks(scores, options.ratio), strict=True))


def _first_scores(projection: Projection, generator: torch.Generator) -> Tensor:
    """float32 [out, in], drawn on the CPU so that a seed means the same on every device."""
    scores = torch.empty(projection.weight.shape)
    nn.init.kaiming_uniform_(scores, a=math.sqrt(5), generator=generator)
    return scores.to(projection.weight.device).requires_grad_()


def _batches(
    forget: Rows, retain: Rows, options: BalancedSubnetOptions, generator: torch.Generator
) -> Iterator[_Mix]:
    """Batches of both kinds, shuffled anew in each epoch."""
    for _ in range(options.epochs):
        shuffled = torch.randperm(len(forget) + len(retain), generator=generator)
        for rows in torch.split(shuffled, options.batch_blocks):
            to_forget, to_retain = rows[rows < len(forget)], rows[rows >= len(forget)] - len(forget)
            yield _mixed(forget.part(to_forget), retain.part(to_retain))


def _mixed(forget: TokenBlocks, retain: TokenBlocks) -> _Mix:
    length = max(forget.ids.shape[1], retain.ids.shape[1])
    ids = torch.cat([_widen(part.ids, length) for part in (forget, retain)])
    mask = torch.cat([_widen(part.mask, length) for part in (forget, retain)])
    return _Mix(TokenBlocks(ids, mask), torch.arange(len(ids)) < len(forget))


def _widen(rows: Tensor, length: int) -> Tensor:
    """[B, T] padded on the right; the value does not matter where the mask, padded alike, is False."""
    return nn.functional.pad(rows, (0, length - rows.shape[1]))


@torch.no_grad()
def _keep_masks(scores: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """All but the round(ratio * weights) lowest |score| across all projections: bool [out, in] each.

    They are compared on the device of the first, and each mask is on that of its scores.
    """
    together = scores[0].device
    flat = torch.cat([score.flatten().to(together) for score in scores]).abs_()
    keep = torch.ones_like(flat, dtype=torch.bool)
    keep.index_fill_(0, flat.topk(round(ratio * len(flat)), largest=False, sorted=False).indices, 0)
    parts = torch.split(keep, [score.numel() for score in scores])
    return [part.view_as(score).to(score.device) for part, score in zip(parts, scores, strict=True)]


def _straight_through(scores: Sequence[Tensor], keeps: Sequence[Tensor]) -> list[Tensor]:
    """The masks as float32 numbers whose gradient is handed to |score| unchanged."""
    masks = []
    for score, keep in zip(scores, keeps, strict=True):
        size = score.abs()
        masks.append(keep.to(size) + (size - size.detach()))
    return masks


def _descend(
    language_model: LanguageModel,
    projections: Sequence[Projection],
    masks: Sequence[Tensor],
    mix: _Mix,
    loss_weight: float,
) -> None:
    """Add the gradient of a batch's loss to the scores that the masks were made of."""
    model, device = language_model.model, language_model.device
    predicts = mix.blocks.predicts
    forget = mix.to_forget[:, None].expand_as(predicts)[predicts]  # bool [N]
    if not len(forget):
        return
    n_forget = int(forget.sum())
    # How much a position's own loss counts; max() only avoids a division for a kind that is absent.
    weights = torch.where(
        forget, -(1 - loss_weight) / max(n_forget, 1), loss_weight / max(len(forget) - n_forget, 1)
    )
    masked = [
        (projection, projection.weight.detach() * mask.to(projection.weight))
        for projection, mask in zip(projections, masks, strict=True)
    ]
    hidden = hidden_states_with(model, masked, mix.blocks.ids.to(device))[predicts.to(device)]
    gradients = loss_gradients(model, hidden, labels=mix.blocks.labels[predicts].to(device))
    torch.autograd.backward(hidden, gradients * weights.to(gradients)[:, None])
