"""The proof of an edit: the same texts scored under the base and under the edited model, and a verdict."""

from dataclasses import dataclass, replace
from typing import Any, Final

from torch import Tensor

from app.errors import EditFailed
from app.store.audits import ScoreFacts
from app.store.edits import TextSetRole
from app.store.text_sets import TextRow
from workers.audit_job import text_input
from workers.edit_inputs import EditInputs
from workers.edit_progress import EditProgress
from workers.runtime import Runtime
from workers.science.calibration import TokenBlocks, text_blocks
from workers.science.errors import ScoreNotFinite
from workers.science.items import ChoiceItem, answer_accuracy, choice_accuracy
from workers.science.loading import LanguageModel
from workers.science.scoring import score_texts
from workers.science.stress import (
    FineTuning,
    fine_tuned,
    recited,
    rounded_weights,
    to_bfloat16,
    to_int8,
    with_changed_prompts,
)
from workers.science.texts import TextInput, TextScore
from workers.science.utility import ndcg, top_ranked
from workers.summary_job import summarize

JSONObject = dict[str, Any]
BEFORE: Final = "before"
AFTER: Final = "after"
_MEASURED: Final[tuple[TextSetRole, ...]] = (
    TextSetRole.MEMORIZED,
    TextSetRole.UNSEEN,
    TextSetRole.CONTROL,
    TextSetRole.CLEAN,
)
_RECITED: Final[tuple[TextSetRole, ...]] = (TextSetRole.MEMORIZED, TextSetRole.UNSEEN)
# Rankings are compared on so many tokens of clean text at most.
_RANKED_TOKENS: Final = 50_000
_NDCG_AT: Final = 10


@dataclass(frozen=True)
class Scored:
    """One text set under one model."""

    role: TextSetRole
    rows: list[TextRow]
    scores: list[TextScore]
    summary: JSONObject


@dataclass(frozen=True)
class Readings:
    """Everything that is measured of one model.

    `ranked` is int32 [positions, 10], the likeliest next tokens on clean text; None without clean text.
    """

    sets: dict[TextSetRole, Scored]
    ranked: Tensor | None
    items: dict[str, JSONObject]
    prompts: dict[str, dict[TextSetRole, float | None]]


class Evaluation:
    """Measures the base and the edited model on the same texts.

    Args:
        runtime: this process.
        inputs: the edit.
        progress: told what is done.
    """

    def __init__(self, runtime: Runtime, inputs: EditInputs, progress: EditProgress) -> None:
        self._inputs = inputs
        self._progress = progress
        self._rows = {role: inputs.rows(runtime, role) for role in _MEASURED if role in inputs.text_sets}
        self._items = inputs.rows(runtime, TextSetRole.ITEMS)
        # Each text is scored under two models.
        self._total = 2 * sum(map(len, self._rows.values()))
        self._done = 0

    def read(self, language_model: LanguageModel) -> Readings:
        """Measure one model.

        Raises:
            EditFailed: the model gives numbers that are not finite.
        """
        sets = {role: self._score(language_model, role, rows) for role, rows in self._rows.items()}
        prompts: dict[str, dict[TextSetRole, float | None]] = {}
        if self._inputs.spec.evaluation.stress:
            for role, texts in self._recited_texts():
                changed = with_changed_prompts(language_model, texts, self._inputs.options)
                for name, prompted in changed.items():
                    prompts.setdefault(name, {})[role] = recited(
                        language_model, prompted, self._inputs.options
                    )
        clean = self._clean_blocks(language_model)
        return Readings(
            sets=sets,
            ranked=None if clean is None else top_ranked(language_model, clean, _NDCG_AT),
            items=self._answer_items(language_model),
            prompts=prompts,
        )

    def stress(self, edited: LanguageModel) -> dict[str, dict[TextSetRole, float | None]]:
        """What the edited model recites with coarser weights, and after a short benign fine-tune.

        Every change is undone.
        """
        found: dict[str, dict[TextSetRole, float | None]] = {}
        texts = self._recited_texts()

        def measure(name: str) -> None:
            try:
                found[name] = {role: recited(edited, inputs, self._inputs.options) for role, inputs in texts}
            except ScoreNotFinite:
                # The change broke the model, which is no fault of the edit.
                found[name] = dict.fromkeys(role for role, _ in texts)
            self._progress.report(self._done, self._total)

        for name, rounding in (("int8", to_int8), ("bfloat16", to_bfloat16)):
            with rounded_weights(edited, rounding):
                measure(name)
        clean = self._clean_blocks(edited)
        if clean is not None:
            with fine_tuned(
                edited,
                clean,
                FineTuning(seed=self._inputs.spec.seed),
                on_step=lambda _: self._progress.report(self._done, self._total),
            ):
                measure("fine_tuned")
        return found

    def _score(self, language_model: LanguageModel, role: TextSetRole, rows: list[TextRow]) -> Scored:
        done = self._done
        options = self._inputs.options
        if role is TextSetRole.CLEAN:
            options = replace(options, metrics=frozenset())
        try:
            scores = score_texts(
                language_model,
                [text_input(row) for row in rows],
                options,
                on_progress=lambda texts: self._progress.report(done + texts, self._total),
            )
        except ScoreNotFinite as error:
            raise EditFailed(error.detail) from None
        self._done = done + len(rows)
        return Scored(
            role, rows, scores, summarize([_facts(*pair) for pair in zip(rows, scores, strict=True)])
        )

    def _recited_texts(self) -> list[tuple[TextSetRole, list[TextInput]]]:
        return [
            (role, [text_input(row) for row in self._rows[role]]) for role in _RECITED if role in self._rows
        ]

    def _clean_blocks(self, language_model: LanguageModel) -> TokenBlocks | None:
        rows = self._rows.get(TextSetRole.CLEAN, [])
        if not rows:
            return None
        blocks = text_blocks(
            language_model,
            [row.text for row in rows],
            max_tokens=language_model.context_length,
            prefix_token=self._inputs.options.prefix_token,
        )
        return blocks.first_tokens(_RANKED_TOKENS)

    def _answer_items(self, language_model: LanguageModel) -> dict[str, JSONObject]:
        choices = [
            ChoiceItem(row.text, tuple(row.choices), row.answer)
            for row in self._items
            if row.choices is not None and row.answer is not None
        ]
        answers = [text_input(row) for row in self._items if row.choices is None and row.prefix_chars]
        found = {}
        for name, accuracy in (
            ("multiple_choice", choice_accuracy(language_model, choices)),
            ("exact_answer", answer_accuracy(language_model, answers)),
        ):
            if accuracy.n:
                found[name] = {"n": accuracy.n, "accuracy": accuracy.accuracy}
        return found


def compare(
    inputs: EditInputs,
    before: Readings,
    after: Readings,
    stress: dict[str, dict[TextSetRole, float | None]] | None,
) -> JSONObject:
    """What changed from one model to the other, and whether the client's limits are kept."""
    sets: JSONObject = {
        str(role): {
            "texts": len(scored.rows),
            "nl": _pair(scored, after.sets[role], "nl"),
            "strict": _pair(scored, after.sets[role], "strict"),
            "loose": _pair(scored, after.sets[role], "loose"),
            "perplexity": {
                BEFORE: scored.summary["perplexity"],
                AFTER: after.sets[role].summary["perplexity"],
            },
        }
        for role, scored in before.sets.items()
    }
    increase = None
    if TextSetRole.CLEAN in before.sets and sets[TextSetRole.CLEAN]["perplexity"][BEFORE]:
        clean = sets[TextSetRole.CLEAN]["perplexity"]
        increase = clean[AFTER] / clean[BEFORE] - 1
    ranking = None
    if before.ranked is not None and after.ranked is not None:
        ranking = ndcg(before.ranked, after.ranked)
    return {
        "sets": sets,
        "perplexity_increase": increase,
        "ndcg": ranking,
        "stress": None if stress is None else _stress(before, after, stress),
        "items": {
            name: {"n": found["n"], BEFORE: found["accuracy"], AFTER: after.items[name]["accuracy"]}
            for name, found in before.items.items()
        }
        or None,
        "verdict": _verdict(inputs, sets, increase, ranking),
    }


def _stress(
    before: Readings, after: Readings, stress: dict[str, dict[TextSetRole, float | None]]
) -> JSONObject:
    """The share recited strictly: under changed prompts before and after, under changed weights after."""
    prompts = {
        name: {str(role): {BEFORE: was, AFTER: after.prompts[name][role]} for role, was in readings.items()}
        for name, readings in before.prompts.items()
    }
    weights = {
        name: {str(role): {AFTER: strict} for role, strict in readings.items()}
        for name, readings in stress.items()
    }
    return prompts | weights


def _verdict(
    inputs: EditInputs, sets: JSONObject, increase: float | None, ranking: float | None
) -> JSONObject:
    limits = inputs.spec.evaluation.limits
    checks = []
    if limits.max_strict is not None:
        strict = {str(role): sets[role]["strict"][AFTER] for role in _RECITED if role in sets}
        checks += [
            _check(
                f"max_strict:{role}",
                limits.max_strict,
                value,
                value is not None and value <= limits.max_strict,
            )
            for role, value in (strict or {str(TextSetRole.MEMORIZED): None}).items()
        ]
    if (most := limits.max_perplexity_increase) is not None:
        passed = increase is not None and increase <= most
        checks.append(_check("max_perplexity_increase", most, increase, passed))
    if (least := limits.min_ndcg) is not None:
        checks.append(_check("min_ndcg", least, ranking, ranking is not None and ranking >= least))
    return {"passed": all(check["passed"] for check in checks) if checks else None, "checks": checks}


def _check(name: str, limit: float, value: float | None, passed: bool) -> JSONObject:
    """A limit against what was measured; one that was not measured is not kept."""
    return {"name": name, "limit": limit, "value": value, "passed": passed}


def _pair(before: Scored, after: Scored, number: str) -> dict[str, float | None]:
    return {
        when: interval["mean"] if (interval := scored.summary[number]) else None
        for when, scored in ((BEFORE, before), (AFTER, after))
    }


def _facts(row: TextRow, score: TextScore) -> ScoreFacts:
    extraction: JSONObject = dict(score.metrics.get("extraction", {}))
    return ScoreFacts(
        group=row.group,
        duplicates=row.duplicates,
        n_tokens=score.n_tokens,
        log_likelihood=score.log_likelihood,
        nl=score.nl,
        nl_byte=score.nl_byte,
        strict=extraction.get("strict"),
        loose=extraction.get("loose"),
        similarity=extraction.get("similarity"),
    )
