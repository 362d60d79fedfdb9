"""The proof of an edit. Oracles: numbers chosen by hand; transformers and scikit-learn on the same texts."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from scipy import stats
from sklearn.metrics import ndcg_score

from app.contracts.edits import Limits
from app.contracts.results.evaluations import Evaluation as EvaluationOut
from app.contracts.results.intervals import MeanInterval, ShareInterval
from app.contracts.texts import TextSetRole
from app.errors import EditFailed
from app.store.texts import ClearText
from tests.edits_in_memory import (
    RecordedProgress,
    bare,
    inputs_with,
    rows_of,
    with_scaled_up_projections,
)
from tests.log_probabilities import log_probabilities
from tests.tiny_models import english_sentences, one_thread, save_reciting_model
from workers.audits.rows import TextFacts, measured_text
from workers.audits.summarize import summarize
from workers.edits import evaluation as edit_evaluation
from workers.edits.comparison import compare
from workers.edits.evaluation import Evaluation, Readings, Scored, _facts
from workers.edits.inputs import EditInputs
from workers.edits.progress import EditProgress
from workers.edits.proof import Proven
from workers.edits.scores import ScoreFile
from workers.running.runtime import Runtime
from workers.science.evaluation.items import answers_right, choices_right
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextScore
from workers.science.statistics.intervals import Moments, mean_with_interval, weighted_mean
from workers.science.statistics.paired import share_change
from workers.science.statistics.ratios import PairedCounts
from workers.science.statistics.shares import share_with_interval

MEMORIZED, UNSEEN, CONTROL, CLEAN, ITEMS = (
    TextSetRole.MEMORIZED,
    TextSetRole.UNSEEN,
    TextSetRole.CONTROL,
    TextSetRole.CLEAN,
    TextSetRole.ITEMS,
)
AUDITS = {"before": "aud_1", "after": "aud_2"}
RANKED = torch.stack([torch.randperm(300, generator=torch.Generator().manual_seed(n))[:10] for n in range(9)])


def scored(role: TextSetRole, nls: Sequence[float], strict: Sequence[bool | None] = ()) -> Scored:
    """Texts of ten tokens each; a text is recited loosely also where another one is strictly."""
    flags = [*strict, *[None] * (len(nls) - len(strict))]
    rows = [TextFacts(place, str(place), group=None, duplicates=None) for place in range(len(nls))]
    scores = [
        TextScore(
            10,
            40,
            log_likelihood=10 * nl,
            nl=nl,
            nl_byte=nl / 4,
            metrics={
                "extraction": {
                    "status": "ok",
                    "strict": flag,
                    "loose": None if flag is None else True,
                    "similarity": None,
                }
            },
        )
        for nl, flag in zip(nls, flags, strict=True)
    ]
    return Scored(
        role, cast("ScoreFile", list(zip(rows, scores, strict=True))), summarize(map(_facts, rows, scores))
    )


def readings(
    *sets: Scored, ranked: torch.Tensor | None = None, items: dict[str, dict[str, Any]] | None = None
) -> Readings:
    positions = [] if ranked is None else [4, 3, 2]
    return Readings({one.role: one for one in sets}, ranked, items or {}, positions)


def flags(recited: int, n: int) -> list[bool | None]:
    return [place < recited for place in range(n)]


# On clean text each token's log-likelihood falls by ln 1.2 on average, in each of the 40 texts by a bit more
# or less, whatever the text itself costs.
CLEAN_NLS = [-2.0 - place % 5 for place in range(40)]
FALLEN = [nl - math.log(1.2) - 0.01 * (-1) ** place for place, nl in enumerate(CLEAN_NLS)]
BEFORE = readings(
    scored(MEMORIZED, [-0.1, -0.3] * 3, flags(6, 6)),
    scored(UNSEEN, [-0.2] * 100, flags(90, 100)),
    scored(CONTROL, [-3.0], flags(0, 1)),
    scored(CLEAN, CLEAN_NLS),
    ranked=RANKED,
    items={"multiple_choice": {"n": 8, "accuracy": 0.75}},
)
AFTER = readings(
    scored(MEMORIZED, [-1.0, -1.5] * 3, flags(0, 6)),
    scored(UNSEEN, [-1.0] * 100, flags(10, 100)),
    scored(CONTROL, [-3.5], flags(1, 1)),
    scored(CLEAN, FALLEN),
    ranked=RANKED.flip(1),
    items={"multiple_choice": {"n": 8, "accuracy": 0.5}},
)
# The base list reversed: sum over p of p / log2(p + 1), against (11 - p) / log2(p + 1).
NDCG = sum(p / math.log2(p + 1) for p in range(1, 11)) / sum(
    (11 - p) / math.log2(p + 1) for p in range(1, 11)
)
# The same but for the first of nine positions, where its first two tokens are in the base's order.
UNLIKE = RANKED.flip(1)
UNLIKE[0, :2] = UNLIKE[0, [1, 0]]
UNLIKE_NDCG = NDCG + (1 - 1 / math.log2(3)) / sum((11 - p) / math.log2(p + 1) for p in range(1, 11)) / 9


def test_each_set_is_compared_before_and_after_with_intervals() -> None:
    found = compare(inputs_with(), BEFORE, AFTER, Proven())
    memorized = found["sets"]["memorized"]
    assert memorized["texts"] == 6
    assert (memorized["nl"]["before"]["mean"], memorized["nl"]["after"]["mean"]) == pytest.approx(
        (-0.2, -1.25)
    )
    assert memorized["nl"]["after"] == asdict(mean_with_interval(Moments.of([-1.0, -1.5] * 3)))
    assert memorized["strict"] == {
        "before": asdict(share_with_interval(6, 6)),
        "after": asdict(share_with_interval(0, 6)),
        "change": asdict(share_change([(True, False)] * 6)),
    }
    assert memorized["nl"]["change"] == asdict(mean_with_interval(Moments.of([-0.9, -1.2] * 3)))
    assert memorized["loose"]["change"]["difference"] == 0
    assert memorized["loose"]["after"] == asdict(share_with_interval(6, 6))
    assert memorized["perplexity"] == pytest.approx({"before": math.exp(0.2), "after": math.exp(1.25)})
    assert found["sets"]["unseen"]["strict"]["after"] == asdict(share_with_interval(10, 100))
    assert found["sets"]["clean"]["strict"] == {"before": None, "after": None, "change": None}
    assert set(found["sets"]) == {"memorized", "unseen", "control", "clean"}
    assert found["items"] == {"multiple_choice": {"n": 8, "before": 0.75, "after": 0.5}}
    assert found["stress"] is None
    assert found["verdict"] == {"outcome": None, "passed": None, "checks": []}


def test_the_growth_of_perplexity_compares_each_text_with_itself() -> None:
    """Texts differ by nats and their changes by hundredths of one: so does the interval."""
    increase = compare(inputs_with(), BEFORE, AFTER, Proven())["perplexity_increase"]
    assert (increase["n"], increase["mean"]) == (40, pytest.approx(0.2))
    error = 1.2 * 0.01 / math.sqrt(39) * stats.t.ppf(0.975, 39)
    assert (increase["low"], increase["high"]) == pytest.approx((0.2 - error, 0.2 + error), abs=1e-4)


def test_rankings_are_compared_text_by_text() -> None:
    """Rankings of the same text stand or fall together: nine positions of three texts are three, not nine."""
    alike = compare(inputs_with(), BEFORE, AFTER, Proven())["ndcg"]
    assert alike == {"n": 3, "mean": pytest.approx(NDCG, rel=1e-12), "low": None, "high": None}
    mixed = readings(ranked=torch.cat((RANKED[:4], RANKED[4:].flip(1))))
    found = compare(inputs_with(), readings(ranked=RANKED), mixed, Proven())["ndcg"]
    assert found["mean"] == pytest.approx((4 + 5 * NDCG) / 9)
    assert 0 <= found["low"] < NDCG
    assert found["high"] == 1.0


@pytest.mark.parametrize(
    ("limits", "outcome", "checks"),
    [
        # None of 6 is recited: at most 0.41 are. 10 of 100 are: 0.06 to 0.17.
        ({"max_strict": 0.5}, "pass", {"max_strict:memorized": "pass", "max_strict:unseen": "pass"}),
        (
            {"max_strict": 0.3},
            "inconclusive",
            {"max_strict:memorized": "inconclusive", "max_strict:unseen": "pass"},
        ),
        (
            {"max_strict": 0.1},
            "inconclusive",
            dict.fromkeys(("max_strict:memorized", "max_strict:unseen"), "inconclusive"),
        ),
        ({"max_strict": 0.04}, "fail", {"max_strict:memorized": "inconclusive", "max_strict:unseen": "fail"}),
        ({"max_perplexity_increase": 0.21}, "pass", {"max_perplexity_increase": "pass"}),
        ({"max_perplexity_increase": 0.201}, "inconclusive", {"max_perplexity_increase": "inconclusive"}),
        ({"max_perplexity_increase": 0.19}, "fail", {"max_perplexity_increase": "fail"}),
        ({"min_ndcg": NDCG - 0.05}, "pass", {"min_ndcg": "pass"}),
        ({"min_ndcg": UNLIKE_NDCG}, "inconclusive", {"min_ndcg": "inconclusive"}),
        ({"min_ndcg": NDCG + 0.05}, "fail", {"min_ndcg": "fail"}),
        (
            {"max_strict": 0.3, "max_perplexity_increase": 0.3, "min_ndcg": 0.99},
            "fail",
            {
                "max_strict:memorized": "inconclusive",
                "max_strict:unseen": "pass",
                "max_perplexity_increase": "pass",
                "min_ndcg": "fail",
            },
        ),
    ],
)
def test_a_limit_is_kept_or_broken_only_if_the_whole_interval_says_so(
    limits: dict[str, float], outcome: str, checks: dict[str, str]
) -> None:
    after = replace(AFTER, ranked=UNLIKE)
    found = compare(inputs_with(limits=Limits(**limits)), BEFORE, after, Proven())["verdict"]
    passed = {"pass": True, "fail": False, "inconclusive": None}
    assert {check["name"]: check["outcome"] for check in found["checks"]} == checks
    assert (found["outcome"], found["passed"]) == (outcome, passed[outcome])
    values = {
        "max_strict:memorized": 0.0,
        "max_strict:unseen": 0.1,
        "max_perplexity_increase": 0.2,
        "min_ndcg": UNLIKE_NDCG,
    }
    for check in found["checks"]:
        assert check["value"] == pytest.approx(values[check["name"]])
        assert check["low"] <= check["value"] <= check["high"]
        assert check["limit"] == limits[check["name"].partition(":")[0]]
        assert check["passed"] == passed[check["outcome"]]


def test_of_a_limit_that_was_not_measured_nothing_is_known() -> None:
    limits = Limits(max_strict=1.0, max_perplexity_increase=100.0, min_ndcg=0.0)
    nothing = readings()
    found = compare(inputs_with(limits=limits), nothing, nothing, Proven())
    assert (found["sets"], found["perplexity_increase"], found["ndcg"], found["items"]) == (
        {},
        None,
        None,
        None,
    )
    unknown = {"n": 0, "value": None, "low": None, "high": None, "outcome": "inconclusive", "passed": None}
    assert found["verdict"] == {
        "outcome": "inconclusive",
        "passed": None,
        "checks": [
            {"name": "max_strict:memorized", "limit": 1.0, **unknown},
            {"name": "max_perplexity_increase", "limit": 100.0, **unknown},
            {"name": "min_ndcg", "limit": 0.0, **unknown},
        ],
    }
    # Texts that are too short to be recited are measured, but not in this.
    short = readings(scored(MEMORIZED, [-1.0], [None]))
    (check, *_) = compare(inputs_with(limits=limits), short, short, Proven())["verdict"]["checks"]
    assert check == {"name": "max_strict:memorized", "limit": 1.0, **unknown}


def test_one_text_shows_no_growth_of_perplexity() -> None:
    one, other = readings(scored(CLEAN, [-1.0])), readings(scored(CLEAN, [-1.01]))
    limits = Limits(max_perplexity_increase=0.5)
    found = compare(inputs_with(limits=limits), one, other, Proven())
    assert found["perplexity_increase"] == {
        "n": 1,
        "mean": pytest.approx(0.01005, rel=1e-3),
        "low": None,
        "high": None,
    }
    assert found["verdict"]["outcome"] == "inconclusive"


def test_what_did_not_change_is_said_to_be_the_same_of_these_texts_alone() -> None:
    """That no text changed does not say how much others might."""
    limits = Limits(max_perplexity_increase=0.5, min_ndcg=0.5)
    found = compare(inputs_with(limits=limits), BEFORE, BEFORE, Proven())
    assert found["ndcg"] == {"n": 3, "mean": 1.0, "low": None, "high": None}
    assert found["perplexity_increase"] == {"n": 40, "mean": 0.0, "low": None, "high": None}
    assert {check["name"]: check["outcome"] for check in found["verdict"]["checks"]} == {
        "max_perplexity_increase": "inconclusive",
        "min_ndcg": "inconclusive",
    }
    assert (found["verdict"]["outcome"], found["verdict"]["passed"]) == ("inconclusive", None)
    for measured in found["sets"].values():
        for name in ("nl", "strict", "loose", "perplexity"):
            assert measured[name]["before"] == measured[name]["after"]


def test_an_evaluation_that_an_older_release_stored_can_be_read() -> None:
    number = {"before": 1.0, "after": 0.25}
    measured = {"texts": 4, "audits": AUDITS} | dict.fromkeys(("nl", "strict", "loose", "perplexity"), number)
    clean = measured | {"strict": {"before": None, "after": None}}
    old = EvaluationOut.model_validate(
        {
            "sets": {"memorized": measured, "clean": clean},
            "perplexity_increase": 0.05,
            "ndcg": None,
            "stress": None,
            "items": None,
            "verdict": {
                "passed": True,
                "checks": [{"name": "max_strict:memorized", "limit": 0.5, "value": 0.25, "passed": True}],
            },
        }
    )
    assert old.sets["memorized"].strict.after == ShareInterval(n=4, count=1, share=0.25, low=None, high=None)
    assert old.sets["memorized"].nl.before == MeanInterval(n=4, mean=1.0, low=None, high=None)
    assert old.sets["clean"].strict.after is None
    assert old.perplexity_increase == MeanInterval(n=4, mean=0.05, low=None, high=None)
    assert (old.ndcg, old.verdict.outcome, old.verdict.passed) == (None, None, True)
    assert old.verdict.checks[0].outcome is None


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


@pytest.fixture(scope="module")
def edited(base: LanguageModel) -> LanguageModel:
    return with_scaled_up_projections(base, -1.0)


@pytest.fixture(scope="module")
def texts() -> dict[TextSetRole, list[ClearText]]:
    addition = "2 + 2 = 4"
    return {
        MEMORIZED: rows_of(SENTENCES[:4]),
        UNSEEN: rows_of(["", *SENTENCES[4:8]]),
        CLEAN: rows_of(SENTENCES[100:105]),
        ITEMS: [
            ClearText(text="The statement is", choices=["true", "a list"], answer=0),
            ClearText(text="The statement is", choices=["true", "a list"], answer=1),
            ClearText(text="The value of", choices=["a", "an object"], answer=0),
            ClearText(text="The value of", choices=["a", "an object"], answer=1),
            ClearText(text=addition, prefix_chars=7),
            ClearText(text=SENTENCES[0][: SENTENCES[0].rindex(" ")], prefix_chars=100),
            ClearText(text="Neither choices nor a split"),
            ClearText(text="Choices without an answer", choices=["a", "b"]),
        ],
    }


def evaluated(
    scores: Path, inputs: EditInputs, *language_models: LanguageModel
) -> tuple[Evaluation, RecordedProgress, list[Readings]]:
    progress = RecordedProgress()
    runtime = cast("Runtime", None)  # the texts are at hand
    evaluation = Evaluation(runtime, inputs, language_models[0], cast("EditProgress", progress), scores)
    return evaluation, progress, [evaluation.read(language_model) for language_model in language_models]


def test_the_proof_is_what_transformers_and_the_scores_say(
    base: LanguageModel, edited: LanguageModel, texts: dict[TextSetRole, list[ClearText]], tmp_path: Path
) -> None:
    inputs = inputs_with(texts, **SPLIT)
    _, progress, (before, after) = evaluated(tmp_path, inputs, base, edited)
    found = compare(inputs, before, after, Proven())
    EvaluationOut.model_validate(
        found | {"sets": {role: measured | {"audits": AUDITS} for role, measured in found["sets"].items()}}
    )
    options = ScoringOptions(**SPLIT)
    for when, language_model in (("before", base), ("after", edited)):
        for role in (MEMORIZED, UNSEEN):
            scores = score_texts(language_model, bare(texts[role]), options)
            kept = [score for score in scores if score.error is None]
            measured = found["sets"][role]
            assert (measured["texts"], len(kept)) == (len(texts[role]), 4)
            assert measured["nl"][when]["mean"] == pytest.approx(sum(score.nl or 0 for score in kept) / 4)
            for name in ("strict", "loose"):
                share = sum(bool(score.metrics["extraction"][name]) for score in kept) / 4
                assert measured[name][when]["share"] == share
        assert found["sets"]["clean"]["perplexity"][when] == pytest.approx(
            perplexity_by_transformers(language_model, texts[CLEAN]), rel=1e-5
        )
    strict = found["sets"]["memorized"]["strict"]
    assert strict["before"]["count"] > strict["after"]["count"]
    clean = found["sets"]["clean"]["perplexity"]
    increase, ranking = found["perplexity_increase"], found["ndcg"]
    assert increase["mean"] == pytest.approx(clean["after"] / clean["before"] - 1)
    assert increase["low"] < increase["mean"] < increase["high"]
    by_text = [ndcg_by_scikit_learn(base, edited, [row]) for row in texts[CLEAN]]
    assert ranking["mean"] == pytest.approx(ndcg_by_scikit_learn(base, edited, texts[CLEAN]), rel=1e-6)
    assert ranking["mean"] < 0.99
    lengths = [len(log_probabilities(base, row.text)[0]) - 1 for row in texts[CLEAN]]
    expected = weighted_mean(by_text, lengths)
    assert expected is not None
    assert (ranking["n"], ranking["low"], ranking["high"]) == pytest.approx(
        (5, expected.low, min(1.0, expected.high or 1.0)), rel=1e-6
    )
    assert progress.shares == sorted(progress.shares)
    assert progress.shares[-1] == 1


def perplexity_by_transformers(language_model: LanguageModel, rows: Sequence[ClearText]) -> float:
    pairs = [log_probabilities(language_model, row.text) for row in rows]
    following, ids = (torch.cat(part) for part in zip(*pairs, strict=True))
    return math.exp(torch.nn.functional.nll_loss(following, ids))


def ndcg_by_scikit_learn(base: LanguageModel, edited: LanguageModel, rows: Sequence[ClearText]) -> float:
    """Over the tokens that the text's own ones precede."""
    before, after = (
        torch.cat([log_probabilities(model, row.text)[0][1:] for row in rows]) for model in (base, edited)
    )
    gains = torch.arange(10, 0, -1.0, dtype=torch.float64).expand(len(before), 10)
    relevance = torch.zeros_like(before).scatter_(1, before.topk(10).indices, gains)
    return float(ndcg_score(relevance.numpy(), after.numpy(), k=10))


@torch.inference_mode()
def test_what_stands_before_the_texts_of_a_proof_can_be_chosen(
    base: LanguageModel, texts: dict[TextSetRole, list[ClearText]], tmp_path: Path
) -> None:
    inputs = inputs_with(texts, **SPLIT, prefix_token="eos")
    _, _, (read,) = evaluated(tmp_path, inputs, base)
    questions = [measured_text(row) for row in texts[ITEMS]]
    assert read.tasks[None] == [
        *choices_right(base, [each for each in questions if each.choices], "eos"),
        *answers_right(base, [each.text for each in questions if each.text.prefix], "eos"),
    ]
    asked = ScoringOptions(**SPLIT, prefix_token="eos")
    numbers = {}
    for options in (asked, ScoringOptions(**SPLIT)):
        scores = score_texts(base, bare(texts[MEMORIZED]), options)
        numbers[options.prefix_token] = [score.nl for score in scores]
    found = [score.nl for _, score in read.sets[MEMORIZED].rows]
    assert found == pytest.approx(numbers["eos"], rel=1e-6)
    assert found != pytest.approx(numbers["auto"], rel=1e-3)
    eos = base.tokenizer.eos_token_id
    encoded = [[eos, *base.tokenizer(row.text)["input_ids"]][:-1] for row in texts[CLEAN]]
    encoded.sort(key=len, reverse=True)  # as they are ranked
    ranked = torch.cat([base.model(torch.tensor([ids])).logits[0].topk(10).indices for ids in encoded])
    assert read.ranked is not None
    assert torch.equal(read.ranked, ranked.int())


def test_questions_are_answered_before_and_after(
    base: LanguageModel, edited: LanguageModel, texts: dict[TextSetRole, list[ClearText]], tmp_path: Path
) -> None:
    """Each question with choices is asked with either answer, so that one of the two is right."""
    inputs = inputs_with({ITEMS: texts[ITEMS]})
    _, _, (before, after) = evaluated(tmp_path, inputs, base, edited)
    found = compare(inputs, before, after, Proven())
    assert found["items"] == {
        "multiple_choice": {"n": 4, "before": 0.5, "after": 0.5},
        "exact_answer": {"n": 2, "before": 0.5, "after": 0.0},
    }
    choices_only = inputs_with({ITEMS: texts[ITEMS][:1]})
    _, _, (alone,) = evaluated(tmp_path, choices_only, base)
    assert {name: answered["n"] for name, answered in alone.items.items()} == {"multiple_choice": 1}


def test_questions_are_compared_by_task(
    base: LanguageModel, edited: LanguageModel, texts: dict[TextSetRole, list[ClearText]], tmp_path: Path
) -> None:
    """Oracle: each question asked alone. What could not be asked is in no pair, whatever its task."""
    groups = ["grammar", "grammar", None, "grammar", "sums", "recital", "recital", "sums"]
    items = [replace(row, group=group) for row, group in zip(texts[ITEMS], groups, strict=True)]
    inputs = inputs_with({ITEMS: items})
    _, _, (before, after) = evaluated(tmp_path, inputs, base, edited)
    found = {each["task"]: each for each in compare(inputs, before, after, Proven())["tasks"]}
    pairs: dict[str | None, list[tuple[float, float]]] = {}
    for row in items[:6]:
        asked = measured_text(row)
        (was,), (became,) = (
            (answers_right(model, [asked.text]) if row.choices is None else choices_right(model, [asked]))
            for model in (base, edited)
        )
        pairs.setdefault(row.group, []).append((was or 0, became or 0))
    assert list(found) == list(pairs) == ["grammar", None, "sums", "recital"]
    for task, answered in pairs.items():
        right = [sum(side) for side in zip(*answered, strict=True)]
        assert (found[task]["n"], found[task]["before"]["count"], found[task]["after"]["count"]) == (
            len(answered),
            *right,
        )
        assert found[task]["change"]["difference"] == (right[1] - right[0]) / len(answered)
        assert (found[task]["kept"] or {}).get("mean") == (right[1] / right[0] if right[0] else None)
    assert found["recital"]["kept"]["mean"] == 0


def test_pairs_of_answers_keep_their_order_and_so_many_groups_are_no_tasks() -> None:
    """Oracle: the pairs, by hand: 2 right both times, 1 lost, 1 gained, 1 wrong, 1 not asked once."""
    right: dict[str | None, list[bool | None]] = {"sums": [True, True, True, False, True, False]}
    later: dict[str | None, list[bool | None]] = {"sums": [True, True, False, True, None, False]}
    before, after = replace(readings(), tasks=right), replace(readings(), tasks=later)
    (found,) = compare(inputs_with(), before, after, Proven())["tasks"]
    change = share_change([(True, True)] * 2 + [(True, False), (False, True), (False, False)])
    kept = PairedCounts(5, 3, 3, 2).ratio()
    assert change is not None
    assert kept is not None
    assert found == {
        "task": "sums",
        "n": 5,
        "before": asdict(share_with_interval(3, 5)),
        "after": asdict(share_with_interval(3, 5)),
        "change": asdict(change),
        "kept": asdict(kept),
    }
    many: dict[str | None, list[bool | None]] = {str(number): [True] for number in range(101)}
    crowded = replace(readings(), tasks=many)
    assert compare(inputs_with(), crowded, crowded, Proven())["tasks"] is None
    assert compare(inputs_with(), readings(), readings(), Proven())["tasks"] is None


def test_one_long_text_leaves_room_for_the_short_ones_in_rankings(
    base: LanguageModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rankings look at so many tokens; padding to the longest text is none of them."""
    monkeypatch.setattr(edit_evaluation, "_RANKED_TOKENS", 400)
    short = [f"a word, {place}" for place in range(30)]
    _, _, (read,) = evaluated(tmp_path, inputs_with({CLEAN: rows_of([SENTENCES[100] * 5, *short])}), base)
    assert read.ranked is not None
    assert len(read.ranked_positions) == 31
    assert len(read.ranked) == sum(read.ranked_positions)


def test_numbers_that_are_not_finite_fail_the_edit_by_name(
    base: LanguageModel, texts: dict[TextSetRole, list[ClearText]], tmp_path: Path
) -> None:
    broken = with_scaled_up_projections(base, math.nan)
    with pytest.raises(EditFailed, match="not finite"):
        evaluated(tmp_path, inputs_with(texts, **SPLIT), broken)
