"""What base, edited and reference model hold of the texts of a proof, text by text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Final

from app.contracts.results.proof import HELD_MEANS
from app.contracts.texts import TextSetRole
from workers.science.evaluation.strength import Holding
from workers.science.metrics.sampling import EXTRACTION_SAMPLES
from workers.science.statistics.estimates import Mean, ShareCount
from workers.science.statistics.paired import PairedMeans, PairedShares

JSONObject = dict[str, Any]
_SHARE: Final = (0.0, 1.0)
# The numbers of which means are compared, and what each can be.
_MEANS: Final = {
    name: (-inf if least is None else least, inf if most is None else most)
    for name, (least, most) in HELD_MEANS.items()
}


class HeldTally:
    """Sums over the texts of each set, one after another; none is kept."""

    def __init__(self) -> None:
        self._sets: dict[TextSetRole, _Set] = {}

    def add(self, role: TextSetRole, before: Holding, after: Holding) -> None:
        """Take one text in, under both models."""
        found = self._sets.setdefault(role, _Set())
        for name, means in found.means.items():
            means.add(getattr(before, name), getattr(after, name))
        for samples, shares in found.extractable.items():
            shares.add(_extractable(before, samples), _extractable(after, samples))

    def add_reference(self, role: TextSetRole, held: Holding) -> None:
        """Take one text in, under the reference model."""
        found = self._sets.setdefault(role, _Set())
        for name, mean in found.reference_means.items():
            mean.add(getattr(held, name))
        for samples, share in found.reference_extractable.items():
            share.add(_extractable(held, samples))

    def result(self) -> JSONObject:
        """A `Held` by text set."""
        return {str(role): found.result() for role, found in self._sets.items()}


@dataclass
class _Set:
    means: dict[str, PairedMeans] = field(
        default_factory=lambda: {name: PairedMeans(within) for name, within in _MEANS.items()}
    )
    extractable: dict[int, PairedShares] = field(
        default_factory=lambda: {samples: PairedShares() for samples in EXTRACTION_SAMPLES}
    )
    reference_means: dict[str, Mean] = field(
        default_factory=lambda: {name: Mean(within) for name, within in _MEANS.items()}
    )
    reference_extractable: dict[int, ShareCount] = field(
        default_factory=lambda: {samples: ShareCount() for samples in EXTRACTION_SAMPLES}
    )

    def result(self) -> JSONObject:
        return {
            **{
                name: means.result() | {"reference": self.reference_means[name].result()}
                for name, means in self.means.items()
            },
            "extractable": [
                {
                    "samples": samples,
                    **shares.result(),
                    "reference": self.reference_extractable[samples].result(),
                }
                for samples, shares in self.extractable.items()
            ],
        }


def _extractable(held: Holding, samples: int) -> bool | None:
    """Whether so many samples recite a text with a probability of at least a half."""
    if held.strict is None:
        return None
    return held.n_50 is not None and held.n_50 <= samples


def _finite(number: Any) -> float | None:
    return float(number) if isfinite(number) else None


class LayerTally:
    """Sums by layer over the texts of a set."""

    def __init__(self, layers: int) -> None:
        self._log_likelihood = [PairedMeans((-inf, 0.0)) for _ in range(layers)]
        self._right = [PairedMeans(_SHARE) for _ in range(layers)]

    def add(self, before: Sequence[Any], after: Sequence[Any]) -> None:
        """Take one text in: log-likelihoods and shares of right choices by layer, under both models.

        What a layer in the middle was never made to say may overflow; such a number is left out.
        """
        for means, was, became in zip((self._log_likelihood, self._right), before, after, strict=True):
            for layer, mean in enumerate(means):
                mean.add(_finite(was[layer]), _finite(became[layer]))

    def result(self) -> list[JSONObject]:
        """A `LayerChange` for each layer."""
        return [
            {"layer": place, "log_likelihood": likely.result(), "right": right.result()}
            for place, (likely, right) in enumerate(zip(self._log_likelihood, self._right, strict=True), 1)
        ]
