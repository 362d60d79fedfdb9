"""What a model is still good for: its loss on clean text and its ranking of next tokens.

Shapes: N predicting positions, K ranks, V vocabulary.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from workers.science.errors import ScienceError, ScoreNotFinite
from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import Rows
from workers.science.scoring.batching import Window, batches_for, map_on_cores
from workers.science.scoring.likelihood import base_hidden_states, score_positions
from workers.science.scoring.vocabulary.ranking import top_tokens

# Positions whose rankings are compared at once.
_COMPARED_AT_ONCE = 2**13

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class MeanNLL:
    """A mean negative log-likelihood, perhaps of the first part of a text only.

    Attributes:
        mean: in nats, over the tokens that were predicted.
        tokens: how many were.
        of_tokens: how many there are.
        exceeded: whether the mean over all of them must exceed what matters.
    """

    mean: float
    tokens: int
    of_tokens: int
    exceeded: bool = False


def mean_nll(language_model: LanguageModel, blocks: Rows) -> float:
    """Mean negative log-likelihood in nats over all predicted tokens; its exponential is the perplexity.

    Raises:
        ScienceError, ScoreNotFinite: see `measure_nll`.
    """
    return measure_nll(language_model, blocks).mean


def measure_nll(language_model: LanguageModel, blocks: Rows, *, stop_above: float | None = None) -> MeanNLL:
    """Mean negative log-likelihood over predicted tokens, as far as it matters.

    Total NLL over total tokens, not a mean of batches' means. No token's NLL is negative, so once the sum
    exceeds `stop_above` times all tokens the mean must exceed `stop_above`, and the rest is left out. Rows
    are gone through by length, the longest first.

    Args:
        language_model: the model.
        blocks: clean text.
        stop_above: a mean beyond which the exact value does not matter.

    Returns:
        The mean over all tokens, or if that must exceed `stop_above` over those gone through until then.

    Raises:
        ScienceError: `text_set_empty`, if nothing is predicted.
        ScoreNotFinite: `log_likelihood_not_finite`.
    """
    of_tokens = _predictions(blocks)

    def negative_log_likelihood(hidden: Tensor, targets: Tensor) -> tuple[float, int]:
        scores = score_positions(language_model.model, hidden, targets)
        return -float(scores.log_likelihood.double().sum()), len(targets)

    total, tokens = 0.0, 0
    for part, predicted in _map_predicting(language_model, blocks, negative_log_likelihood):
        total += part
        tokens += predicted
        if not -torch.inf < total < torch.inf:
            raise ScoreNotFinite(
                "log_likelihood_not_finite",
                "The language model gave a log-likelihood that is not finite; score it in float32.",
            )
        if stop_above is not None and total > stop_above * of_tokens:
            return MeanNLL(total / tokens, tokens, of_tokens, exceeded=True)
    return MeanNLL(total / tokens, tokens, of_tokens)


def top_ranked(language_model: LanguageModel, blocks: Rows, k: int = 10) -> Tensor:
    """The `k` likeliest next tokens at each predicting position, likeliest first: int32 [N, K] on the CPU.

    The positions come row by row, longer rows first; that order is the same for every model.

    Raises:
        ScienceError: `text_set_empty`, if nothing is predicted.
    """
    _predictions(blocks)
    model = language_model.model

    def likeliest(hidden: Tensor, _targets: Tensor) -> Tensor:
        return top_tokens(model, hidden, k).int().cpu()

    return torch.cat(list(_map_predicting(language_model, blocks, likeliest)))


def positions_of_rows(blocks: Rows) -> list[int]:
    """How many of the positions that `top_ranked` gives are of one row, in its order."""
    return sorted((length - 1 for length in blocks.lengths.tolist() if length > 1), reverse=True)


def ndcg(base_ranked: Tensor, edited_ranked: Tensor) -> float:
    """Mean nDCG@K over all positions, in [0, 1]; see `ndcg_by_position`."""
    return float(ndcg_by_position(base_ranked, edited_ranked).mean())


def ndcg_by_position(base_ranked: Tensor, edited_ranked: Tensor) -> Tensor:
    """nDCG@K of an edited model's rankings against the base model's: float64 [N] in [0, 1]; 1 if all agree.

    A token's gain is K - r + 1, with r its rank (from 1) in the base model's list, and 0 outside that list;
    the token at place p of the edited list counts gain / log2(p + 1). The base list itself gives the ideal
    sum. This follows the public code of arXiv 2510.24256; its appendix takes r from the edited list.

    Args:
        base_ranked: tokens [N, K], likeliest first.
        edited_ranked: tokens [N, K] at the same positions.

    Raises:
        ValueError: if the shapes differ or there is no position.
    """
    if base_ranked.shape != edited_ranked.shape or not base_ranked.numel():
        raise ValueError("the rankings must be of the same, non-empty shape [N, K]")
    n_ranks = base_ranked.shape[1]
    gains = torch.arange(n_ranks, 0, -1, dtype=torch.float64)  # by rank in the base list
    discounts = torch.arange(2, n_ranks + 2, dtype=torch.float64).log2()  # by place in the edited list
    worth = gains[:, None] / discounts
    ideal = float((gains / discounts).sum())
    parts = []
    for base, edited in zip(
        torch.split(base_ranked, _COMPARED_AT_ONCE),
        torch.split(edited_ranked, _COMPARED_AT_ONCE),
        strict=True,
    ):
        same = base[:, :, None] == edited[:, None, :]  # [position, rank, place]
        parts.append((same.cpu() * worth).sum((1, 2)) / ideal)
    # Rounded, so that equal rankings give 1 exactly and not a bit more.
    return torch.cat(parts).round(decimals=12)


def _predictions(blocks: Rows) -> int:
    tokens = blocks.predictions
    if tokens == 0:
        raise ScienceError("text_set_empty", "None of the texts has a token that can be predicted.")
    return tokens


def _map_predicting(
    language_model: LanguageModel, blocks: Rows, function: Callable[[Tensor, Tensor], _Result]
) -> Iterator[_Result]:
    """Apply a function to the hidden states [N, H] and true next tokens [N] of batch after batch.

    Rows of like length go together, the longest first.
    """
    rows = [Window(row, 0, length, length - 1) for row, length in enumerate(blocks.lengths.tolist())]
    device = language_model.device

    @torch.inference_mode()
    def of_batch(batch: list[Window]) -> _Result:
        part = blocks.part([window.text for window in batch])
        predicts = part.predicts
        hidden = base_hidden_states(language_model.model, part.ids.to(device))[predicts.to(device)]
        return function(hidden, part.labels[predicts].to(device))

    return map_on_cores(of_batch, batches_for(device, rows), device)
