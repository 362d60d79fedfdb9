"""Recovery: a few steps of training that bring back what an edit should have spared.

What a projection drops is shared: with the memorized texts goes what other texts of their form need. Trained
on such texts, the edited matrices find that again first, as every row teaches it. They learn from the texts
themselves and not from the base, whose predictions hold its memories. Ordinary text they are to predict as
the base does (Hinton, Vinyals and Dean, arXiv 1503.02531, at temperature 1, with the base as teacher). Moving
in a few directions only leaves little room for what is particular to a text.

Shapes: `out` outputs and `in` inputs of a projection, `k` directions of its inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from workers.science.curvature.collection import batch_tokens
from workers.science.curvature.kfac import Factors
from workers.science.curvature.spectrum import decomposition_dtype
from workers.science.errors import RecoveryDiverged
from workers.science.models.gradients import divergence_gradients, frozen, loss_gradients
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import Rows, TokenBlocks
from workers.science.models.weight_edit import hidden_states_with

Weights = Sequence[tuple[Projection, Tensor]]

_DIVERGED: Final = "Recovery gave weights that are not finite. Give it a lower learning rate."


@dataclass(frozen=True, slots=True)
class Recovery:
    """How an edited model is trained.

    Attributes:
        steps: of Adam, each on rows of both texts.
        learning_rate: how far the first step moves a matrix, as a share of its size before the edit (both
            as a root mean square); it falls to nought over the steps.
        batch_rows: rows of each text in a step.
        seed: of which rows.
    """

    steps: int
    learning_rate: float = 0.01
    batch_rows: int = 8
    seed: int = 0


def recovered(
    language_model: LanguageModel,
    weights: Weights,
    texts: tuple[Rows, Rows],
    options: Recovery,
    *,
    directions: Mapping[str, Tensor] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[tuple[Projection, Tensor]]:
    """Edited weights after some steps of training; no other weight moves.

    Each step descends half the mean loss on rows of the text to retain, and half the mean KL(base || edited)
    on rows of ordinary text, both over predicting positions. Dropout stays off.

    Args:
        language_model: the base, whose weights are in place.
        weights: the edited matrices [out, in].
        texts: the text to retain, and ordinary text.
        options: how.
        directions: by projections' keys, orthonormal directions [in, k] of the inputs, in which alone the
            matrices move; all directions if None.
        on_step: told the steps done; may raise to stop.

    Returns:
        New weights [out, in] float32, or with no steps those that were given.

    Raises:
        RecoveryDiverged: a weight is not finite.
    """
    if not options.steps:
        return list(weights)
    budget = batch_tokens(language_model.device)
    learnt = [_Learnt(*each, directions) for each in weights]
    optimizer = torch.optim.Adam(
        {"params": [each.change], "lr": options.learning_rate * each.size} for each in learnt
    )
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / options.steps)
    generator = torch.Generator().manual_seed(options.seed)
    with frozen(language_model.model), torch.enable_grad():
        for step in range(options.steps):
            optimizer.zero_grad()
            for rows, gradients in zip(texts, (_of_loss, _of_divergence), strict=True):
                drawn = torch.randint(len(rows), (options.batch_rows,), generator=generator)
                _descend(language_model, learnt, rows.part(drawn), gradients, budget)
            optimizer.step()
            falling.step()
            if on_step is not None:
                on_step(step + 1)
    found = [(each.projection, each.weight().detach()) for each in learnt]
    if not all(bool(weight.isfinite().all()) for _, weight in found):
        raise RecoveryDiverged("recovery_diverged", _DIVERGED)
    return found


def largest_inputs(
    factors: Mapping[str, Factors], rank: int, *, on_progress: Callable[[int], None] | None = None
) -> dict[str, Tensor]:
    """The directions in which a projection's inputs are largest, by projections' keys.

    Args:
        factors: by projections' keys; `activations` are second moments of inputs [in, in].
        rank: how many directions; all where inputs have fewer.
        on_progress: told how many projections are done; may raise to stop.

    Returns:
        Orthonormal [in, k], float64 on CPUs; those of what reads the same inputs are the same tensor.
    """
    found: dict[int, Tensor] = {}
    for done, each in enumerate(factors.values(), start=1):
        inputs = each.activations
        if id(inputs) not in found:
            vectors = torch.linalg.eigh(inputs.to(decomposition_dtype(inputs.device))).eigenvectors
            # Eigenvalues come ascending. A view would keep all vectors in memory.
            found[id(inputs)] = vectors[:, -rank:].clone()
        if on_progress is not None:
            on_progress(done)
    return {key: found[id(each.activations)] for key, each in factors.items()}


class _Learnt:
    """An edited matrix and what is added to it.

    Attributes:
        projection: where it stands.
        change: float32 [out, in], or [out, k] in given directions; it begins at nought.
        size: the root mean square of the matrix before the edit, times sqrt(in / k): a step of that size in
            `change` moves the matrix by its own.
    """

    def __init__(
        self, projection: Projection, weight: Tensor, directions: Mapping[str, Tensor] | None
    ) -> None:
        self.projection = projection
        self._edited = weight.detach().float()
        self._directions = None if directions is None else directions[projection.key].to(self._edited)
        columns = weight.shape[1] if self._directions is None else self._directions.shape[1]
        self.change = self._edited.new_zeros(len(weight), columns, requires_grad=True)
        spread = (weight.shape[1] / columns) ** 0.5
        self.size = spread * float(projection.weight.detach().float().square().mean().sqrt())

    def weight(self) -> Tensor:
        """The matrix as it is now, with a graph to what is added."""
        return self._edited + (self.change if self._directions is None else self.change @ self._directions.T)


# Gradients [N, H], summed over positions, of hidden states [N, H] of some rows.
_Gradients = Callable[[LanguageModel, Tensor, TokenBlocks], Tensor]


def _descend(
    language_model: LanguageModel,
    learnt: Sequence[_Learnt],
    blocks: TokenBlocks,
    gradients: _Gradients,
    budget: int,
) -> None:
    """Add half the mean gradient over the predicting positions of some rows to what is learnt.

    No more rows go through the model together than have `budget` tokens, or one.
    """
    device, positions = language_model.device, blocks.predictions
    for rows in torch.split(torch.arange(len(blocks)), max(1, budget // blocks.ids.shape[1])):
        part = blocks.part(rows)
        edited = [(each.projection, each.weight()) for each in learnt]
        hidden = hidden_states_with(language_model.model, edited, part.ids.to(device))
        hidden = hidden[part.predicts.to(device)]
        torch.autograd.backward(hidden, gradients(language_model, hidden, part) / (2 * positions))


def _of_loss(language_model: LanguageModel, hidden: Tensor, blocks: TokenBlocks) -> Tensor:
    labels = blocks.labels[blocks.predicts].to(language_model.device)
    return loss_gradients(language_model.model, hidden, labels=labels)


def _of_divergence(language_model: LanguageModel, hidden: Tensor, blocks: TokenBlocks) -> Tensor:
    model, device = language_model.model, language_model.device
    with torch.no_grad():
        wanted = hidden_states_with(model, (), blocks.ids.to(device))[blocks.predicts.to(device)]
    return divergence_gradients(model, hidden, wanted)
