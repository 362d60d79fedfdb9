"""Bringing an edited model back to its base where that is wanted, by distillation on text to keep.

What a projection drops is shared: with the memorized texts goes what other texts of their form need. A few
steps towards the base's own predictions on such texts bring that back first, as it is common to them all
(Hinton, Vinyals and Dean, arXiv 1503.02531, at temperature 1, with the base as teacher).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.science.models.gradients import divergence_gradients, frozen
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import Rows, TokenBlocks
from workers.science.models.weight_edit import hidden_states_with

Weights = Sequence[tuple[Projection, Tensor]]


@dataclass(frozen=True, slots=True)
class Distillation:
    """How an edited model is brought back.

    Attributes:
        steps: of Adam, each on rows of every text.
        learning_rate: how far the first step moves an entry of a matrix, as a share of the root mean square
            of the matrix before the edit; it falls to nought over the steps.
        batch_rows: rows of each text in a step.
        seed: of which rows.
    """

    steps: int
    learning_rate: float = 0.005
    batch_rows: int = 8
    seed: int = 0


def distilled(
    language_model: LanguageModel,
    weights: Weights,
    texts: Sequence[Rows],
    options: Distillation,
    on_step: Callable[[int], None] | None = None,
) -> list[tuple[Projection, Tensor]]:
    """Edited weights after some steps towards the base's predictions; no other weight moves.

    Each step descends the mean over texts of KL(base || edited), the mean over predicting positions of the
    rows that were drawn. Dropout stays off.

    Args:
        language_model: the base, whose weights are in place.
        weights: the edited matrices [out, in].
        texts: texts on which the edited model is to be as the base is, each of which counts alike.
        options: how.
        on_step: told the steps done; may raise to stop.

    Returns:
        New weights [out, in] float32, or with no steps those that were given.
    """
    if not options.steps:
        return list(weights)
    learnt = [weight.detach().float().clone().requires_grad_() for _, weight in weights]
    projections = [projection for projection, _ in weights]
    sizes = [float(projection.weight.float().square().mean().sqrt()) for projection in projections]
    optimizer = torch.optim.Adam(
        {"params": [matrix], "lr": options.learning_rate * size}
        for matrix, size in zip(learnt, sizes, strict=True)
    )
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / options.steps)
    generator = torch.Generator().manual_seed(options.seed)
    with frozen(language_model.model), torch.enable_grad():
        for step in range(options.steps):
            optimizer.zero_grad()
            for rows in texts:
                drawn = torch.randint(len(rows), (options.batch_rows,), generator=generator)
                edited = list(zip(projections, learnt, strict=True))
                _descend(language_model, edited, rows.part(drawn), share=1 / len(texts))
            optimizer.step()
            falling.step()
            if on_step is not None:
                on_step(step + 1)
    return [(projection, matrix.detach()) for projection, matrix in zip(projections, learnt, strict=True)]


def _descend(language_model: LanguageModel, edited: Weights, blocks: TokenBlocks, *, share: float) -> None:
    """Add `share` of the gradient of the mean divergence over some rows to the edited matrices."""
    model, device = language_model.model, language_model.device
    ids, predicts = blocks.ids.to(device), blocks.predicts.to(device)
    with torch.no_grad():
        wanted = hidden_states_with(model, (), ids)[predicts]
    hidden = hidden_states_with(model, edited, ids)[predicts]
    torch.autograd.backward(hidden, divergence_gradients(model, hidden, wanted) * (share / len(hidden)))
