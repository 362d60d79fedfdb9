"""Relearning: how soon a model recites again while it is trained on, step by step.

Forgetting that a few steps on other text undo was hiding (Hu et al., arXiv 2406.13356: benign relearning,
and relearning on a few of the forgotten texts). The same steps on a model that never saw the texts say how
much of that is learning anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from workers.science.errors import ScoreNotFinite
from workers.science.evaluation.stress import FineTuning, fine_tuned, recites
from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import Rows
from workers.science.scoring.texts import ScoringOptions, TextInput

STEPS: Final = (5, 10, 20, 40)
# Of memorized texts that are learned again, the most, and the share.
_MOST_SHOWN: Final = 8
_SHOWN_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What is recited after so many steps: for each set, text by text; None of one that is too short.

    `recited` is None where the model gives no finite numbers any more.
    """

    step: int
    recited: dict[str, list[bool | None]] | None


def relearning_curve(
    language_model: LanguageModel,
    rows: Rows,
    tested: dict[str, Sequence[TextInput]],
    options: ScoringOptions,
    tuning: FineTuning,
    on_point: Callable[[], object],
) -> list[CurvePoint]:
    """Train a model for a while and see what it recites before, and after the numbers of steps in STEPS.

    The weights are put back at the end.

    Args:
        language_model: the model.
        rows: what it is trained on.
        tested: sets of texts by name.
        options: how recitation is measured.
        tuning: how it is trained; its number of steps does not count.
        on_point: called after each step and each set that is tested; may raise to stop.

    Returns:
        The points by rising steps, the first at step 0.
    """

    def point(step: int) -> CurvePoint:
        found = {}
        for name, texts in tested.items():
            try:
                found[name] = recites(language_model, texts, options)
            except ScoreNotFinite:
                return CurvePoint(step, None)
            on_point()
        return CurvePoint(step, found)

    points = [point(0)]

    def look(step: int) -> None:
        on_point()
        if step in STEPS:
            points.append(point(step))

    with fine_tuned(language_model, rows, replace(tuning, steps=STEPS[-1]), look):
        return points


def shown_again(n: int, seed: int) -> list[int]:
    """Which of `n` memorized texts are learned again, a quarter and at most 8 of them; the others are tested.

    Drawn by the seed; none of fewer than two.
    """
    if n < 2:  # noqa: PLR2004 - one to show and one to test
        return []
    count = min(_MOST_SHOWN, max(1, n // _SHOWN_SHARE))
    return sorted(np.random.default_rng(seed).choice(n, count, replace=False).tolist())
