"""The numbers of finished work as one flat list, whatever kind of work it was.

Formats that know metrics, but neither audits nor studies nor edits, read their numbers here.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

from app.audits.schemas import AuditOut
from app.contracts.metrics.fields import level_numbers
from app.contracts.metrics.registry import METRICS
from app.contracts.results.evaluations import Evaluation
from app.contracts.results.intervals import MeanInterval, ShareDifference, ShareInterval
from app.contracts.results.ranking import AreaUnderCurve
from app.contracts.results.summary import AuditSummary, Level
from app.contracts.texts import TextSetRole
from app.edits.schemas import EditOut
from app.evidence.proved import proved
from app.evidence.record import EvidenceRecord, ModelRole, RecordedAudit
from app.studies.schemas import StudyOut

# Of every interval that the service states.
CONFIDENCE: Final = 0.95
Bounds: TypeAlias = tuple[float | None, float | None]
UNBOUNDED: Final[Bounds] = (None, None)
SHARE: Final[Bounds] = (0.0, 1.0)
_NATS: Final = "nats per token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number, and what it is of.

    Attributes:
        name: as the summary of an audit, a study or an edit has it, with dots.
        description: what it measures, its sign and its range.
        model: the language model, by id.
        against: the language model that it is compared with, by id; None of one alone.
        audit: the audit that it is a number of, by id; None of comparisons.
        text_set: whose texts, by id.
        group: of this group only; None for all texts.
        duplicates: of texts inserted so often only; None for all, or with a group for an unknown number.
        value: the number.
        low: where its 95 % interval begins; None where there is none.
        high: where it ends; None likewise.
        n: how many texts it rests on; None where that is not known.
        unit: of the number; None if it has none.
        within: the least and the most that it can be; None at a side without a bound.
        share: whether it is a share of texts.
    """

    name: str
    description: str
    model: str
    against: str | None = None
    audit: str | None = None
    text_set: str
    group: str | None = None
    duplicates: int | None = None
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str | None = None
    within: Bounds = UNBOUNDED
    share: bool = False

    @property
    def overall(self) -> bool:
        """Whether it is of all texts of the set."""
        return self.group is None and self.duplicates is None

    @property
    def slice(self) -> str:
        """Which texts, in words."""
        parts = [] if self.group is None else [f"group={self.group}"]
        if self.duplicates is not None:
            parts.append(f"duplicates={self.duplicates}")
        return "; ".join(parts) or "all texts"


@dataclass(frozen=True, slots=True)
class _Place:
    """What the numbers of one table have in common; as in a measurement."""

    model: str
    text_set: str
    audit: str | None = None
    against: str | None = None
    group: str | None = None
    duplicates: int | None = None

    def measured(
        self, name: str, description: str, found: Any, within: Bounds = UNBOUNDED
    ) -> Iterator[Measurement]:
        """A number with its interval, if it has one; nothing if it was not measured."""
        facts: dict[str, Any] = {"name": name, "description": description, "unit": _UNITS.get(name)}
        match found:
            case ShareInterval():
                facts |= {"value": found.share, "n": found.n, "unit": "share of texts", "share": True}
                within = SHARE
            case ShareDifference():
                facts |= {"value": found.difference, "n": found.n, "unit": "difference of shares"}
            case MeanInterval():
                facts |= {"value": found.mean, "n": found.n}
            case AreaUnderCurve():
                facts |= {"value": found.auc, "n": found.n_members + found.n_others}
                within = SHARE
            case None:
                return
            case _:
                yield Measurement(**asdict(self), **facts, value=found, within=within)
                return
        yield Measurement(**asdict(self), **facts, low=found.low, high=found.high, within=within)


_UNITS: Final = {
    "nl": _NATS,
    "nl.change": _NATS,
    "nl_byte": "nats per byte",
    "difference": _NATS,
    "excess": _NATS,
    "gain": _NATS,
    "min_k": _NATS,
    "log_p_z": "nats",
    "log_p_z.change": "nats",
}
_AT_MOST_0: Final[Bounds] = (None, 0.0)
_NL: Final = "Mean log-likelihood per token in nats, at most 0; higher is more strongly memorized."
_NL_BYTE: Final = "Mean log-likelihood per UTF-8 byte in nats, at most 0; higher is more strongly memorized."
_PERPLEXITY: Final = "exp(-total log-likelihood / tokens), at least 1; lower is more strongly memorized."
_MEMORIZED: Final = (
    "Share of the scored texts whose q-value among control texts is at most {:g}; of the rest it is "
    "not shown that they were not seen."
)
_DIFFERENCE: Final = (
    "Mean `nl` of the later model less that of the earlier, text by text, in nats per token; positive: the "
    "later has memorized more."
)
_EXCESS: Final = "`difference` less that of texts never inserted, in nats per token; positive: memorization."
_TASK: Final = "Share of the questions of a group that are answered rightly."
_INCREASE: Final = "Share by which the perplexity of clean text grew from the base to the edited model."
_NDCG: Final = (
    "nDCG@10 of the edited model's ten likeliest next tokens against the base's on clean text, 0 to 1, 1 "
    "for the same order."
)


def measurements(record: EvidenceRecord) -> Iterator[Measurement]:
    """All numbers of the work: those of its audits in their order, then those of its comparisons."""
    for audit in record.principal_audits:
        yield from _of_audit(audit)
    if isinstance(record.work, StudyOut):
        yield from _of_study(record.work)
    elif isinstance(record.work, EditOut):
        yield from _of_edit(record.work)


def _of_audit(audit: RecordedAudit) -> Iterator[Measurement]:
    resource = audit.resource
    summary = resource.summary
    if summary is None:
        return
    place = _Place(resource.model, resource.text_set, resource.id)
    yield from place.measured("nl", _NL, summary.nl, _AT_MOST_0)
    yield from place.measured("nl_byte", _NL_BYTE, summary.nl_byte, _AT_MOST_0)
    yield from place.measured("perplexity", _PERPLEXITY, summary.perplexity, (1.0, None))
    for metric in METRICS.values():
        for number in metric.numbers:
            found = getattr(summary, number.name)
            yield from place.measured(number.name, number.description, found, number.within or UNBOUNDED)
        if (own := metric.summary) is not None:
            yield from _own(place, own.name, getattr(summary, own.name))
    yield from _judged(place, summary)
    for level in summary.dose_response:
        yield from _of_level(resource, level)
    for level in summary.levels:
        if level.group is not None:  # without groups they are those of the dose-response
            yield from _of_level(resource, level)


def _of_level(audit: AuditOut, level: Level) -> Iterator[Measurement]:
    place = _Place(audit.model, audit.text_set, audit.id, group=level.group, duplicates=level.duplicates)
    yield from place.measured("nl", _NL, level.nl, _AT_MOST_0)
    for _, number in level_numbers():
        found = getattr(level, number.name)
        yield from place.measured(number.name, number.description, found, number.within or UNBOUNDED)


def _judged(place: _Place, summary: AuditSummary) -> Iterator[Measurement]:
    """The share of texts that the controls show to be memorized; nothing where none has a verdict."""
    calibration = summary.calibration
    if calibration is None or calibration.reason is not None:
        return
    verdicts = calibration.verdicts
    n = verdicts.memorized + verdicts.not_shown
    if n:
        # A verdict is a test with a bounded share of false ones, so it has no interval of a share.
        share = ShareInterval(
            n=n, count=verdicts.memorized, share=verdicts.memorized / n, low=None, high=None
        )
        yield from place.measured("memorized", _MEMORIZED.format(calibration.fdr), share)


def _own(place: _Place, name: str, found: Any, description: str = "") -> Iterator[Measurement]:
    """The numbers with an interval that a metric made for the summary by itself, by their path in it.

    An entry of a list is known by its first field, as `verbatim` is by the tokens of its prefixes.
    """
    if isinstance(found, ShareInterval | MeanInterval | AreaUnderCurve):
        yield from place.measured(name, description, found)
    elif isinstance(found, BaseModel):
        for field, facts in type(found).model_fields.items():
            yield from _own(place, f"{name}.{field}", getattr(found, field), facts.description or "")
    elif isinstance(found, list):
        for entry in found:
            first = next(iter(type(entry).model_fields))
            yield from _own(place, f"{name}.{getattr(entry, first):g}", entry)


def _of_study(study: StudyOut) -> Iterator[Measurement]:
    if study.result is None:
        return
    ids = {each.label: each.model for each in study.models}
    for comparison in study.result.comparisons:
        later, earlier = ids[comparison.to_label], ids[comparison.from_label]
        for level in comparison.levels:
            place = _Place(
                later, study.text_set, None, earlier, group=level.group, duplicates=level.duplicates
            )
            yield from place.measured("difference", _DIFFERENCE, level.difference)
            yield from place.measured("excess", _EXCESS, level.excess)


def _of_edit(edit: EditOut) -> Iterator[Measurement]:
    evaluation = edit.evaluation
    if evaluation is None or edit.edited_model is None:
        return
    clean = edit.text_sets.get(TextSetRole.CLEAN)
    if clean is not None:
        place = _Place(edit.edited_model, clean, against=edit.model)
        yield from place.measured("perplexity_increase", _INCREASE, evaluation.perplexity_increase)
        yield from place.measured("ndcg", _NDCG, evaluation.ndcg, SHARE)
    for stress, by_role in (evaluation.stress or {}).items():
        for role, change in by_role.items():
            place = _Place(edit.edited_model, edit.text_sets[role])
            name, what = f"stress.{stress}.strict", "Share of texts recited although something was changed."
            # An evaluation of an older release has no intervals of these.
            yield from place.measured(name, what, change.after_interval or change.after, SHARE)
    yield from _of_proof(edit, evaluation, edit.edited_model)
    if (items := edit.text_sets.get(TextSetRole.ITEMS)) is not None:
        yield from _of_items(evaluation, items, (edit.model, edit.edited_model))


def _of_proof(edit: EditOut, evaluation: Evaluation, edited_model: str) -> Iterator[Measurement]:
    models = {ModelRole.BASE: edit.model, ModelRole.EDITED: edited_model}
    if evaluation.reference is not None:
        models[ModelRole.REFERENCE] = evaluation.reference.model
    for each in proved(evaluation):
        if each.model in models:
            against = edit.model if each.changed else None
            place = _Place(models[each.model], edit.text_sets[each.texts], against=against)
            yield from place.measured(each.name, each.description, each.found, each.within)


def _of_items(evaluation: Evaluation, items: str, models: tuple[str, str]) -> Iterator[Measurement]:
    """What the base and the edited model make of questions, of all of a kind and by their group."""
    for kind, answered in (evaluation.items or {}).items():
        for model, value in zip(models, (answered.before, answered.after), strict=True):
            place = _Place(model, items)
            yield from place.measured(f"items.{kind}", "Share of questions answered rightly.", value, SHARE)
    for task in evaluation.tasks or ():
        for model, share in zip(models, (task.before, task.after), strict=True):
            yield from _Place(model, items, group=task.task).measured("task_accuracy", _TASK, share)
