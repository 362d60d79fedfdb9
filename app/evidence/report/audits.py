"""What a report says of an audit."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from app import plots
from app.audits.schemas import AuditOut
from app.contracts.metrics.fields import ALWAYS
from app.contracts.metrics.registry import METRICS
from app.contracts.results.calibration import Calibration
from app.contracts.results.summary import AuditSummary, Level
from app.evidence.record import AuditRole, EvidenceRecord, ModelRole
from app.evidence.report.account import Account, described, named_text_set
from app.evidence.report.document import Block, Figure, Table
from app.evidence.report.numbers import (
    NOTHING,
    Row,
    counted,
    interval,
    name_of,
    number,
    numbers_table,
    percent,
    rows_in,
    rows_of,
    with_interval,
)
from app.evidence.report.scores import scores_figures

# Groups that are drawn as lines of one plot.
_MOST_LINES: Final = 6
_REASONS: Final = {
    "too_few_controls": "there are too few control texts for any text to be called memorized",
    "too_few_texts": "there are too few texts to check whether they are like the controls",
    "controls_differ": "a classifier that sees only the texts tells them from the controls, also within strata",
}


def audit_account(record: EvidenceRecord, audit: AuditOut) -> Account:
    """What is told of an audit that has succeeded."""
    summary = audit.summary
    assert summary is not None
    model = next(model for model in record.models if model.role is ModelRole.AUDITED)
    name = named_text_set(record, "audited")
    return Account(
        title=f"Memorization audit of {model.name}",
        question=f"Has the language model {described(model)} memorized the {counted(summary.texts, 'text')} of "
        f"the text set {name}?",
        short=tuple(_short(summary)),
        numbers=tuple(_numbers(summary)),
        figures=(*_figures(summary), *scores_figures(record, audit.id, _control_of(record))),
        limits=tuple(_limits(audit, summary)),
        path="/v1/audits",
        request=_request(audit),
    )


def _control_of(record: EvidenceRecord) -> str | None:
    return next((each.resource.id for each in record.audits if each.role is AuditRole.CONTROL), None)


def _short(summary: AuditSummary) -> Iterator[str]:
    calibration = summary.calibration
    if calibration is None:
        yield "No text is called memorized or not: without control texts there is nothing to compare them with."
    elif calibration.reason is not None:
        yield f"No text is called memorized or not: {_REASONS[calibration.reason]}."
    else:
        counts = calibration.verdicts
        judged = counts.memorized + counts.not_shown
        yield (
            f"{counts.memorized:,} of {counted(judged, 'judged text')} are called memorized; of these a "
            f"share of at most {percent(calibration.fdr)} is expected to be called so wrongly."
        )
    strict = getattr(summary, "strict", None)
    if strict is not None:
        yield (
            f"{strict.count:,} of {counted(strict.n, 'text')} are recited exactly: "
            f"{percent(strict.share)}, with 95 % confidence between {percent(strict.low)} and "
            f"{percent(strict.high)}."
        )
    gain = summary.gain
    if gain is not None and gain.low is not None and gain.high is not None:
        yield (
            f"Mean NL is {number(gain.mean)} nats per token higher at {gain.to_duplicates} than at "
            f"{gain.from_duplicates} known insertions {interval(gain)}."
        )


def _numbers(summary: AuditSummary) -> Iterator[Block]:
    rows: list[Row] = []
    for field in ("texts", "errors", "tokens", "perplexity", "nl", "nl_byte"):
        rows += rows_of(getattr(summary, field), name_of(field), field)
    objects: list[tuple[str, Any]] = []
    for metric in METRICS.values():
        for each in metric.numbers:
            rows += rows_of(getattr(summary, each.name), name_of(each.name), each.name)
        if metric.summary is not None and getattr(summary, metric.summary.name) is not None:
            objects.append((metric.summary.name, getattr(summary, metric.summary.name)))
    yield numbers_table("All texts", rows)
    for name, found in objects:
        yield numbers_table(name_of(name), rows_in(found))
    if summary.calibration is not None:
        yield _calibration_table(summary.calibration)
    if summary.reference_difference is not None:
        yield numbers_table(
            "NL less that under the reference model",
            rows_in(summary.reference_difference),
        )
    if summary.extraction_onset:
        yield _onset_table(summary)


def _calibration_table(calibration: Calibration) -> Table:
    return numbers_table("Comparison with control texts", rows_in(calibration))


def _onset_table(summary: AuditSummary) -> Table:
    return Table(
        caption="From how many insertions on texts are recited",
        header=("texts", "above the rate", "from", "with 95 % confidence from"),
        columns=("text", "number", "number", "number"),
        rows=tuple(
            (
                each.group or "all",
                percent(each.rate),
                number(each.duplicates),
                number(each.duplicates_certain),
            )
            for each in summary.extraction_onset or ()
        ),
    )


def _figures(summary: AuditSummary) -> Iterator[Block]:
    fit = next((fit for fit in summary.dose_fits or () if fit.group is None), None)
    levels = summary.dose_response
    drawn = [plots.dose_response(levels, fit=fit), plots.dose_response(levels, "strict")]
    if drawings := tuple(drawing for drawing in drawn if drawing is not None):
        fitted = {each.duplicates: each.nl for each in fit.fitted} if fit else {}
        yield Figure(drawings, _dose_table("By known insertions", levels, fitted))
    groups = {level.group for level in summary.levels if level.group is not None}
    if 1 < len(groups) <= _MOST_LINES:
        by_group = [level for level in summary.levels if level.group is not None]
        drawn = [plots.dose_response(by_group), plots.dose_response(by_group, "strict")]
        if drawings := tuple(drawing for drawing in drawn if drawing is not None):
            yield Figure(drawings, _dose_table("By group and known insertions", by_group, {}))


def _dose_table(caption: str, levels: Sequence[Level], fitted: dict[int, float]) -> Table:
    grouped = any(level.group is not None for level in levels)
    strict = any(getattr(level, "strict", None) is not None for level in levels)
    rows = []
    for level in levels:
        row = [*([level.group or NOTHING] if grouped else []), number(level.duplicates), number(level.nl.n)]
        row.append(with_interval(level.nl))
        if fitted:
            row.append(number(fitted.get(level.duplicates or 0)))
        if strict:
            row.append(with_interval(getattr(level, "strict", None)))
        rows.append(tuple(row))
    header = [*(["group"] if grouped else []), "insertions", "n", "mean NL", *(["fit"] if fitted else [])]
    header += ["recited exactly"] if strict else []
    return Table(
        caption=caption,
        header=tuple(header),
        columns=tuple("text" if grouped and place == 0 else "number" for place in range(len(header))),
        rows=tuple(rows),
    )


def _limits(audit: AuditOut, summary: AuditSummary) -> Iterator[str]:
    calibration = summary.calibration
    if calibration is None:
        yield (
            "Whether a single text was in the training data: there were no control texts, so every "
            "verdict is uncalibrated. A likely text may just be an easy one."
        )
    elif calibration.reason is not None:
        yield f"Whether a single text was in the training data: {_REASONS[calibration.reason]}."
    else:
        yield from _calibrated_limits(calibration)
    strict = getattr(summary, "strict", None)
    if strict is not None and strict.count == 0:
        yield (
            f"That no text like these can be recited: none of {strict.n:,} was, which with 95 % confidence "
            f"leaves a share of up to {percent(strict.high)}."
        )
    unmeasured = [name for name in METRICS if name not in audit.metrics]
    if unmeasured:
        yield f"Anything that was not measured. Not asked for: {', '.join(unmeasured)}."
    if not summary.dose_response:
        yield "How memorization rises with insertions: no numbers of insertions are known of these texts."
    if summary.errors:
        yield f"Anything about the {counted(summary.errors, 'text')} that could not be scored."
    if splits := getattr(summary, "extraction_splits", None):
        if splits.not_applicable:
            yield f"Whether {counted(splits.not_applicable, 'text')} too short to be split can be recited."
        if splits.scaled:
            yield (
                f"{splits.scaled:,} of the recited or not recited texts were split into fewer tokens than "
                "asked for; shorter suffixes are recited more easily."
            )


def _calibrated_limits(calibration: Calibration) -> Iterator[str]:
    yield (
        f"That the {counted(calibration.verdicts.not_shown, 'text')} called not shown were never seen: these "
        "numbers do not show it, which proves nothing."
    )
    if calibration.least_memorized is not None and calibration.least_memorized > 1:
        yield (
            f"With {counted(calibration.n_controls, 'control text')}, at least "
            f"{calibration.least_memorized:,} texts must exceed all controls before any is called "
            "memorized: fewer memorized texts go unseen."
        )
    if calibration.verdicts.uncalibrated:
        yield (
            f"Anything about {counted(calibration.verdicts.uncalibrated, 'text')} without controls like them."
        )
    yield (
        "That texts and controls are alike in every way: a classifier was asked, and a check that passes "
        "has only found no difference."
    )


def _request(audit: AuditOut) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": audit.model,
        "text_set": audit.text_set,
        "metrics": [name for name in audit.metrics if name] or [ALWAYS],
        "options": audit.options.model_dump(mode="json", exclude_none=True),
    }
    given = {"reference_model": audit.reference_model, "control_text_set": audit.control_text_set}
    return body | {name: value for name, value in given.items() if value is not None}
