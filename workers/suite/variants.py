"""The models of a suite and what each is trained on, after HUBBLE (arXiv 2510.19811, section 3).

Every name is the path of the model under the suite's directory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from workers.suite.plan import WHOLE_RUN, Window
from workers.suite.sizes import Levels, Size

STANDARD = "standard"
PERTURBED = "perturbed"
DILUTION = "dilution"
PARAPHRASE = "paraphrase"
# HUBBLE's timing runs: the part of the training that takes insertions, in per cent.
TIMING_WINDOWS = ((0, 25), (25, 50), (50, 75), (75, 100), (0, 50), (50, 100))
# HUBBLE's interference runs: a group's name begins with its domain.
DOMAINS = ("copyright", "privacy", "test_set")
# The diluted run's steps over the perturbed run's: the insertions are half the share of its training.
DILUTION_FACTOR = 2


@dataclass(frozen=True)
class Variants:
    """Which models are trained beside the minimal pair."""

    timing: bool = False
    dilution: bool = False
    paraphrases: bool = False
    interference: bool = False


@dataclass(frozen=True)
class Insertions:
    """What one model's training takes in.

    Attributes:
        name: of the model.
        size: the plan; its steps are this model's.
        window: the part of the training that takes insertions.
        levels: a smaller plan than the size's own.
        domain: the only domain that is inserted; None for all.
        paraphrased: whether each copy is another wording, where there are others.
    """

    name: str
    size: Size
    window: Window = WHOLE_RUN
    levels: Levels | None = None
    domain: str | None = None
    paraphrased: bool = False


def perturbed_models(size: Size, asked: Variants) -> Iterator[Insertions]:
    """The models that are trained with insertions."""
    yield Insertions(PERTURBED, size)
    if asked.dilution:  # the longest training begins first
        yield Insertions(DILUTION, replace(size, steps=DILUTION_FACTOR * size.steps))
    if asked.paraphrases:
        yield Insertions(PARAPHRASE, size, paraphrased=True)
    if asked.interference:
        for domain in DOMAINS:
            yield Insertions(interference_model(domain), size, domain=domain)
    if asked.timing:
        for first, last in TIMING_WINDOWS:
            window = (first / 100, last / 100)
            yield Insertions(timing_model(first, last), size, window=window, levels=size.timing_levels)


def timing_model(first: int, last: int) -> str:
    """The model with insertions from `first` to `last` per cent of its training."""
    return f"timing/{first}-{last}"


def interference_model(domain: str) -> str:
    """The model with insertions of one domain alone."""
    return f"interference/{domain}"


def domain_of(group: str) -> str:
    """The risk domain of a group."""
    return group.partition("/")[0]
