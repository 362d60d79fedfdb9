"""Log-likelihoods of chosen positions, without ever holding all logits of a batch.

Shapes: B texts, S places, H hidden size, N scored positions, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

# Logits held at once. On a CPU they should stay in the cache between projection and softmax.
_CPU_LOGIT_BYTES = 2 * 2**20
_GPU_LOGIT_BYTES = 256 * 2**20
# A projection of fewer rows than this spends its time on reading the output embedding.
_MINIMUM_ROWS = 64


def rows_at_once(device: torch.device, vocabulary_size: int) -> int:
    """How many positions to project to the vocabulary at once."""
    budget = _CPU_LOGIT_BYTES if device.type == "cpu" else _GPU_LOGIT_BYTES
    return max(_MINIMUM_ROWS, budget // (4 * vocabulary_size))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a client samples: the logits are divided by `temperature`, then the `top_k` largest are kept."""

    temperature: float
    top_k: int


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


def project_to_vocabulary(model: Any, hidden: Tensor) -> Tensor:
    """Logits in float32 from hidden states [..., H], scaled or capped as the architecture does."""
    logits: Tensor = model.get_output_embeddings()(hidden).float()
    config = model.config.get_text_config()
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / divisor
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma
        logits = torch.tanh(logits / cap) * cap
    return logits


def score_positions(
    model: Any,
    hidden: Tensor,
    targets: Tensor,
    wanted: Wanted = NOTHING_MORE,
    suffixes: Tensor | None = None,
) -> PositionScores:
    """Score the true tokens at N positions, a chunk of positions at a time.

    Args:
        model: a causal language model of transformers.
        hidden: hidden states [N, H] at the places that predict the targets.
        targets: int64 [N], the true tokens.
        wanted: what to find beside their log-likelihoods.
        suffixes: bool [N], the positions at which choices and sampling are wanted; everywhere unless given.
    """
    vocabulary_size = model.get_output_embeddings().weight.shape[0]
    rows = rows_at_once(hidden.device, vocabulary_size)
    if suffixes is None:
        suffixes = torch.ones_like(targets, dtype=torch.bool)
    parts = zip(*(torch.split(each, rows) for each in (hidden, targets, suffixes)), strict=True)
    chunks = [
        _score_chunk(project_to_vocabulary(model, part), *places, wanted=wanted) for part, *places in parts
    ]
    return PositionScores(
        log_likelihood=torch.cat([chunk.log_likelihood for chunk in chunks]),
        choice=_join([chunk.choice for chunk in chunks]),
        rank=_join([chunk.rank for chunk in chunks]),
        mean=_join([chunk.mean for chunk in chunks]),
        deviation=_join([chunk.deviation for chunk in chunks]),
        sampling_log_likelihood=_join([chunk.sampling_log_likelihood for chunk in chunks]),
    )


def _score_chunk(logits: Tensor, targets: Tensor, suffixes: Tensor, *, wanted: Wanted) -> PositionScores:
    """Score n positions by their logits [n, V], which are used up."""
    choices = ranks = sampled = None
    if wanted.rank:
        choices = logits.argmax(-1)
        ranks = _ranks(logits, targets, choices)
    elif wanted.choice:
        choices = torch.full_like(targets, -1)
        choices[suffixes] = logits[suffixes].argmax(-1)
    if wanted.sampling is not None:
        sampled = torch.full_like(logits[:, 0], torch.nan)
        sampled[suffixes] = _sampling_log_likelihood(logits[suffixes], targets[suffixes], wanted.sampling)
    log_likelihood, mean, deviation = _log_likelihood(logits, targets, moments=wanted.moments)
    return PositionScores(log_likelihood, choices, ranks, mean, deviation, sampled)


def _ranks(logits: Tensor, targets: Tensor, choices: Tensor) -> Tensor:
    target_logits = logits.gather(-1, targets[:, None])
    # Comparing into floats and summing those is several times faster on a CPU than counting booleans.
    likelier = torch.gt(logits, target_logits, out=torch.empty_like(logits)).sum(-1).long()
    tied_with_the_choice = (likelier == 0) & (choices != targets)
    return 1 + likelier + tied_with_the_choice


def _log_likelihood(
    logits: Tensor, targets: Tensor, *, moments: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The log-likelihoods [n] of the targets and, if asked for, the moments [n] of the vocabulary's.

    With z the logits less the largest and Z = sum of exp(z), log p = z - log Z. The moments of z differ from
    those of log p by log Z alone; less the largest, none of their terms is large where p is not small. All
    of it is done in the place of the logits and in one more block of their size.
    """
    logits -= logits.amax(-1, keepdim=True)
    target_logits = logits.gather(-1, targets[:, None])[:, 0]
    weights = logits.exp()
    total = weights.sum(-1)
    log_likelihood = target_logits - total.log()
    if not moments:
        return log_likelihood, None, None
    mean = weights.mul_(logits).sum(-1) / total
    mean_square = weights.mul_(logits).sum(-1) / total
    # Rounding may leave a variance of nothing a little below it.
    deviation = (mean_square - mean.square()).clamp(min=0).sqrt()
    return log_likelihood, mean - total.log(), deviation


def _sampling_log_likelihood(logits: Tensor, targets: Tensor, sampling: Sampling) -> Tensor:
    """Log-probability of the targets under temperature and top-k; ties with the k-th logit are kept too."""
    logits = logits / sampling.temperature
    if sampling.top_k < logits.shape[-1]:
        smallest_kept = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    return -functional.cross_entropy(logits, targets, reduction="none")


def _join(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
