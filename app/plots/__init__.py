"""Plots of results as SVG: pure functions of what is stored and answered, shared by reports and pages.

Every drawing is the same for the same input, byte by byte. Series are told apart by shape and dash as well
as by colour; text is text, in the reader's own font and the colour of the text around it, so that light and
dark pages and paper all show it.
"""

from app.plots.bars import kept_bars, spectrum_bars
from app.plots.changes import before_after, frontier, spectrum
from app.plots.distributions import Distribution, p_values, score_distribution
from app.plots.doses import dose_change, dose_response
from app.plots.drawing import Drawing, file_bytes, svg_bytes
from app.plots.edits import edit_drawings
from app.plots.studies import pair, pair_difference, trajectory

__all__ = [
    "Distribution",
    "Drawing",
    "before_after",
    "dose_change",
    "dose_response",
    "edit_drawings",
    "file_bytes",
    "frontier",
    "kept_bars",
    "p_values",
    "pair",
    "pair_difference",
    "score_distribution",
    "spectrum",
    "spectrum_bars",
    "svg_bytes",
    "trajectory",
]
