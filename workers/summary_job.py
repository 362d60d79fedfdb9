"""Ending an audit: check that it is whole, summarise it, and only then let it succeed."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from app.errors import ScoresMissing
from app.store.audits import ScoreFacts, read_score_facts
from app.store.jobs import Lease, LeaseLost
from app.store.transitions import succeed_audit
from workers.finishing import finish
from workers.lease_keeper import LeaseKeeper
from workers.runtime import Runtime
from workers.science.scoring import perplexity
from workers.science.statistics import gain_between, mean_with_interval

# More levels than this are not summarised: the groups are then not levels of anything.
MOST_LEVELS = 1000

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
    with runtime.sessions() as session:
        facts, texts_total = read_score_facts(session, audit_id)
    if len(facts) != texts_total:
        raise ScoresMissing(f"{texts_total} texts have {len(facts)} score rows.")
    keeper.report(0)
    summary = summarize(facts)

    def write(session: Session) -> int:
        succeed_audit(session, audit_id, summary)
        return 0

    return finish(runtime, lease, write)


def summarize(facts: Sequence[ScoreFacts]) -> JSONObject:
    """What an audit found: totals, means with 95 % intervals, and the same by group and by duplicates.

    Perplexity is exp(total NLL / total tokens). Texts that could not be scored are counted in `errors` only.
    """
    scored = [fact for fact in facts if fact.nl is not None]
    tokens = sum(fact.n_tokens for fact in scored)
    log_likelihood = float(np.sum([fact.log_likelihood for fact in scored]))
    return {
        "texts": len(facts),
        "errors": len(facts) - len(scored),
        "tokens": tokens,
        "log_likelihood": log_likelihood,
        "perplexity": perplexity(log_likelihood / tokens) if tokens else None,
        "nl": _interval(scored, lambda fact: fact.nl),
        "nl_byte": _interval(scored, lambda fact: fact.nl_byte),
        "strict": _interval(scored, lambda fact: fact.strict),
        "loose": _interval(scored, lambda fact: fact.loose),
        "similarity": _interval(scored, lambda fact: fact.similarity),
        "levels": _levels(scored, lambda fact: (fact.group, fact.duplicates)),
        "dose_response": _levels(scored, lambda fact: (None, fact.duplicates)),
        "gain": _gain(scored),
    }


def _levels(
    facts: Sequence[ScoreFacts], level_of: Callable[[ScoreFacts], tuple[str | None, int | None]]
) -> list[JSONObject]:
    by_level: dict[tuple[str | None, int | None], list[ScoreFacts]] = defaultdict(list)
    for fact in facts:
        by_level[level_of(fact)].append(fact)
    by_level.pop((None, None), None)
    if len(by_level) > MOST_LEVELS:
        return []
    ordered = sorted(
        by_level.items(), key=lambda item: (item[0][0] or "", -1 if item[0][1] is None else item[0][1])
    )
    return [
        {
            "group": group,
            "duplicates": duplicates,
            "nl": _interval(members, lambda fact: fact.nl),
            "strict": _interval(members, lambda fact: fact.strict),
            "loose": _interval(members, lambda fact: fact.loose),
        }
        for (group, duplicates), members in ordered
    ]


def _interval(
    facts: Sequence[ScoreFacts], number_of: Callable[[ScoreFacts], float | None]
) -> JSONObject | None:
    numbers = [number for fact in facts if (number := number_of(fact)) is not None]
    if not numbers:
        return None
    return asdict(mean_with_interval(np.asarray(numbers, dtype=np.float64)))


def _gain(facts: Sequence[ScoreFacts]) -> JSONObject | None:
    """The mean NL at the most duplicates less that at the fewest; None without two known levels."""
    by_level: dict[int, list[float]] = defaultdict(list)
    for fact in facts:
        if fact.duplicates is not None and fact.nl is not None:
            by_level[fact.duplicates].append(fact.nl)
    if len(by_level) < 2:  # noqa: PLR2004 - a difference takes two
        return None
    fewest, most = min(by_level), max(by_level)
    estimate = gain_between(by_level[fewest], by_level[most])
    return {"from_duplicates": fewest, "to_duplicates": most, **asdict(estimate)}
