"""`rate`: the share of texts with a property, at a stated confidence."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

from pydantic import Field

from app.contracts.metrics.registry import METRICS
from app.contracts.policies.rule import (
    ROLES,
    EditTexts,
    GroupPattern,
    RuleOfOneModel,
    Subject,
    SubjectKind,
    percent,
    register,
    texts,
)
from app.contracts.results.observations import Decision, Observation, within_limit


@dataclass(frozen=True, slots=True)
class RateProperty:
    """What is counted of a text: a field of what a metric measured of it.

    Attributes:
        metric: what an audit must have been asked for.
        field: where in its result, from the outside in: true or false, or a number.
        at_least: from which value on a number counts; None for true or false.
    """

    metric: str
    field: tuple[str, ...]
    at_least: float | None = None


# Whatever summaries give as a share, and what comes close to the suffix rather than not.
PROPERTIES: Final[dict[str, RateProperty]] = {
    shown.name: RateProperty(metric.name, tuple(shown.of.split(".")))
    for metric in METRICS.values()
    for shown in metric.numbers
    if shown.kind == "share"
} | {"near_verbatim": RateProperty("near_verbatim", ("p",), at_least=0.5)}

if TYPE_CHECKING:
    RateMetric = str
else:
    RateMetric = Literal[tuple(PROPERTIES)]


def texts_needed(at_most: float, confidence: float) -> int:
    """Of how many texts none may have a property to show that at most such a share has it.

    The least n with (1 - at_most)^n <= 1 - confidence: 2,995 for 0.1 % at 95 %.
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-at_most))


@register
class Rate(RuleOfOneModel):
    """At most a share `at_most` of texts like those in scope has a property, at a stated confidence.

    The bounds are one-sided and exact (Clopper and Pearson 1934). It passes if the upper one is at most
    `at_most`, and fails if the lower one is above. Texts in scope that have no such number, as they are too
    short, do not count.
    """

    subjects: ClassVar[frozenset[SubjectKind]] = frozenset({"audit", "study", "edit"})

    kind: Literal["rate"]
    metric: Annotated[
        RateMetric,
        Field(
            description="What is counted: a share of the summary, such as `strict` (the suffix is recited "
            "exactly) or `loose`; or `near_verbatim`, that one sample comes near the suffix with a "
            "probability of at least 0.5, as far as the metric's search found."
        ),
    ]
    at_most: Annotated[float, Field(gt=0, lt=1, description="The share, as 0.001.")]
    confidence: Annotated[
        float, Field(gt=0.5, lt=1, description="Of each bound: 0.95 errs in 5 of 100 cases at most.")
    ] = 0.95
    groups: GroupPattern | None = None
    texts: EditTexts | None = None

    @property
    def limit(self) -> float:
        """The share."""
        return self.at_most

    def refusal(self, subject: Subject) -> str | None:
        """Also if it is of texts that the edit was not given, or of an edit's texts and this is none."""
        if subject.kind != "edit":
            return "texts_of_an_edit" if self.texts else super().refusal(subject)
        if ROLES[self.texts or "seen"] not in subject.text_sets:
            return "no_such_texts"
        return super().refusal(subject)

    def decide(self, observed: Observation) -> Decision:
        """By the bounds. Too few texts to pass even if none of them counted are never enough."""
        if observed.missing is None and observed.n == 0:
            return Decision("inconclusive", "no_texts")
        decision = within_limit(observed, self.at_most)
        few = observed.n < texts_needed(self.at_most, self.confidence)
        if decision.reason == "interval_spans_limit" and few:
            return Decision("inconclusive", "too_few_texts")
        return decision

    def state(self, observed: Observation) -> str:
        """The share and its bounds."""
        if observed.value is None or observed.low is None or observed.high is None:
            return f"`{self.metric}` is known of no text in scope."
        return (
            f"`{self.metric}` holds for {observed.count or 0:,} of {texts(observed.n)} "
            f"({percent(observed.value)}); the rate is at least {percent(observed.low)} and at most "
            f"{percent(observed.high)}, each with {percent(self.confidence)} confidence, and "
            f"{percent(self.at_most)} is allowed."
        )
