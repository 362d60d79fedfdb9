"""Recovery of a K-FAC edit: on which texts, and in which directions."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from torch import Tensor

from app.contracts.edit_methods.kfac import SEARCHED_TOKENS
from app.contracts.edit_methods.kfac_recovery import RECOVERY_ROWS, recovery_steps_of
from app.contracts.edit_methods.kfac_recovery import Recovery as Asked
from app.contracts.texts import TextSetRole
from workers.edits.curvature import Curvature
from workers.edits.inputs import EditInputs
from workers.edits.tokens import token_rows
from workers.running.runtime import Runtime
from workers.science.curvature.recovery import Recovery, recovered
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection
from workers.science.models.token_blocks import TokenRows

JSONObject = dict[str, Any]


_RETAIN_WAS_TRAINED: Final = {
    "code": "retain_was_trained",
    "detail": "The retain set is what recovery trained on, so that it lost less than other texts like it do. "
    "Judge by a control set.",
}
_CLEAN_WAS_TRAINED: Final = {
    "code": "clean_was_trained",
    "detail": "Perplexity and rankings were measured on text that recovery trained on; other text may lose "
    "more. Give a clean set of its own.",
}


class Recovering:
    """Trains edited matrices again, as far as an edit asks for it.

    Texts are read and directions found when the first are.

    Attributes:
        asked_for: whether any setting has steps.
    """

    def __init__(
        self, runtime: Runtime, inputs: EditInputs, language_model: LanguageModel, curvature: Curvature
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._language_model = language_model
        self._curvature = curvature
        self._asked = inputs.spec.recovery or Asked()
        self._found: dict[str, Tensor] | None = None
        self.asked_for = any(recovery_steps_of(inputs.spec))

    def apply(
        self, weights: list[tuple[Projection, Tensor]], steps: int, on_step: Callable[[int], None]
    ) -> list[tuple[Projection, Tensor]]:
        """The matrices [out, in] after so many steps.

        Args:
            weights: the edited matrices.
            steps: none leaves them as they are.
            on_step: told the steps done; may raise to stop.

        Raises:
            EditFailed: see `token_rows`.
            RecoveryDiverged: see `recovered`.
        """
        if not steps:
            return weights
        options = Recovery(
            steps, self._asked.learning_rate, batch_rows=RECOVERY_ROWS, seed=self._inputs.spec.seed
        )
        return recovered(
            self._language_model,
            weights,
            self._texts,
            options,
            directions=self._directions(on_step),
            on_step=on_step,
        )

    def parameters(self, steps: int) -> JSONObject:
        """What the receipt says, of so many steps."""
        found = self._found or {}
        return {
            "recovery_steps": steps if self.asked_for else None,
            "recovery_rank": max((each.shape[1] for each in found.values()), default=None) if steps else None,
            "recovery_learning_rate": self._asked.learning_rate if steps else None,
        }

    def doubts(self, steps: int) -> list[JSONObject]:
        """What so many steps make doubtful: numbers on text that the matrices were trained on."""
        inputs = self._inputs
        found = []
        if steps and inputs.spec.constraint.max_nl_drop is not None:
            found.append(_RETAIN_WAS_TRAINED)
        if steps and inputs.clean_is_calibration:
            found.append(_CLEAN_WAS_TRAINED)
        return found

    @cached_property
    def _texts(self) -> tuple[TokenRows, TokenRows]:
        return self._rows(TextSetRole.RETAIN), self._rows(TextSetRole.CALIBRATION)

    def _rows(self, role: TextSetRole) -> TokenRows:
        length = self._inputs.spec.block_tokens
        return token_rows(
            self._runtime, self._inputs, self._language_model, role, max_tokens=length, limit=SEARCHED_TOKENS
        )

    def _directions(self, on_step: Callable[[int], None]) -> dict[str, Tensor] | None:
        """Those in which matrices move, found once; None if in all."""
        if self._found is None and (rank := self._asked.rank) is not None:
            self._found = self._curvature.retained_directions(rank, on_progress=lambda _done: on_step(0))
        return self._found
