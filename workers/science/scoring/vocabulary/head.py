"""The output projection, whose logits are found for some tokens of the vocabulary at a time.

All rows of a batch meet one tile of the vocabulary, then the next: the output embedding is read once a batch,
and no more than a tile of logits is ever held.

Shapes: N positions, H hidden size, V vocabulary, C tokens of a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

# A tile of logits is gone over several times: on a CPU it should come back from the caches, of which each
# core's own hold a quarter and the shared one the rest.
_CPU_TILE_BYTES: Final = 4 * int(torch.cpu.get_capabilities().get("l2_cache_size", 2**20))
_GPU_TILE_BYTES: Final = 256 * 2**20
# A product with fewer columns spends its time on bringing rows into place.
_NARROWEST: Final = 512
# Widths are multiples of what the widest vector instructions work on at once.
_LANES: Final = 64


class Tile(NamedTuple):
    """Logits float32 [N, C] of the tokens from `start` on; the memory is that of the next tile too."""

    start: int
    logits: Tensor

    def read(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """The logits [N] with those of the tokens int64 [N] in place that are in this tile."""
        columns = tokens - self.start
        width = self.logits.shape[1]
        here = self.logits.gather(-1, columns.clamp(0, width - 1)[:, None])[:, 0]
        return torch.where((columns >= 0) & (columns < width), here, logits)


@dataclass(frozen=True, slots=True)
class VocabularyHead:
    """How last hidden states become logits: a projection, a factor, a soft cap.

    Attributes:
        weight: [V, H].
        bias: [V].
        factor: that all logits are multiplied by.
        cap: c in c * tanh(logits / c).
    """

    weight: Tensor
    bias: Tensor | None = None
    factor: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Self:
        """The head of a causal language model of transformers, scaled or capped as its architecture does."""
        projection = model.get_output_embeddings()
        config = model.config.get_text_config()
        bias = getattr(projection, "bias", None)
        return cls(
            weight=projection.weight.detach(),
            bias=None if bias is None else bias.detach(),
            # Cohere and Granite
            factor=(getattr(config, "logit_scale", None) or 1.0)
            / (getattr(config, "logits_scaling", None) or 1.0),
            cap=getattr(config, "final_logit_softcapping", None),  # Gemma
        )

    @property
    def rows_at_once(self) -> int:
        """How many positions to find the logits of together."""
        return max(1, self._tile_bytes // (4 * _NARROWEST))

    def starts(self, rows: int) -> range:
        """The first tokens of the tiles when so many rows are projected together; its step is their width.

        As wide as fits, and no wider than needed for so many tiles.
        """
        vocabulary = len(self.weight)
        fitting = max(_NARROWEST, self._tile_bytes // (4 * max(1, rows)))
        n_tiles = -(-vocabulary // fitting)
        return range(0, vocabulary, -(-vocabulary // (n_tiles * _LANES)) * _LANES)

    def logits(self, hidden: Tensor) -> Tensor:
        """All logits, float32 [..., V], of hidden states [..., H]: for a few positions."""
        return self._scaled(functional.linear(hidden, self.weight, self.bias).float())

    def logits_of(self, hidden: Tensor, tokens: slice) -> Tensor:
        """Logits float32 [N, C] of some tokens, from hidden states [N, H]."""
        bias = None if self.bias is None else self.bias[tokens]
        return self._scaled(functional.linear(hidden, self.weight[tokens], bias).float())

    def tiles(self, hidden: Tensor) -> Iterator[Tile]:
        """The logits of hidden states [N, H], tile by tile; a tile's numbers may be used up."""
        starts = self.starts(len(hidden))
        memory = hidden.new_empty(len(hidden) * starts.step, dtype=torch.float32)
        for start in starts:
            tokens = slice(start, start + starts.step)
            if self.weight.dtype != torch.float32:
                yield Tile(start, self.logits_of(hidden, tokens))
                continue
            weight = self.weight[tokens]
            logits = memory[: len(hidden) * len(weight)].view(len(hidden), len(weight))
            if self.bias is None:
                torch.mm(hidden, weight.T, out=logits)
            else:
                torch.addmm(self.bias[tokens], hidden, weight.T, out=logits)
            yield Tile(start, self._scaled(logits))

    def add_product(self, total: Tensor, weights: Tensor, start: int) -> None:
        """Add to `total` [N, H] the rows of the output embedding from `start` on, weighted by [N, C].

        In float32 whatever the dtype of the rows: what comes out small is often a difference.
        """
        rows = self.weight[start : start + weights.shape[1]]
        if rows.dtype == torch.float32 or not rows.is_cuda:
            total.addmm_(weights, rows.float())
        else:
            total += torch.mm(weights.to(rows.dtype), rows, out_dtype=torch.float32)

    def expected_logits(self, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The logit of one token at each position, and how far rounding may take it from that in a tile.

        Args:
            hidden: hidden states [N, H].
            tokens: int64 [N].

        Returns:
            float32 [N] each. The error is that of a sum of H products in any order (Higham, Accuracy and
            Stability of Numerical Algorithms, section 3.1), with its usual sqrt(H), taken 4 times, for the H
            that cannot be exceeded; and a few units of rounding of the dtype that the logits are found in.
        """
        products = hidden.double() * self.weight[tokens]
        logits, sizes = products.sum(-1), products.abs().sum(-1)
        if self.bias is not None:
            logits += self.bias[tokens]
            sizes += self.bias[tokens].abs()
        unit = torch.finfo(torch.float32).eps
        error = sizes * (4 * unit * hidden.shape[1] ** 0.5 + 4 * torch.finfo(self.weight.dtype).eps)
        logits = self._scaled(logits)
        error = error * abs(self.factor) + 8 * unit * (self.cap or logits.abs())
        return logits.float(), error.float()

    def slopes(self, logits: Tensor) -> Tensor | None:
        """Derivatives of logits by what they were before the cap; None if all are 1."""
        return None if self.cap is None else 1 - (logits / self.cap).square_()

    @property
    def _tile_bytes(self) -> int:
        return _CPU_TILE_BYTES if self.weight.device.type == "cpu" else _GPU_TILE_BYTES

    def _scaled(self, logits: Tensor) -> Tensor:
        """Scale and cap logits in their place."""
        if self.factor != 1.0:
            logits.mul_(self.factor)
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits


def project_to_vocabulary(model: Any, hidden: Tensor) -> Tensor:
    """All logits, float32 [..., V], of hidden states [..., H]: for a few positions."""
    return VocabularyHead.of(model).logits(hidden)
