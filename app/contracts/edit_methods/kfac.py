"""K-FAC: weight directions of low loss curvature are dropped (arXiv 2510.24256)."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from app.contracts.base import Contract, Described
from app.contracts.edit_methods.cost import FLOAT32_BYTES, TRAINING_PASSES, EditTexts, Matrix
from app.contracts.edit_methods.kfac_recovery import (
    MOST_RECOVERY_STEPS,
    RecoverySteps,
    recovery_bytes,
    recovery_steps,
    recovery_tokens,
)
from app.contracts.edit_methods.registry import (
    COLLECTING,
    DefaultLayers,
    MethodContract,
    Refusal,
    register,
)
from app.contracts.projections import Layers, Role, Roles
from app.contracts.results.receipt_facts import EditedMatrix, ReceiptFacts
from app.contracts.texts import TextSetRole

if TYPE_CHECKING:
    from app.contracts.edits import EditSpec

Labels = Literal["sampled", "gold"]
KeepMass = Annotated[float, Field(gt=0, le=1)]
RetainWeight = Annotated[float, Field(ge=0, le=1)]

# Of a retain set that comes without one.
DEFAULT_RETAIN_WEIGHT: Final = 0.1

_MOST_SETTINGS: Final = 256
# What `layers: "auto"` tries at most: six runs of layers with four masses each.
_AUTOMATIC_SETTINGS: Final = 24
# Masses that are tried at most where `keep_mass` is adapted to the constraint.
_ADAPTING_MASSES: Final = 8
# Times the factors in float32; with a retain set its own factors and the mixture too.
_HELD_AT_ONCE: Final = 3
_HELD_WITH_RETAINED: Final = 5
# Of clean text, and of the retain set, that a search measures likelihood on.
SEARCHED_TOKENS: Final = 200_000


class Sweep(Contract):
    """Settings of the K-FAC edit to try, each combination of them.

    What is left out stays as the edit itself has it; a mass that nothing says is adapted for each
    combination.
    """

    layers: Annotated[list[Layers], Field(min_length=1, max_length=64)] | None = None
    keep_mass: Annotated[list[KeepMass], Field(min_length=1, max_length=64)] | None = None
    projections: Annotated[list[Roles], Field(min_length=1, max_length=8)] | None = None
    retain_weight: Annotated[list[RetainWeight], Field(min_length=1, max_length=64)] | None = None
    recovery_steps: Annotated[list[RecoverySteps], Field(min_length=1, max_length=64)] | None = None

    @property
    def combinations(self) -> int:
        """How many settings there are."""
        tried = (self.layers, self.keep_mass, self.projections, self.retain_weight, self.recovery_steps)
        return prod(len(values or [None]) for values in tried)


class Constraint(Contract):
    """What a setting must keep to be chosen.

    Perplexity on clean text may grow by the share `max_perplexity_increase` at most, and the retain set
    become less likely by `max_nl_drop` nats per token at most.
    """

    max_perplexity_increase: Annotated[float, Field(ge=0, le=100)] = 0.1
    max_nl_drop: Annotated[float, Field(ge=0, le=100)] | None = None


def adapts_keep_mass(edit: "EditSpec") -> bool:
    """Whether the mass is looked for that the constraint allows: nothing in the request says any."""
    if edit.keep_mass is not None or edit.layers == "auto":
        return False
    return edit.sweep is None or edit.sweep.keep_mass is None


class SpectrumPoint(Described):
    """How few weight directions hold a share of the curvature mass."""

    mass: float
    """The share, in (0, 1)."""
    pairs: int
    """The fewest pairs of directions that hold it."""


class Convergence(Described):
    """How far the two factors of a matrix's curvature have settled: that of its inputs, that of its outputs.

    An error is the estimated standard error of the factor over its size, both in the Frobenius norm, from the
    distance between the means of two halves of the calibration text. With fewer tokens than dimensions a
    factor has directions that no token reached.
    """

    inputs_error: float | None
    """Of the covariance of the inputs; null where one half of the text had all tokens."""
    outputs_error: float | None
    """Of the covariance of the outputs' gradients; null likewise."""
    tokens_per_input: float
    """Calibration tokens for each input."""
    tokens_per_output: float
    """Calibration tokens for each output."""


class KFACMatrix(EditedMatrix):
    """A matrix that keeps the directions of most curvature."""

    kept_mass: float
    """The share of the curvature mass that stays, at least what was asked for."""
    kept_pairs: int
    """Pairs of an output and an input direction that stay."""
    pairs: int
    """All of them: outputs times inputs."""
    largest_rank: int
    """The most that the new matrix's rank can be, before recovery."""
    spectrum: list[SpectrumPoint] = []
    """How the curvature mass is spread over directions, the least mass first; empty in receipts of releases
    before it was kept."""
    convergence: Convergence | None = None
    """How far its curvature on the calibration set has settled; null in receipts of releases before it was
    kept."""
    retain_convergence: Convergence | None = None
    """How far its curvature on the retain set has settled; null without one."""


class KFACParameters(Described):
    """What a K-FAC edit did."""

    keep_mass: float
    """The share of the curvature mass that was asked for, that a search chose, or that the constraint
    allowed."""
    calibration_tokens: int
    """Tokens that the curvature averages over."""
    retain_weight: float | None = None
    """The weight of the retain set in the curvature, that of the calibration set being the rest; null without
    one."""
    retain_tokens: int | None = None
    """Tokens of the retain set that its curvature averages over; null without one."""
    recovery_steps: int | None = None
    """Steps by which the edited matrices were trained again; null without recovery."""
    recovery_rank: int | None = None
    """In how many directions of its inputs a matrix moved, at most; null if in all, and without recovery."""
    recovery_learning_rate: float | None = None
    """How far the first step moved a matrix, as a share of its root mean square; null likewise."""
    retain_factors_reused: int | None = None
    """Projections whose curvature on the retain set an earlier edit had left; null without one."""
    factors_reused: int
    """Projections whose curvature an earlier edit had left."""
    factors_collected: int
    """Projections whose curvature was collected for this edit."""


class KFACReceipt(ReceiptFacts):
    """How a K-FAC edit was made."""

    method: Literal["kfac"]
    """The method."""
    parameters: KFACParameters
    """What it did."""
    matrices: list[KFACMatrix]
    """Every matrix that was edited."""


# What the matrices of a layer read.
_INPUTS: Final[dict[Role, str]] = {
    "gate": "mlp",
    "up": "mlp",
    "down": "activations",
    "q": "attention",
    "k": "attention",
    "v": "attention",
    "qkv": "attention",
    "o": "heads",
}


def _sweeps_too_much(edit: "EditSpec") -> bool:
    return edit.sweep is not None and edit.sweep.combinations > _MOST_SETTINGS


def _settings(edit: "EditSpec") -> int:
    """How many settings a search tries, at most; one without."""
    settings = 1 if edit.sweep is None else edit.sweep.combinations
    if edit.layers == "auto":
        settings = _AUTOMATIC_SETTINGS
    return settings * _ADAPTING_MASSES if adapts_keep_mass(edit) else settings


def _recovers_too_long(edit: "EditSpec") -> bool:
    return recovery_steps(edit, _settings(edit)) > MOST_RECOVERY_STEPS


def _collected_tokens(edit: "EditSpec", texts: EditTexts) -> float:
    """A pass forwards and backwards."""
    return TRAINING_PASSES * min(texts.calibration, float(edit.calibration_tokens))


def _forward_tokens(edit: "EditSpec", texts: EditTexts) -> float:
    """What both collections of factors take, and each setting that is tried with its measurements."""
    retained = TRAINING_PASSES * min(texts.retain, float(edit.calibration_tokens))
    collected = _collected_tokens(edit, texts) + retained
    settings = _settings(edit)
    collected += recovery_tokens(edit, texts, settings)
    if not edit.searches and not adapts_keep_mass(edit):
        return collected
    measured = min(texts.clean, float(SEARCHED_TOKENS)) + min(texts.retain, float(SEARCHED_TOKENS))
    if edit.searches:
        measured += texts.recited
    return collected + settings * measured


def _working_bytes(edit: "EditSpec", matrices: Sequence[Matrix]) -> int:
    """Both factors of each matrix, and their eigenvectors in float64; what reads one input shares one.

    While they are collected it is as much: up to five sums of 7/12 of the factors each.
    """
    held = _HELD_AT_ONCE if edit.retain_weight is None else _HELD_WITH_RETAINED
    inputs = {(matrix.layer, _INPUTS[matrix.role]): matrix for matrix in matrices}
    entries = sum(matrix.inputs**2 for matrix in inputs.values())
    entries += sum(matrix.outputs**2 for matrix in matrices)
    return held * FLOAT32_BYTES * entries + recovery_bytes(edit, matrices)


KFAC: Final = register(
    MethodContract(
        name="kfac",
        description=(
            "drops weight directions of low loss curvature (arXiv 2510.24256): `keep_mass` of it stays"
        ),
        receipt=KFACReceipt,
        stages={COLLECTING: 5, "decomposing": 40, "searching": 45, "recovering": 60},
        default_layers=DefaultLayers(first=23, count=3),
        default_projections=("gate", "up"),
        needs=frozenset({TextSetRole.CALIBRATION}),
        searches=True,
        options=frozenset(
            {
                "keep_mass",
                "retain_weight",
                "recovery",
                "labels",
                "sweep",
                "constraint",
                "calibration_tokens",
                "block_tokens",
            }
        ),
        forward_tokens=_forward_tokens,
        collected_tokens=_collected_tokens,
        working_bytes=_working_bytes,
        refusals=(
            Refusal(
                "auto_with_sweep",
                "Give layers as auto, or a sweep",
                lambda edit: edit.layers == "auto" and edit.sweep is not None,
            ),
            Refusal(
                "auto_with_keep_mass",
                "Automatic layers come with masses of their own",
                lambda edit: edit.layers == "auto" and "keep_mass" in edit.model_fields_set,
            ),
            Refusal("sweep_too_large", "A sweep may have up to 256 settings", _sweeps_too_much),
            Refusal(
                "recovery_too_long",
                "All settings together may have up to 20,000 steps of recovery",
                _recovers_too_long,
            ),
            Refusal(
                "constraint_without_search",
                "A constraint needs a search, or a mass that is adapted to it",
                lambda edit: (
                    "constraint" in edit.model_fields_set and not edit.searches and not adapts_keep_mass(edit)
                ),
            ),
        ),
    )
)
