"""What comparing an audit's texts with others showed, as it is answered."""

from enum import StrEnum
from typing import Literal

from app.contracts.base import Described
from app.contracts.results.intervals import MeanInterval

# Why no text has a verdict.
CalibrationReason = Literal["too_few_controls", "too_few_texts", "controls_differ"]


class Verdict(StrEnum):
    """What is shown of a text."""

    MEMORIZED = "memorized"  # its q-value is at most `options.fdr`
    NOT_SHOWN = "not_shown"  # it may have been seen, but these numbers do not show it
    UNCALIBRATED = "uncalibrated"  # nothing was there to compare it with that is like it


class VerdictCounts(Described):
    """How many of the texts that could be scored have each verdict."""

    memorized: int
    """Their q-value is at most `fdr`."""
    not_shown: int
    """Theirs is above it, which does not prove that they were not seen."""
    uncalibrated: int
    """There is no control text that they can be compared with."""


class ComparisonCheck(Described):
    """Whether a classifier that sees only the texts tells audited texts from controls.

    If it does, a difference of likelihoods may come from the texts as well as from memory: blind baselines
    beat membership attacks on all of eight published sets (arXiv 2406.16201).
    """

    n_audited: int
    """Audited texts that it saw: a sample of many."""
    n_controls: int
    """Control texts that it saw."""
    auc: float | None
    """Its cross-validated area under the ROC curve, 0 to 1, 0.5 for chance; null for too few texts."""
    p_value: float | None
    """Of such an area or a greater one if texts and controls are exchangeable, in (0, 1], by permutation;
    null likewise."""
    passed: bool
    """Whether it did not tell them apart."""


class Calibration(Described):
    """An audit's texts judged by control texts that the language model never saw.

    Each text has a conformal p-value among the controls (Vovk, Gammerman and Shafer 2005) and a q-value
    (Benjamini and Hochberg 1995). Where texts and controls differ, they are compared within strata of length
    and of likelihood under the reference model; where that does not help, `reason` says that no text has a
    verdict.
    """

    statistic: Literal["nl", "reference"]
    """What is compared, in nats per token; higher is more strongly memorized. `nl`, or with a reference model
    `reference`: `nl` less that under the reference model."""
    fdr: float
    """The share of false ones that is accepted among the texts called `memorized`, in (0, 1)."""
    seed: int
    """`options.seed`, of all that was drawn at random: the texts and the folds of the check, permutations."""
    n_audited: int
    """Audited texts that could be scored."""
    n_controls: int
    """Control texts that they are compared with, without those that are left out."""
    controls_among_texts: int
    """Control texts that were left out because they are among the audited texts."""
    characters: int
    """How many characters of a text the check of the comparison reads at most, from its beginning: 2,000. It
    reads up to 400 texts of each kind, and knows their whole lengths."""
    verdicts: VerdictCounts
    """How many texts have each verdict."""
    effect: MeanInterval | None
    """Mean of `statistic` of the audited texts less that of the controls, in nats per token, within strata if
    there are some; positive is more strongly memorized. Null without texts or controls. It measures no memory
    where `reason` is known."""
    permutation_p: float | None
    """Of such an effect or a greater one if texts and controls are exchangeable, in (0, 1], one-sided, by
    permutation; null where `reason` is known."""
    permutations: int | None = None
    """How many it rests on. 0: of a normal distribution with the mean and variance of all permutations, above
    100,000 texts; it is then at least 0.0001. Null where `reason` is known, and in older results."""
    least_p: float | None
    """The least p-value that a text could have, 1 / (controls + 1), of the largest stratum; null where
    `reason` is known."""
    least_p_of_all: float | None = None
    """The same of the smallest stratum: a p-value that every text can have which has one at all. Null where
    `reason` is known, and in older results."""
    least_memorized: int | None
    """How many texts must exceed all controls before any of them can be `memorized`; 1 means that each can
    alone. Null where `reason` is known."""
    check: ComparisonCheck | None
    """Of all texts and controls; null without texts or controls."""
    groups: int | None = None
    """In how many groups texts were compared, each text with controls of its own `group`; texts of others,
    which have too few controls, are `uncalibrated`. Null where groups did not count, as all texts passed the
    check together or share no group with controls, where `reason` is known, and in older results."""
    strata: int | None
    """In how many strata texts were compared, of all groups together; 1, or `groups`, if none were needed,
    null where `reason` is known."""
    check_within_strata: ComparisonCheck | None
    """The check again, within strata; null if none were needed or could be made."""
    reason: CalibrationReason | None
    """Why all texts are `uncalibrated`; null if they are not. `too_few_controls`: fewer than 1 / `fdr` - 1.
    `too_few_texts`: fewer than five of a kind that are no near-duplicates. `controls_differ`: the check did
    not pass, nor within strata."""


class LevelDifference(Described):
    """How much higher `nl` is than under the reference model, at one known number of duplicates."""

    duplicates: int
    """Known insertions."""
    difference: MeanInterval
    """Mean of `nl` less that under the reference model, in nats per token; positive is more strongly
    memorized."""


class ReferenceDifference(Described):
    """How much higher `nl` is than under the reference model, text by text (paired)."""

    difference: MeanInterval | None
    """Mean of `nl` less that under the reference model, in nats per token; positive is more strongly
    memorized. Null if no text could be scored by both."""
    by_duplicates: list[LevelDifference]
    """Fewest duplicates first; empty if none are known, or above 1,000 numbers of them."""
