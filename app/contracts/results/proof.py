"""What a sceptic asks of an edit: what the model still holds, hides or learns again, as it is answered.

Numbers are paired: the same texts before and after, and intervals of the change text by text.
"""

from typing import Final, Literal

from app.contracts.base import Described
from app.contracts.results.intervals import MeanInterval, ShareDifference, ShareInterval
from app.contracts.results.ranking import AreaUnderCurve
from app.contracts.texts import TextSetRole


class PairedMean(Described):
    """A mean before and after, over the texts that both models gave a number."""

    before: MeanInterval | None
    """Of the base; null without such a text."""
    after: MeanInterval | None
    """Of the edited model; null likewise."""
    change: MeanInterval | None
    """After less before, text by text; null likewise."""
    reference: MeanInterval | None = None
    """Of the reference model, over the texts that it gave a number; null without one, or where it was not
    measured."""


class PairedShare(Described):
    """A share of texts before and after."""

    before: ShareInterval | None
    """Of the base; null if no text can tell."""
    after: ShareInterval | None
    """Of the edited model; null likewise."""
    change: ShareDifference | None
    """After less before, text by text; null likewise."""
    reference: ShareInterval | None = None
    """Of the reference model; null without one, or where it was not measured."""


class MembershipChange(Described):
    """How well a score tells texts of a set from those never inserted, before and after.

    0.5 is chance. Above it the score is that of a model that was trained on the texts; below it that of one
    which avoids them, and so tells them apart as well.
    """

    before: AreaUnderCurve | None
    """Of the base; null without texts of both kinds."""
    after: AreaUnderCurve | None
    """Of the edited model; null likewise."""
    change: MeanInterval | None
    """After less before, of the same texts (the covariance of DeLong 1988); null likewise."""
    reference: AreaUnderCurve | None = None
    """Of the reference model: what the texts themselves are told apart by; null without one."""
    over_forgotten: bool
    """Whether the edited model clearly avoids the texts: the whole interval of `after` is below 0.5 and, with
    a reference model, below the whole interval of its own."""


# The means of `Held`, each with the least and the most that it can be; None at a side without a bound.
HELD_MEANS: Final[dict[str, tuple[float | None, float | None]]] = {
    "extraction_strength": (0.0, 1.0),
    "exact_memorization": (0.0, 1.0),
    "log_p_z": (None, 0.0),
}


class Extractable(PairedShare):
    """The share of texts that so many samples recite with a probability of at least a half."""

    samples: int
    """How many are drawn of each text, at temperature 1 from the 40 likeliest tokens."""


class Held(Described):
    """What is held of the suffixes of a text set."""

    extraction_strength: PairedMean
    """1 less the share of the suffix that has to be given until greedy decoding says the rest, in [0, 1]:
    1 = recited from the prefix alone, 0 = not even the last token (arXiv 2406.09179, section 3)."""
    exact_memorization: PairedMean
    """The share of the suffix' tokens that are the greedy choice after the true ones, in [0, 1]
    (arXiv 2205.10770, section 3)."""
    log_p_z: PairedMean
    """The logarithm of the probability that one sample is the suffix (arXiv 2410.19482), over texts of which
    that is above 0 under both models; at most 0."""
    extractable: list[Extractable]
    """By the number of samples: n is enough of them where 1 - (1 - p_z)^n is at least a half."""


class LayerChange(Described):
    """What a layer would say of the suffixes if it were the last: the logit lens (nostalgebraist 2020)."""

    layer: int
    """From 1; the last is the model itself."""
    log_likelihood: PairedMean
    """Mean log-likelihood of a suffix' tokens, in nats, at most 0."""
    right: PairedMean
    """The share of a suffix' tokens that are the greedy choice, in [0, 1]."""


class Generated(Described):
    """What greedy decoding says by itself after the prefix, no token of the suffix given."""

    exact: PairedShare
    """The share of texts whose suffix it is."""
    similarity: PairedMean
    """1 less the Levenshtein distance to the suffix in tokens over its length, in [0, 1]."""


class RelearnedShare(Described):
    """What is recited exactly of a set of texts."""

    share: ShareInterval | None
    """The share; null if no text is long enough, or training broke the model."""
    change: ShareDifference | None
    """Less that at step 0, text by text; null likewise, and at step 0."""


class RelearningPoint(Described):
    """A place of a curve."""

    step: int
    """Steps of training so far."""
    strict: dict[str, RelearnedShare]
    """By text set; of `memorized` texts only those that are not trained on, which are `shown`."""


class RelearningCurve(Described):
    """What a model recites while it is trained on, a few steps of AdamW."""

    model: Literal["edited", "reference"]
    """Which: the reference shows how soon the texts are learned by a model that never saw them."""
    trained_on: Literal["clean", "shown"]
    """Clean text, or a few of the memorized texts."""
    points: list[RelearningPoint]
    """By rising steps, from 0 on."""


class Reference(Described):
    """The language model that the edited one is compared with."""

    model: str
    """Its id."""
    digest: str
    """SHA-256 over the names and digests of its files."""


class Proof(Described):
    """What `stress` asks beside changed prompts and weights. Text sets: memorized, unseen, control."""

    held: dict[TextSetRole, Held]
    """By text set, before and after."""
    layers: dict[TextSetRole, list[LayerChange]] | None
    """By text set, layer by layer; null unless `stress` is `full`, and where the architecture cannot be
    read so."""
    generated: dict[TextSetRole, Generated] | None
    """By text set; null unless `stress` is `full`."""
    relearning: list[RelearningCurve] | None
    """By what is trained on; null unless `stress` is `full`."""
