"""Log-likelihoods of chosen positions, without ever holding all logits of a batch.

Shapes: B texts, S places, H hidden size, N scored positions, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class PositionScores:
    """What the model says of the true token at each of N positions; fields that were not asked for are None.

    Attributes:
        log_likelihood: float32 [N], natural logarithm of the true token's probability.
        choice: int64 [N], the token that greedy decoding takes.
        rank: int64 [N], 1 exactly where the true token is the greedy choice, else one more than the number
            of tokens that are likelier (at least 2).
        sampling_log_likelihood: float32 [N], log-probability that the client's decoding draws the true
            token; -inf if it never does.
    """

    log_likelihood: Tensor
    choice: Tensor | None = None
    rank: Tensor | None = None
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
    *,
    choice: bool = False,
    rank: bool = False,
    sampling: Sampling | None = None,
) -> PositionScores:
    """Score the true tokens at N positions, a chunk of positions at a time.

    Args:
        model: a causal language model of transformers.
        hidden: hidden states [N, H] at the places that predict the targets.
        targets: int64 [N], the true tokens.
        choice: whether to find the greedy choices.
        rank: whether to find ranks too (brings the choices).
        sampling: the client's decoding, to find sampling log-likelihoods.
    """
    vocabulary_size = model.get_output_embeddings().weight.shape[0]
    rows = rows_at_once(hidden.device, vocabulary_size)
    chunks = [
        _score_chunk(
            project_to_vocabulary(model, part), part_targets, choice=choice, rank=rank, sampling=sampling
        )
        for part, part_targets in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True)
    ]
    return PositionScores(
        log_likelihood=torch.cat([chunk.log_likelihood for chunk in chunks]),
        choice=_join([chunk.choice for chunk in chunks]),
        rank=_join([chunk.rank for chunk in chunks]),
        sampling_log_likelihood=_join([chunk.sampling_log_likelihood for chunk in chunks]),
    )


def _score_chunk(
    logits: Tensor, targets: Tensor, *, choice: bool, rank: bool, sampling: Sampling | None
) -> PositionScores:
    choices = logits.argmax(-1) if choice or rank else None
    ranks = None
    if rank:
        target_logits = logits.gather(-1, targets[:, None])
        # Comparing into floats and summing those is several times faster on a CPU than counting booleans.
        likelier = torch.gt(logits, target_logits, out=torch.empty_like(logits)).sum(-1).long()
        tied_with_the_choice = (likelier == 0) & (choices != targets)
        ranks = 1 + likelier + tied_with_the_choice
    return PositionScores(
        log_likelihood=-functional.cross_entropy(logits, targets, reduction="none"),
        choice=choices,
        rank=ranks,
        sampling_log_likelihood=None
        if sampling is None
        else _sampling_log_likelihood(logits, targets, sampling),
    )


def _sampling_log_likelihood(logits: Tensor, targets: Tensor, sampling: Sampling) -> Tensor:
    """Log-probability of the targets under temperature and top-k."""
    return -functional.cross_entropy(_drawn_logits(logits, sampling), targets, reduction="none")


def drawn_log_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities [..., V] of the client's decoding; -inf for tokens that it never draws."""
    return _drawn_logits(logits, sampling).log_softmax(-1)


def _drawn_logits(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits [..., V] under temperature and top-k; ties with the k-th logit are kept too."""
    logits = logits / sampling.temperature
    if sampling.top_k < logits.shape[-1]:
        smallest_kept = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    return logits


def _join(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
