"""The softmax over a vocabulary that is seen tile by tile.

The running maximum and sum are after Milakov and Gimelshein (arXiv 1805.02867). Exponentials are taken to the
base 2, several times faster on a CPU. Sums over a tile are float32, those over tiles float64.

Shapes: N positions, C tokens of a tile.
"""

import math

import torch
from torch import Tensor


class RunningSoftmax:
    """Sums over the vocabulary of the weights 2^z, with z the logit in units of `scale` less a reference.

    The reference of a position is the largest logit so far, so that no weight exceeds 1 and none is lost that
    counts. When it grows by d, all z become z - d: as no z is positive, the sums of z and z^2 are then sums
    of terms of one sign, and nothing cancels.

    Attributes:
        total: sum of the weights, float64 [N].
    """

    def __init__(
        self, rows: int, device: torch.device, *, temperature: float = 1.0, moments: bool = False
    ) -> None:
        # As a float32, which is what tiles are multiplied by.
        self.scale = float(torch.tensor(math.log2(math.e) / temperature, dtype=torch.float32))
        self.total = torch.zeros(rows, dtype=torch.float64, device=device)
        self._reference = torch.full((rows, 1), torch.finfo(torch.float32).min, device=device)
        self._first = torch.zeros_like(self.total) if moments else None
        self._second = torch.zeros_like(self.total)
        self._memory: Tensor | None = None

    def add(self, logits: Tensor, maxima: Tensor) -> Tensor:
        """Take in a tile, whose logits become weights (unless moments are wanted).

        Args:
            logits: float32 [N, C]; used up.
            maxima: float32 [N], the largest of each row.

        Returns:
            What all earlier weights have to be multiplied by, float64 [N]: 1 where the reference stays.
        """
        reference = torch.maximum(self._reference, (maxima * self.scale)[:, None])
        drop = (self._reference.double() - reference)[:, 0]
        shrink = drop.exp2()
        self._reference = reference
        z = torch.add(-reference, logits, alpha=self.scale, out=logits)
        if self._first is None:
            self.total = self.total.mul_(shrink).add_(z.exp2_().sum(-1))
            return shrink
        # In this order: the sums before the drop are needed.
        self._second += drop * (2 * self._first + drop * self.total)
        self._first += drop * self.total
        weights = torch.exp2(z, out=self._like(z))
        self.total = self.total.mul_(shrink).add_(weights.sum(-1))
        self._first = self._first.mul_(shrink).add_(weights.mul_(z).sum(-1))
        self._second = self._second.mul_(shrink).add_(weights.mul_(z).sum(-1))
        return shrink

    def weights(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The weights [n, C] of logits [n, C] of some rows, int64 [n]."""
        return torch.add(-self._reference[rows], logits, alpha=self.scale).exp2_()

    def log_probability(self, logits: Tensor) -> Tensor:
        """Natural logarithm of the probability of tokens with these logits [N], float32 [N]."""
        z = logits.double() * self.scale - self._reference[:, 0]
        return ((z - self.total.log2()) * math.log(2)).float()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, in nats, of the log-probabilities under the distribution.

        Raises:
            ValueError: if they were not wanted.
        """
        if self._first is None:
            raise ValueError("moments were not wanted")
        mean = self._first / self.total
        # Rounding may leave a variance of nothing a little below it.
        deviation = (self._second / self.total - mean.square()).clamp(min=0).sqrt()
        nats = math.log(2)
        return ((mean - self.total.log2()) * nats).float(), (deviation * nats).float()

    def _like(self, tile: Tensor) -> Tensor:
        if self._memory is None:
            self._memory = torch.empty_like(tile).flatten()
        return self._memory[: tile.numel()].view_as(tile)
