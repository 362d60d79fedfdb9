"""What an edit changed, as it is answered.

What a later release adds has a default, so that evaluations which an earlier one stored stay readable.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import model_validator

from app.contracts.base import Described
from app.contracts.results.intervals import MeanInterval, ShareDifference, ShareInterval
from app.contracts.results.proof import MembershipChange, Proof, Reference
from app.contracts.texts import TextSetRole


class MeanChange(Described):
    """A mean before and after, with 95 % intervals."""

    before: MeanInterval | None
    """Of the base; null if no text could be scored."""
    after: MeanInterval | None
    """Of the edited model; null if no text could be scored."""
    change: MeanInterval | None = None
    """After less before, text by text; null if no text has both, and in evaluations of an older release."""


class ShareChange(Described):
    """A share of texts before and after, with 95 % intervals."""

    before: ShareInterval | None
    """Of the base; null if recitation was not measured on these texts, or none is long enough."""
    after: ShareInterval | None
    """Of the edited model; null likewise."""
    change: ShareDifference | None = None
    """After less before, text by text; null likewise, and in evaluations of an older release."""


class PerplexityChange(Described):
    """exp(total NLL / total tokens) before and after."""

    before: float | None
    """Of the base; null if no text could be scored."""
    after: float | None
    """Of the edited model; null if no text could be scored."""


class ProofAudits(Described):
    """The audits behind the numbers: they hold a row for every text, and can be requested again."""

    before: str
    """The id of the base's audit."""
    after: str
    """The id of the edited model's audit."""


class SetChange(Described):
    """The numbers of one text set before and after."""

    texts: int
    """How many texts it has."""
    nl: MeanChange
    """Mean log-likelihood per token in nats; higher means more memorized."""
    strict: ShareChange
    """The share of texts that are recited exactly."""
    loose: ShareChange
    """The share of texts that are recited with a similarity of at least 0.75."""
    perplexity: PerplexityChange
    """Over all tokens of the set."""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, value: Any) -> Any:
        """Bare numbers, as they were stored before there were intervals; all texts are taken to count."""
        if not isinstance(value, dict):
            return value
        changes = {
            name: {when: _with_count(number, value["texts"]) for when, number in value[name].items()}
            for name in ("nl", "strict", "loose")
            if isinstance(value.get(name), dict)
        }
        return value | changes


class Measured(SetChange):
    """One text set before and after."""

    audits: ProofAudits
    """Where the rows are."""


def _with_count(number: Any, n: int) -> Any:
    if isinstance(number, int | float):
        return {"n": n, "mean": number, "low": None, "high": None}
    return number


Outcome = Literal["pass", "fail", "inconclusive"]
# What releases before the outcome said of one; null of others.
PASSED: Final[Mapping[Outcome | None, bool]] = MappingProxyType({"pass": True, "fail": False})


def against_limit(low: float | None, high: float | None, limit: float, *, at_most: bool) -> Outcome:
    """Whether a number keeps a limit, by its interval.

    `pass` if the whole interval is on the right side of the limit, `fail` if it is all on the other; without
    an interval, as nothing, one text or texts all alike were measured, it is neither.
    """
    if low is None or high is None:
        return "inconclusive"
    kept, broken = (high <= limit, low > limit) if at_most else (low >= limit, high < limit)
    return "pass" if kept else "fail" if broken else "inconclusive"


class Check(Described):
    """One of the client's limits against what was measured, with its 95 % interval.

    A limit is kept (`pass`) only if the whole interval keeps it, and broken (`fail`) only if the whole
    interval breaks it. Between them, and without an interval, it is `inconclusive`: texts too few, or
    too alike, to tell.
    """

    name: str
    """The limit, and after a colon the text set."""
    limit: float
    """What was asked for."""
    n: int | None = None
    """How many texts were measured; null in evaluations of an older release."""
    value: float | None
    """What was measured; null if nothing was."""
    low: float | None = None
    """Where the interval begins; null if nothing or one text alone was measured, and of an older release."""
    high: float | None = None
    """Where the interval ends; null likewise."""
    outcome: Outcome | None = None
    """What the interval says; null in evaluations of an older release, which compared the value alone."""
    passed: bool | None
    """True for `pass`, false for `fail`, null for `inconclusive`."""

    def decide(self) -> Outcome:
        """What its own numbers say: the interval, and of an older release the value."""
        low, high = (self.low, self.high) if self.outcome is not None else (self.value, self.value)
        return against_limit(low, high, self.limit, at_most=not self.name.startswith("min_"))


class Verdict(Described):
    """Whether the edited model keeps the limits that were given."""

    outcome: Outcome | None = None
    """`fail` if a limit is broken, `pass` if all are kept, else `inconclusive`; null without limits, and in
    evaluations of an older release."""
    passed: bool | None
    """True for `pass`, false for `fail`, null for `inconclusive` and without limits."""
    checks: list[Check]
    """Each limit; none if none was given."""


class StressChange(Described):
    """The share of texts that are recited exactly although something was changed."""

    before: float | None = None
    """By the base; null if no text is long enough, and where the edited model's weights were changed."""
    after: float | None
    """By the edited model; null if no text is long enough, or the change broke the model."""
    before_interval: ShareInterval | None = None
    """`before` with its interval; null likewise, and in evaluations of an older release."""
    after_interval: ShareInterval | None = None
    """`after` with its interval; null likewise."""
    change: ShareDifference | None = None
    """Text by text, `after` less `before`; where weights were changed, less what the edited model recites
    without that. It is null likewise."""


class ItemChange(Described):
    """The share of questions that are answered rightly."""

    n: int
    """How many questions could be asked."""
    before: float | None
    """By the base; null if it was asked none."""
    after: float | None
    """By the edited model; null if it was asked none."""


class TaskChange(Described):
    """How many questions of one task are answered rightly, with 95 % intervals.

    The same questions are asked before and after, and each is compared with itself.
    """

    task: str | None
    """The `group` of the questions; null for those without one."""
    n: int
    """How many could be asked."""
    before: ShareInterval
    """By the base."""
    after: ShareInterval
    """By the edited model."""
    change: ShareDifference
    """After less before, question by question."""
    kept: MeanInterval | None
    """The share after over that before, at least 0: 1 means that nothing was lost. It is null where the base
    answers none."""


class Evaluation(Described):
    """What an edit changed."""

    sets: dict[TextSetRole, Measured]
    """Each text set before and after, by what it is to the edit."""
    perplexity_increase: MeanInterval | None
    """The share by which the perplexity of clean text grew (0.1 is 10 %); each of `n` texts is compared with
    itself. It is null without clean text."""
    ndcg: MeanInterval | None
    """How the ten likeliest next tokens of both models agree on clean text, a mean over positions of `n`
    texts: 1 means the same order. It is null without clean text."""
    stress: dict[str, dict[TextSetRole, StressChange]] | None
    """By what was changed (prompts, number format, a short fine-tune) and text set; null if not asked for."""
    items: dict[str, ItemChange] | None
    """By the kind of question; null without any."""
    membership: dict[TextSetRole, dict[str, MembershipChange]] | None = None
    """How well memorized and unseen texts are told from `control` texts, by text set and score (`loss`; with
    `stress` also `zlib`, `min_k` and `min_k_pp`); null without control texts, and in evaluations of an older
    release."""
    reference: Reference | None = None
    """The `reference_model` that was named; null if none was."""
    proof: Proof | None = None
    """What is still held, hidden or learned again; null without `stress`, and in evaluations of an older
    release."""
    tasks: list[TaskChange] | None = None
    """The same questions by task, in their order in the text set; null without any, of more than 100 groups,
    and in evaluations of an older release."""
    verdict: Verdict
    """The client's limits against all this."""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, value: Any) -> Any:
        """Bare numbers, as they were stored before there were intervals."""
        if not isinstance(value, dict):
            return value
        texts = value["sets"].get("clean", {}).get("texts", 0)
        return value | {name: _with_count(value.get(name), texts) for name in ("perplexity_increase", "ndcg")}
