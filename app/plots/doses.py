"""How likelihood and recitation rise with the number of insertions."""

from collections.abc import Sequence
from typing import Final, Literal

from app.contracts.results.dose_response import DoseFit
from app.contracts.results.summary import Level
from app.plots.drawing import Drawing
from app.plots.lines import Line, Point, draw_lines

Measure = Literal["nl", "strict"]
ALL_TEXTS: Final = "all texts"

_TITLES: Final = {"nl": "Likelihood by insertions", "strict": "Recitation by insertions"}
_AXES: Final = {"nl": "mean NL (nats per token)", "strict": "share recited exactly"}


def dose_response(
    levels: Sequence[Level], measure: Measure = "nl", fit: DoseFit | None = None
) -> Drawing | None:
    """Mean NL, or the share recited exactly, by known insertions, with 95 % intervals.

    Args:
        levels: of a summary: its `dose_response`, or its `levels` for a line a group.
        measure: what is drawn: `nl` in nats per token (higher = more strongly memorized),
            `strict` as a share.
        fit: the monotone fit of `nl`, drawn as a dashed line.

    Returns:
        None where no level has known duplicates and the measure.
    """
    lines: dict[str, list[Point]] = {}
    for level in levels:
        if (point := _point(level, measure)) is not None:
            lines.setdefault(level.group or ALL_TEXTS, []).append(point)
    fitted = [Point(each.duplicates, each.nl) for each in fit.fitted] if fit and measure == "nl" else []
    return draw_lines(
        [Line(name, tuple(points)) for name, points in lines.items()],
        title=_TITLES[measure],
        x_title="known insertions (duplicates)",
        y_title=_AXES[measure],
        share=measure == "strict",
        x_scale="doses",
        fitted=fitted,
    )


def dose_change(
    before: Sequence[Level], after: Sequence[Level], measure: Measure = "strict"
) -> Drawing | None:
    """The same of texts before and after an edit, with a line for each.

    Args:
        before: a level for each number of duplicates, under the base.
        after: the same levels under the edited model.
        measure: as of `dose_response`.

    Returns:
        None unless at least two levels have known duplicates and the measure.
    """
    lines = [
        Line(when, tuple(point for level in levels if (point := _point(level, measure)) is not None))
        for when, levels in (("before", before), ("after", after))
    ]
    if all(len(line.points) < 2 for line in lines):  # noqa: PLR2004 - one says nothing of a response
        return None
    return draw_lines(
        lines,
        title=_TITLES[measure],
        x_title="known insertions (duplicates)",
        y_title=_AXES[measure],
        share=measure == "strict",
        x_scale="doses",
    )


def _point(level: Level, measure: Measure) -> Point | None:
    estimate = getattr(level, measure)
    if level.duplicates is None or estimate is None:
        return None
    value = estimate.mean if measure == "nl" else estimate.share
    return Point(level.duplicates, value, estimate.low, estimate.high)
