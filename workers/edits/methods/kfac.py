"""The K-FAC edit: factors, eigenbases, perhaps a search, and the projected weights."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from torch import Tensor, nn

from app.contracts.edit_methods.kfac import SEARCHED_TOKENS, adapts_keep_mass
from app.contracts.edits import EditSpec
from app.contracts.texts import TextSetRole
from app.errors import EditFailed, NoFeasibleSetting
from workers.audits.rows import text_input
from workers.edits.curvature import Curvature
from workers.edits.inputs import EditInputs
from workers.edits.methods.kfac_recovery import Recovering
from workers.edits.methods.kfac_settings import needed_projections, projections_of, settings_of
from workers.edits.methods.registry import EditedWeights, EditMethod, describe_matrix, register
from workers.edits.progress import EditProgress
from workers.edits.tokens import token_rows
from workers.running.runtime import Runtime
from workers.science.curvature.search import (
    MOST_PROBES,
    Objective,
    Point,
    Setting,
    best,
    least_mass,
    try_settings,
)
from workers.science.curvature.spectrum import KeptPairs, pairs_holding
from workers.science.evaluation.utility import MeanNLL
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import TokenRows
from workers.science.models.weight_edit import keep_top_mass
from workers.science.scoring.texts import TextInput
from workers.science.statistics.perplexity import perplexity

JSONObject = dict[str, Any]

# A receipt tells how many pairs of directions hold these shares of the curvature mass.
_MASSES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)


class _Edit:
    """One K-FAC edit: curvature, perhaps a search, and the projected weights."""

    def __init__(
        self, runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._language_model = language_model
        self._progress = progress
        self._curvature = Curvature(runtime, inputs, language_model)
        self._aims = inputs.spec.searches
        self._adapts = adapts_keep_mass(inputs.spec)
        self._recovery = Recovering(runtime, inputs, language_model, self._curvature)
        self._tried: list[tuple[Projection, Tensor]] = []
        self._best: list[tuple[Projection, Tensor]] | None = None

    def run(self) -> EditedWeights:
        model = self._language_model.model
        settings = settings_of(self._inputs.spec, model)
        # Read first: what cannot be aimed at fails the edit before anything is collected.
        objective = self._objective() if self._aims or self._adapts else None
        needed = needed_projections(settings, model)
        self._curvature.collect(needed, self._progress)
        warnings = self._curvature.warnings(settings[0].retain_weight)
        self._progress.enter("decomposing")
        decomposed = self._progress.counter(len(needed))
        self._curvature.bases(settings[0].retain_weight, on_progress=decomposed)
        frontier = None
        chosen = settings[0]
        if objective is not None:
            chosen, frontier = self._search(settings, objective, warnings)
            warnings = self._curvature.warnings(chosen.retain_weight) + self._of_constraint()
        edited = [(projection, *self._edit(projection, chosen)) for projection in self._of(chosen)]
        warnings += self._recovery.doubts(chosen.recovery_steps)
        return EditedWeights(
            weights=self._recovered([(projection, weight) for projection, weight, _ in edited], chosen),
            matrices=[self._describe(projection, chosen, kept) for projection, _, kept in edited],
            parameters={
                "keep_mass": chosen.keep_mass,
                **self._curvature.parameters(chosen.retain_weight),
                **self._recovery.parameters(chosen.recovery_steps),
            },
            frontier=frontier,
            warnings=warnings,
        )

    def _recovered(
        self, weights: list[tuple[Projection, Tensor]], chosen: Setting
    ) -> list[tuple[Projection, Tensor]]:
        """What is written: if a search measured trained matrices these, and none that are trained anew."""
        if self._best is not None:
            return self._best
        if steps := chosen.recovery_steps:
            self._progress.enter("recovering")
            return self._recovery.apply(weights, steps, self._progress.counter(steps))
        return weights

    def _of(self, setting: Setting) -> list[Projection]:
        return projections_of(setting, self._language_model.model)

    def _edit(self, projection: Projection, setting: Setting) -> tuple[Tensor, KeptPairs]:
        assert setting.keep_mass is not None
        bases = self._curvature.bases(setting.retain_weight, on_progress=self._repeat)
        return keep_top_mass(projection.weight, bases[projection.key], setting.keep_mass)

    def _repeat(self, _done: int) -> None:
        """Learn whether to stop, in the midst of what counts as one."""
        self._progress.repeat()

    def _describe(self, projection: Projection, setting: Setting, kept: KeptPairs) -> JSONObject:
        """What the receipt says of a matrix."""
        basis = self._curvature.bases(setting.retain_weight)[projection.key]
        needed = pairs_holding(basis.output_values, basis.input_values, _MASSES)
        spectrum = [{"mass": mass, "pairs": pairs} for mass, pairs in zip(_MASSES, needed, strict=True)]
        return (
            describe_matrix(projection)
            | _kept(kept)
            | {"spectrum": spectrum}
            | self._curvature.convergence(projection)
        )

    def _objective(self) -> Objective:
        runtime, inputs = self._runtime, self._inputs

        def memorized() -> Iterator[list[TextInput]]:
            for page in inputs.pages(runtime, TextSetRole.FORGET):
                yield [text_input(row) for row in page]

        retained = TextSetRole.RETAIN in inputs.text_sets
        return Objective(
            memorized=memorized if self._aims else None,
            options=inputs.options,
            clean=self._rows(TextSetRole.CLEAN),
            max_increase=inputs.spec.constraint.max_perplexity_increase,
            retained=self._rows(TextSetRole.RETAIN) if retained else None,
            max_nl_drop=inputs.spec.constraint.max_nl_drop,
        )

    def _rows(self, role: TextSetRole) -> TokenRows:
        return token_rows(self._runtime, self._inputs, self._language_model, role, limit=SEARCHED_TOKENS)

    def _of_constraint(self) -> list[JSONObject]:
        """What is doubtful about the text that the constraint was judged on."""
        if not self._inputs.clean_is_calibration:
            return []
        return [
            {
                "code": "clean_is_calibration",
                "detail": "The constraint was judged on the text that the curvature was learnt from; other "
                "text may lose more. Give a clean set of its own.",
            }
        ]

    def _search(
        self, settings: Sequence[Setting], objective: Objective, warnings: list[JSONObject]
    ) -> tuple[Setting, list[JSONObject]]:
        self._progress.enter("searching")
        points: list[Point] = []
        total = len(settings) * (MOST_PROBES if self._adapts else 1)
        for point in try_settings(self._language_model, settings, self._weights, objective):
            points.append(point)
            if self._choose(points) is point:
                self._best = self._tried if point.setting.recovery_steps else None
            self._progress.report(len(points), total)
        if self._aims and any(point.perplexity is not None and point.strict is None for point in points):
            raise EditFailed(
                "No text of the forget set is long enough to be recited, so nothing can be aimed at."
            )
        chosen = self._choose(points)
        frontier = [self._describe_point(point, chosen) for point in points]
        if chosen is None:
            raise NoFeasibleSetting(_infeasible(points, objective, warnings), frontier, warnings)
        return chosen.setting, frontier

    def _choose(self, points: Sequence[Point]) -> Point | None:
        return best(points) if self._aims else least_mass(points)

    def _weights(self, setting: Setting) -> list[tuple[Projection, Tensor]]:
        weights = [(projection, self._edit(projection, setting)[0]) for projection in self._of(setting)]
        self._tried = self._recovery.apply(weights, setting.recovery_steps, self._repeat)
        return self._tried

    def _steps_of(self, setting: Setting) -> int | None:
        """As receipt and frontier have them: None where no setting has any."""
        return setting.recovery_steps if self._recovery.asked_for else None

    def _describe_point(self, point: Point, chosen: Point | None) -> JSONObject:
        setting, given_up = point.setting, point.given_up
        retained = TextSetRole.RETAIN in self._inputs.text_sets
        return {
            "layers": list(setting.layers),
            "projections": list(setting.roles),
            "keep_mass": setting.keep_mass,
            "retain_weight": setting.retain_weight if retained else None,
            "recovery_steps": self._steps_of(setting),
            "perplexity": point.perplexity,
            "perplexity_increase": point.perplexity_increase,
            "strict": point.strict,
            "loose": point.loose,
            "nl_drop": point.nl_drop,
            "given_up": None if given_up is None else _so_far(given_up),
            "feasible": point.feasible,
            "chosen": point is chosen,
        }


def _so_far(given_up: MeanNLL) -> JSONObject:
    """How far a setting was measured."""
    return {
        "perplexity": perplexity(-given_up.mean),
        "tokens": given_up.tokens,
        "of_tokens": given_up.of_tokens,
    }


def _infeasible(points: Sequence[Point], objective: Objective, warnings: list[JSONObject]) -> str:
    """Why nothing can be chosen, and what is doubtful about the curvature, which may be why."""
    limits = f"perplexity within {objective.max_increase:.0%} of the base"
    if objective.max_nl_drop is not None:
        limits += f" and the retain set within {objective.max_nl_drop:g} nats per token"
    said = f"None of {len(points)} settings keeps {limits}; allow more, or keep more mass."
    return " ".join([said, *(warning["detail"] for warning in warnings)])


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


def _run(
    runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, progress: EditProgress
) -> EditedWeights:
    return _Edit(runtime, inputs, language_model, progress).run()


def _learns_curvature_of(spec: EditSpec, model: nn.Module) -> list[Projection]:
    return needed_projections(settings_of(spec, model), model)


KFAC: Final = register(EditMethod("kfac", _run, _learns_curvature_of))
