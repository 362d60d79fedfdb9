"""How well a score ranks members of the training data above others: ROC AUC, and TPR at a low FPR.

The interval of an AUC is DeLong's (1988, Biometrics 44: 837-845), Student's on the logit scale with Welch's
degrees of freedom, and wherever it reaches further, the same with one more text on each side that ranks at
chance. Near 1 few members show little of how they vary, and at 1 nothing: of 30 members and 300 others whose
spreads differ, DeLong's alone covers an AUC of 0.99 in 0.72 of cases. A bootstrap draws from the same few.

Simulated coverage, to be 0.95, as the least and the most for members and others that are normal with equal
spreads, normal with thrice or a third of the spread, or exponential (2,000 samples;
tests/unit/science/test_ranking.py repeats some of it with fewer):

    members, others   6, 30        6, 100       12, 60       30, 30       30, 300      100, 100
    AUC 0.5 to 0.9    0.97, 1.00   0.96, 1.00   0.97, 0.99   0.96, 0.98   0.95, 0.98   0.95, 0.97
    AUC 0.95, 0.99    0.97, 1.00   0.97, 0.99   0.97, 0.98   0.97, 0.98   0.97, 0.98   0.97, 0.98

So six members are covered more often than claimed: they are too few to show a spread.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from workers.science.statistics.intervals import CONFIDENCE, Values
from workers.science.statistics.shares import ShareEstimate, share_with_interval

_UPPER = (1 + CONFIDENCE) / 2
_CHANCE = 0.5
# A rate times a number of texts may fall short of a whole number by rounding alone.
_ROUNDING = 1e-9

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AucEstimate:
    """Area under the ROC curve and its 95 % interval, in [0, 1]; 0.5 = chance.

    The probability that a member scores higher than a text that is none, with ties as a half. `low` and
    `high` are None where all scores are equal.
    """

    n_members: int
    n_others: int
    auc: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class TprEstimate:
    """The share of members found where at most a share `fpr` of other texts is taken for members.

    Both intervals are of this threshold: of the share of all members, and of all other texts, above it.

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


def roc_auc(members: Values, others: Values) -> AucEstimate | None:
    """The ROC AUC of scores and its interval; None without members or without other texts.

    Nothing is drawn at random: the same scores have the same interval.

    Args:
        members: finite scores of texts of the training data, higher = more likely a member [n].
        others: finite scores of texts that are not [m].
    """
    above, below = placements(np.asarray(members, np.float64), np.asarray(others, np.float64))
    if not (len(above) and len(below)):
        return None
    n, m, auc = len(above), len(below), float(above.mean())
    # One more member and one more other text, each above half of the other side and of each other.
    shrunk = (n * m * auc + _CHANCE * (n + m + 1)) / ((n + 1) * (m + 1))
    ends = [
        *_logit_interval(auc, above, below),
        *_logit_interval(shrunk, np.append(above, _CHANCE), np.append(below, _CHANCE)),
    ]
    if not ends:
        return AucEstimate(n, m, auc, None, None)
    return AucEstimate(n, m, auc, min(auc, *ends), max(auc, *ends))


def tpr_at_fpr(members: Values, others: Values, fpr: float) -> TprEstimate:
    """The true positive rate at a false positive rate of at most `fpr`.

    The threshold is the lowest score of another text that no more than a share `fpr` of them exceeds; a text
    at the threshold is not taken for a member.

    Args:
        members: finite scores of texts of the training data, higher = more likely a member [n].
        others: finite scores of texts that are not [m].
        fpr: in (0, 1), such as 0.01.
    """
    needed = math.ceil(1 / fpr - _ROUNDING)
    if len(others) < needed:
        return TprEstimate(fpr, needed, None, None, None)
    descending = np.sort(np.asarray(others, np.float64))[::-1]
    threshold = float(descending[math.floor(fpr * len(descending) + _ROUNDING)])
    found, mistaken = (int((np.asarray(scores) > threshold).sum()) for scores in (members, descending))
    return TprEstimate(
        fpr,
        needed,
        threshold,
        share_with_interval(found, len(members)),
        share_with_interval(mistaken, len(descending)),
    )


def placements(members: _Floats, others: _Floats) -> tuple[_Floats, _Floats]:
    """For each member the share of others below it [n], for each other the share of members above it [m]."""
    if not (len(members) and len(others)):
        return members, others
    ranks = stats.rankdata(np.concatenate([members, others]))
    above = (ranks[: len(members)] - stats.rankdata(members)) / len(others)
    below = 1 - (ranks[len(members) :] - stats.rankdata(others)) / len(members)
    return above, below


def _logit_interval(auc: float, above: _Floats, below: _Floats) -> list[float]:
    """Both ends of DeLong's interval on the logit scale; none if the placements do not vary."""
    sizes = len(above), len(below)
    if min(sizes) == 1 or auc in {0.0, 1.0}:
        return []
    parts = above.var(ddof=1) / sizes[0], below.var(ddof=1) / sizes[1]
    variance = float(sum(parts))
    if variance == 0:
        return []
    freedom = variance**2 / sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    reach = float(special.stdtrit(freedom, _UPPER)) * math.sqrt(variance) / (auc * (1 - auc))
    centre = float(special.logit(auc))
    return [float(special.expit(centre - reach)), float(special.expit(centre + reach))]
