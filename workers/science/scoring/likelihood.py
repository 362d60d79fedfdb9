"""Log-likelihoods of chosen positions, and what is found beside them in one pass over the vocabulary.

Shapes: B texts, S places, H hidden size, N scored positions.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from workers.science.scoring.vocabulary.head import VocabularyHead
from workers.science.scoring.vocabulary.ranking import RunningChoice, RunningRanks
from workers.science.scoring.vocabulary.sampling import RunningSample, Sampling
from workers.science.scoring.vocabulary.softmax import RunningSoftmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to find at each position beside the log-likelihood, no bit of which depends on it.

    Attributes:
        choice: the greedy choices at suffixes.
        rank: ranks everywhere (brings the choices everywhere).
        moments: the moments of the vocabulary's log-probabilities.
        sampling: the client's decoding, for sampling log-likelihoods at suffixes.
    """

    choice: bool = False
    rank: bool = False
    moments: bool = False
    sampling: Sampling | None = None


NOTHING_MORE: Final = Wanted()


@dataclass(frozen=True, slots=True)
class PositionScores:
    """What the model says of the true token at each of N positions; fields that were not asked for are None.

    Attributes:
        log_likelihood: float32 [N], natural logarithm of the true token's probability.
        choice: int64 [N], the token that greedy decoding takes; -1 where that was not asked for.
        rank: int64 [N], 1 exactly where the true token is the greedy choice, else one more than the number
            of tokens that are likelier (at least 2).
        mean: float32 [N], sum over the vocabulary of p(z) log p(z): what log-likelihood a token drawn from
            the model has on average, minus the entropy, in nats, at most 0 (arXiv 2404.02936, section 3).
        deviation: float32 [N], the standard deviation of log p(z) under p(z), in nats, at least 0.
        sampling_log_likelihood: float32 [N], log-probability that the client's decoding draws the true
            token; -inf if it never does, NaN where that was not asked for.
    """

    log_likelihood: Tensor
    choice: Tensor | None = None
    rank: Tensor | None = None
    mean: Tensor | None = None
    deviation: Tensor | None = None
    sampling_log_likelihood: Tensor | None = None


def base_hidden_states(model: Any, input_ids: Tensor) -> Tensor:
    """Last hidden states [B, S, H] of input ids [B, S] padded on the right.

    No mask is needed: in a causal model no token sees the padding after it. Without a mask the attention
    kernels take their fast causal path.
    """
    hidden: Tensor = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return hidden


def score_positions(
    model: Any,
    hidden: Tensor,
    targets: Tensor,
    wanted: Wanted = NOTHING_MORE,
    suffixes: Tensor | None = None,
) -> PositionScores:
    """Score the true tokens at N positions.

    Args:
        model: a causal language model of transformers.
        hidden: hidden states [N, H] at the places that predict the targets.
        targets: int64 [N], the true tokens.
        wanted: what to find beside their log-likelihoods.
        suffixes: bool [N], the positions at which choices and sampling are wanted; everywhere unless given.
    """
    head = VocabularyHead.of(model)
    if suffixes is None:
        suffixes = torch.ones_like(targets, dtype=torch.bool)
    parts = zip(*(torch.split(each, head.rows_at_once) for each in (hidden, targets, suffixes)), strict=True)
    scored = [_score_rows(head, *part, wanted=wanted) for part in parts]
    return PositionScores(
        log_likelihood=torch.cat([part.log_likelihood for part in scored]),
        choice=_join([part.choice for part in scored]),
        rank=_join([part.rank for part in scored]),
        mean=_join([part.mean for part in scored]),
        deviation=_join([part.deviation for part in scored]),
        sampling_log_likelihood=_join([part.sampling_log_likelihood for part in scored]),
    )


def _score_rows(
    head: VocabularyHead, hidden: Tensor, targets: Tensor, suffixes: Tensor, *, wanted: Wanted
) -> PositionScores:
    """Score n positions in one pass over the vocabulary."""
    softmax = RunningSoftmax(len(hidden), hidden.device, moments=wanted.moments)
    target_logits = torch.zeros_like(targets, dtype=torch.float32)
    choice = ranks = sampled = None
    if wanted.choice or wanted.rank:
        choice = RunningChoice(torch.ones_like(suffixes) if wanted.rank else suffixes)
    if wanted.rank:
        ranks = RunningRanks(head, hidden, targets)
    if wanted.sampling is not None:
        sampled = RunningSample(head, hidden, wanted.sampling, suffixes)
    for tile in head.tiles(hidden):
        maxima = tile.logits.amax(-1)
        target_logits = tile.read(targets, target_logits)
        if choice is not None:
            choice.add(tile, maxima)
        if ranks is not None:
            ranks.add(tile.logits)
        if sampled is not None:
            sampled.add(tile)
        softmax.add(tile.logits, maxima)  # uses them up
    mean, deviation = softmax.moments() if wanted.moments else (None, None)
    return PositionScores(
        log_likelihood=softmax.log_probability(target_logits),
        choice=None if choice is None else choice.tokens,
        rank=None if ranks is None or choice is None else ranks.ranks(targets, target_logits, choice.tokens),
        mean=mean,
        deviation=deviation,
        sampling_log_likelihood=None if sampled is None else sampled.log_likelihood(targets, target_logits),
    )


def _join(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
