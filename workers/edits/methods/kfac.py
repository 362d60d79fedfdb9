"""The K-FAC edit: factors, eigenbases, perhaps a search, and the projected weights."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from torch import Tensor, nn

from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.errors import EditFailed, NoFeasibleSetting
from workers.audits.rows import text_input
from workers.edits.factors import FactorStore
from workers.edits.inputs import EditInputs
from workers.edits.methods.registry import (
    EditedWeights,
    EditMethod,
    chosen_layers,
    chosen_projections,
    describe_matrix,
    register,
)
from workers.edits.progress import EditProgress
from workers.edits.tokens import token_rows
from workers.running.runtime import Runtime
from workers.science.curvature.kfac import Eigenbasis, Factors, eigenbases
from workers.science.curvature.search import Objective, Point, Setting, automatic_settings, best, try_settings
from workers.science.curvature.spectrum import KeptPairs, pairs_holding, select_top_mass
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, find_projections, layer_count
from workers.science.models.weight_edit import project
from workers.science.scoring.texts import TextInput

JSONObject = dict[str, Any]

# A search measures perplexity on so many tokens of the clean set at most.
_SEARCHED_TOKENS: Final = 200_000
# A receipt tells how many pairs of directions hold these shares of the curvature mass.
_MASSES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)


class _Edit:
    """One K-FAC edit: factors, eigenbases, perhaps a search, and the projected weights."""

    def __init__(
        self, runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._language_model = language_model
        self._progress = progress
        self._factors = FactorStore(runtime, inputs, language_model)
        self._bases: dict[str, Eigenbasis] = {}

    def run(self) -> EditedWeights:
        settings = _settings(self._inputs.spec, self._language_model.model)
        # Read first: what cannot be aimed at fails the edit before anything is collected.
        objective = self._objective() if self._inputs.spec.searches else None
        factors = self._factors.get(_needed(settings, self._language_model.model), self._progress)
        self._progress.enter("decomposing")
        self._bases = eigenbases(factors, on_progress=self._progress.counter(len(factors)))
        frontier = None
        chosen = settings[0]
        if objective is not None:
            chosen, frontier = self._search(settings, objective)
        edited = [(projection, *self._edit(projection, chosen.keep_mass)) for projection in self._of(chosen)]
        matrices = [
            describe_matrix(projection)
            | _kept(kept)
            | {
                "spectrum": self._spectrum(projection),
                "convergence": _convergence(projection, factors[projection.key]),
            }
            for projection, _, kept in edited
        ]
        return EditedWeights(
            weights=[(projection, weight) for projection, weight, _ in edited],
            matrices=matrices,
            parameters={
                "keep_mass": chosen.keep_mass,
                "calibration_tokens": self._factors.tokens,
                "factors_reused": self._factors.reused,
                "factors_collected": len(factors) - self._factors.reused,
            },
            frontier=frontier,
        )

    def _of(self, setting: Setting) -> list[Projection]:
        return _projections_of(setting, self._language_model.model)

    def _edit(self, projection: Projection, keep_mass: float) -> tuple[Tensor, KeptPairs]:
        basis = self._bases[projection.key]
        kept = select_top_mass(basis.output_values, basis.input_values, keep_mass)
        return project(projection.weight, basis, kept), kept

    def _spectrum(self, projection: Projection) -> list[JSONObject]:
        """How few pairs of directions hold each share of the curvature mass."""
        basis = self._bases[projection.key]
        needed = pairs_holding(basis.output_values, basis.input_values, _MASSES)
        return [{"mass": mass, "pairs": pairs} for mass, pairs in zip(_MASSES, needed, strict=True)]

    def _objective(self) -> Objective:
        runtime, inputs, language_model = self._runtime, self._inputs, self._language_model

        def memorized() -> Iterator[list[TextInput]]:
            for page in inputs.pages(runtime, TextSetRole.FORGET):
                yield [text_input(row) for row in page]

        return Objective(
            memorized=memorized,
            options=inputs.options,
            clean=token_rows(runtime, inputs, language_model, TextSetRole.CLEAN, limit=_SEARCHED_TOKENS),
            max_increase=inputs.spec.constraint.max_perplexity_increase,
        )

    def _search(self, settings: Sequence[Setting], objective: Objective) -> tuple[Setting, list[JSONObject]]:
        self._progress.enter("searching")
        points: list[Point] = []
        for point in try_settings(self._language_model, settings, self._weights, objective):
            points.append(point)
            self._progress.report(len(points), len(settings))
        if any(point.perplexity is not None and point.strict is None for point in points):
            raise EditFailed(
                "No text of the forget set is long enough to be recited, so nothing can be aimed at."
            )
        chosen = best(points)
        frontier = [_describe(point, chosen) for point in points]
        if chosen is None:
            raise NoFeasibleSetting(
                f"None of {len(points)} settings keeps perplexity within "
                f"{objective.max_increase:.0%} of the base; allow more, or keep more mass.",
                frontier,
            )
        return chosen.setting, frontier

    def _weights(self, setting: Setting) -> list[tuple[Projection, Tensor]]:
        return [
            (projection, self._edit(projection, setting.keep_mass)[0]) for projection in self._of(setting)
        ]


def _settings(spec: EditSpec, model: nn.Module) -> list[Setting]:
    """What is tried, or the one setting that is asked for."""
    everywhere = spec.layers == "auto"
    layers = list(range(layer_count(model))) if everywhere else chosen_layers(spec, model)
    found = chosen_projections(spec, model, layers)
    roles = tuple(dict.fromkeys(str(projection.role) for projection in found))
    single = tuple(dict.fromkeys(projection.layer for projection in found))
    if everywhere:
        return automatic_settings(len(single), roles)
    if spec.sweep is None:
        return [Setting(single, roles, spec.keep_mass)]
    runs = [tuple(sorted(set(run))) for run in spec.sweep.layers or [list(single)]]
    role_sets = [tuple(map(str, chosen)) for chosen in spec.sweep.projections or [[]]]
    masses = spec.sweep.keep_mass or [spec.keep_mass]
    asked = (Setting(run, chosen or roles, mass) for run in runs for chosen in role_sets for mass in masses)
    return list(dict.fromkeys(asked))


def _projections_of(setting: Setting, model: nn.Module) -> list[Projection]:
    return find_projections(model, layers=setting.layers, roles=setting.roles)


def _needed(settings: Sequence[Setting], model: nn.Module) -> list[Projection]:
    """Every projection of some setting, once."""
    found = (projection for setting in settings for projection in _projections_of(setting, model))
    return list({projection.key: projection for projection in found}.values())


def _kept(kept: KeptPairs) -> JSONObject:
    """Of a projected matrix: the mass and pairs kept, and the most that its rank can be."""
    outputs = int((kept.kept_per_output > 0).sum())
    inputs = int(kept.kept_per_output.max())
    return {
        "kept_mass": kept.kept_mass,
        "kept_pairs": kept.kept,
        "pairs": kept.total,
        "largest_rank": min(outputs, inputs),
    }


def _convergence(projection: Projection, factors: Factors) -> JSONObject:
    """How far the curvature of a matrix has settled."""
    outputs, inputs = projection.weight.shape
    return {
        "inputs_error": factors.activations_error,
        "outputs_error": factors.gradients_error,
        "tokens_per_input": factors.tokens / inputs,
        "tokens_per_output": factors.tokens / outputs,
    }


def _describe(point: Point, chosen: Point | None) -> JSONObject:
    setting = point.setting
    return {
        "layers": list(setting.layers),
        "projections": list(setting.roles),
        "keep_mass": setting.keep_mass,
        "perplexity": point.perplexity,
        "perplexity_increase": point.perplexity_increase,
        "strict": point.strict,
        "loose": point.loose,
        "feasible": point.feasible,
        "chosen": point is chosen,
    }


def _run(
    runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
) -> EditedWeights:
    return _Edit(runtime, inputs, language_model, progress).run()


def _learns_curvature_of(spec: EditSpec, model: nn.Module) -> list[Projection]:
    return _needed(_settings(spec, model), model)


KFAC: Final = register(EditMethod("kfac", _run, _learns_curvature_of))
