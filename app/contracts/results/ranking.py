"""How well a score ranks members of the training data above other texts, as it is answered."""

from app.contracts.base import Described
from app.contracts.results.intervals import ShareInterval


class AreaUnderCurve(Described):
    """ROC AUC, 0 to 1: the probability that a member scores higher than another text, with ties as a half.

    0.5 is chance. [`low`, `high`] is its 95 % interval: DeLong, DeLong and Clarke-Pearson (1988) on the logit
    scale, or that with one more text on each side that ranks at chance where it reaches further.
    """

    n_members: int
    """Texts of the training data."""
    n_others: int
    """Texts that are not."""
    auc: float
    """The area."""
    low: float | None
    """Where the interval begins, 0 to 1; null where all scores are equal, which says nothing of
    how they vary."""
    high: float | None
    """Where the interval ends, 0 to 1; null likewise."""


class TruePositiveRate(Described):
    """The share of members found where at most a share `fpr` of other texts is taken for members."""

    fpr: float
    """The false positive rate that is allowed, 0 to 1."""
    others_needed: int
    """1 / `fpr`: with fewer texts that are no members this rate cannot be measured."""
    threshold: float | None
    """Texts that score above it are taken for members, in the unit of the score; null with too few others."""
    tpr: ShareInterval | None
    """Members above it; null with too few others."""
    measured_fpr: ShareInterval | None
    """Others above it; null with too few of them."""


class Separation(Described):
    """How well a score tells members from other texts."""

    auc: AreaUnderCurve
    """Over all thresholds."""
    at_fpr: list[TruePositiveRate]
    """At a false positive rate of 1 % and of 0.1 %."""
