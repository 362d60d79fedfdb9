"""The plots of a finding, drawn without a browser and without a network."""

from pathlib import Path
from typing import Any

import altair as alt

from workers.suite.report.finding import Finding, Panel

# Okabe and Ito's colours, told apart by colour-blind readers; shapes tell the lines apart in print.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
_WIDTH, _HEIGHT, _ABREAST = 330, 250, 2


def draw(finding: Finding, path: Path) -> None:
    """Write the panels of a finding side by side, as SVG."""
    chart = alt.concat(*map(_panel, finding.panels), columns=_ABREAST)
    # One legend for all panels that have the same lines; otherwise each has its own.
    if len({panel.legend for panel in finding.panels}) > 1:
        chart = chart.resolve_scale(color="independent", shape="independent")
    chart = chart.configure_view(stroke="#DDD").configure_title(anchor="start")
    chart.save(str(path), format="svg")


def _panel(panel: Panel) -> Any:
    points = [
        {
            "duplicates": row.duplicates,
            "series": panel.series(row),
            "value": row.value,
            "low": row.value if row.low is None else row.low,
            "high": row.value if row.high is None else row.high,
        }
        for row in panel.rows
    ]
    drawn = list(dict.fromkeys(panel.series(row) for row in panel.rows))
    colours, shapes = (
        [cycle[place % len(cycle)] for place in range(len(drawn))] for cycle in (_COLOURS, _SHAPES)
    )
    base = alt.Chart(_data(points)).encode(
        x=alt.X("duplicates:O", title="duplicates", axis=alt.Axis(labelAngle=0)),
        color=alt.Color(
            "series:N", title=panel.legend, sort=drawn, scale=alt.Scale(domain=drawn, range=colours)
        ),
        xOffset=alt.XOffset("series:N", sort=drawn),
    )
    y = alt.Y("value:Q", title=panel.y_title, scale=alt.Scale(zero=False))
    shape = alt.Shape("series:N", title=panel.legend, sort=drawn, scale=alt.Scale(domain=drawn, range=shapes))
    layers: list[Any] = [
        base.mark_line(strokeWidth=1, opacity=0.6).encode(y=y),
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", title=panel.y_title), y2="high:Q"),
        base.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=shape),
    ]
    if panel.baseline is not None:
        rule = alt.Chart(_data([{"baseline": panel.baseline}]))
        layers.insert(0, rule.mark_rule(color="#888", strokeDash=[4, 3]).encode(y="baseline:Q"))
    return alt.layer(*layers).properties(title=panel.title, width=_WIDTH, height=_HEIGHT)


def _data(values: list[dict[str, Any]]) -> Any:
    return alt.Data(values=values)  # type: ignore[no-untyped-call]
