"""How likely a client's decoding draws true tokens.

Shapes: N positions, V vocabulary, n suffix positions.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from workers.science.scoring.vocabulary.head import Tile, VocabularyHead
from workers.science.scoring.vocabulary.ranking import RunningTop
from workers.science.scoring.vocabulary.softmax import RunningSoftmax

# Of more than this, finding the largest again after each tile takes longer than all logits of few rows.
_MOST_KEPT: Final = 1024
_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a client samples: the logits are divided by `temperature`, then the `top_k` largest are kept."""

    temperature: float
    top_k: int


class RunningSample:
    """Log-probabilities of true tokens under a client's decoding; ties with the k-th logit are kept too."""

    def __init__(self, head: VocabularyHead, hidden: Tensor, sampling: Sampling, wanted: Tensor) -> None:
        """Begin with the hidden states [N, H], and `wanted`, bool [N]: at which positions."""
        self._head = head
        self._hidden = hidden
        self._sampling = sampling
        self._wanted = wanted
        rows = wanted.nonzero()[:, 0]
        self._rows = None if len(rows) == len(wanted) else rows
        self._top: RunningTop | None = None
        self._softmax: RunningSoftmax | None = None
        if sampling.top_k >= len(head.weight):
            self._softmax = RunningSoftmax(len(rows), wanted.device, temperature=sampling.temperature)
        elif sampling.top_k <= _MOST_KEPT:
            self._top = RunningTop(len(rows), sampling.top_k, wanted.device)

    def add(self, tile: Tile) -> None:
        """Take in a tile."""
        if self._top is not None:
            self._top.add(tile.start, tile.logits if self._rows is None else tile.logits[self._rows])
        elif self._softmax is not None:
            logits = tile.logits[self._wanted]
            self._softmax.add(logits, logits.amax(-1))

    def log_likelihood(self, targets: Tensor, target_logits: Tensor) -> Tensor:
        """Of the targets int64 [N] with these logits [N]: -inf where never drawn, NaN where not wanted."""
        found = torch.full_like(target_logits, torch.nan)
        if self._top is not None:
            found[self._wanted] = self._among(self._top, target_logits[self._wanted])
        elif self._softmax is not None:
            found[self._wanted] = self._softmax.log_probability(target_logits[self._wanted])
        else:
            found[self._wanted] = self._by_rows(targets[self._wanted])
        return found

    def _among(self, top: RunningTop, logits: Tensor) -> Tensor:
        kept = top.values.double() / self._sampling.temperature
        largest, smallest = kept[:, 0], kept[:, -1]
        total = (kept - largest[:, None]).exp().sum(-1) + top.ties * (smallest - largest).exp()
        log_p = logits.double() / self._sampling.temperature - largest - total.log()
        return log_p.masked_fill(logits < top.values[:, -1], -torch.inf).float()

    def _by_rows(self, targets: Tensor) -> Tensor:
        found = []
        hidden = self._hidden[self._wanted]
        for some, tokens in zip(torch.split(hidden, _ROWS), torch.split(targets, _ROWS), strict=True):
            log_p = drawn_log_probabilities(self._head.logits(some), self._sampling)
            found.append(log_p.gather(-1, tokens[:, None])[:, 0])
        return torch.cat(found) if found else hidden.new_empty(0, dtype=torch.float32)


def drawn_log_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities [..., V] of the client's decoding; -inf for tokens that it never draws."""
    logits = logits / sampling.temperature
    if sampling.top_k < logits.shape[-1]:
        smallest_kept = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    return logits.log_softmax(-1)
