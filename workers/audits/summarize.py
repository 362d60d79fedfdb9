"""Ending an audit: check that it is whole, summarise it, and only then let it succeed."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, get_args
from uuid import UUID

from sqlalchemy.orm import Session

from app.errors import ScoresMissing
from app.store.audits import Audit
from app.store.jobs.queue import Lease, LeaseLost
from app.store.lifecycle import succeed_audit
from app.store.scores import ScoreFacts, read_score_facts
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.metrics.extraction import SplitStatus
from workers.science.scoring.scorer import perplexity
from workers.science.statistics.intervals import (
    ExactSum,
    MeanEstimate,
    Moments,
    gain_between,
    mean_with_interval,
)
from workers.science.statistics.shares import ShareEstimate, share_with_interval

# More levels than this are not summarised: the groups are then not levels of anything.
MOST_LEVELS: Final = 1000
# With so many samples a text is asked to come up with a probability of at least a half.
EXTRACTION_SAMPLES: Final = (1, 10, 100, 1000)

JSONObject = dict[str, Any]


def summarize_audit(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Summarise the scores of an audit and end it.

    Raises:
        LeaseLost: the audit was cancelled.
        ScoresMissing: a text has no row or more than one.
    """
    if lease.audit_id is None:
        raise LeaseLost
    audit_id: UUID = lease.audit_id
    summary = Summary()
    with runtime.sessions() as session:
        texts_total = session.get_one(Audit, audit_id).texts_total
        for fact in read_score_facts(session, audit_id):
            keeper.report(0)
            summary.add(fact)
    if summary.texts != texts_total:
        raise ScoresMissing(f"{texts_total} texts have {summary.texts} score rows.")
    result = summary.result()

    def write(session: Session) -> int:
        succeed_audit(session, audit_id, result)
        return 0

    return finish(runtime, lease, write)


def summarize(facts: Iterable[ScoreFacts]) -> JSONObject:
    """What an audit found: see `Summary`."""
    summary = Summary()
    for fact in facts:
        summary.add(fact)
    return summary.result()


class Summary:
    """What an audit found: totals, means and shares with 95 % intervals, and the same by level.

    Takes one row after another and keeps none of them: its memory depends on the levels, of which it keeps
    MOST_LEVELS. The same rows in the same order give the same bits.

    Perplexity is exp(total NLL / total tokens). Texts that could not be scored are counted in `errors` only.

    Attributes:
        texts: how many rows were added.
    """

    def __init__(self) -> None:
        self.texts = 0
        self._errors = 0
        self._tokens = 0
        self._log_likelihood = ExactSum()
        self._nl_byte = Moments()
        self._similarity = Moments()
        self._all = _Level()
        self._levels = _Levels()
        self._dose_response = _Levels()
        self._gain = _Gain()
        self._splits: Counter[str] = Counter()
        self._verbatim: dict[int, tuple[Counter[str], _Share]] = {}
        self._sampling = _Sampling()

    def add(self, fact: ScoreFacts) -> None:
        """Count one row."""
        self.texts += 1
        if fact.nl is None or fact.nl_byte is None or fact.log_likelihood is None:
            self._errors += 1
            return
        self._tokens += fact.n_tokens
        self._log_likelihood.add(fact.log_likelihood)
        self._nl_byte.add(fact.nl_byte)
        extraction: JSONObject = fact.metrics.get("extraction") or {}
        strict, loose = extraction.get("strict"), extraction.get("loose")
        self._all.add(fact.nl, strict, loose)
        self._levels.add((fact.group, fact.duplicates), fact.nl, strict, loose)
        self._dose_response.add((None, fact.duplicates), fact.nl, strict, loose)
        self._gain.add(fact.duplicates, fact.nl)
        self._add_metrics(extraction, fact.metrics.get("verbatim") or {}, fact.metrics.get("p_z") or {})

    def _add_metrics(self, extraction: JSONObject, verbatim: JSONObject, sampling: JSONObject) -> None:
        if extraction:
            self._splits[extraction["status"]] += 1
            if extraction["similarity"] is not None:
                self._similarity.add(extraction["similarity"])
        for prefix_tokens, recited in verbatim.items():
            splits, share = self._verbatim.setdefault(int(prefix_tokens), (Counter(), _Share()))
            splits[recited["status"]] += 1
            share.add(recited.get("strict"))
        if sampling:
            self._sampling.add(sampling)

    def result(self) -> JSONObject:
        """The summary of all rows so far, as `app.audits.schemas.AuditSummary` reads it."""
        log_likelihood = self._log_likelihood.value
        return {
            "texts": self.texts,
            "errors": self._errors,
            "tokens": self._tokens,
            "log_likelihood": log_likelihood,
            "perplexity": perplexity(log_likelihood / self._tokens) if self._tokens else None,
            "nl_byte": _object(mean_with_interval(self._nl_byte)),
            "similarity": _object(mean_with_interval(self._similarity)),
            **self._all.result(),
            "extraction_splits": _splits(self._splits),
            "verbatim": [
                {"prefix_tokens": prefix_tokens, "splits": _splits(splits), "strict": share.result()}
                for prefix_tokens, (splits, share) in sorted(self._verbatim.items())
            ]
            or None,
            "p_z": self._sampling.result(),
            "levels": self._levels.result(),
            "dose_response": self._dose_response.result(),
            "gain": self._gain.result(),
        }


@dataclass(slots=True)
class _Share:
    """How many of those texts that can tell have a property."""

    n: int = 0
    count: int = 0

    def add(self, holds: bool | None) -> None:
        if holds is not None:
            self.n += 1
            self.count += holds

    def result(self) -> JSONObject | None:
        return _object(share_with_interval(self.count, self.n))


def _splits(counts: Counter[str]) -> JSONObject | None:
    return {status: counts[status] for status in get_args(SplitStatus)} if counts else None


@dataclass(slots=True)
class _Level:
    """The numbers of the texts of one level."""

    nl: Moments = field(default_factory=Moments)
    strict: _Share = field(default_factory=_Share)
    loose: _Share = field(default_factory=_Share)

    def add(self, nl: float, strict: bool | None, loose: bool | None) -> None:
        self.nl.add(nl)
        self.strict.add(strict)
        self.loose.add(loose)

    def result(self) -> JSONObject:
        return {
            "nl": _object(mean_with_interval(self.nl)),
            "strict": self.strict.result(),
            "loose": self.loose.result(),
        }


_LevelKey = tuple[str | None, int | None]


class _Levels:
    """Texts by group and duplicates; none as soon as there are too many levels."""

    def __init__(self) -> None:
        self._levels: dict[_LevelKey, _Level] | None = {}

    def add(self, key: _LevelKey, nl: float, strict: bool | None, loose: bool | None) -> None:
        if self._levels is None or key == (None, None):
            return
        level = self._levels.get(key)
        if level is None:
            if len(self._levels) == MOST_LEVELS:
                self._levels = None
                return
            level = self._levels[key] = _Level()
        level.add(nl, strict, loose)

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
        gain = _object(gain_between(low, high))
        return None if gain is None else {"from_duplicates": fewest, "to_duplicates": most, **gain}


class _Sampling:
    """The odds that samples recite the suffix, over the texts that have one."""

    def __init__(self) -> None:
        self._splits: Counter[str] = Counter()
        self._log_p_z = Moments()
        self._largest: float | None = None
        self._impossible = 0
        self._extractable = {samples: _Share() for samples in EXTRACTION_SAMPLES}

    def add(self, sampling: JSONObject) -> None:
        self._splits[sampling["status"]] += 1
        if sampling["p_z"] is None:
            return
        self._largest = max(sampling["p_z"], self._largest or 0.0)
        for samples, share in self._extractable.items():
            share.add(sampling["n_50"] is not None and sampling["n_50"] <= samples)
        if sampling["log_p_z"] is None:
            self._impossible += 1
        else:
            self._log_p_z.add(sampling["log_p_z"])

    def result(self) -> JSONObject | None:
        splits = _splits(self._splits)
        if splits is None:
            return None
        return {
            "splits": splits,
            "log_p_z": _object(mean_with_interval(self._log_p_z)),
            "impossible": self._impossible,
            "largest_p_z": self._largest,
            "extractable": [
                {"samples": samples, "texts": share.result()}
                for samples, share in self._extractable.items()
                if share.n
            ],
        }


def _object(estimate: MeanEstimate | ShareEstimate | None) -> JSONObject | None:
    return None if estimate is None else asdict(estimate)
