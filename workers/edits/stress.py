"""What an edited model recites although something was changed: prompts, the numbers of its weights."""

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

from app.contracts.texts import TextSetRole
from workers.edits.evaluation import Evaluation, Readings
from workers.edits.inputs import EditInputs
from workers.edits.progress import EditProgress
from workers.science.errors import ScoreNotFinite
from workers.science.evaluation.prompts import CHANGED_PROMPTS, with_changed_prompts
from workers.science.evaluation.stress import (
    FineTuning,
    fine_tuned,
    recites,
    rounded_weights,
    to_bfloat16,
    to_int4,
    to_int8,
)
from workers.science.models.loading import LanguageModel
from workers.science.scoring.texts import TextInput, extracted
from workers.science.statistics.paired import PairedShares

JSONObject = dict[str, Any]
_ROUNDINGS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "int8": to_int8,
    "int4": to_int4,
    "bfloat16": to_bfloat16,
}
_FINE_TUNED: Final = "fine_tuned"
# Passes through the texts: each prompt under two models, each change of the weights under one.
PASSES: Final = 2 * len(CHANGED_PROMPTS) + len(_ROUNDINGS) + 1


class StressTest:
    """What is recited strictly: under changed prompts by both models, with changed weights by the edited one.

    Every change is undone.

    Args:
        inputs: the edit.
        evaluation: the texts.
        progress: told what is done.
    """

    def __init__(self, inputs: EditInputs, evaluation: Evaluation, progress: EditProgress) -> None:
        self._inputs = inputs
        self._evaluation = evaluation
        self._progress = progress
        self._done = 0
        self._total = PASSES * sum(evaluation.shards[role].texts for role in evaluation.tested)

    def run(self, base: LanguageModel, edited: LanguageModel, after: Readings) -> JSONObject:
        """Change one thing after another, as `contracts.results.evaluations` reads it.

        Args:
            base: the base.
            edited: the edited model.
            after: what was measured of it without any change.
        """
        found: dict[str, JSONObject] = {name: {} for name in CHANGED_PROMPTS}
        for role in self._evaluation.tested:
            for name, shares in self._prompted(base, edited, role).items():
                found[name][str(role)] = _change(shares, "before", "after")
        for name, rounding in _ROUNDINGS.items():
            with rounded_weights(edited, rounding):
                found[name] = self._changed(edited, after)
        if self._evaluation.clean is not None:
            tuning = FineTuning(seed=self._inputs.spec.seed)
            with fine_tuned(edited, self._evaluation.clean, tuning, lambda _: self._progress.repeat()):
                found[_FINE_TUNED] = self._changed(edited, after)
        return found

    def _prompted(
        self, base: LanguageModel, edited: LanguageModel, role: TextSetRole
    ) -> dict[str, PairedShares]:
        """What both models recite of a set, by the change of its prompts."""
        shares = {name: PairedShares() for name in CHANGED_PROMPTS}
        for texts in self._evaluation.texts(role):
            for name, changed in with_changed_prompts(base, texts, self._inputs.options).items():
                for pair in zip(self._recites(base, changed), self._recites(edited, changed), strict=True):
                    shares[name].add(*pair)
        return shares

    def _changed(self, edited: LanguageModel, after: Readings) -> JSONObject:
        """What is recited with changed weights, and what that brings back; null where the change broke it."""
        return {str(role): self._changed_set(edited, after, role) for role in self._evaluation.tested}

    def _changed_set(self, edited: LanguageModel, after: Readings, role: TextSetRole) -> JSONObject:
        shares = PairedShares()
        unchanged = (extracted(score) for _, score in after.sets[role].rows)
        try:
            for texts in self._evaluation.texts(role):
                for recited in self._recites(edited, texts):
                    shares.add(next(unchanged), recited)
        except ScoreNotFinite:
            return {"after": None}  # no fault of the edit
        return _change(shares, "after")

    def _recites(self, language_model: LanguageModel, texts: list[TextInput]) -> list[bool | None]:
        found = recites(language_model, texts, self._inputs.options)
        self._done += len(texts)
        self._progress.report(min(self._done, self._total), self._total)
        return found


def _change(shares: PairedShares, *sides: str) -> JSONObject:
    """A `StressChange`: the shares of some sides, and what changed."""
    found = shares.result()
    change = {"change": found["change"]}
    for side in sides:
        share = found[side]
        change |= {side: None if share is None else share["share"], f"{side}_interval": share}
    return change
