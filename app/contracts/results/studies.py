"""What a study found of several language models, as it is answered."""

from typing import Literal

from app.contracts.base import Described
from app.contracts.results.calibration import CalibrationReason, ComparisonCheck, VerdictCounts
from app.contracts.results.intervals import MeanInterval, ShareInterval
from app.contracts.results.summary import Gain
from app.contracts.studies import StudyKind


class Texts(Described):
    """Which texts numbers are of. Null narrows nothing."""

    group: str | None
    """Of this group; null for all."""
    duplicates: int | None
    """Inserted so often; null for all."""


class StudyLevel(Texts):
    """Texts under one language model."""

    nl: MeanInterval
    """Mean `nl`, in nats per token, at most 0; higher is more strongly memorized."""
    strict: ShareInterval | None
    """Texts whose suffix is recited exactly; null if `extraction` was not asked for or no text is long
    enough."""


class StudiedModel(Described):
    """A language model of a study by itself."""

    label: str
    """As the request names it."""
    step: int | None
    """Of training, at which the checkpoint was taken; null if none was given."""
    levels: list[StudyLevel]
    """All texts, then by duplicates, by group, and by both. Of more than 200, the kinds that come last are
    left out."""
    gain: Gain | None
    """Null unless texts of two numbers of duplicates are known."""


class Transitions(Described):
    """How many texts two language models recite exactly, and McNemar's test of whether one recites more."""

    both: int
    """Recited by both."""
    lost: int
    """Recited by the earlier one alone."""
    gained: int
    """Recited by the later one alone."""
    neither: int
    """Recited by none."""
    p_value: float
    """Exact and two-sided, in (0, 1]: binomial, `lost` against `gained` (McNemar 1947). 1 where none
    changed."""


class ComparedLevel(Texts):
    """The same texts under two language models."""

    difference: MeanInterval
    """Mean `nl` of the later less that of the earlier, text by text, in nats per token: positive = the later
    has memorized more. Texts that one could not score are left out."""
    excess: MeanInterval | None
    """`difference` less that of the group's texts never inserted: memorization, and no better
    or worse language. In nats per token; null where `duplicates` is null or 0, or there are no such texts."""
    transitions: Transitions | None
    """Null as `strict`."""


class Comparison(Described):
    """Two language models of a study."""

    from_label: str
    """The earlier: the baseline of a pair, the first, or the one before."""
    to_label: str
    """The later."""
    levels: list[ComparedLevel]
    """As the levels of a model; those without a text that both could score are left out."""


class Peak(Described):
    """Where texts stand out most."""

    label: str
    """The language model."""
    step: int | None
    """Its step; null if none was given."""
    excess: MeanInterval
    """Mean `nl` less that of texts never inserted, under this model; nats per token, positive = memorized."""


class HalfLife(Described):
    """After how many steps from the peak half of the excess was lost, at least 0.

    The first crossing of half, with NL interpolated between checkpoints, and its 95 % interval after Fieller
    (1954); the place of the peak is taken as given.
    """

    steps: float | None
    """Null where more than half is left at the end of the run."""
    low: float | None
    """Null where it is beyond the run."""
    high: float | None
    """Null where it may be beyond the run."""


class Curve(Texts):
    """How texts that were inserted so often stand out from those never inserted, over a trajectory."""

    peak: Peak
    """Under which model they stand out most."""
    half_life: HalfLife | None
    """Null without steps, where the peak is the last, or where it is not clearly above 0."""


class ChangedText(Described):
    """A text that changed from one version to another."""

    text_id: str
    """As it was uploaded."""
    difference: float
    """`nl` under the later version less that under the earlier, in nats per token."""
    q_value: float | None
    """Benjamini and Hochberg's, in (0, 1]; null if there are no controls to compare with."""


class ChangedTexts(Described):
    """How many texts changed, and the first hundred of them by q-value, the least first, and by change."""

    count: int
    """All that changed so."""
    texts: list[ChangedText]
    """The first hundred."""


class Judgement(Described):
    """How each text's change in one direction was judged by those of the control texts.

    A text is `memorized` here if it changed in this direction more than controls do.
    """

    fdr: float
    """The share of false ones that is accepted among the texts that are named, in (0, 1); Benjamini and
    Hochberg (1995)."""
    seed: int
    """Of all that is drawn at random."""
    n_texts: int
    """Texts that both versions could score."""
    n_controls: int
    """Control texts that both could score, without those that are left out."""
    controls_among_texts: int
    """Control texts that were left out because they are among the study's texts."""
    verdicts: VerdictCounts
    """How many texts have each verdict; `uncalibrated` are not judged, as too few controls are like them."""
    least_p_of_all: float | None = None
    """The least p-value that every text can have which has one at all: 1 / (controls + 1), of the smallest
    stratum. Null where `reason` is known, and in older results."""
    check: ComparisonCheck | None
    """Whether a classifier tells texts from controls; null without texts or controls."""
    strata: int | None
    """In how many strata texts were compared; 1 if none were needed, null where `reason` is known."""
    check_within_strata: ComparisonCheck | None
    """The check again, within strata; null if none were needed or could be made."""
    reason: CalibrationReason | None
    """Why no text was judged, as in the calibration of an audit; null if some were."""


class Change(Described):
    """What became of single texts from one version to another."""

    from_label: str
    """The earlier version."""
    to_label: str
    """The later version."""
    verdict: Literal["calibrated", "uncalibrated"]
    """Whether differences could be compared with those of control texts."""
    reason: str | None
    """Why not, as `no_controls`; null if they could."""
    rise: Judgement | None = None
    """How `newly_memorized` were found; null without controls."""
    fall: Judgement | None = None
    """How `no_longer_memorized` were found; null likewise."""
    newly_memorized: ChangedTexts | None
    """Texts whose NL rose more than that of controls does, at `options.fdr`; null if uncalibrated."""
    no_longer_memorized: ChangedTexts | None
    """Texts whose NL fell more than that of controls does, at `options.fdr`; null if uncalibrated."""
    newly_recited: ChangedTexts | None
    """Recited exactly by the later version alone; null if `extraction` was not asked for."""
    no_longer_recited: ChangedTexts | None
    """Recited exactly by the earlier version alone; null likewise."""


class StudyResult(Described):
    """What a study found."""

    kind: StudyKind
    """As it was asked for."""
    models: list[StudiedModel]
    """In the order in which they are compared."""
    comparisons: list[Comparison]
    """Each model with the first, and with the one before it where that is another."""
    curves: list[Curve] | None
    """By duplicates, of all texts and of each group that has texts never inserted; null unless a
    trajectory."""
    changes: list[Change] | None
    """For each comparison, in their order; null unless a release."""
