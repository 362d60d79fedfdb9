"""How an edit is asked for."""

from enum import StrEnum
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from app.contracts.audits import PrefixTokenChoice
from app.contracts.base import TAG_MARK, Contract
from app.contracts.texts import TextSetId

EditMethod = Literal["kfac", "balanced_subnet", "svd"]
Role = Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"]
Labels = Literal["sampled", "gold"]
Layers = Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], Field(min_length=1, max_length=1000)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=8)]


def _layers_tag(value: Any) -> str:
    return TAG_MARK + ("name" if isinstance(value, str) else "list")


LayerChoice = Annotated[
    Annotated[Layers, Tag("tag:list")] | Annotated[Literal["auto"], Tag("tag:name")],
    Discriminator(_layers_tag),
]
KeepMass = Annotated[float, Field(gt=0, le=1)]
RankRatio = Annotated[float, Field(gt=0, le=1)]


class TextSetRole(StrEnum):
    """What a text set is to an edit."""

    CALIBRATION = "calibration"  # factors are collected on it; BalancedSubnet retains it
    FORGET = "forget"  # shown to the method: what it should forget, what a search aims at
    MEMORIZED = "memorized"  # recited before, measured before and after
    UNSEEN = "unseen"  # recited before, never shown to the method
    CONTROL = "control"  # never inserted into the training data
    CLEAN = "clean"  # perplexity and rankings are measured on it
    ITEMS = "items"  # questions with choices or with an exact answer


class BalancedSubnetOptions(Contract):
    """How BalancedSubnet learns its mask; the defaults are those of arXiv 2510.24256."""

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.0015
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.3
    loss_weight: Annotated[float, Field(ge=0, le=1)] = 0.7


class RankRatios(Contract):
    """What SVD keeps of a projection's singular values, as a share of its full rank.

    The defaults are those of arXiv 2510.24256, which does not truncate attention.
    """

    gate: RankRatio = 0.5
    up: RankRatio = 0.005
    down: RankRatio = 0.005
    q: RankRatio | None = None
    k: RankRatio | None = None
    v: RankRatio | None = None
    qkv: RankRatio | None = None
    o: RankRatio | None = None


class Sweep(Contract):
    """Settings of the K-FAC edit to try, each combination of them.

    What is left out stays as the edit itself has it.
    """

    layers: Annotated[list[Layers], Field(min_length=1, max_length=64)] | None = None
    keep_mass: Annotated[list[KeepMass], Field(min_length=1, max_length=64)] | None = None
    projections: Annotated[list[Roles], Field(min_length=1, max_length=8)] | None = None

    @property
    def combinations(self) -> int:
        """How many settings there are."""
        return prod(len(values or [None]) for values in (self.layers, self.keep_mass, self.projections))


class Constraint(Contract):
    """What a setting must keep to be chosen: perplexity on clean text may grow by this share at most."""

    max_perplexity_increase: Annotated[float, Field(ge=0, le=100)] = 0.1


class Limits(Contract):
    """What the client asks of the edited model; the verdict compares."""

    max_strict: Annotated[float, Field(ge=0, le=1)] | None = None
    max_perplexity_increase: Annotated[float, Field(ge=0, le=100)] | None = None
    min_ndcg: Annotated[float, Field(ge=0, le=1)] | None = None


class EditEvaluation(Contract):
    """What is measured before and after.

    `memorized` is by default the forget set, `clean` the calibration set. `unseen` are memorized texts that
    the method is never shown, `control` texts that were never inserted, `items` questions with choices and
    an answer, or with a prefix and the suffix that answers it.

    `prefix_token` is what stands before the texts, as in the options of an audit: for what is measured, for
    the search, and for the forget set of BalancedSubnet. Items are asked as the tokenizer encodes them.
    """

    memorized_text_set: TextSetId | None = None
    unseen_text_set: TextSetId | None = None
    control_text_set: TextSetId | None = None
    clean_text_set: TextSetId | None = None
    items_text_set: TextSetId | None = None
    prefix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    suffix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 48
    prefix_token: PrefixTokenChoice = "auto"  # noqa: S105 - a token of the vocabulary
    stress: bool = False
    limits: Limits = Limits()


class EditSpec(Contract):
    """How a language model is edited, as the workers read it.

    The defaults are those of arXiv 2510.24256: gate and up projections, three late layers (23 to 25 of 32),
    60 % of the curvature mass, labels sampled from the model, blocks of 512 tokens, 20 million tokens; for
    SVD gate, up and down of layer 21 of 32.
    """

    method: EditMethod
    layers: LayerChoice | None = None
    projections: Roles | None = None
    keep_mass: KeepMass = 0.6
    labels: Labels = "sampled"
    calibration_tokens: Annotated[int, Field(ge=1, le=10**9)] = 20_000_000
    block_tokens: Annotated[int, Field(ge=2, le=100_000)] = 512
    rank_ratio: RankRatios = RankRatios()
    balanced_subnet: BalancedSubnetOptions = BalancedSubnetOptions()
    sweep: Sweep | None = None
    constraint: Constraint = Constraint()
    evaluation: EditEvaluation = EditEvaluation()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def searches(self) -> bool:
        """Whether several settings are tried before one is written."""
        return self.sweep is not None or self.layers == "auto"
