"""Ending an audit: check that it is whole, summarise it, and only then let it succeed."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.contracts.audits import AuditOptions, StoredAuditSpec
from app.contracts.metrics import registry as contracts
from app.contracts.metrics.fields import level_numbers
from app.contracts.metrics.metric import Metric, SummaryNumber
from app.errors import ReferenceIsSame, ScoresMissing
from app.store.audits import Audit
from app.store.companions import CompanionRole, companions_of
from app.store.jobs.leases import Lease, LeaseLost
from app.store.lifecycle import succeed_audit
from app.store.score_findings import copy_findings
from app.store.scores import ScoreFacts, read_score_facts
from workers.audits.dose_response import (
    MOST_LEVELS,
    DoseResponses,
    Fits,
    equivalent_rows,
    extraction_onset,
    fits_as_objects,
)
from workers.audits.findings import Findings, merged
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.measurements.registry import MEASUREMENTS
from workers.science.metrics.metric import LabelledAccumulator, SummaryAccumulator
from workers.science.metrics.registry import METRICS
from workers.science.statistics.estimates import Mean, ShareCount, as_object
from workers.science.statistics.intervals import ExactSum, Moments, gain_between
from workers.science.statistics.perplexity import perplexity

if TYPE_CHECKING:
    from workers.audits.comparison import Comparison

LEVEL_NUMBERS: Final = level_numbers()
DEFAULT_EXTRACTION_RATE: Final = AuditOptions().extraction_rate

JSONObject = dict[str, Any]


def summarize_audit(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Summarise the scores of an audit, compare them with those of its companions, and end it.

    Raises:
        LeaseLost: the audit was cancelled.
        ScoresMissing: a text has no row or more than one, in the audit or in a companion.
        ReferenceIsSame: the reference model turned out to be the audited one.
    """
    if lease.audit_id is None:
        raise LeaseLost
    audit_id: UUID = lease.audit_id
    with runtime.sessions() as session:
        audit = session.get_one(Audit, audit_id)
        options = StoredAuditSpec.model_validate(audit.spec).options
        summary = Summary(options.extraction_rate)
        comparison = _comparison(session, audit, lambda: keeper.report(0))
        for fact in read_score_facts(session, audit_id, audit.text_set_id):
            keeper.report(0)
            summary.add(fact if comparison is None else comparison.add(fact))
        if summary.texts != audit.texts_total:
            raise ScoresMissing(f"{audit.texts_total} texts have {summary.texts} score rows.")
        to_calibrate = None if comparison is None else comparison.to_calibrate(options)
    result, fits = summary.result(), summary.fits()
    findings = Findings(audit_id, audit.texts_total)
    runtime.meter.note(audit.texts_total)
    if comparison is not None:
        result["calibration"] = comparison.calibrate(to_calibrate, options, findings)
        result["reference_difference"] = comparison.reference_difference(findings)

    def write(session: Session) -> int:
        with runtime.sessions() as reading:
            equivalents = equivalent_rows(reading, audit_id, fits)
            copy_findings(session, merged(findings.rows(), equivalents))
        succeed_audit(session, audit_id, result)
        return 0

    return finish(runtime, lease, write)


def _comparison(session: Session, audit: Audit, on_row: Callable[[], object]) -> "Comparison | None":
    """The audit beside its companions; None if it has none."""
    companions = {each.role: each for each in companions_of(session, [audit.id])[audit.id]}
    if not companions:
        return None
    if (reference := companions.get(CompanionRole.REFERENCE)) is not None:
        digest = session.get_one(Audit, reference.audit_id).language_model_digest
        if digest == audit.language_model_digest is not None:
            raise ReferenceIsSame(
                "The reference model is the audited one; name another as `reference_model`."
            )
    from workers.audits.comparison import Comparison  # noqa: PLC0415 - scikit-learn takes seconds

    return Comparison(session, audit, companions, on_row)


def summarize(facts: Iterable[ScoreFacts]) -> JSONObject:
    """What an audit found: see `Summary`."""
    summary = Summary()
    for fact in facts:
        summary.add(fact)
    return summary.result()


class Summary:
    """What an audit found: totals, means and shares with 95 % intervals, and the same by level.

    Takes one row after another and keeps none of them: its memory depends on the levels, of which it keeps
    MOST_LEVELS, and of each a bounded sample of NL. Membership scores are kept of a bounded sample of the
    texts that say whether they are a member: see `MembershipSummary`. The same rows in the same order give
    the same bits.

    Perplexity is exp(total NLL / total tokens). Texts that could not be scored are counted in `errors` only.

    Attributes:
        texts: how many rows were added.
    """

    def __init__(self, extraction_rate: float = DEFAULT_EXTRACTION_RATE) -> None:
        self.texts = 0
        self._extraction_rate = extraction_rate
        self._errors = 0
        self._tokens = 0
        self._log_likelihood = ExactSum()
        self._nl_byte = Mean()
        self._nl = Mean()
        self._levels = _Levels()
        self._dose_response = _Levels()
        self._scatter = DoseResponses()
        self._gain = _Gain()
        self._measured = [_Measured(metric) for metric in contracts.METRICS.values()]

    def add(self, fact: ScoreFacts) -> None:
        """Count one row."""
        self.texts += 1
        if fact.nl is None or fact.nl_byte is None or fact.log_likelihood is None:
            self._errors += 1
            return
        self._tokens += fact.n_tokens
        self._log_likelihood.add(fact.log_likelihood)
        self._nl_byte.add(fact.nl_byte)
        self._nl.add(fact.nl)
        found = [number.read(fact.metrics.get(metric)) for metric, number in LEVEL_NUMBERS]
        self._levels.add((fact.group, fact.duplicates), fact.nl, found)
        self._dose_response.add((None, fact.duplicates), fact.nl, found)
        self._scatter.add(fact.group, fact.duplicates, fact.nl)
        self._gain.add(fact.duplicates, fact.nl)
        for measured in self._measured:
            measured.add(fact.metrics, fact.member)

    def fits(self) -> Fits:
        """NL by duplicates, by which texts of unknown count are compared: see `DoseResponses.fits`."""
        return self._scatter.fits()

    def result(self) -> JSONObject:
        """The summary of all rows so far, as `app.contracts.results.summary.AuditSummary` reads it."""
        log_likelihood = self._log_likelihood.value
        levels, dose_response = self._levels.result(), self._dose_response.result()
        grouped = [level for level in levels if level["group"] is not None]
        found = {
            "texts": self.texts,
            "errors": self._errors,
            "tokens": self._tokens,
            "log_likelihood": log_likelihood,
            "perplexity": perplexity(log_likelihood / self._tokens) if self._tokens else None,
            "nl": self._nl.result(),
            "nl_byte": self._nl_byte.result(),
            "levels": levels,
            "dose_response": dose_response,
            "dose_fits": fits_as_objects(self.fits()),
            "extraction_onset": extraction_onset([*dose_response, *grouped], self._extraction_rate),
            "gain": self._gain.result(),
        }
        for measured in self._measured:
            found |= measured.result()
        return found


def _count(number: SummaryNumber) -> Mean | ShareCount:
    return Mean(number.within) if number.kind == "mean" else ShareCount()


class _Measured:
    """What one metric found of all texts."""

    def __init__(self, metric: Metric) -> None:
        self._name = metric.name
        self._numbers = [(number, _count(number)) for number in metric.numbers]
        self._own: SummaryAccumulator | None = None
        self._labelled: LabelledAccumulator | None = None
        self._field = None if metric.summary is None else metric.summary.name
        if metric.summary is None:
            return
        if (measured := METRICS.get(metric.name)) is not None and measured.labelled is not None:
            self._labelled = measured.labelled()
        make = (measured or MEASUREMENTS[metric.name]).summary
        self._own = None if make is None else make()

    def add(self, metrics: JSONObject, member: bool | None) -> None:
        """Count one text, if the metric was asked for."""
        found = metrics.get(self._name)
        if not found:
            return
        for number, counted in self._numbers:
            counted.add(number.read(found))
        if self._own is not None:
            self._own.add(found)
        if self._labelled is not None and member is not None:
            self._labelled.add(found, member=member)

    def result(self) -> JSONObject:
        """The metric's fields of the summary."""
        fields = {number.name: counted.result() for number, counted in self._numbers}
        accumulator = self._own or self._labelled
        if self._field is not None and accumulator is not None:
            fields[self._field] = accumulator.result()
        return fields


class _Level:
    """The numbers of the texts of one level."""

    def __init__(self) -> None:
        self._nl = Mean()
        self._numbers = [_count(number) for _, number in LEVEL_NUMBERS]

    def add(self, nl: float, found: Sequence[Any]) -> None:
        self._nl.add(nl)
        for counted, number in zip(self._numbers, found, strict=True):
            counted.add(number)

    def result(self) -> JSONObject:
        numbers = zip(LEVEL_NUMBERS, self._numbers, strict=True)
        return {
            "nl": self._nl.result(),
            **{number.name: counted.result() for (_, number), counted in numbers},
        }


_LevelKey = tuple[str | None, int | None]


class _Levels:
    """Texts by group and duplicates; none as soon as there are too many levels."""

    def __init__(self) -> None:
        self._levels: dict[_LevelKey, _Level] | None = {}

    def add(self, key: _LevelKey, nl: float, found: Sequence[Any]) -> None:
        if self._levels is None or key == (None, None):
            return
        level = self._levels.get(key)
        if level is None:
            if len(self._levels) == MOST_LEVELS:
                self._levels = None
                return
            level = self._levels[key] = _Level()
        level.add(nl, found)

    def result(self) -> list[JSONObject]:
        ordered = sorted(
            (self._levels or {}).items(),
            key=lambda item: (item[0][0] or "", -1 if item[0][1] is None else item[0][1]),
        )
        return [
            {"group": group, "duplicates": duplicates, **level.result()}
            for (group, duplicates), level in ordered
        ]


class _Gain:
    """NL at the fewest and at the most duplicates, however many numbers of duplicates there are."""

    def __init__(self) -> None:
        self._fewest: tuple[int, Moments] | None = None
        self._most: tuple[int, Moments] | None = None

    def add(self, duplicates: int | None, nl: float) -> None:
        if duplicates is None:
            return
        # A new extreme has not been seen before, so that its numbers begin here.
        if self._fewest is None or duplicates < self._fewest[0]:
            self._fewest = (duplicates, Moments())
        if self._most is None or duplicates > self._most[0]:
            self._most = (duplicates, Moments())
        for level, moments in (self._fewest, self._most):
            if level == duplicates:
                moments.add(nl)

    def result(self) -> JSONObject | None:
        """None without two known levels."""
        if self._fewest is None or self._most is None or self._fewest[0] == self._most[0]:
            return None
        (fewest, low), (most, high) = self._fewest, self._most
        gain = as_object(gain_between(low, high))
        return None if gain is None else {"from_duplicates": fewest, "to_duplicates": most, **gain}
