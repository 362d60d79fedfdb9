"""What a report says of a study."""

from collections.abc import Iterator
from typing import Any

from app import plots
from app.contracts.metrics.registry import METRICS
from app.contracts.results.studies import Change, ChangedTexts, Comparison, Curve, StudyResult, Texts
from app.evidence.record import EvidenceRecord
from app.evidence.report.account import Account, described, named_text_set
from app.evidence.report.document import Block, Figure, Table
from app.evidence.report.numbers import (
    NOTHING,
    counted,
    interval,
    listed,
    number,
    numbers_table,
    rows_in,
    with_interval,
)
from app.studies.schemas import StudyOut

_ASKED = {
    "pair": "How much more has {last} memorized the texts of {set} than {first}?",
    "trajectory": "When in training did {models} memorize the texts of {set}, and how much was lost again?",
    "release": "Which texts of {set} were newly memorized from version to version of {models}?",
}

# Why the changes of a release could not be judged, by `Change.reason`.
_UNJUDGED = {
    "no_controls": "retraining moves every text a little, and without control texts nothing tells how much",
    "too_few_controls": "there are too few control texts",
    "too_few_texts": "there are too few texts that are no near-duplicates of each other",
    "controls_differ": "texts and controls can be told apart without the language models",
}


def study_account(record: EvidenceRecord, study: StudyOut) -> Account:
    """What is told of a study that has succeeded."""
    result = study.result
    assert result is not None
    names = [f"{model.label}: {described(model)}" for model in record.models]
    labels = [model.label for model in record.models]
    return Account(
        title=f"Memorization study \u201c{study.name}\u201d",
        question=_ASKED[study.kind].format(
            first=labels[0], last=labels[-1], models=listed(labels), set=named_text_set(record, "audited")
        )
        + f" The language models are {'; '.join(names)}.",
        short=tuple(_short(result)),
        numbers=tuple(_numbers(result)),
        figures=tuple(_figures(result)),
        limits=tuple(_limits(study, result)),
        path="/v1/studies",
        request=_request(study),
    )


def _short(result: StudyResult) -> Iterator[str]:
    for comparison in result.comparisons:
        everything = next((level for level in comparison.levels if _is_all(level)), None)
        if everything is not None:
            yield (
                f"{comparison.to_label} against {comparison.from_label}, over all texts: mean NL differs "
                f"by {with_interval(everything.difference)} nats per token; positive means that "
                f"{comparison.to_label} has memorized more."
            )
    for change in result.changes or ():
        if change.newly_memorized is not None:
            yield (
                f"{counted(change.newly_memorized.count, 'text')} newly memorized from {change.from_label} "
                f"to {change.to_label}."
            )


def _is_all(texts: Texts) -> bool:
    return texts.group is None and texts.duplicates is None


def _numbers(result: StudyResult) -> Iterator[Block]:
    for comparison in result.comparisons:
        yield _comparison_table(comparison)
    if result.curves:
        yield _curves_table(result.curves)
    for change in result.changes or ():
        yield from _change_tables(change)
    gains = [(model.label, model.gain) for model in result.models if model.gain is not None]
    if gains:
        yield numbers_table(
            "NL at the most insertions less that at the fewest, nats per token",
            ((label, number(gain.mean), interval(gain), number(gain.n)) for label, gain in gains),
        )


def _which(texts: Texts) -> tuple[str, str]:
    return texts.group or "all", "all" if texts.duplicates is None else number(texts.duplicates)


def _comparison_table(comparison: Comparison) -> Table:
    rows = []
    for level in comparison.levels:
        recited = level.transitions
        rows.append(
            (
                *_which(level),
                number(level.difference.n),
                with_interval(level.difference),
                with_interval(level.excess),
                f"{recited.gained:,} / {recited.lost:,}" if recited else NOTHING,
                number(recited.p_value, 3) if recited else NOTHING,
            )
        )
    return Table(
        caption=f"{comparison.to_label} less {comparison.from_label}: NL in nats per token, texts recited "
        "by the later / by the earlier alone",
        header=("group", "insertions", "n", "difference", "excess", "gained / lost", "p (McNemar)"),
        columns=("text", "number", "number", "number", "number", "number", "number"),
        rows=tuple(rows),
    )


def _curves_table(curves: list[Curve]) -> Table:
    rows = []
    for curve in curves:
        half = curve.half_life
        rows.append(
            (
                *_which(curve),
                curve.peak.label,
                number(curve.peak.step),
                with_interval(curve.peak.excess),
                number(half.steps) if half else NOTHING,
                f"[{number(half.low)}, {number(half.high)}]" if half else NOTHING,
            )
        )
    return Table(
        caption="Where texts stand out most from those never inserted, and after which steps half is lost",
        header=("group", "insertions", "peak", "step", "excess at the peak", "half-life", "95 % interval"),
        columns=("text", "number", "text", "number", "number", "number", "number"),
        rows=tuple(rows),
    )


def _change_tables(change: Change) -> Iterator[Block]:
    between = f"from {change.from_label} to {change.to_label}"
    told = {
        "newly memorized": change.newly_memorized,
        "no longer memorized": change.no_longer_memorized,
        "newly recited": change.newly_recited,
        "no longer recited": change.no_longer_recited,
    }
    yield numbers_table(
        f"Texts that changed {between}",
        (
            (name, NOTHING if texts is None else number(texts.count), NOTHING, NOTHING)
            for name, texts in told.items()
        ),
    )
    for name, texts in told.items():
        if texts is not None and texts.texts:
            yield _changed_table(f"Texts {name} {between}", texts)
    for name, judgement in (("rise", change.rise), ("fall", change.fall)):
        if judgement is not None:
            yield numbers_table(
                f"How the {name} {between} was judged",
                rows_in(judgement),
            )


def _changed_table(caption: str, changed: ChangedTexts) -> Table:
    shown = (
        f" (the first {len(changed.texts)} of {changed.count:,})"
        if changed.count > len(changed.texts)
        else ""
    )
    return Table(
        caption=caption + shown,
        header=("text", "difference of NL", "q-value"),
        columns=("code", "number", "number"),
        rows=tuple(
            (each.text_id, number(each.difference), number(each.q_value, 3)) for each in changed.texts
        ),
    )


def _figures(result: StudyResult) -> Iterator[Block]:
    drawn = plots.pair if result.kind == "pair" else plots.trajectory
    drawings = [drawn(result.models), drawn(result.models, "strict")]
    if shown := tuple(drawing for drawing in drawings if drawing is not None):
        yield Figure(shown, _levels_table(result))
    differences = [plots.pair_difference(comparison) for comparison in result.comparisons]
    for comparison, drawing in zip(result.comparisons, differences, strict=True):
        if drawing is not None:
            yield Figure((drawing,), _difference_table(comparison))


def _levels_table(result: StudyResult) -> Table:
    rows = [
        (
            model.label,
            "all" if level.duplicates is None else number(level.duplicates),
            number(level.nl.n),
            with_interval(level.nl),
            with_interval(level.strict),
        )
        for model in result.models
        for level in model.levels
        if level.group is None
    ]
    return Table(
        caption="Each language model by known insertions",
        header=("language model", "insertions", "n", "mean NL", "recited exactly"),
        columns=("text", "number", "number", "number", "number"),
        rows=tuple(rows),
    )


def _difference_table(comparison: Comparison) -> Table:
    return Table(
        caption=f"{comparison.to_label} less {comparison.from_label}, nats per token",
        header=("insertions", "n", "difference", "excess"),
        columns=("number", "number", "number", "number"),
        rows=tuple(
            (
                number(level.duplicates),
                number(level.difference.n),
                with_interval(level.difference),
                with_interval(level.excess),
            )
            for level in comparison.levels
            if level.group is None and level.duplicates is not None
        ),
    )


def _limits(study: StudyOut, result: StudyResult) -> Iterator[str]:
    reasons = [change.reason for change in result.changes or () if change.reason is not None]
    for reason in dict.fromkeys(reasons):
        yield f"Which texts were newly memorized is not known{_between(result, reason)}: {_UNJUDGED[reason]}."
    if not any(level.duplicates is not None for model in result.models for level in model.levels):
        yield "How memorization rises with insertions is not known: no numbers of insertions were given."
    elif all(level.excess is None for comparison in result.comparisons for level in comparison.levels):
        yield "How much is memory and how much better language is not known: no texts were never inserted."
    unmeasured = [name for name in METRICS if name not in study.metrics]
    if unmeasured:
        yield f"Nothing is known of what was not measured: {', '.join(unmeasured)} were not asked for."


def _between(result: StudyResult, reason: str) -> str:
    """Between which language models, where a reason is not that of all changes."""
    changes = result.changes or ()
    found = [change for change in changes if change.reason == reason]
    if len(found) == len(changes):
        return ""
    return f" from {listed([f'{change.from_label} to {change.to_label}' for change in found])}"


def _request(study: StudyOut) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": study.name,
        "kind": study.kind,
        "text_set": study.text_set,
        "models": [
            {
                "model": each.model,
                "label": each.label,
                **({} if each.step is None else {"step": each.step}),
            }
            for each in study.models
        ],
        "metrics": study.metrics,
        "options": study.options.model_dump(mode="json", exclude_none=True),
    }
    given = {
        "control_text_set": study.control_text_set,
        "policy": study.preregistration and study.preregistration.policy,
    }
    return body | {name: value for name, value in given.items() if value is not None}
