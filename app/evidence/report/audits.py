"""What a report says of an audit."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from app import plots
from app.audits.schemas import AuditOut
from app.contracts.metrics.registry import METRICS
from app.contracts.results.calibration import Calibration
from app.contracts.results.summary import AuditSummary, Level
from app.evidence.cautions import why_unjudged
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


def audit_account(record: EvidenceRecord, audit: AuditOut) -> Account:
    """What is told of an audit that has succeeded."""
    summary = audit.summary
    assert summary is not None
    model = next(model for model in record.models if model.role is ModelRole.AUDITED)
    name = named_text_set(record, "audited")
    return Account(
        title=f"Memorization audit of {model.name}",
        question=f"Has the language model {described(model)} memorized the "
        f"{counted(summary.texts, 'text')} of the text set {name}?",
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
    unjudged = why_unjudged(summary.calibration)
    if unjudged is not None:
        yield unjudged
    elif summary.calibration is not None:
        calibration = summary.calibration
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
        yield numbers_table(name_of(name).capitalize(), rows_in(found))
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
    if why_unjudged(summary.calibration) is None and summary.calibration is not None:
        yield from _calibrated_limits(summary.calibration)
    strict = getattr(summary, "strict", None)
    if strict is not None and strict.count == 0:
        yield (
            f"None of {strict.n:,} texts was recited, which with 95\u00a0% confidence leaves a share of up "
            f"to {percent(strict.high)} among texts like these."
        )
    unmeasured = [name for name in METRICS if name not in audit.metrics]
    if unmeasured:
        yield f"Nothing is known of what was not measured: {', '.join(unmeasured)} were not asked for."
    if not summary.dose_response:
        yield "How memorization rises with insertions is not known: no numbers of insertions were given."
    if summary.errors:
        yield f"Nothing is known of {counted(summary.errors, 'text')} that could not be scored."
    if splits := getattr(summary, "extraction_splits", None):
        if splits.not_applicable:
            yield f"{counted(splits.not_applicable, 'text')} were too short to be split; they may be recited."
        if splits.scaled:
            yield (
                f"{counted(splits.scaled, 'text')} were split into fewer tokens than asked for, and shorter "
                "suffixes are recited more easily."
            )


def _calibrated_limits(calibration: Calibration) -> Iterator[str]:
    if calibration.least_memorized is not None and calibration.least_memorized > 1:
        yield (
            f"With {counted(calibration.n_controls, 'control text')}, at least "
            f"{calibration.least_memorized:,} texts must exceed all controls before any is called memorized: "
            "fewer memorized texts go unseen."
        )
    if left := calibration.verdicts.uncalibrated:
        yield f"{counted(left, 'text')} had no controls like them, so no verdict."
    yield (
        "Texts and controls may differ in ways that the classifier did not find: a check that passes has "
        "only found no difference."
    )


def _request(audit: AuditOut) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": audit.model,
        "text_set": audit.text_set,
        "metrics": audit.metrics,
        "options": audit.options.model_dump(mode="json", exclude_none=True),
    }
    given = {
        "reference_model": audit.reference_model,
        "control_text_set": audit.control_text_set,
        "policy": audit.preregistration and audit.preregistration.policy,
    }
    return body | {name: value for name, value in given.items() if value is not None}
