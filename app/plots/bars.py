"""Shares of a base's score that are left, one bar a task, with intervals and what others have found."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.contracts.results.evaluations import TaskChange
from app.plots.drawing import COLOURS, Drawing, Spec, draw, left_out, values

# More bars than this are not told apart any more.
_MOST_BARS = 20
_ROW = 34
_AROUND = 110


@dataclass(frozen=True, slots=True)
class Bar:
    """What is left of one score.

    Attributes:
        name: of the task.
        value: the score after over the score before; 1 where nothing was lost.
        low: where the 95 % interval begins, if there is one.
        high: where it ends.
        reference: the range that others have found, if there is one.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    reference: tuple[float, float] | None = None


def spectrum_bars(tasks: Sequence[TaskChange]) -> Drawing | None:
    """How much of the base's accuracy an edit keeps, by task; None without a task that the base answers."""
    return kept_bars(
        [
            Bar(task.task or "no group", task.kept.mean, task.kept.low, task.kept.high)
            for task in tasks
            if task.kept is not None
        ]
    )


def kept_bars(bars: Sequence[Bar], reference: str = "") -> Drawing | None:
    """Bars from 0, a dashed rule where nothing is lost.

    Args:
        bars: of which the first 20 are drawn, in their order.
        reference: who found the references, which are drawn as open boxes.

    Returns:
        None without a bar.
    """
    shown = list(bars[:_MOST_BARS])
    if not shown:
        return None
    rows = [
        {
            "task": bar.name,
            "value": bar.value,
            "low": bar.low,
            "high": bar.high,
            "from": bar.reference and bar.reference[0],
            "to": bar.reference and bar.reference[1],
        }
        for bar in shown
    ]
    y: Spec = {"field": "task", "type": "nominal", "title": None, "sort": [bar.name for bar in shown]}
    # Names may leave the axis less room than its title takes, which then reaches below them.
    x: Spec = {
        "type": "quantitative",
        "title": "share of the base's score kept",
        "axis": {"format": ".0%", "titleAnchor": "end", "tickCount": 3},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "color": COLOURS[0], "opacity": 0.6, "height": 12},
            "encoding": {"y": y, "x": {**x, "field": "value"}},
        },
        {
            "transform": [{"filter": "isValid(datum.from)"}],
            "mark": {"type": "bar", "filled": False, "stroke": "currentColor", "height": 20},
            "encoding": {"y": y, "x": {**x, "field": "from"}, "x2": {"field": "to"}},
        },
        {
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "mark": {"type": "rule", "strokeWidth": 2, "color": "currentColor"},
            "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "data": values([{"all": 1}]),
            "mark": {"type": "rule", "strokeDash": [4, 3], "color": "currentColor", "opacity": 0.6},
            "encoding": {"x": {**x, "field": "all"}},
        },
    ]
    title = "From memory to reasoning"
    boxes = f"; open boxes: {reference}" if reference and any(bar.reference for bar in shown) else ""
    told = "; ".join(f"{bar.name} {bar.value:.0%}" for bar in shown)
    return draw(
        {"data": values(rows), "layer": layers},
        title=title,
        subtitle=f"lines: 95 % intervals{boxes}{left_out(len(shown), len(bars))}",
        alt=f"{title}: share of the base's score kept. {told}.",
        height=_AROUND + _ROW * len(shown),
    )
