"""What was observed for a rule of a policy, and what that decides."""

from typing import NamedTuple

from app.contracts.base import Described
from app.contracts.results.evaluations import Outcome
from app.contracts.results.reasons import Reason


class Observation(Described):
    """What was observed for a rule: all that its outcome is decided from, and no text."""

    value: float | None = None
    """What the limit is compared with, in the rule's unit; null if nothing was measured."""
    n: int = 0
    """How many texts in scope have a number."""
    count: int | None = None
    """How many of them count against the limit; null where the rule counts no texts."""
    low: float | None = None
    """Where the interval begins, in the unit of `value`; null without an interval."""
    high: float | None = None
    """Where the interval ends; null likewise."""
    confidence: float | None = None
    """What the interval holds at: for a rate each end by itself, else both ends together; null likewise."""
    unmeasured: int = 0
    """How many texts in scope have no number: too short, not scored, or without controls like them."""
    undecided: int = 0
    """How many texts have an interval of their own in which the limit lies."""
    least_q: float | None = None
    """The q-value that as many texts as the rule `detects` would have if they alone were above all controls;
    null where there is none."""
    missing: Reason | None = None
    """Why there is nothing to decide from; null if there is."""


class Decision(NamedTuple):
    """What an observation decides: the outcome and, if that is `inconclusive`, why."""

    outcome: Outcome
    reason: Reason | None = None


def within_limit(observed: Observation, limit: float) -> Decision:
    """Whether a number is at most a limit: `pass` if its whole interval is, `fail` if all of that is more."""
    if observed.missing is not None:
        return Decision("inconclusive", observed.missing)
    if observed.low is None or observed.high is None:
        return Decision("inconclusive", "no_interval")
    if observed.high <= limit:
        return Decision("pass")
    if observed.low > limit:
        return Decision("fail")
    return Decision("inconclusive", "interval_spans_limit")


def none_counts(observed: Observation) -> Decision:
    """Whether no text counts against a limit. One that does decides, whatever is not known of others."""
    if observed.count:
        return Decision("fail")
    if observed.missing is not None:
        return Decision("inconclusive", observed.missing)
    if observed.unmeasured:
        return Decision("inconclusive", "texts_unmeasured")
    if observed.n == 0:
        return Decision("inconclusive", "no_texts")
    if observed.undecided:
        return Decision("inconclusive", "texts_undecided")
    return Decision("pass")
