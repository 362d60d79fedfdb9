"""Recovery of a K-FAC edit: on which texts, and in which directions."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from torch import Tensor

from app.contracts.edit_methods.kfac import RECOVERY_ROWS, most_recovery_steps
from app.contracts.edit_methods.kfac import Recovery as Asked
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

# Of the retain set and of ordinary text each.
_MOST_TOKENS = 200_000


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
        self.asked_for = most_recovery_steps(inputs.spec) > 0

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
            directions=self._directions,
            on_step=on_step,
        )

    def parameters(self, steps: int) -> JSONObject:
        """What the receipt says, of so many steps."""
        asked = self._asked
        return {
            "recovery_steps": steps if self.asked_for else None,
            "recovery_rank": asked.rank if steps else None,
            "recovery_learning_rate": asked.learning_rate if steps else None,
        }

    @cached_property
    def _texts(self) -> tuple[TokenRows, TokenRows]:
        return self._rows(TextSetRole.RETAIN), self._rows(TextSetRole.CALIBRATION)

    def _rows(self, role: TextSetRole) -> TokenRows:
        length = self._inputs.spec.block_tokens
        return token_rows(
            self._runtime, self._inputs, self._language_model, role, max_tokens=length, limit=_MOST_TOKENS
        )

    @cached_property
    def _directions(self) -> dict[str, Tensor] | None:
        rank = self._asked.rank
        return None if rank is None else self._curvature.retained_directions(rank)
