"""What there is to see of an edit, by the name that it has in URLs and among files."""

from collections.abc import Mapping, Sequence

from app.contracts.edit_methods.kfac import KFACReceipt
from app.contracts.results.evaluations import SetChange, TaskChange
from app.contracts.results.frontier import FrontierPoint
from app.contracts.results.receipts import Receipt
from app.contracts.results.summary import Level
from app.contracts.texts import TextSetRole
from app.plots.bars import spectrum_bars
from app.plots.changes import before_after, frontier, spectrum
from app.plots.doses import dose_change
from app.plots.drawing import Drawing


def edit_drawings(
    sets: Mapping[TextSetRole, SetChange],
    tasks: Sequence[TaskChange],
    points: Sequence[FrontierPoint],
    max_perplexity_increase: float | None,
    receipt: Receipt | None,
    doses: tuple[Sequence[Level], Sequence[Level]] = ((), ()),
) -> dict[str, Drawing]:
    """The drawings of an edit, but those for which nothing was measured.

    Args:
        sets: of its evaluation.
        tasks: likewise.
        points: of its frontier.
        max_perplexity_increase: of its constraint, a share.
        receipt: of the edit, if it has one yet.
        doses: levels of known duplicates before and after, which the audits of the proof hold.
    """
    drawn = {
        "before-after-strict": before_after(sets, "strict"),
        "before-after-nl": before_after(sets, "nl"),
        "dose-strict": dose_change(*doses, "strict"),
        "dose-nl": dose_change(*doses, "nl"),
        "tasks": spectrum_bars(tasks),
        "frontier": frontier(points, max_perplexity_increase),
        "spectrum": spectrum(receipt.matrices) if isinstance(receipt, KFACReceipt) else None,
    }
    return {name: drawing for name, drawing in drawn.items() if drawing is not None}
