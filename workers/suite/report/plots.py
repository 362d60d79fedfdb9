"""The plots of a finding as files: one a panel, and one of its bars."""

from pathlib import Path

from app.plots.bars import kept_bars
from app.plots.drawing import file_bytes
from app.plots.lines import Line, Point, draw_lines
from workers.suite.report.finding import Finding, Panel


def draw(finding: Finding, directory: Path) -> None:
    """Write the plots of a finding as SVG, under the names that `plot_files` tells."""
    drawings = [
        draw_lines(
            _lines(panel),
            title=panel.title,
            x_title="duplicates",
            y_title=panel.y_title,
            x_scale="doses",
            baseline=panel.baseline,
            legend=panel.legend,
        )
        for panel in finding.panels
    ]
    if finding.bars:
        drawings.append(kept_bars(finding.bars, finding.reference))
    for drawing, name in zip(drawings, plot_files(finding), strict=True):
        if drawing is not None:
            (directory / name).write_bytes(file_bytes(drawing))


def plot_files(finding: Finding) -> list[str]:
    """The name of each plot's file."""
    plots = len(finding.panels) + bool(finding.bars)
    return [f"{finding.name}-{place}.svg" for place in range(1, plots + 1)]


def _lines(panel: Panel) -> list[Line]:
    points: dict[str, list[Point]] = {}
    for row in panel.rows:
        point = Point(row.duplicates, row.value, row.low, row.high)
        points.setdefault(panel.series(row), []).append(point)
    return [Line(name, tuple(found)) for name, found in points.items()]
