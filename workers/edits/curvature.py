"""The curvature that a K-FAC edit works on: of its calibration set, and mixed with that of its retain set."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from app.contracts.texts import TextSetRole
from workers.edits.curvature_warnings import curvature_warnings
from workers.edits.factors import FactorStore
from workers.edits.inputs import EditInputs
from workers.edits.progress import EditProgress
from workers.running.runtime import Runtime
from workers.science.curvature.kfac import Eigenbasis, Factors, eigenbases
from workers.science.curvature.mixing import mixed_factors
from workers.science.curvature.recovery import largest_inputs
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection

JSONObject = dict[str, Any]


class Curvature:
    """Factors of both text sets, and the eigenbases of one mixture of them at a time."""

    def __init__(self, runtime: Runtime, inputs: EditInputs, language_model: LanguageModel) -> None:
        self._clean = FactorStore(runtime, inputs, language_model)
        self._retained: FactorStore | None = None
        if TextSetRole.RETAIN in inputs.text_sets:
            self._retained = FactorStore(runtime, inputs, language_model, TextSetRole.RETAIN)
        self._of_clean: dict[str, Factors] = {}
        self._of_retained: dict[str, Factors] = {}
        self._bases: tuple[float, dict[str, Eigenbasis]] | None = None

    def collect(self, projections: Sequence[Projection], progress: EditProgress) -> None:
        """Get the factors of projections over both text sets, each from the store or in a pass of its own.

        Raises:
            EditFailed, StorageFull, StorageUnavailable: see `FactorStore.get`.
        """
        self._of_clean = self._clean.get(projections, progress)
        if self._retained is not None:
            self._of_retained = self._retained.get(projections, progress)

    def warnings(self, weight: float) -> list[JSONObject]:
        """What is doubtful about the mixture of a weight."""
        return curvature_warnings(self._mixed(weight))

    def bases(
        self, weight: float, *, on_progress: Callable[[int], None] | None = None
    ) -> dict[str, Eigenbasis]:
        """The eigenbases of all projections at a weight of the retain set, kept until another is asked for.

        Args:
            weight: in [0, 1].
            on_progress: told how many projections are done; may raise to stop.
        """
        if self._bases is None or self._bases[0] != weight:
            self._bases = None  # of two weights only one is in memory
            self._bases = weight, eigenbases(self._mixed(weight), on_progress=on_progress)
        return self._bases[1]

    def retained_directions(self, rank: int, *, on_progress: Callable[[int], None]) -> dict[str, Tensor]:
        """The directions in which inputs on the retain set are largest, see `largest_inputs`."""
        return largest_inputs(self._of_retained, rank, on_progress=on_progress)

    def convergence(self, projection: Projection) -> JSONObject:
        """What the receipt says of a matrix: how far its curvature on each text set has settled."""
        retained = self._of_retained.get(projection.key)
        return {
            "convergence": _convergence(projection, self._of_clean[projection.key]),
            "retain_convergence": None if retained is None else _convergence(projection, retained),
        }

    def parameters(self, weight: float) -> JSONObject:
        """What the receipt says of the factors."""
        retained = self._retained
        return {
            "calibration_tokens": self._clean.tokens,
            "factors_reused": self._clean.reused,
            "factors_collected": len(self._of_clean) - self._clean.reused,
            "retain_weight": None if retained is None else weight,
            "retain_tokens": None if retained is None else retained.tokens,
            "retain_factors_reused": None if retained is None else retained.reused,
        }

    def _mixed(self, weight: float) -> dict[str, Factors]:
        if self._retained is None:
            return self._of_clean
        return mixed_factors(self._of_clean, self._of_retained, weight)


def _convergence(projection: Projection, factors: Factors) -> JSONObject:
    outputs, inputs = projection.weight.shape
    return {
        "inputs_error": factors.activations_error,
        "outputs_error": factors.gradients_error,
        "tokens_per_input": factors.tokens / inputs,
        "tokens_per_output": factors.tokens / outputs,
    }
