"""The largest logits of a vocabulary that is seen tile by tile, and how many exceed the true token's.

Shapes: N positions, H hidden size, C tokens of a tile, K kept.
"""

from typing import Any, Final

import torch
from torch import Tensor

from workers.science.scoring.vocabulary.head import Tile, VocabularyHead

# Logits that are kept until it is known whether they exceed the true token's, in each row on average.
_UNDECIDED: Final = 64
# Where more than this share of a tile may be among the largest, all of it is looked through.
_MANY: Final = 0.25


class RunningChoice:
    """The token with the largest logit of each row.

    Attributes:
        tokens: int64 [N], the first of those that tie; -1 where it is not wanted.
    """

    def __init__(self, wanted: Tensor) -> None:
        """`wanted`, bool [N]: for which rows."""
        self.tokens = torch.full_like(wanted, -1, dtype=torch.int64)
        self._largest = torch.full_like(wanted, torch.inf, dtype=torch.float32)
        self._largest[wanted] = -torch.inf

    def add(self, tile: Tile, maxima: Tensor) -> None:
        """Take in a tile and the largest logit of each of its rows, float32 [N]."""
        rows = (maxima > self._largest).nonzero()[:, 0]
        if len(rows):
            self.tokens[rows] = tile.logits[rows].argmax(-1) + tile.start
            self._largest[rows] = maxima[rows]


class RunningTop:
    """The K largest logits of each row.

    Attributes:
        values: float32 [N, K], descending.
        tokens: int64 [N, K], whose logits they are.
        ties: int64 [N], how many further tokens have the K-th logit.
    """

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        self.values = torch.full((rows, k), -torch.inf, device=device)
        self.tokens = torch.full((rows, k), -1, device=device)
        self.ties = torch.zeros(rows, dtype=torch.int64, device=device)

    def add(self, start: int, logits: Tensor) -> None:
        """Take in the logits [N, C] of the tokens from `start` on."""
        smallest = self.values[:, -1:]
        new_values, new_tokens = _at_least(logits, smallest, start)
        values = torch.cat((self.values, new_values), -1)
        tokens = torch.cat((self.tokens, new_tokens), -1)
        self.values, places = values.topk(self.values.shape[1])
        self.tokens = tokens.gather(-1, places)
        kept = self.values[:, -1:]
        passed_over = (values == kept).sum(-1) - (self.values == kept).sum(-1)
        self.ties = self.ties * (kept == smallest)[:, 0] + passed_over


class RunningRanks:
    """How many logits exceed the true token's, which lies in a later tile perhaps.

    A dot product of its own says where that logit lies but for rounding. Logits beyond count at once; those
    within rounding of it, mostly itself alone, are kept and compared when the tile with it has been seen.
    """

    def __init__(self, head: VocabularyHead, hidden: Tensor, targets: Tensor) -> None:
        expected, error = head.expected_logits(hidden, targets)
        self._expected, self._low, self._high = (
            bound[:, None] for bound in (expected, expected - error, expected + error)
        )
        self._likelier = torch.zeros_like(targets)
        self._undecided: list[tuple[Tensor, Tensor]] = []
        self._room = _UNDECIDED * len(targets)
        self._memory: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Take in the logits [N, C] of a tile."""
        # Comparing into floats and summing those is several times faster on a CPU than counting booleans.
        if self._memory is None:
            self._memory = torch.empty_like(logits).flatten()
        memory = self._memory[: logits.numel()].view_as(logits)
        beyond = torch.gt(logits, self._high, out=memory).sum(-1).long()
        near = torch.ge(logits, self._low, out=memory).sum(-1).long() - beyond
        self._likelier += beyond
        rows = near.nonzero()[:, 0]
        some = logits[rows]
        if int(near.sum()) > self._room:  # a model that can hardly tell its tokens apart
            self._likelier[rows] += ((some > self._expected[rows]) & (some <= self._high[rows])).sum(-1)
            return
        which, columns = ((some >= self._low[rows]) & (some <= self._high[rows])).nonzero(as_tuple=True)
        self._undecided.append((rows[which], some[which, columns]))
        self._room -= len(which)

    def ranks(self, targets: Tensor, target_logits: Tensor, choices: Tensor) -> Tensor:
        """The ranks int64 [N]; see `PositionScores`.

        Args:
            targets: int64 [N], the true tokens.
            target_logits: float32 [N], their logits as they stood in their tiles.
            choices: int64 [N], the greedy choices.
        """
        likelier = self._likelier
        for rows, logits in self._undecided:
            likelier = likelier.index_add(0, rows, (logits > target_logits[rows]).long())
        chosen = choices == targets
        return torch.where(chosen, 1, 1 + likelier.clamp(min=1))


def top_tokens(model: Any, hidden: Tensor, k: int) -> Tensor:
    """The k likeliest tokens, int64 [N, K], after each of N positions by their hidden states [N, H]."""
    head = VocabularyHead.of(model)
    found = []
    for part in torch.split(hidden, head.rows_at_once):
        top = RunningTop(len(part), k, part.device)
        for start, logits in head.tiles(part):
            top.add(start, logits)
        found.append(top.tokens)
    return torch.cat(found)


def _at_least(logits: Tensor, smallest: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The logits [N, C] that are not below `smallest` [N, 1], and their tokens: [N, at most C] each.

    Rows with fewer of them are filled up with -inf.
    """
    enough = logits >= smallest
    rows, columns = enough.nonzero(as_tuple=True)
    if len(rows) > _MANY * logits.numel():
        tokens = torch.arange(start, start + logits.shape[1], device=logits.device)
        return logits, tokens.expand_as(logits)
    counts = enough.sum(-1)
    places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    width = int(counts.max()) if len(rows) else 0
    values = logits.new_full((len(logits), width), -torch.inf)
    tokens = columns.new_full((len(logits), width), -1)
    values[rows, places] = logits[rows, columns]
    tokens[rows, places] = columns + start
    return values, tokens
