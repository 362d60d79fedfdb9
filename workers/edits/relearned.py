"""Relearning curves of an edit's proof: on clean text, and on a few of the memorized texts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Literal

from app.contracts.texts import TextSetRole
from workers.edits.inputs import EditInputs
from workers.edits.progress import EditProgress
from workers.edits.tokens import token_rows
from workers.running.runtime import Runtime
from workers.science.evaluation.relearning import STEPS, CurvePoint, relearning_curve, shown_again
from workers.science.evaluation.stress import FineTuning
from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import Rows, text_blocks
from workers.science.scoring.texts import TextInput
from workers.science.statistics.estimates import as_object
from workers.science.statistics.paired import share_change
from workers.science.statistics.shares import share_with_interval

JSONObject = dict[str, Any]
SHOWN: Final = "shown"
# Of clean text, which rows are drawn from: more than all steps take.
_CLEAN_TOKENS: Final = 50_000


class Relearning:
    """Trains a model a little and looks at what it recites.

    Args:
        runtime: this process.
        inputs: the edit.
        samples: texts of each set that are tested.
        progress: told what is done.
    """

    def __init__(
        self,
        runtime: Runtime,
        inputs: EditInputs,
        samples: Mapping[TextSetRole, Sequence[TextInput]],
        progress: EditProgress,
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._progress = progress
        self._samples = {str(role): texts for role, texts in samples.items()}
        memorized = list(samples.get(TextSetRole.MEMORIZED, ()))
        shown = shown_again(len(memorized), inputs.spec.seed)
        self._shown = [memorized[place] for place in shown]
        # Forgetting one text may be undone by another: those that are not shown are tested.
        self._rest = [text for place, text in enumerate(memorized) if place not in set(shown)]
        self._done = 0

    def curves(
        self, language_model: LanguageModel, model: Literal["edited", "reference"]
    ) -> list[JSONObject]:
        """The curves of one model, as far as there is something to train on."""
        found = []
        if TextSetRole.CLEAN in self._inputs.text_sets:
            rows = token_rows(
                self._runtime, self._inputs, language_model, TextSetRole.CLEAN, limit=_CLEAN_TOKENS
            )
            found.append(self._curve(language_model, model, "clean", rows))
        if self._shown:
            texts = [text.text for text in self._shown]
            prefix_token = self._inputs.options.prefix_token
            shown = text_blocks(
                language_model, texts, max_tokens=language_model.context_length, prefix_token=prefix_token
            )
            found.append(self._curve(language_model, model, "shown", shown))
        return found

    def _curve(
        self, language_model: LanguageModel, model: str, trained_on: Literal["clean", "shown"], rows: Rows
    ) -> JSONObject:
        tested = dict(self._samples)
        if trained_on == SHOWN:
            tested |= {str(TextSetRole.MEMORIZED): self._rest, SHOWN: self._shown}
        points = relearning_curve(
            language_model,
            rows,
            tested,
            self._inputs.options,
            FineTuning(seed=self._inputs.spec.seed),
            lambda: self._count(2 * (STEPS[-1] + (len(STEPS) + 1) * len(tested))),
        )
        return {
            "model": model,
            "trained_on": trained_on,
            "points": [_point(points[0], point, tested) for point in points],
        }

    def _count(self, total: int) -> None:
        self._done += 1
        self._progress.report(min(self._done, total), total)


def _point(first: CurvePoint, point: CurvePoint, tested: Mapping[str, Any]) -> JSONObject:
    return {"step": point.step, "strict": {name: _relearned(first, point, name) for name in tested}}


def _relearned(first: CurvePoint, point: CurvePoint, name: str) -> JSONObject:
    if point.recited is None or first.recited is None:
        return {"share": None, "change": None}
    counts = Counter(point.recited[name])
    change = None
    if point.step:
        change = share_change(zip(first.recited[name], point.recited[name], strict=True))
    return {
        "share": as_object(share_with_interval(counts[True], counts[True] + counts[False])),
        "change": None if change is None else asdict(change),
    }
