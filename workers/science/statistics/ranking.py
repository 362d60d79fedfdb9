"""How well a score ranks members of the training data above others: ROC AUC, and TPR at a low FPR."""

from dataclasses import dataclass

from workers.science.statistics.intervals import Values
from workers.science.statistics.shares import ShareEstimate


@dataclass(frozen=True, slots=True)
class AucEstimate:
    """Area under the ROC curve and its 95 % interval, in [0, 1]; 0.5 = chance.

    The probability that a member scores higher than a text that is none, with ties as a half.
    """

    n_members: int
    n_others: int
    auc: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TprEstimate:
    """The share of members found where at most a share `fpr` of other texts is taken for members.

    Attributes:
        fpr: the false positive rate that is allowed, in (0, 1).
        others_needed: with fewer texts that are no members this rate cannot be measured: 1 / fpr.
        threshold: texts that score above it are taken for members. None with too few other texts.
        tpr: members above it. None with too few other texts, or without members.
        measured_fpr: other texts above it. None with too few of them.
    """

    fpr: float
    others_needed: int
    threshold: float | None
    tpr: ShareEstimate | None
    measured_fpr: ShareEstimate | None


def roc_auc(members: Values, others: Values, *, seed: int = 0) -> AucEstimate | None:
    """The ROC AUC of scores and its interval; None without members or without other texts.

    Args:
        members: finite scores of texts of the training data, higher = more likely a member [n].
        others: finite scores of texts that are not [m].
        seed: of the bootstrap.
    """
    raise NotImplementedError


def tpr_at_fpr(members: Values, others: Values, fpr: float) -> TprEstimate:
    """The true positive rate at a false positive rate of at most `fpr`.

    Args:
        members: finite scores of texts of the training data, higher = more likely a member [n].
        others: finite scores of texts that are not [m].
        fpr: in (0, 1), such as 0.01.
    """
    raise NotImplementedError
