"""How much an edit costs: tokens that go through the model, and memory beside the weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.contracts.audits import AuditOptions
from app.contracts.edit_methods import METHODS
from app.contracts.edit_methods.cost import TRAINING_PASSES, EditTexts, Matrix
from app.contracts.edits import EditEvaluation, EditSpec
from app.contracts.projections import Role
from app.contracts.texts import TextSetRole
from app.contracts.workload import NO_TEXTS, Texts, audit_tokens

_STRESSED: Final = (TextSetRole.MEMORIZED, TextSetRole.UNSEEN, TextSetRole.CONTROL)
_EXTRACTED: Final = (TextSetRole.RETAIN, *_STRESSED)
# Of a stress test: what both models hold, five changed prompts of both, and four changes of the edited one.
_STRESS_PASSES: Final = 2 + 2 * 5 + 4
# Of the rest, on a sample of each set: the layers of both models with a projection each, what both generate,
# and the points of two relearning curves of the edited model, which a reference model has as well.
SAMPLED_TEXTS: Final = 256
_FULL_PASSES: Final = 2 * 3 + 2 + 2 * 5
_CURVE_PASSES: Final = 2 * 5
# Rows that all curves of one model train on; of about as many tokens each as a split has.
_TRAINED_ROWS: Final = 2 * 40 * 8
_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The shape of a decoder.

    Attributes:
        hidden: width of the residual stream.
        intermediate: width of the MLPs.
        layers: how many layers.
    """

    hidden: int
    intermediate: int
    layers: int


def what_is_edited(spec: EditSpec) -> str:
    """The name of what an edit does, as far as it costs time."""
    search = ":search" if spec.searches else ""
    stress = (
        ":full_stress" if spec.evaluation.stress == "full" else ":stress" if spec.evaluation.stress else ""
    )
    reference = "" if spec.evaluation.reference_model is None else ":reference"
    return f"{spec.method}{search}{stress}{reference}:{spec.dtype}"


def what_is_collected(spec: EditSpec) -> str:
    """The name of what a shard of an edit's curvature takes, as far as it costs time."""
    return f"{spec.method}:{spec.labels}:{spec.dtype}"


def collected_tokens(spec: EditSpec, texts: Mapping[TextSetRole, Texts]) -> float:
    """Those of `edit_tokens` that collect curvature, which jobs of their own may do."""
    calibration = texts.get(TextSetRole.CALIBRATION, NO_TEXTS).tokens
    return METHODS[spec.method].collected_tokens(
        spec, EditTexts(calibration=calibration, clean=0.0, forget=0.0, recited=0.0)
    )


def edit_tokens(spec: EditSpec, texts: Mapping[TextSetRole, Texts]) -> float:
    """Tokens that go through the model for an edit: for its method, and for the proof before and after.

    A backward pass counts as two forward passes. How many settings a search gives up early is not foreseen.
    """
    evaluation = spec.evaluation
    options = AuditOptions(prefix_tokens=evaluation.prefix_tokens, suffix_tokens=evaluation.suffix_tokens)

    def tokens(role: TextSetRole) -> float:
        return texts.get(role, NO_TEXTS).tokens

    def row(role: TextSetRole) -> float:
        return tokens(role) / max(1, texts.get(role, NO_TEXTS).count)

    def recited(role: TextSetRole) -> float:
        return audit_tokens(["extraction"], options, texts.get(role, NO_TEXTS))

    method = METHODS[spec.method].forward_tokens(
        spec,
        EditTexts(
            calibration=tokens(TextSetRole.CALIBRATION),
            clean=tokens(TextSetRole.CLEAN),
            forget=tokens(TextSetRole.FORGET),
            recited=recited(TextSetRole.FORGET),
            retain=tokens(TextSetRole.RETAIN),
            calibration_row=row(TextSetRole.CALIBRATION),
            retain_row=row(TextSetRole.RETAIN),
        ),
    )
    # Clean text is scored, and its next tokens are ranked.
    proof = 2 * (sum(map(recited, _EXTRACTED)) + 2 * tokens(TextSetRole.CLEAN) + tokens(TextSetRole.ITEMS))
    return method + proof + _stress_tokens(evaluation, [texts.get(role, NO_TEXTS) for role in _STRESSED])


def _stress_tokens(evaluation: EditEvaluation, sets: Sequence[Texts]) -> float:
    """What a proof sends through the models beside the audits: for `stress`, and for a reference model."""
    tokens = sum(each.tokens for each in sets)
    compared = 0.0 if evaluation.reference_model is None else 1.0
    total = compared * tokens
    if evaluation.stress:
        total += _STRESS_PASSES * tokens
    if evaluation.stress == "full":
        sampled = sum(each.tokens * min(1.0, SAMPLED_TEXTS / max(1, each.count)) for each in sets)
        total += (_FULL_PASSES + compared * _CURVE_PASSES) * sampled
        split = evaluation.prefix_tokens + evaluation.suffix_tokens
        total += (1 + compared) * TRAINING_PASSES * _TRAINED_ROWS * split
    return total


def edit_bytes(spec: EditSpec, dimensions: Dimensions) -> int:
    """Bytes that the method holds beside the weights, at least."""
    return METHODS[spec.method].working_bytes(spec, _matrices(spec, dimensions))


def _matrices(spec: EditSpec, dimensions: Dimensions) -> list[Matrix]:
    """The matrices that the method works on at once. Those of attention are taken for square."""
    shapes: dict[Role, tuple[int, int]] = {
        "gate": (dimensions.intermediate, dimensions.hidden),
        "up": (dimensions.intermediate, dimensions.hidden),
        "down": (dimensions.hidden, dimensions.intermediate),
    }
    roles = spec.projections or METHODS[spec.method].default_projections or ()
    square = (dimensions.hidden, dimensions.hidden)
    return [
        Matrix(layer, role, *shapes.get(role, square))
        for layer in _layers(spec, dimensions)
        for role in roles
    ]


def _layers(spec: EditSpec, dimensions: Dimensions) -> Sequence[int]:
    if spec.layers == "auto":
        return range(dimensions.layers)
    if spec.sweep is not None and spec.sweep.layers is not None:
        return sorted({layer for run in spec.sweep.layers for layer in run})
    if spec.layers is not None:
        return sorted(set(spec.layers))
    default = METHODS[spec.method].default_layers
    first = min(round(dimensions.layers * default.first / _DEPTH), dimensions.layers - 1)
    return range(first, min(first + default.count, dimensions.layers))
