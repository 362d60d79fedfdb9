"""Numbers with their intervals along an axis, one line a series."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.plots.drawing import MAX_SERIES, Drawing, Spec, channels, draw, height_with_legend, left_out, values

# `doses` spaces numbers of insertions as log(1 + x), in which fits are interpolated.
XScale = Literal["doses", "steps", "labels"]


@dataclass(frozen=True, slots=True)
class Point:
    """A number at a place, with its 95 % interval if it has one."""

    x: float | str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What is drawn with one colour, shape and dash."""

    name: str
    points: tuple[Point, ...]


def draw_lines(
    lines: Sequence[Line],
    *,
    title: str,
    x_title: str,
    y_title: str,
    x_scale: XScale,
    share: bool = False,
    fitted: Sequence[Point] = (),
    baseline: float | None = None,
    legend: str | None = None,
) -> Drawing | None:
    """A plot of lines; None without a point. Of more lines than can be told apart the first are drawn.

    Args:
        lines: what is drawn.
        title: above the plot.
        x_title: the name of the axis, with its unit.
        y_title: the same.
        x_scale: what the places are.
        share: whether numbers are shares in [0, 1], written in per cent.
        fitted: a fit of the numbers, as a dashed line without points.
        baseline: a number to compare with, as a dashed rule.
        legend: what tells the lines apart.
    """
    known = [line for line in lines if line.points]
    shown = known[:MAX_SERIES]
    if not shown:
        return None
    names = [line.name for line in shown]
    x = _x(shown, x_title, x_scale)
    y: Spec = {"type": "quantitative", "title": None, "scale": {"zero": False}}
    if share:
        y |= {"axis": {"format": ".0%"}, "scale": {"domain": [0, 1]}}
    layers = [] if baseline is None else [_rule(baseline)]
    layers += [_fit(fitted, x, y)] if fitted else [_line(names, legend, x, y)]
    layers += [_intervals(names, legend, x, y), _points(names, legend, x, y)]
    rows = (
        {"x": point.x, "series": line.name, "value": point.value, "low": point.low, "high": point.high}
        for line in shown
        for point in line.points
    )
    return draw(
        {"data": values(rows), "layer": layers},
        title=title,
        alt=_alt(shown, title, x_title, y_title, share=share),
        subtitle=f"{y_title}{'; dashed: monotone fit' if fitted else ''}{left_out(len(shown), len(known))}",
        height=height_with_legend(names),
    )


def _x(lines: Sequence[Line], title: str, scale: XScale) -> Spec:
    places = list(dict.fromkeys(point.x for line in lines for point in line.points))
    if scale == "labels":
        return {"field": "x", "type": "ordinal", "title": title, "sort": places}
    axis = {"values": sorted(places), "grid": False, "labelExpr": "format(datum.value, '~s')"}
    spaced = {"type": "symlog", "constant": 1, "nice": False, "padding": 12}
    return {
        "field": "x",
        "type": "quantitative",
        "title": title,
        "axis": axis,
        "scale": spaced if scale == "doses" else {"zero": False, "nice": False, "padding": 12},
    }


def _line(names: Sequence[str], legend: str | None, x: Spec, y: Spec) -> Spec:
    return {
        "mark": {"type": "line", "opacity": 0.7},
        "encoding": {"x": x, "y": _of(y, "value"), **channels(names, "color", "strokeDash", title=legend)},
    }


def _intervals(names: Sequence[str], legend: str | None, x: Spec, y: Spec) -> Spec:
    return {
        "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {
            "x": x,
            "y": _of(y, "low"),
            "y2": {"field": "high"},
            **channels(names, "color", title=legend),
        },
    }


def _points(names: Sequence[str], legend: str | None, x: Spec, y: Spec) -> Spec:
    return {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
        "encoding": {"x": x, "y": _of(y, "value"), **channels(names, "color", "shape", title=legend)},
    }


def _of(axis: Spec, field: str) -> Spec:
    return {**axis, "field": field}


def _rule(at: float) -> Spec:
    return {
        "data": values([{"baseline": at}]),
        "mark": {"type": "rule", "strokeDash": [4, 3], "color": "currentColor", "opacity": 0.6},
        "encoding": {"y": {"field": "baseline", "type": "quantitative", "title": None}},
    }


def _fit(points: Sequence[Point], x: Spec, y: Spec) -> Spec:
    return {
        "data": values({"x": point.x, "value": point.value} for point in points),
        "mark": {"type": "line", "strokeDash": [6, 3], "color": "currentColor", "opacity": 0.7},
        "encoding": {"x": x, "y": _of(y, "value")},
    }


def _alt(lines: Sequence[Line], title: str, x_title: str, y_title: str, *, share: bool) -> str:
    """The course of each line in words."""

    def written(value: float) -> str:
        return f"{value:.1%}" if share else f"{value:.3g}"

    courses = [
        f"{line.name} from {written(line.points[0].value)} at {line.points[0].x} "
        f"to {written(line.points[-1].value)} at {line.points[-1].x}"
        for line in lines
    ]
    return f"{title}: {y_title} by {x_title}. " + "; ".join(courses) + "."
