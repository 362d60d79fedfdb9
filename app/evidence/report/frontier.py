"""What a report says of the settings that an edit tried."""

from collections.abc import Iterator, Sequence

from app import plots
from app.contracts.edit_methods.kfac import Constraint
from app.contracts.results.frontier import FrontierPoint
from app.edits.schemas import EditOut
from app.evidence.report.document import Block, Figure, Table
from app.evidence.report.numbers import NOTHING, exact_percent, number, percent


def what_was_tried(edit: EditOut) -> Iterator[Block]:
    """A table of every setting, with a plot where some were measured to the end; nothing of other edits."""
    if not edit.frontier:
        return
    constraint = Constraint.model_validate(edit.spec.get("constraint") or {})
    table = _table(edit.frontier, constraint)
    drawing = plots.frontier(edit.frontier, constraint.max_perplexity_increase)
    yield table if drawing is None else Figure((drawing,), table)


def _table(points: Sequence[FrontierPoint], constraint: Constraint) -> Table:
    limits = f"perplexity may grow by {exact_percent(constraint.max_perplexity_increase)}"
    if constraint.max_nl_drop is not None:
        limits += f", the retain set lose {number(constraint.max_nl_drop)} nats per token"
    return Table(
        caption=f"Settings that were tried: {limits}",
        header=(
            "layers",
            "projections",
            "mass kept",
            "weight of the retain set",
            "steps of recovery",
            "perplexity",
            "recited",
            "NL lost by the retain set",
            "setting",
        ),
        columns=(
            "text",
            "text",
            "number",
            "number",
            "number",
            "number",
            "number",
            "number",
            "text",
        ),
        rows=tuple(
            (
                ", ".join(map(str, point.layers)),
                ", ".join(point.projections),
                exact_percent(point.keep_mass),
                number(point.retain_weight),
                NOTHING if point.recovery_steps is None else str(point.recovery_steps),
                percent(point.perplexity_increase),
                percent(point.strict),
                number(point.nl_drop),
                _outcome(point),
            )
            for point in points
        ),
    )


def _outcome(point: FrontierPoint) -> str:
    if point.given_up is not None:
        so_far = point.given_up
        return (
            f"given up at a perplexity of {number(so_far.perplexity)} after {so_far.tokens:,} of "
            f"{so_far.of_tokens:,} tokens"
        )
    return "chosen" if point.chosen else "feasible" if point.feasible else "not feasible"
