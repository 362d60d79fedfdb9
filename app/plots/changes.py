"""What an edit changed, what its search tried, and what it kept of each matrix."""

from collections.abc import Mapping, Sequence
from math import floor, log10
from typing import Any, Final, Literal

from app.contracts.edit_methods.kfac import KFACMatrix
from app.contracts.results.evaluations import SetChange
from app.contracts.results.frontier import FrontierPoint
from app.contracts.texts import TextSetRole
from app.plots.drawing import (
    COLOURS,
    MAX_SERIES,
    Drawing,
    Spec,
    channels,
    columns,
    draw,
    height_with_legend,
    left_out,
    values,
)

Measure = Literal["nl", "strict", "loose", "perplexity"]

_TITLES: Final = {
    "nl": "Likelihood before and after",
    "strict": "Recitation before and after",
    "loose": "Near recitation before and after",
    "perplexity": "Perplexity before and after",
}
_AXES: Final = {
    "nl": "mean NL (nats per token)",
    "strict": "share recited exactly",
    "loose": "share recited with similarity of 0.75 or more",
    "perplexity": "perplexity",
}
_ORDER: Final = tuple(TextSetRole)
_WHEN: Final = ("before", "after")


def before_after(sets: Mapping[TextSetRole, SetChange], measure: Measure = "strict") -> Drawing | None:
    """A measure on each text set of an edit before and after, with 95 % intervals where it has them.

    Args:
        sets: of an evaluation; drawn in the order of their roles.
        measure: `nl` in nats per token, `strict` or `loose` as shares, `perplexity`.

    Returns:
        None where no set has the measure.
    """
    rows = [
        row
        for role, measured in sorted(sets.items(), key=lambda item: _ORDER.index(item[0]))
        for when in _WHEN
        if (row := _row(str(role), when, getattr(getattr(measured, measure), when))) is not None
    ]
    if not rows:
        return None
    roles = list(dict.fromkeys(row["set"] for row in rows))
    share = measure in {"strict", "loose"}
    x: Spec = {"type": "quantitative", "title": _AXES[measure], "scale": {"zero": False, "padding": 12}}
    if share:
        x |= {"axis": {"format": ".0%", "tickCount": 5}, "scale": {"domain": [0, 1]}}
    own: Spec = {
        "y": {"field": "set", "type": "nominal", "title": None, "sort": roles},
        "yOffset": {"field": "when", "sort": list(_WHEN)},
    }
    layers = [
        {
            "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                **own,
                **channels(_WHEN, "color", field="when"),
                "x": {**x, "field": "low"},
                "x2": {"field": "high"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                **own,
                **channels(_WHEN, "color", "shape", field="when"),
                "x": {**x, "field": "value"},
            },
        },
    ]
    return draw(
        {"data": values(rows), "layer": layers},
        title=_TITLES[measure],
        alt=f"{_TITLES[measure]}: {_AXES[measure]}. "
        + "; ".join(_told(rows, role, share=share) for role in roles)
        + ".",
        height=130 + 52 * len(roles),
    )


def _row(role: str, when: str, estimate: Any) -> Spec | None:
    if estimate is None:
        return None
    if isinstance(estimate, float | int):
        return {"set": role, "when": when, "value": estimate, "low": None, "high": None}
    value = estimate.share if hasattr(estimate, "share") else estimate.mean
    return {"set": role, "when": when, "value": value, "low": estimate.low, "high": estimate.high}


def _told(rows: Sequence[Spec], role: str, *, share: bool) -> str:
    told = [
        f"{row['when']} {row['value']:.1%}" if share else f"{row['when']} {row['value']:.3g}"
        for row in rows
        if row["set"] == role
    ]
    return f"{role} {', '.join(told)}"


def frontier(points: Sequence[FrontierPoint], max_perplexity_increase: float | None = None) -> Drawing | None:
    """The settings that a search tried: what each costs on clean text, and what it leaves recited.

    Where nothing was aimed at, the mass that each keeps stands in the place of what it leaves recited.

    Args:
        points: of an edit; those that were given up are not drawn.
        max_perplexity_increase: the constraint, a share, drawn as a dashed rule.

    Returns:
        None where fewer than two settings were measured to the end.
    """
    kinds = ("chosen", "keeps the constraint", "breaks the constraint")
    measured = [point for point in points if point.perplexity_increase is not None]
    aimed = [point for point in measured if point.strict is not None]
    rows = [
        {
            "increase": point.perplexity_increase,
            "height": point.strict if aimed else point.keep_mass,
            "kind": kinds[0] if point.chosen else kinds[1] if point.feasible else kinds[2],
        }
        for point in aimed or measured
    ]
    if len(rows) < 2:  # noqa: PLR2004  one says nothing of what was given up for what
        return None
    drawn = [kind for kind in kinds if any(row["kind"] == kind for row in rows)]
    x: Spec = {
        "type": "quantitative",
        "title": "increase of perplexity on clean text",
        "axis": {"format": "~%"},
    }
    ranges = {"color": (COLOURS[1], COLOURS[0], COLOURS[6]), "shape": ("diamond", "circle", "cross")}
    marks: Spec = {
        "mark": {"type": "point", "filled": True, "opacity": 0.9},
        "encoding": {
            "x": {**x, "field": "increase"},
            "y": {
                "field": "height",
                "type": "quantitative",
                "title": None,
                "axis": {"format": "~%"},
                "scale": {"domain": [0, 1]} if aimed else {"zero": False},
            },
            "size": {
                "condition": {"test": "datum.kind == 'chosen'", "value": 220},
                "value": 60,
            },
            **{
                name: {
                    "field": "kind",
                    "type": "nominal",
                    "title": None,
                    "sort": drawn,
                    "legend": {"columns": columns(drawn)},
                    "scale": {"domain": drawn, "range": [cycle[kinds.index(kind)] for kind in drawn]},
                }
                for name, cycle in ranges.items()
            },
        },
    }
    layers = [marks]
    if max_perplexity_increase is not None:
        layers.insert(
            0,
            {
                "data": values([{"limit": max_perplexity_increase}]),
                "mark": {"type": "rule", "strokeDash": [5, 3], "color": "currentColor", "opacity": 0.7},
                "encoding": {"x": {**x, "field": "limit"}},
            },
        )
    title = "What the search tried"
    best = next((row for row in rows if row["kind"] == kinds[0]), None)
    height = "the share recited exactly" if aimed else "the curvature mass kept"
    alt = f"{title}: {len(rows)} settings by the increase of perplexity and {height}."
    if best is not None:
        alt += f" Chosen: {best['increase']:.1%} and {best['height']:.1%}."
    return draw(
        {"data": values(rows), "layer": layers},
        title=title,
        subtitle=("forget set recited exactly" if aimed else "curvature mass kept")
        + ("" if max_perplexity_increase is None else "; dashed: the limit"),
        alt=alt,
        height=height_with_legend(drawn, 280),
    )


def spectrum(matrices: Sequence[KFACMatrix]) -> Drawing | None:
    """How curvature mass is spread over the weight directions of each edited matrix, and where it was cut.

    Args:
        matrices: of a receipt of K-FAC. Of more than can be told apart the first are drawn.

    Returns:
        None without a spectrum: receipts of older releases have none.
    """
    known = [matrix for matrix in matrices if matrix.spectrum]
    shown = known[:MAX_SERIES]
    if not shown:
        return None
    names = [f"layer {matrix.layer} {matrix.role}" for matrix in shown]
    cuts: list[Spec] = [
        {"name": name, "pairs": matrix.kept_pairs / matrix.pairs, "mass": matrix.kept_mass}
        for name, matrix in zip(names, shown, strict=True)
    ]
    rows = [row for cut, matrix in zip(cuts, shown, strict=True) for row in _cut_at(cut, matrix)]
    own: Spec = {
        "x": {
            "field": "pairs",
            "type": "quantitative",
            "title": "share of weight directions, most curved first",
            "scale": {"type": "log", "nice": False, "domainMax": 1},
            "axis": {
                "values": _powers(rows + cuts),
                "labelExpr": "format(datum.value, '~%')",
                "grid": False,
            },
        },
        "y": {
            "field": "mass",
            "type": "quantitative",
            "title": None,
            "axis": {"format": ".0%"},
            "scale": {"domain": [0, 1]},
        },
    }
    line = {
        "mark": {"type": "line"},
        "encoding": {
            **own,
            **channels(names, "color", "strokeDash", field="name"),
            "detail": {"field": "kept"},
            "strokeWidth": {"condition": {"test": "datum.kept", "value": 3}, "value": 1},
        },
    }
    point = {
        "data": values(cuts),
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {**own, **channels(names, "color", "shape", field="name")},
    }
    title = "Curvature of the edited matrices"
    told = "; ".join(
        f"{name} keeps {cut['mass']:.1%} of the mass with {cut['pairs']:.2%} of the directions"
        for name, cut in zip(names, cuts, strict=True)
    )
    return draw(
        {"data": values(rows), "layer": [line, point]},
        title=title,
        subtitle=f"curvature mass; thick, up to the mark: kept{left_out(len(shown), len(known))}",
        alt=f"{title}: {told}.",
        height=height_with_legend(names),
    )


def _cut_at(cut: Spec, matrix: KFACMatrix) -> list[Spec]:
    """The spectrum of a matrix in two parts that meet at the cut."""
    points = [
        {"name": cut["name"], "pairs": point.pairs / matrix.pairs, "mass": point.mass}
        for point in matrix.spectrum
    ]
    kept = [*(point for point in points if point["pairs"] < cut["pairs"]), cut]
    dropped = [cut, *(point for point in points if point["pairs"] > cut["pairs"])]
    return [point | {"kept": part is kept} for part in (kept, dropped) for point in part]


def _powers(rows: Sequence[Spec]) -> list[float]:
    """The powers of ten from the least share of directions to 1."""
    lowest = floor(log10(min(row["pairs"] for row in rows)))
    return [10.0**power for power in range(lowest, 1)]
