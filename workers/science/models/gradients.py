"""Gradients of the next-token loss and of divergence at the last hidden states, never holding all logits.

Shapes: N predicting positions, n of them that are worked on together, H hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workers.science.scoring.vocabulary.head import VocabularyHead
from workers.science.scoring.vocabulary.softmax import RunningSoftmax


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode and take its parameters out of every graph; undone afterwards."""
    training = {module: module.training for module in model.modules()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)  # noqa: FBT003  a positional flag is all it takes
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)  # noqa: FBT003
        for module, was_training in training.items():
            module.training = was_training


@torch.no_grad()
def loss_gradients(
    model: Any, hidden: Tensor, *, labels: Tensor | None = None, quantiles: Tensor | None = None
) -> Tensor:
    """Gradients [N, H] of the cross-entropy, summed over positions, with respect to `hidden` [N, H].

    With respect to the logits that is softmax minus one-hot; the rest is the chain rule through the output
    projection, scaled or capped as the architecture does.

    Args:
        model: a causal language model whose parameters require no gradient (see `frozen`).
        hidden: last hidden states of the base model.
        labels: int64 [N], the tokens to predict; or
        quantiles: float32 [N] in [0, 1): the label is where the model's own cumulative distribution over the
            vocabulary first exceeds it, so that uniform quantiles give labels sampled from the model.

    Raises:
        ValueError: unless either labels or quantiles are given.
    """
    given = labels if labels is not None else quantiles
    if given is None or (labels is not None and quantiles is not None):
        raise ValueError("give labels or quantiles")
    head = VocabularyHead.of(model)
    parts = zip(*(torch.split(each, head.rows_at_once) for each in (hidden.detach(), given)), strict=True)
    gradients = [_gradients_of_rows(head, *part, sampled=labels is None) for part in parts]
    return torch.cat(gradients).to(hidden.dtype)


@torch.no_grad()
def divergence_gradients(model: Any, hidden: Tensor, wanted: Tensor) -> Tensor:
    """Gradients [N, H] of KL(wanted || hidden), summed over positions, with respect to `hidden` [N, H].

    With respect to the logits that is the difference of both softmaxes.

    Args:
        model: a causal language model whose output projection makes logits of both.
        hidden: last hidden states of the base model.
        wanted: the same of a teacher.
    """
    head = VocabularyHead.of(model)
    parts = zip(*(torch.split(each, head.rows_at_once) for each in (hidden.detach(), wanted)), strict=True)
    return torch.cat([_divergence_of_rows(head, *part) for part in parts]).to(hidden.dtype)


def _divergence_of_rows(head: VocabularyHead, hidden: Tensor, wanted: Tensor) -> Tensor:
    """Gradients float32 [n, H]: what both softmaxes expect of the output embedding, less one another.

    Tile by tile; the slopes of a cap are those of the logits that are differentiated.
    """
    found, teacher = (RunningSoftmax(len(hidden), hidden.device) for _ in range(2))
    expected, meant = (torch.zeros_like(hidden, dtype=torch.float32) for _ in range(2))
    for tile, other in zip(head.tiles(hidden), head.tiles(wanted), strict=True):
        slopes = head.slopes(tile.logits)
        for softmax, total, logits in ((found, expected, tile.logits), (teacher, meant, other.logits)):
            shrink = softmax.add(logits, logits.amax(-1))  # the logits become weights
            weights = logits if slopes is None else logits.mul_(slopes)
            head.add_product(total.mul_(shrink.float()[:, None]), weights, tile.start)
    return (expected / found.total[:, None].float() - meant / teacher.total[:, None].float()) * head.factor


def _gradients_of_rows(head: VocabularyHead, hidden: Tensor, given: Tensor, *, sampled: bool) -> Tensor:
    """Gradients float32 [n, H]; `given` are quantiles [n] if labels are to be sampled, else labels [n].

    One pass over the vocabulary adds up the softmax's denominator and what the weights are multiplied by.
    """
    starts = head.starts(len(hidden))
    softmax = RunningSoftmax(len(hidden), hidden.device)
    expected = torch.zeros_like(hidden, dtype=torch.float32)
    cumulative = torch.zeros(len(starts), len(hidden), dtype=torch.float64, device=hidden.device)
    labels, logits = given.long(), torch.zeros_like(given, dtype=torch.float32)
    for number, tile in enumerate(head.tiles(hidden)):
        logits = tile.read(labels, logits)
        slopes = head.slopes(tile.logits)
        shrink = softmax.add(tile.logits, tile.logits.amax(-1))  # the logits become weights
        cumulative[:number] *= shrink
        cumulative[number] = softmax.total
        weights = tile.logits if slopes is None else tile.logits.mul_(slopes)
        head.add_product(expected.mul_(shrink.float()[:, None]), weights, tile.start)
    if sampled:
        labels, logits = _labels_at(head, hidden, softmax, cumulative, given)
    chosen = head.weight[labels].float()
    slopes = head.slopes(logits)
    if slopes is not None:
        chosen *= slopes[:, None]
    return (expected / softmax.total[:, None].float() - chosen) * head.factor


def _labels_at(
    head: VocabularyHead, hidden: Tensor, softmax: RunningSoftmax, cumulative: Tensor, quantiles: Tensor
) -> tuple[Tensor, Tensor]:
    """The first tokens at which the cumulative probability exceeds the quantiles [n], and their logits [n].

    Only the tile of each token is found again.

    Args:
        head: of the model.
        hidden: hidden states [n, H].
        softmax: over the whole vocabulary.
        cumulative: sums of its weights up to the end of each tile, float64 [tiles, n].
        quantiles: float32 [n] in [0, 1).
    """
    reached = quantiles * cumulative[-1]
    tiles = (cumulative <= reached).sum(0)
    before = torch.cat((torch.zeros_like(cumulative[:1]), cumulative)).gather(0, tiles[None])[0]
    labels, logits = torch.zeros_like(tiles), torch.zeros_like(quantiles)
    starts = head.starts(len(hidden))
    for number, start in enumerate(starts):
        rows = (tiles == number).nonzero()[:, 0]
        if not len(rows):
            continue
        of_tile = head.logits_of(hidden[rows], slice(start, start + starts.step))
        sums = softmax.weights(of_tile, rows).double().cumsum(-1)
        columns = (sums <= (reached - before)[rows, None]).sum(-1, keepdim=True)
        # Rounding may leave the sum a little short of what the pass found.
        columns = torch.minimum(columns, (sums < sums[:, -1:]).sum(-1, keepdim=True))
        labels[rows] = start + columns[:, 0]
        logits[rows] = of_tile.gather(-1, columns)[:, 0]
    return labels, logits
