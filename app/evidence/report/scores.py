"""What a report says of single texts: how their numbers are distributed, and which stand out most."""

from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Final

from app import plots
from app.audits.score_schemas import ScoreOut
from app.evidence.record import EvidenceRecord
from app.evidence.report.document import NUMBER, Block, Excerpt, Figure, Heading, Paragraph, Table
from app.evidence.report.numbers import NOTHING, counted, number
from app.plots.distributions import bin_edges

# Rows that are read for a plot of their distribution.
_MOST_ROWS: Final = 20_000
_P_BINS: Final = 20
_QUANTILES: Final = {
    "the least": 0.0,
    "5\u00a0% are at most": 0.05,
    "25\u00a0% are at most": 0.25,
    "half are at most": 0.5,
    "75\u00a0% are at most": 0.75,
    "95\u00a0% are at most": 0.95,
    "the greatest": 1.0,
}


def scores_figures(record: EvidenceRecord, audit_id: str, control_id: str | None) -> Iterator[Block]:
    """The distribution of NL over an audit's texts and over its controls, and that of p-values."""
    audited, p_values, cut = _read(record, audit_id)
    controls: array[float] = array("d")
    if control_id:
        controls, _, more = _read(record, control_id)
        cut = cut or more
    if not audited:
        return
    every = (*audited, *controls)
    counted_by_bin = plots.Distribution.of(bin_edges(min(every), max(every)), audited, controls or None)
    drawings = [plots.score_distribution(counted_by_bin)]
    if p_values:
        drawings.append(plots.p_values(plots.Distribution.of(bin_edges(0, 1, _P_BINS), p_values)))
    yield Figure(
        tuple(drawing for drawing in drawings if drawing is not None),
        _quantiles(audited, controls, p_values),
    )
    if cut:
        yield Paragraph(
            f"Distributions are those of the first {_MOST_ROWS:,} texts, and of as many controls."
        )


def _read(record: EvidenceRecord, audit_id: str) -> tuple["array[float]", "array[float]", bool]:
    """NL and p-values of an audit's first texts, those that have them; and whether there are more texts."""
    likelihoods, p_values = array("d"), array("d")
    rows = record.rows(audit_id)
    for row in islice(rows, _MOST_ROWS):
        if row.score.nl is not None:
            likelihoods.append(row.score.nl)
        if row.score.p_value is not None:
            p_values.append(row.score.p_value)
    return likelihoods, p_values, next(rows, None) is not None


def _quantiles(audited: "array[float]", controls: "array[float]", p_values: "array[float]") -> Table:
    columns = {"NL of audited texts": audited, "NL of controls": controls, "p-values": p_values}
    known = {column: sorted(numbers) for column, numbers in columns.items() if numbers}
    return Table(
        caption="How single texts are spread",
        header=("of the texts", *known),
        columns=("text", *(NUMBER for _ in known)),
        rows=tuple(
            (
                name,
                *(number(_quantile(numbers, share)) for numbers in known.values()),
            )
            for name, share in _QUANTILES.items()
        ),
    )


def _quantile(numbers: list[float], share: float) -> float:
    """The least number that at least such a share of the ascending numbers does not exceed."""
    return numbers[max(0, -(-int(share * 1000) * len(numbers) // 1000) - 1)]


def worst_texts(record: EvidenceRecord) -> Iterator[Block]:
    """The most memorized texts: their numbers, and the texts themselves if the record has them."""
    if not record.worst:
        yield Paragraph("No text was scored that could be named here.")
        return
    scores = [each.row.score for each in record.worst]
    yield Paragraph(
        f"The {counted(len(scores), 'text')} of the highest NL under audit {record.worst[0].audit}, the most "
        "strongly memorized first."
    )
    yield _worst_table(scores)
    if not record.texts:
        yield Paragraph(
            "The texts themselves are left out. A key with the scope audit:evidence gets them with "
            "?texts=full."
        )
        return
    yield Heading("The texts")
    for place, each in enumerate(record.worst, start=1):
        text = each.row.text
        yield Excerpt(
            f"{place}. {each.row.score.text_id}", "The text was erased." if text is None else text.text
        )


def _worst_table(scores: list[ScoreOut]) -> Table:
    optional = {
        "recited": [_recited(score) for score in scores],
        "p_z": [_p_z(score) for score in scores],
        "p-value": [number(score.p_value, 3) for score in scores],
        "q-value": [number(score.q_value, 3) for score in scores],
        "verdict": [(score.verdict or NOTHING).replace("_", " ") for score in scores],
    }
    told = {name: cells for name, cells in optional.items() if set(cells) != {NOTHING}}
    return Table(
        caption="Most memorized texts",
        header=("text", "group", "insertions", "tokens", "NL", *told),
        columns=("code", "text", "number", "number", "number", *(NUMBER for _ in told)),
        rows=tuple(
            (
                score.text_id,
                score.group or NOTHING,
                number(score.duplicates),
                number(score.n_tokens),
                number(score.nl),
                *(cells[place] for cells in told.values()),
            )
            for place, score in enumerate(scores)
        ),
    )


def _recited(score: ScoreOut) -> str:
    extraction = getattr(score, "extraction", None)
    if extraction is None or extraction.strict is None:
        return NOTHING
    if extraction.strict:
        return "all"
    if extraction.matched_tokens is None:
        return "no"
    return f"{number(extraction.matched_tokens)} of {number(extraction.suffix_tokens)}"


def _p_z(score: ScoreOut) -> str:
    sampled = getattr(score, "p_z", None)
    return NOTHING if sampled is None else number(sampled.p_z, 3)
