"""What a study found of several language models."""

from collections.abc import Sequence
from typing import Final, Literal

from app.contracts.results.intervals import MeanInterval, ShareInterval
from app.contracts.results.studies import Comparison, StudiedModel
from app.plots.drawing import Drawing
from app.plots.lines import Line, Point, draw_lines

Measure = Literal["nl", "strict"]

_WHAT: Final = {"nl": "Likelihood", "strict": "Recitation"}
_AXES: Final = {"nl": "mean NL (nats per token)", "strict": "share recited exactly"}


def trajectory(models: Sequence[StudiedModel], measure: Measure = "nl") -> Drawing | None:
    """A measure under each language model in their order, a line for each number of duplicates.

    Args:
        models: of a study, over their steps of training if they have them, else over their labels.
        measure: `nl` in nats per token (higher = more strongly memorized), or `strict` as a share.

    Returns:
        None where nothing was measured.
    """
    stepped = all(model.step is not None for model in models)
    lines: dict[str, list[Point]] = {}
    for model in models:
        known = any(level.duplicates is not None for level in model.levels if level.group is None)
        for level in model.levels:
            # All texts together are drawn only where duplicates are not known.
            if level.group is not None or (known and level.duplicates is None):
                continue
            place = model.step if stepped and model.step is not None else model.label
            name = "all texts" if level.duplicates is None else f"{level.duplicates} duplicates"
            if (point := _point(place, getattr(level, measure))) is not None:
                lines.setdefault(name, []).append(point)
    return draw_lines(
        [Line(name, tuple(points)) for name, points in lines.items()],
        title=f"{_WHAT[measure]} {'over training' if stepped else 'by language model'}",
        x_title="step of training" if stepped else "language model",
        y_title=_AXES[measure],
        x_scale="steps" if stepped else "labels",
        share=measure == "strict",
    )


def pair(models: Sequence[StudiedModel], measure: Measure = "nl") -> Drawing | None:
    """A measure by known insertions, a line for each language model.

    Args:
        models: of a study.
        measure: `nl` in nats per token (higher = more strongly memorized), or `strict` as a share.

    Returns:
        None where no level has known duplicates and the measure.
    """
    lines = [
        Line(
            model.label,
            tuple(
                point
                for level in model.levels
                if level.group is None and level.duplicates is not None
                if (point := _point(level.duplicates, getattr(level, measure))) is not None
            ),
        )
        for model in models
    ]
    return draw_lines(
        lines,
        title=f"{_WHAT[measure]} by insertions",
        x_title="known insertions (duplicates)",
        y_title=_AXES[measure],
        x_scale="doses",
        share=measure == "strict",
    )


def pair_difference(comparison: Comparison) -> Drawing | None:
    """How much higher NL is under the later of two language models, by known insertions, text by text.

    Beside the difference stands the `excess`: what is left of it after that of texts never inserted.

    Args:
        comparison: of a study.

    Returns:
        None where no level has known duplicates.
    """
    levels = [level for level in comparison.levels if level.group is None and level.duplicates is not None]
    difference = [
        point for level in levels if (point := _point(level.duplicates, level.difference)) is not None
    ]
    excess = [point for level in levels if (point := _point(level.duplicates, level.excess)) is not None]
    return draw_lines(
        [Line("difference", tuple(difference)), Line("excess", tuple(excess))],
        title=f"{comparison.to_label} less {comparison.from_label}",
        x_title="known insertions (duplicates)",
        y_title="difference of NL (nats per token)",
        x_scale="doses",
        baseline=0,
    )


def _point(x: float | str | None, estimate: MeanInterval | ShareInterval | None) -> Point | None:
    if estimate is None or x is None:
        return None
    value = estimate.mean if isinstance(estimate, MeanInterval) else estimate.share
    return Point(x, value, estimate.low, estimate.high)
