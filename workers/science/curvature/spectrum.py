"""The largest products of two spectra, without ever holding all of them.

Shapes: `out` eigenvalues of the output gradients, `in` eigenvalues of the inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KeptPairs:
    """Which pairs of eigenvectors are kept: a staircase, since both spectra descend.

    Attributes:
        kept_per_output: int64 [out], how many leading inputs are kept with each output.
        kept: pairs that are kept.
        total: all pairs.
        kept_mass: their share of the sum of all products, in [0, 1].
    """

    kept_per_output: Tensor
    kept: int
    total: int
    kept_mass: float


def decomposition_dtype(device: torch.device) -> torch.dtype:
    """The precision in which matrices are decomposed: float64 on a CPU, float32 on a GPU."""
    return torch.float64 if device.type == "cpu" else torch.float32


def select_top_mass(output_values: Tensor, input_values: Tensor, keep_mass: float) -> KeptPairs:
    """Keep the fewest largest products of two spectra whose sum reaches `keep_mass` of the sum of all.

    Products are those of float64; among equal ones the pairs come row by row (output first, then input), as a
    stable sort of all products would leave them. Instead of sorting, a bisection over the float64 numbers
    finds the smallest product that is kept: O(out log in) for a step, 63 steps, O(out + in) memory. Sums are
    taken in extended precision where the platform has it, as output value times a prefix sum of input values.

    Args:
        output_values: [out], descending, not negative.
        input_values: [in], descending, not negative.
        keep_mass: share of the sum, in (0, 1]. At 1 every pair is kept, those of product zero too.

    Raises:
        ValueError: if `keep_mass` is outside (0, 1], if a spectrum does not descend to at least zero, or if
            all products are zero while some are to be dropped.
    """
    if not 0 < keep_mass <= 1:
        raise ValueError("keep_mass must be above 0 and at most 1")
    outputs, inputs = _spectrum(output_values), _spectrum(input_values)
    pairs = len(outputs) * len(inputs)
    if keep_mass == 1:
        everything = np.full(len(outputs), len(inputs), dtype=np.int64)
        return KeptPairs(torch.from_numpy(everything), pairs, pairs, 1.0)
    search = _Search(outputs, inputs)
    total = search.mass(np.full(len(outputs), len(inputs), dtype=np.int64))
    if not total > 0:
        raise ValueError("the spectra have no mass to select from")
    kept = search.staircase(np.float64(keep_mass) * np.float64(total))
    return KeptPairs(torch.from_numpy(kept), int(kept.sum()), pairs, float(search.mass(kept) / total))


def pairs_holding(output_values: Tensor, input_values: Tensor, masses: Sequence[float]) -> list[int]:
    """For each share of the sum of all products, the fewest of them that reach it.

    Args:
        output_values: [out], descending, not negative.
        input_values: [in], descending, not negative.
        masses: shares of the sum, in (0, 1].

    Raises:
        ValueError: as `select_top_mass`.
    """
    return [select_top_mass(output_values, input_values, mass).kept for mass in masses]


def _spectrum(values: Tensor) -> _Floats:
    spectrum = values.detach().double().cpu().numpy()
    descends = bool((np.diff(spectrum) <= 0).all())
    if (
        spectrum.ndim != 1
        or not len(spectrum)
        or not descends
        or not 0 <= spectrum[-1] <= spectrum[0] < np.inf
    ):
        raise ValueError("a spectrum must be finite, descending and not negative")
    return spectrum


class _Search:
    """Counts and sums of products by threshold."""

    def __init__(self, outputs: _Floats, inputs: _Floats) -> None:
        self._outputs = outputs
        self._inputs = inputs
        # For a row that keeps n inputs: the sum of the first n.
        self._input_sums = np.concatenate(([0], np.cumsum(inputs, dtype=np.longdouble)))

    def mass(self, counts: _Counts) -> np.longdouble:
        """The sum of the products in a staircase [out]."""
        return np.longdouble((self._outputs * self._input_sums[counts]).sum())

    def staircase(self, target: np.float64) -> _Counts:
        """The fewest largest products whose sum reaches the target: int64 [out], inputs for each output."""
        smallest = self._smallest_kept(target)
        reaching, above = self._at_least(smallest), self._at_least(np.nextafter(smallest, np.inf))
        ties = reaching - above
        n_ties = int(ties.sum())
        if smallest > 0:
            n_ties = self._ties_needed(target - self.mass(above), smallest, n_ties)
        earlier_rows = np.cumsum(ties) - ties
        kept: _Counts = above + np.clip(n_ties - earlier_rows, 0, ties)
        return kept

    def _at_least(self, threshold: np.float64) -> _Counts:
        """How many of each output's products reach the threshold, bisected in all rows: int64 [out]."""
        low = np.zeros(len(self._outputs), dtype=np.int64)
        high = np.full(len(self._outputs), len(self._inputs), dtype=np.int64)
        for _ in range(len(self._inputs).bit_length()):
            middle = (low + high) // 2
            open_rows = low < high
            reaches = self._outputs * self._inputs[np.minimum(middle, len(self._inputs) - 1)] >= threshold
            low = np.where(open_rows & reaches, middle + 1, low)
            high = np.where(open_rows & ~reaches, middle, high)
        return low

    def _smallest_kept(self, target: np.float64) -> np.float64:
        """The largest number such that the products of at least that size reach the target.

        Floats that are not negative are in the order of their bits, so the bisection is over integers.
        """
        reaches, fails = 0, int((self._outputs[0] * self._inputs[0]).view(np.int64)) + 1
        while fails - reaches > 1:
            middle = (reaches + fails) // 2
            if self.mass(self._at_least(np.int64(middle).view(np.float64))) >= target:
                reaches = middle
            else:
                fails = middle
        return np.float64(np.int64(reaches).view(np.float64))

    @staticmethod
    def _ties_needed(missing: np.longdouble, product: np.float64, available: int) -> int:
        """The fewest equal products that make up the missing mass, whatever the division's rounding."""
        needed = int(np.clip(np.ceil(missing / product), 1, available))
        while needed > 1 and (needed - 1) * np.longdouble(product) >= missing:
            needed -= 1
        while needed < available and needed * np.longdouble(product) < missing:
            needed += 1
        return needed
