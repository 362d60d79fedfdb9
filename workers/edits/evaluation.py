"""The measurements of an edit's proof: the same texts scored under the base and under the edited model."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count, tee
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from app.store.scores import ScoreFacts
from app.store.texts import ClearText
from workers.audits.rows import TextFacts, measured_text, text_input
from workers.audits.summarize import summarize
from workers.edits.inputs import EditInputs
from workers.edits.progress import EditProgress
from workers.edits.scores import ScoreFile
from workers.edits.tokens import token_rows
from workers.running.runtime import Runtime
from workers.science.errors import ScoreNotFinite
from workers.science.evaluation.items import accuracy_of, answers_right, choices_right
from workers.science.evaluation.utility import positions_of_rows, top_ranked
from workers.science.models.loading import LanguageModel
from workers.science.models.token_blocks import TokenRows
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import TextInput, TextScore

JSONObject = dict[str, Any]
_MEASURED: Final[tuple[TextSetRole, ...]] = (
    TextSetRole.RETAIN,
    TextSetRole.MEMORIZED,
    TextSetRole.UNSEEN,
    TextSetRole.CONTROL,
    TextSetRole.CLEAN,
)
RECITED: Final[tuple[TextSetRole, ...]] = (TextSetRole.MEMORIZED, TextSetRole.UNSEEN)
TESTED: Final[tuple[TextSetRole, ...]] = (*RECITED, TextSetRole.CONTROL)
# Rankings are compared on so many tokens of clean text at most.
_RANKED_TOKENS: Final = 50_000
_NDCG_AT: Final = 10


@dataclass(frozen=True)
class Scored:
    """One text set under one model."""

    role: TextSetRole
    rows: ScoreFile
    summary: JSONObject


@dataclass(frozen=True)
class Readings:
    """Everything that is measured of one model.

    `ranked` is int32 [positions, 10], the likeliest next tokens on clean text; None without clean text.
    `ranked_positions` says how many of the positions are of one text, then how many of the next. `tasks` says
    by the group of questions whether each was answered rightly, in order; None where it cannot be asked.
    """

    sets: dict[TextSetRole, Scored]
    ranked: Tensor | None
    items: dict[str, JSONObject]
    ranked_positions: list[int] = field(default_factory=list)
    tasks: dict[str | None, list[bool | None]] = field(default_factory=dict)


class Evaluation:
    """Measures the base and the edited model on the same texts, a shard of them at a time.

    Args:
        runtime: this process.
        inputs: the edit.
        base: the base, whose tokens are also the edited model's.
        progress: told what is done.
        directory: an empty one, for the scores.

    Attributes:
        shards: the texts of each set that is measured.
        clean: clean text as far as rankings look at it, in the base's tokens; None without any.

    Raises:
        EditFailed: the clean text set cannot be used.
    """

    def __init__(
        self,
        runtime: Runtime,
        inputs: EditInputs,
        base: LanguageModel,
        progress: EditProgress,
        directory: Path,
    ) -> None:
        self._runtime = runtime
        self._inputs = inputs
        self._progress = progress
        self._files = (directory / str(number) for number in count())
        self.clean: TokenRows | None = None
        if TextSetRole.CLEAN in inputs.text_sets:
            self.clean = token_rows(runtime, inputs, base, TextSetRole.CLEAN, limit=_RANKED_TOKENS)
        self.shards = {
            role: inputs.shards(runtime, role, base, lambda: progress.report(0, 1))
            for role in _MEASURED
            if role in inputs.text_sets
        }
        # Each text is scored under two models.
        self._total = 2 * sum(shards.texts for shards in self.shards.values())
        self._done = 0

    @property
    def tested(self) -> list[TextSetRole]:
        """The text sets that a proof tries to bring back, and those never inserted."""
        return [role for role in TESTED if role in self.shards]

    def texts(self, role: TextSetRole) -> Iterator[list[TextInput]]:
        """The texts of a set as scoring takes them, a shard at a time."""
        return ([text_input(text) for text in shard] for shard in self.shards[role])

    def read(self, language_model: LanguageModel) -> Readings:
        """Measure one model.

        Raises:
            EditFailed: the model gives numbers that are not finite.
        """
        # First, as they say it where a model's numbers are not finite.
        sets = {role: self._score(language_model, role) for role in self.shards}
        items, tasks = self._answer_items(language_model)
        return Readings(
            sets=sets,
            ranked=None if self.clean is None else top_ranked(language_model, self.clean, _NDCG_AT),
            items=items,
            tasks=tasks,
            ranked_positions=[] if self.clean is None else positions_of_rows(self.clean),
        )

    def _score(self, language_model: LanguageModel, role: TextSetRole) -> Scored:
        options = self._inputs.options
        if role is TextSetRole.CLEAN:
            options = replace(options, metrics=frozenset())
        rows = ScoreFile(next(self._files))
        for shard in self.shards[role]:
            done = self._done
            try:
                scores = score_texts(
                    language_model,
                    [text_input(text) for text in shard],
                    options,
                    on_progress=lambda texts, done=done: self._progress.report(done + texts, self._total),  # type: ignore[misc]
                )
            except ScoreNotFinite as error:
                raise EditFailed(error.detail) from None
            rows.append(zip(shard, scores, strict=True))
            self._done += len(shard)
        return Scored(role, rows, summarize(_facts(*pair) for pair in rows))

    def _answer_items(
        self, language_model: LanguageModel
    ) -> tuple[dict[str, JSONObject], dict[str | None, list[bool | None]]]:
        """How many questions of each kind are answered rightly, and which of each group."""
        chosen, choices = tee(row for row in self._items() if row.choices is not None)
        said, answerable = tee(row for row in self._items() if row.choices is None and row.prefix_chars)
        kinds: dict[str, JSONObject] = {}
        tasks: dict[str | None, list[bool | None]] = {}
        before = self._inputs.options.prefix_token
        for kind, rows, right in (
            ("multiple_choice", chosen, choices_right(language_model, map(measured_text, choices), before)),
            ("exact_answer", said, answers_right(language_model, map(text_input, answerable), before)),
        ):
            answers = []
            for row, answered in zip(rows, right, strict=True):
                tasks.setdefault(row.group, []).append(answered)
                answers.append(answered)
            if (found := accuracy_of(answers)).n:
                kinds[kind] = asdict(found)
        return kinds, tasks

    def _items(self) -> Iterator[ClearText]:
        return chain.from_iterable(self._inputs.pages(self._runtime, TextSetRole.ITEMS))


def _facts(text: TextFacts, score: TextScore) -> ScoreFacts:
    return ScoreFacts(
        group=text.group,
        duplicates=text.duplicates,
        n_tokens=score.n_tokens,
        log_likelihood=score.log_likelihood,
        nl=score.nl,
        nl_byte=score.nl_byte,
        metrics=dict(score.metrics),
    )
