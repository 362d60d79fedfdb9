"""How the numbers of single texts are distributed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from typing import Final, Self

from app.plots.drawing import COLOURS, Drawing, Spec, draw, values

BINS: Final = 30


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many texts have a number in each bin: what is drawn of any number of texts.

    Attributes:
        edges: where bins begin, and where the last ends; ascending.
        audited: texts of the audit, one count a bin.
        controls: control texts likewise; None without any.
    """

    edges: tuple[float, ...]
    audited: tuple[int, ...]
    controls: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls, edges: Sequence[float], audited: Iterable[float], controls: Iterable[float] | None = None
    ) -> Self:
        """Numbers counted in bins of equal width; those beyond the edges count in the first and last bin."""
        return cls(
            tuple(edges),
            _counts(edges, audited),
            None if controls is None else _counts(edges, controls),
        )


def bin_edges(low: float, high: float, bins: int = BINS) -> tuple[float, ...]:
    """Edges of bins of equal width over [low, high]; of a width of 1 where both are equal."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    return tuple(low + (high - low) * place / bins for place in range(bins + 1))


def _counts(edges: Sequence[float], numbers: Iterable[float]) -> tuple[int, ...]:
    bins = len(edges) - 1
    counts = [0] * bins
    width = (edges[-1] - edges[0]) / bins
    for number in numbers:
        place = floor((number - edges[0]) / width)
        counts[min(max(place, 0), bins - 1)] += 1
    return tuple(counts)


def score_distribution(
    distribution: Distribution, axis: str = "NL (nats per token)", title: str = "Scores of texts"
) -> Drawing | None:
    """The distribution of a number over audited texts (filled) against that over controls (dashed outline).

    Args:
        distribution: counts by bins; heights are shares of the texts of a kind, so that numbers of texts do
            not matter.
        axis: what was counted, with its unit.
        title: above the plot.

    Returns:
        None without a text.
    """
    kinds = {"audited": distribution.audited, "controls": distribution.controls or ()}
    rows = [
        {"low": low, "high": high, "share": count / sum(counts), "kind": kind}
        for kind, counts in kinds.items()
        if sum(counts)
        for (low, high), count in zip(pairwise(distribution.edges), counts, strict=True)
    ]
    if not rows:
        return None
    drawn = [kind for kind, counts in kinds.items() if sum(counts)]
    scale = {"domain": drawn, "range": list(COLOURS[: len(drawn)])}
    colour = {"field": "kind", "type": "nominal", "title": None, "scale": scale}
    if len(drawn) == 1:
        colour["legend"] = None
    x: Spec = {"field": "low", "type": "quantitative", "title": axis, "scale": {"zero": False, "nice": False}}
    bins = {**x, "bin": "binned"}
    y: Spec = {"field": "share", "type": "quantitative", "title": None, "axis": {"format": ".0%"}}
    bars = {
        "transform": [{"filter": "datum.kind == 'audited'"}],
        "mark": {"type": "bar", "opacity": 0.55, "binSpacing": 0},
        "encoding": {"x": bins, "x2": {"field": "high"}, "y": y, "color": colour},
    }
    outline = {
        "data": values(_outline(rows)),
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "strokeDash": {
                "field": "kind",
                "type": "nominal",
                "title": None,
                "legend": colour.get("legend", {}),
                "scale": {"domain": drawn, "range": [[1, 0], [5, 3]][: len(drawn)]},
            },
        },
    }
    return draw(
        {"data": values(rows), "layer": [bars, outline]},
        title=title,
        subtitle="share of texts",
        alt=f"{title}: {axis}. "
        + "; ".join(_told(distribution.edges, kinds[kind], kind) for kind in drawn)
        + ".",
    )


def p_values(distribution: Distribution) -> Drawing | None:
    """The distribution of conformal p-values over [0, 1]; the dashed rule is what chance gives.

    Args:
        distribution: p-values counted in bins over [0, 1]; `audited` alone is drawn.

    Returns:
        None without a text.
    """
    total = sum(distribution.audited)
    if not total:
        return None
    bins = len(distribution.audited)
    rows = [
        {"low": low, "high": high, "share": count / total}
        for (low, high), count in zip(pairwise(distribution.edges), distribution.audited, strict=True)
    ]
    y: Spec = {"type": "quantitative", "title": None, "axis": {"format": ".0%"}}
    bars = {
        "mark": {"type": "bar", "color": COLOURS[0], "opacity": 0.7},
        "encoding": {
            "x": {
                "field": "low",
                "bin": "binned",
                "type": "quantitative",
                "title": "p-value",
                "scale": {"domain": [0, 1]},
            },
            "x2": {"field": "high"},
            "y": {**y, "field": "share"},
        },
    }
    chance = {
        "data": values([{"chance": 1 / bins}]),
        "mark": {"type": "rule", "strokeDash": [5, 3], "color": "currentColor"},
        "encoding": {"y": {**y, "field": "chance"}},
    }
    title = "p-values among controls"
    first = distribution.audited[0] / total
    alt = (
        f"{title}: {total} texts in {bins} bins; {first:.1%} have a p-value below "
        f"{distribution.edges[1]:.2g}, of which chance gives {1 / bins:.1%} (dashed)."
    )
    return draw(
        {"data": values(rows), "layer": [bars, chance]},
        title=title,
        subtitle="share of texts; dashed: by chance",
        alt=alt,
    )


def _outline(rows: Sequence[Spec]) -> list[Spec]:
    """The rows as the corners of steps: each kind begins at zero and ends there."""
    corners: list[Spec] = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        corners.append({**own[0], "share": 0})
        corners += own
        corners.append({**own[-1], "low": own[-1]["high"], "share": 0})
    return corners


def _told(edges: Sequence[float], counts: Sequence[int], kind: str) -> str:
    """Half of the texts of a kind in words."""
    total = sum(counts)
    place, seen = 0, counts[0]
    while seen < ceil(total / 2):
        place += 1
        seen += counts[place]
    return f"{total} {kind}, the median between {edges[place]:.3g} and {edges[place + 1]:.3g}"
