"""What a metric is to the scorer and to a summary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from workers.science.metrics.splits import Split, Splittable
from workers.science.metrics.tokens import ScoredTokens

JSONObject = dict[str, Any]
MetricResult = dict[str, "bool | float | int | str | list[JSONObject] | MetricResult | None"]


class Need(StrEnum):
    """What the one forward pass has to find beside log-likelihoods."""

    CHOICES = "choices"  # the greedy choice at each token of the metric's suffixes
    CONTINUATION = "continuation"  # what greedy decoding says after the prefix of `Splittable.as_asked`
    SAMPLING = "sampling"  # how likely the client's decoding draws each token of the metric's suffixes


class SummaryAccumulator(Protocol):
    """Takes a metric's results for one text after another, and keeps none of them."""

    def add(self, found: JSONObject) -> None:
        """Count one text."""

    def result(self) -> Any:
        """The field of the summary, as JSON; None if there is nothing to say."""


def no_splits(_text: Splittable) -> Sequence[Split]:
    """Of a metric that looks at texts as a whole."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of one text's tokens.

    Attributes:
        name: as the contracts have it.
        compute: from a scored text and its splits (those that `splits` gave) to a JSON object.
        needs: what `compute` reads beside tokens and log-likelihoods.
        splits: where the metric splits a text; as many for every text.
        summary: makes what the metric says of all texts by itself, if the contract has that.
    """

    name: str
    compute: Callable[[ScoredTokens, Sequence[Split]], MetricResult]
    needs: frozenset[Need] = frozenset()
    splits: Callable[[Splittable], Sequence[Split]] = no_splits
    summary: Callable[[], SummaryAccumulator] | None = None
