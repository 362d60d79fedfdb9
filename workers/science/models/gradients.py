"""Gradients of the next-token loss at the last hidden states, without ever holding all logits.

Shapes: N predicting positions, H hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workers.science.scoring.likelihood import project_to_vocabulary, rows_at_once


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


def loss_gradients(
    model: Any, hidden: Tensor, *, labels: Tensor | None = None, quantiles: Tensor | None = None
) -> Tensor:
    """Gradients [N, H] of the cross-entropy, summed over positions, with respect to `hidden` [N, H].

    With respect to the logits that is softmax minus one-hot; the rest is the chain rule through the output
    projection, scaled or capped as the architecture does, a chunk of positions at a time.

    Args:
        model: a causal language model whose parameters require no gradient (see `frozen`).
        hidden: last hidden states of the base model.
        labels: int64 [N], the tokens to predict; or
        quantiles: float32 [N] in [0, 1): the label is where the model's own cumulative distribution over the
            vocabulary first exceeds it, so that uniform quantiles give labels sampled from the model.
    """
    width = model.get_output_embeddings().weight.shape[0]
    rows = rows_at_once(hidden.device, width)
    gradients = torch.empty_like(hidden, requires_grad=False)
    for start in range(0, len(hidden), rows):
        chunk = slice(start, start + rows)
        leaf = hidden[chunk].detach().requires_grad_()
        with torch.enable_grad():
            logits = project_to_vocabulary(model, leaf)
        probabilities = logits.detach().softmax(-1)
        if labels is not None:
            chosen = labels[chunk]
        elif quantiles is not None:
            chosen = _labels_at(probabilities, quantiles[chunk])
        else:
            raise ValueError("give labels or quantiles")
        ones = probabilities.new_ones(len(chosen), 1)
        towards_logits = probabilities.scatter_add_(1, chosen[:, None], -ones)
        gradients[chunk] = torch.autograd.grad(logits, leaf, towards_logits)[0]
    return gradients


def _labels_at(probabilities: Tensor, quantiles: Tensor) -> Tensor:
    """int64 [N]: the first token at which the cumulative probability [N, V] exceeds the quantile [N]."""
    cumulative = probabilities.cumsum(-1)
    reached = quantiles[:, None] * cumulative[:, -1:]  # rounding leaves the sum a little off one
    labels = torch.searchsorted(cumulative, reached, right=True)[:, 0]
    return labels.clamp(max=probabilities.shape[-1] - 1)
