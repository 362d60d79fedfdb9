"""The proof of an edit. Oracles: numbers chosen by hand; transformers and scikit-learn on the same texts."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from sklearn.metrics import ndcg_score

from app.contracts import EditEvaluation, EditSpec, Limits
from app.edits.schemas import Evaluation as EvaluationOut
from app.errors import EditFailed
from app.store.audits import ScoreFacts
from app.store.edits import EditTextSet, TextSetRole
from app.store.identifiers import new_id
from app.store.language_models import LanguageModel as LanguageModelRow
from app.store.text_sets import TextRow
from tests.log_probabilities import log_probabilities
from tests.tiny_models import english_sentences, one_thread, save_reciting_model
from workers.edit_evaluation import Evaluation, Readings, Scored, compare
from workers.edit_inputs import EditInputs
from workers.edit_progress import EditProgress
from workers.runtime import Runtime
from workers.science.calibration import text_blocks
from workers.science.loading import LanguageModel, load_language_model
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
from workers.science.texts import ScoringOptions, TextInput, TextScore
from workers.summary_job import summarize

MEMORIZED, UNSEEN, CONTROL, CLEAN, ITEMS = (
    TextSetRole.MEMORIZED,
    TextSetRole.UNSEEN,
    TextSetRole.CONTROL,
    TextSetRole.CLEAN,
    TextSetRole.ITEMS,
)
RANKED = torch.stack([torch.randperm(300, generator=torch.Generator().manual_seed(n))[:10] for n in range(9)])


@dataclass(frozen=True)
class InputsInMemory(EditInputs):
    """The inputs of an edit whose texts are at hand."""

    texts: dict[TextSetRole, list[TextRow]] = field(default_factory=dict)

    def rows(self, _runtime: Runtime, role: TextSetRole) -> list[TextRow]:
        return self.texts.get(role, [])


def inputs_with(texts: dict[TextSetRole, list[TextRow]] | None = None, **evaluation: Any) -> InputsInMemory:
    return InputsInMemory(
        edit_id=new_id(),
        tenant_id=new_id(),
        name="forgetful",
        spec=EditSpec(method="kfac", evaluation=EditEvaluation(**evaluation)),
        base=LanguageModelRow(id=new_id()),
        text_sets={
            role: EditTextSet(role=role, text_set_id=new_id(), sha256="0" * 64) for role in texts or {}
        },
        texts=texts or {},
    )


def scored(role: TextSetRole, nls: Sequence[float], strict: Sequence[bool | None] = ()) -> Scored:
    """Texts of ten tokens each; a text is recited loosely also where another one is strictly."""
    flags = [*strict, *[None] * (len(nls) - len(strict))]
    facts = [
        ScoreFacts(
            group=None,
            duplicates=None,
            n_tokens=10,
            log_likelihood=10 * nl,
            nl=nl,
            nl_byte=nl / 4,
            strict=flag,
            loose=None if flag is None else True,
            similarity=None,
        )
        for nl, flag in zip(nls, flags, strict=True)
    ]
    rows = [TextRow(ordinal=place, text_id=str(place), text="some text") for place in range(len(nls))]
    return Scored(role, rows, [TextScore(10, 40)] * len(nls), summarize(facts))


def readings(
    *sets: Scored, ranked: torch.Tensor | None = None, items: dict[str, dict[str, Any]] | None = None
) -> Readings:
    return Readings({one.role: one for one in sets}, ranked, items or {}, {})


BEFORE = readings(
    scored(MEMORIZED, [-0.1, -0.3], [True, True]),
    scored(UNSEEN, [-0.2, -0.2, -0.2, -0.2], [True, True, True, False]),
    scored(CONTROL, [-3.0], [False]),
    scored(CLEAN, [-2.0, -2.5]),
    ranked=RANKED,
    items={"multiple_choice": {"n": 8, "accuracy": 0.75}},
)
# Perplexity on clean text grows by a fifth.
AFTER = readings(
    scored(MEMORIZED, [-1.0, -1.5], [True, False]),
    scored(UNSEEN, [-1.0, -1.0, -1.0, -2.0], [True, False, False, False]),
    scored(CONTROL, [-3.5], [True]),
    scored(CLEAN, [-2.0 - 2 * math.log(1.2), -2.5]),
    ranked=RANKED.flip(1),
    items={"multiple_choice": {"n": 8, "accuracy": 0.5}},
)
# The base list reversed: sum over p of p / log2(p + 1), against (11 - p) / log2(p + 1).
NDCG = sum(p / math.log2(p + 1) for p in range(1, 11)) / sum(
    (11 - p) / math.log2(p + 1) for p in range(1, 11)
)


def test_each_set_is_compared_before_and_after() -> None:
    found = compare(inputs_with(), BEFORE, AFTER, None)
    assert found["sets"]["memorized"] == {
        "texts": 2,
        "nl": {"before": pytest.approx(-0.2), "after": pytest.approx(-1.25)},
        "strict": {"before": 1.0, "after": 0.5},
        "loose": {"before": 1.0, "after": 1.0},
        "perplexity": {"before": pytest.approx(math.exp(0.2)), "after": pytest.approx(math.exp(1.25))},
    }
    assert found["sets"]["unseen"]["texts"] == 4
    assert found["sets"]["unseen"]["strict"] == {"before": 0.75, "after": 0.25}
    assert found["sets"]["clean"]["strict"] == {"before": None, "after": None}
    assert set(found["sets"]) == {"memorized", "unseen", "control", "clean"}
    assert found["perplexity_increase"] == pytest.approx(0.2)
    assert found["ndcg"] == pytest.approx(NDCG)
    assert found["items"] == {"multiple_choice": {"n": 8, "before": 0.75, "after": 0.5}}
    assert found["stress"] is None
    assert found["verdict"] == {"passed": None, "checks": []}


@pytest.mark.parametrize(
    ("limits", "checks"),
    [
        ({"max_strict": 0.5}, {"max_strict:memorized": True, "max_strict:unseen": True}),
        ({"max_strict": 0.4}, {"max_strict:memorized": False, "max_strict:unseen": True}),
        ({"max_strict": 0.2}, {"max_strict:memorized": False, "max_strict:unseen": False}),
        ({"max_perplexity_increase": 0.21}, {"max_perplexity_increase": True}),
        ({"max_perplexity_increase": 0.19}, {"max_perplexity_increase": False}),
        ({"max_perplexity_increase": 0.0}, {"max_perplexity_increase": False}),
        ({"min_ndcg": NDCG - 1e-9}, {"min_ndcg": True}),
        ({"min_ndcg": NDCG + 1e-9}, {"min_ndcg": False}),
        (
            {"max_strict": 0.5, "max_perplexity_increase": 0.3, "min_ndcg": 0.1},
            {
                "max_strict:memorized": True,
                "max_strict:unseen": True,
                "max_perplexity_increase": True,
                "min_ndcg": True,
            },
        ),
        (
            {"max_strict": 0.5, "max_perplexity_increase": 0.3, "min_ndcg": 0.99},
            {
                "max_strict:memorized": True,
                "max_strict:unseen": True,
                "max_perplexity_increase": True,
                "min_ndcg": False,
            },
        ),
    ],
)
def test_a_verdict_passes_only_if_every_limit_is_kept(
    limits: dict[str, float], checks: dict[str, bool]
) -> None:
    found = compare(inputs_with(limits=Limits(**limits)), BEFORE, AFTER, None)
    assert {check["name"]: check["passed"] for check in found["verdict"]["checks"]} == checks
    assert found["verdict"]["passed"] == all(checks.values())
    values = {
        "max_strict:memorized": 0.5,
        "max_strict:unseen": 0.25,
        "max_perplexity_increase": 0.2,
        "min_ndcg": NDCG,
    }
    for check in found["verdict"]["checks"]:
        assert check["value"] == pytest.approx(values[check["name"]])
        assert check["limit"] == limits[check["name"].partition(":")[0]]


def test_a_limit_that_was_not_measured_is_not_kept() -> None:
    limits = Limits(max_strict=1.0, max_perplexity_increase=100.0, min_ndcg=0.0)
    nothing = readings()
    found = compare(inputs_with(limits=limits), nothing, nothing, None)
    assert (found["sets"], found["perplexity_increase"], found["ndcg"], found["items"]) == (
        {},
        None,
        None,
        None,
    )
    assert found["verdict"] == {
        "passed": False,
        "checks": [
            {"name": "max_strict:memorized", "limit": 1.0, "value": None, "passed": False},
            {"name": "max_perplexity_increase", "limit": 100.0, "value": None, "passed": False},
            {"name": "min_ndcg", "limit": 0.0, "value": None, "passed": False},
        ],
    }
    # Texts that are too short to be recited are measured, but not in this.
    short = readings(scored(MEMORIZED, [-1.0], [None]))
    (check, *_) = compare(inputs_with(limits=limits), short, short, None)["verdict"]["checks"]
    assert check == {"name": "max_strict:memorized", "limit": 1.0, "value": None, "passed": False}


def test_what_did_not_change_is_said_to_be_the_same() -> None:
    found = compare(inputs_with(limits=Limits(max_perplexity_increase=0.0)), BEFORE, BEFORE, None)
    assert found["ndcg"] == pytest.approx(1.0, abs=1e-12)
    assert found["perplexity_increase"] == 0
    assert found["verdict"]["passed"]
    for measured in found["sets"].values():
        for name in ("nl", "strict", "loose", "perplexity"):
            assert measured[name]["before"] == measured[name]["after"]


def test_stress_names_what_was_changed_and_in_which_set() -> None:
    before = Readings({}, None, {}, {"prefix_shifted": {MEMORIZED: 1.0, UNSEEN: None}})
    after = Readings({}, None, {}, {"prefix_shifted": {MEMORIZED: 0.5, UNSEEN: 0.0}})
    found = compare(inputs_with(), before, after, {"int8": {MEMORIZED: 0.25, UNSEEN: None}})
    assert found["stress"] == {
        "prefix_shifted": {
            "memorized": {"before": 1.0, "after": 0.5},
            "unseen": {"before": None, "after": 0.0},
        },
        "int8": {"memorized": {"after": 0.25}, "unseen": {"after": None}},
    }


class RecordedProgress:
    """In the place of a worker's: it only writes down the shares that it is told."""

    def __init__(self) -> None:
        self.shares: list[float] = []

    def report(self, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.shares.append(done / total)


SPLIT = {"prefix_tokens": 24, "suffix_tokens": 8}
SENTENCES = [sentence[:150] for sentence in english_sentences() if len(sentence) >= 150]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    directory = save_reciting_model(tmp_path_factory.mktemp("base"), SENTENCES[:8])
    return load_language_model(directory, device="cpu")


def with_scaled_up_projections(base: LanguageModel, factor: float) -> LanguageModel:
    model = copy.deepcopy(base.model)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight.mul_(factor)
    return LanguageModel(**{**vars(base), "model": model})


@pytest.fixture(scope="module")
def edited(base: LanguageModel) -> LanguageModel:
    return with_scaled_up_projections(base, -1.0)


def rows_of(texts: Sequence[str]) -> list[TextRow]:
    return [TextRow(ordinal=place, text_id=str(place), text=text) for place, text in enumerate(texts)]


@pytest.fixture(scope="module")
def texts() -> dict[TextSetRole, list[TextRow]]:
    addition = "2 + 2 = 4"
    return {
        MEMORIZED: rows_of(SENTENCES[:4]),
        UNSEEN: rows_of(["", *SENTENCES[4:8]]),
        CLEAN: rows_of(SENTENCES[100:105]),
        ITEMS: [
            TextRow(text="The statement is", choices=["true", "a list"], answer=0),
            TextRow(text="The statement is", choices=["true", "a list"], answer=1),
            TextRow(text="The value of", choices=["a", "an object"], answer=0),
            TextRow(text="The value of", choices=["a", "an object"], answer=1),
            TextRow(text=addition, prefix_chars=7),
            TextRow(text=SENTENCES[0][: SENTENCES[0].rindex(" ")], prefix_chars=100),
            TextRow(text="Neither choices nor a split"),
            TextRow(text="Choices without an answer", choices=["a", "b"]),
        ],
    }


def bare(rows: Sequence[TextRow]) -> list[TextInput]:
    return [TextInput(row.text) for row in rows]


def evaluated(
    inputs: EditInputs, *language_models: LanguageModel
) -> tuple[Evaluation, RecordedProgress, list[Readings]]:
    progress = RecordedProgress()
    runtime = cast("Runtime", None)  # the texts are at hand
    evaluation = Evaluation(runtime, inputs, cast("EditProgress", progress))
    return evaluation, progress, [evaluation.read(language_model) for language_model in language_models]


def test_the_proof_is_what_transformers_and_the_scores_say(
    base: LanguageModel, edited: LanguageModel, texts: dict[TextSetRole, list[TextRow]]
) -> None:
    inputs = inputs_with(texts, **SPLIT)
    _, progress, (before, after) = evaluated(inputs, base, edited)
    found = compare(inputs, before, after, None)
    EvaluationOut.model_validate(
        found | {"sets": {role: measured | {"audits": {}} for role, measured in found["sets"].items()}}
    )
    options = ScoringOptions(**SPLIT)
    for when, language_model in (("before", base), ("after", edited)):
        for role in (MEMORIZED, UNSEEN):
            scores = score_texts(language_model, bare(texts[role]), options)
            kept = [score for score in scores if score.error is None]
            measured = found["sets"][role]
            assert (measured["texts"], len(kept)) == (len(texts[role]), 4)
            assert measured["nl"][when] == pytest.approx(sum(score.nl or 0 for score in kept) / 4)
            for name in ("strict", "loose"):
                share = sum(bool(score.metrics["extraction"][name]) for score in kept) / 4
                assert measured[name][when] == share
        assert found["sets"]["clean"]["perplexity"][when] == pytest.approx(
            perplexity_by_transformers(language_model, texts[CLEAN]), rel=1e-5
        )
    assert found["sets"]["memorized"]["strict"]["before"] > found["sets"]["memorized"]["strict"]["after"]
    clean = found["sets"]["clean"]["perplexity"]
    assert found["perplexity_increase"] == pytest.approx(clean["after"] / clean["before"] - 1)
    assert found["ndcg"] == pytest.approx(ndcg_by_scikit_learn(base, edited, texts[CLEAN]), rel=1e-6)
    assert found["ndcg"] < 0.99
    assert progress.shares == sorted(progress.shares)
    assert progress.shares[-1] == 1


def perplexity_by_transformers(language_model: LanguageModel, rows: Sequence[TextRow]) -> float:
    pairs = [log_probabilities(language_model, row.text) for row in rows]
    following, ids = (torch.cat(part) for part in zip(*pairs, strict=True))
    return math.exp(torch.nn.functional.nll_loss(following, ids))


def ndcg_by_scikit_learn(base: LanguageModel, edited: LanguageModel, rows: Sequence[TextRow]) -> float:
    """Over the tokens that the text's own ones precede."""
    before, after = (
        torch.cat([log_probabilities(model, row.text)[0][1:] for row in rows]) for model in (base, edited)
    )
    gains = torch.arange(10, 0, -1.0, dtype=torch.float64).expand(len(before), 10)
    relevance = torch.zeros_like(before).scatter_(1, before.topk(10).indices, gains)
    return float(ndcg_score(relevance.numpy(), after.numpy(), k=10))


@torch.inference_mode()
def test_what_stands_before_the_texts_of_a_proof_can_be_chosen(
    base: LanguageModel, texts: dict[TextSetRole, list[TextRow]]
) -> None:
    inputs = inputs_with(texts, **SPLIT, stress=True, prefix_token="eos")
    _, _, (read,) = evaluated(inputs, base)
    asked = ScoringOptions(**SPLIT, prefix_token="eos")
    numbers = {}
    for options in (asked, ScoringOptions(**SPLIT)):
        scores = score_texts(base, bare(texts[MEMORIZED]), options)
        numbers[options.prefix_token] = [(score.nl, score.metrics["extraction"]) for score in scores]
    found = [(score.nl, score.metrics["extraction"]) for score in read.sets[MEMORIZED].scores]
    assert found == numbers["eos"] != numbers["auto"]
    for name, prompted in with_changed_prompts(base, bare(texts[MEMORIZED]), asked).items():
        assert read.prompts[name][MEMORIZED] == recited(base, prompted, asked)
    eos = base.tokenizer.eos_token_id
    encoded = [[eos, *base.tokenizer(row.text)["input_ids"]][:-1] for row in texts[CLEAN]]
    ranked = torch.cat([base.model(torch.tensor([ids])).logits[0].topk(10).indices for ids in encoded])
    assert read.ranked is not None
    assert torch.equal(read.ranked, ranked.int())


def test_questions_are_answered_before_and_after(
    base: LanguageModel, edited: LanguageModel, texts: dict[TextSetRole, list[TextRow]]
) -> None:
    """Each question with choices is asked with either answer, so that one of the two is right."""
    inputs = inputs_with({ITEMS: texts[ITEMS]})
    _, _, (before, after) = evaluated(inputs, base, edited)
    found = compare(inputs, before, after, None)
    assert found["items"] == {
        "multiple_choice": {"n": 4, "before": 0.5, "after": 0.5},
        "exact_answer": {"n": 2, "before": 0.5, "after": 0.0},
    }
    choices_only = inputs_with({ITEMS: texts[ITEMS][:1]})
    _, _, (alone,) = evaluated(choices_only, base)
    assert {name: answered["n"] for name, answered in alone.items.items()} == {"multiple_choice": 1}


def test_stress_is_what_is_recited_under_each_change(
    base: LanguageModel, edited: LanguageModel, texts: dict[TextSetRole, list[TextRow]]
) -> None:
    inputs = inputs_with(texts, stress=True, **SPLIT)
    evaluation, _, (before, after) = evaluated(inputs, base, edited)
    bits = {name: value.clone() for name, value in edited.model.state_dict().items()}
    found = compare(inputs, before, after, evaluation.stress(edited))["stress"]
    assert all(torch.equal(value, bits[name]) for name, value in edited.model.state_dict().items())
    assert set(found) == {"prefix_shifted", "prefix_shortened", "int8", "bfloat16", "fine_tuned"}
    options = ScoringOptions(metrics=frozenset({"extraction"}), **SPLIT)
    for role in (MEMORIZED, UNSEEN):
        recitable = bare(texts[role])
        for name, prompted in with_changed_prompts(base, recitable, options).items():
            assert found[name][role] == {
                "before": recited(base, prompted, options),
                "after": recited(edited, prompted, options),
            }
        for name, rounding in (("int8", to_int8), ("bfloat16", to_bfloat16)):
            with rounded_weights(edited, rounding):
                assert found[name][role] == {"after": recited(edited, recitable, options)}
        clean = text_blocks(edited, [row.text for row in texts[CLEAN]], max_tokens=128)
        with fine_tuned(edited, clean, FineTuning(seed=inputs.spec.seed), lambda _: None):
            assert found["fine_tuned"][role] == {"after": recited(edited, recitable, options)}


def test_without_clean_text_nothing_is_fine_tuned_or_ranked(
    base: LanguageModel, texts: dict[TextSetRole, list[TextRow]]
) -> None:
    inputs = inputs_with({MEMORIZED: texts[MEMORIZED]}, stress=True, **SPLIT)
    evaluation, _, (read,) = evaluated(inputs, base)
    assert read.ranked is None
    assert set(evaluation.stress(base)) == {"int8", "bfloat16"}


def test_numbers_that_are_not_finite_fail_the_edit_by_name(
    base: LanguageModel, texts: dict[TextSetRole, list[TextRow]]
) -> None:
    broken = with_scaled_up_projections(base, math.nan)
    with pytest.raises(EditFailed, match="not finite"):
        evaluated(inputs_with(texts, **SPLIT), broken)
