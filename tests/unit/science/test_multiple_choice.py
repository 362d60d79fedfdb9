"""Questions with choices. Oracle: lm-evaluation-harness' own evaluation of `multiple_choice` tasks."""

import copy
import random
from typing import Any

import pytest
import torch
from datasets import Dataset
from lm_eval import evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

from tests.tiny_models import english_sentences, save_tiny_model
from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.metadata import MetadataMalformed
from workers.science.measurements.multiple_choice import MEASUREMENT
from workers.science.measurements.options import MeasurementOptions
from workers.science.measurements.questions import Question, question_of
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.texts import ScoringOptions, TextInput

JSONObject = dict[str, Any]


def subject_of(language_model: LanguageModel, prefix_token: str = "auto") -> Subject:
    return Subject(
        language_model=language_model,
        prefix_token=resolve_prefix_token(prefix_token, language_model),
        scoring=ScoringOptions(),
        options=MeasurementOptions(),
    )


def measured(language_model, texts, prefix_token="auto"):
    return MEASUREMENT.measure(subject_of(language_model, prefix_token), texts, lambda _: None)


def text_with(question: JSONObject | None, choices, answer, text="unread") -> MeasuredText:
    metadata = None if question is None else {"multiple_choice": question}
    return MeasuredText(text=TextInput(text), choices=tuple(choices), answer=answer, metadata=metadata)


def harness_on(language_model, docs: list[JSONObject], delimiter: str, *, multiple_input=False):
    """What the harness says of each document: log-likelihoods, `acc`, `acc_norm`."""
    if multiple_input:
        asks = {"doc_to_text": lambda doc: doc["answer"], "doc_to_target": lambda doc: doc["target"]}
    else:
        asks = {"doc_to_text": lambda doc: doc["question"], "doc_to_target": lambda doc: doc["answer"]}
    scores = {"aggregation": "mean", "higher_is_better": True}
    task = ConfigurableTask(
        config={
            "task": "questions",
            "custom_dataset": lambda **_: {"test": Dataset.from_list(docs)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_choice": lambda doc: doc["choices"],
            "target_delimiter": delimiter,
            "metric_list": [{"metric": "acc", **scores}, {"metric": "acc_norm", **scores}],
            **asks,
        }
    )
    harness = HFLM(
        pretrained=language_model.model, tokenizer=language_model.tokenizer, backend="causal", batch_size=8
    )
    found = evaluate(lm=harness, task_dict={"questions": task}, bootstrap_iters=0, log_samples=True)
    samples = sorted(found["samples"]["questions"], key=lambda sample: sample["doc_id"])
    return [
        ([float(number) for number, _ in sample["filtered_resps"]], sample["acc"], sample["acc_norm"])
        for sample in samples
    ]


def documents(*, empty_questions: bool = True) -> list[JSONObject]:
    """Questions that end in spaces, in half a word, with more tokens than the context, or are nothing."""
    generator = random.Random(1)
    manual = english_sentences()
    phrases = [" ".join(line.split()[: generator.randint(1, 6)]) for line in manual[:100]]
    questions = [line[: generator.randint(5, 80)] for line in manual[300:312]]
    questions += [line[:40].strip() + "  " for line in manual[320:322]]
    questions += [" ".join(manual[400:406]), " ".join(manual[406:412]) + "\n"]
    if empty_questions:
        questions += ["", ""]
    return [
        {"question": question, "choices": generator.sample(phrases, k=4), "answer": generator.randrange(4)}
        for question in questions
    ]


def assert_equal(found, expected) -> None:
    for ours, (log_likelihoods, acc, acc_norm) in zip(found, expected, strict=True):
        assert ours["log_likelihoods"] == pytest.approx(log_likelihoods, rel=1e-4, abs=1e-4)
        assert (ours["correct"], ours["correct_normalized"]) == (acc == 1, acc_norm == 1)


@pytest.mark.parametrize("delimiter", [" ", ""])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_numbers_are_those_of_the_harness(llama, delimiter):
    docs = documents()
    texts = [
        text_with({"question": doc["question"], "delimiter": delimiter}, doc["choices"], doc["answer"])
        for doc in docs
    ]
    expected = harness_on(llama, docs, delimiter)
    assert any(acc != acc_norm for _, acc, acc_norm in expected)
    assert_equal(measured(llama, texts), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_numbers_are_those_of_the_harness_where_the_tokenizer_puts_bos_in_front(tmp_path):
    """But for questions longer than the context: the harness then cuts BOS off, we do not."""
    language_model = load_language_model(save_tiny_model(tmp_path, bos=True), device="cpu")
    docs = [doc for doc in documents() if len(doc["question"]) < 100]
    texts = [text_with({"question": doc["question"]}, doc["choices"], doc["answer"]) for doc in docs]
    assert_equal(measured(language_model, texts), harness_on(language_model, docs, " "))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_target_after_each_choice_is_the_harness_multiple_input(llama):
    docs = [{**doc, "target": doc["question"][-20:] or "."} for doc in documents(empty_questions=False)]
    texts = [text_with({"target": doc["target"]}, doc["choices"], doc["answer"]) for doc in docs]
    found = measured(llama, texts)
    for ours, (log_likelihoods, *_) in zip(
        found, harness_on(llama, docs, " ", multiple_input=True), strict=True
    ):
        assert ours["log_likelihoods"] == pytest.approx(log_likelihoods, rel=1e-4)


def test_the_results_agree_with_each_other(llama):
    docs = documents()
    texts = [text_with({"question": doc["question"]}, doc["choices"], doc["answer"]) for doc in docs]
    for doc, found in zip(docs, measured(llama, texts), strict=True):
        right = found["log_likelihoods"][doc["answer"]]
        others = [number for number in found["log_likelihoods"] if number != right]
        assert found["rank"] == 1 + sum(number > right for number in others)
        assert found["correct"] == (found["rank"] == 1) == (found["chosen"] == doc["answer"])
        assert found["margin"] == right - max(others)
        assert found["correct"] == (found["margin"] > 0)


def test_of_equally_likely_choices_the_first_counts(llama):
    """Without an output projection every token has the same probability."""
    model = copy.deepcopy(llama.model)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    indifferent = LanguageModel(**{**vars(llama), "model": model})
    found = measured(indifferent, [text_with({"question": "Which?"}, "abc", answer) for answer in range(3)])
    assert [one["rank"] for one in found] == [1, 2, 3]
    assert [one["correct"] for one in found] == [True, False, False]
    assert {one["margin"] for one in found} == {0.0}


def test_what_cannot_be_asked_has_a_status_and_no_numbers(checkpoints):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    language_model.tokenizer.add_tokens(["<|image|>"])
    texts = [
        text_with({"question": "What?"}, ["a <|image|>", "b"], 0),
        text_with({"question": "What?"}, ["a", "b"], 0),
        text_with({"question": "What?", "delimeter": ""}, ["a", "b"], 0),
        MeasuredText(text=TextInput("What?")),
        text_with({"question": "", "delimiter": ""}, ["", "b"], 1),
    ]
    found = measured(language_model, texts)
    statuses = ["unscorable", "ok", "malformed", "not_applicable", "unscorable"]
    assert [one["status"] for one in found] == statuses
    assert [one["log_likelihoods"] is None for one in found] == [status != "ok" for status in statuses]
    assert {one.keys() == found[1].keys() for one in found} == {True}
    summary = MEASUREMENT.summary()
    for one in found:
        summary.add(one)
    assert summary.result() == {"ok": 1, "not_applicable": 1, "malformed": 1, "unscorable": 2}


def test_without_a_prefix_token_questions_are_asked_as_they_are(llama):
    """Nothing conditions the first token of a choice that stands alone: the rest is what is scored."""
    docs = [text_with({"question": question}, ["one is", "two"], 0) for question in ("", "What is it?")]
    alone, after = measured(llama, docs, "none")
    assert after["log_likelihoods"] == measured(llama, docs)[1]["log_likelihoods"]
    assert alone["log_likelihoods"][0] > measured(llama, docs)[0]["log_likelihoods"][0]


def test_progress_is_told_and_never_falls(llama):
    told = []
    docs = [text_with({"question": doc["question"]}, doc["choices"], 0) for doc in documents()]
    MEASUREMENT.measure(subject_of(llama), docs, told.append)
    assert told == sorted(told)
    assert told[-1] == len(docs)


ASKED = {
    "a split": (
        TextInput("Is it? Yes.", prefix="Is it?", suffix=" Yes."),
        ("Yes.", "No."),
        (("Is it?", " Yes."), ("Is it?", " No.")),
    ),
    "a split with the space in front": (
        TextInput("Is it? Yes", prefix="Is it? ", suffix="Yes"),
        ("Yes", "No"),
        (("Is it? ", "Yes"), ("Is it? ", "No")),
    ),
    "a split whose suffix is no choice": (
        TextInput("Is it? I think so", prefix="Is it?", suffix=" I think so"),
        ("Yes", "No"),
        (("Is it?", " Yes"), ("Is it?", " No")),
    ),
    "a text that is the question": (
        TextInput("Is it a map or a cup"),
        ("a cup", "a map"),
        (("Is it a map or a cup", " a cup"), ("Is it a map or a cup", " a map")),
    ),
    "a text that lists its choices": (
        TextInput("What?\nA. a cup\nB. a map\nAnswer: A. a cup"),
        ("a cup", "a map"),
        (
            ("What?\nA. a cup\nB. a map\nAnswer:", " A. a cup"),
            ("What?\nA. a cup\nB. a map\nAnswer:", " B. a map"),
        ),
    ),
    "a text that lists its choices without labels": (
        TextInput("What?\na cup\na map\na cup"),
        ("a cup", "a map"),
        (("What?\na cup\na map", "\na cup"), ("What?\na cup\na map", "\na map")),
    ),
    "a question that ends with the choices": (
        TextInput("What?\na map\na cup"),
        ("a cup", "a map"),
        (("What?\na map\na cup", " a cup"), ("What?\na map\na cup", " a map")),
    ),
    "a text that lists one of its choices": (
        TextInput("What?\nA. a cup\nAnswer: A. a cup"),
        ("a cup", "a map"),
        (
            ("What?\nA. a cup\nAnswer: A. a cup", " a cup"),
            ("What?\nA. a cup\nAnswer: A. a cup", " a map"),
        ),
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_text_asks_its_question(name):
    text, choices, asked = ASKED[name]
    question = question_of(MeasuredText(text=text, choices=choices, answer=0))
    assert question is not None
    assert question.asked == asked


def test_a_label_counts_as_part_of_a_listed_choice():
    text = "What?\nA. a cup\nB. a map\nAnswer: B. a map"
    asked = MeasuredText(text=TextInput(text), choices=("a cup", "a map"), answer=1)
    assert question_of(asked) == Question(
        ("A. a cup", "B. a map"),
        1,
        tuple((text.removesuffix(" B. a map"), choice) for choice in (" A. a cup", " B. a map")),
    )


@pytest.mark.parametrize(
    "asked",
    [
        "What?",
        ["What?"],
        {},
        {"question": 7},
        {"question": None},
        {"question": "What?", "target": "that"},
        {"question": "What?", "delimiter": 1},
        {"question": "What?", "choices": ["a"]},
        {"target": ["that"]},
    ],
)
def test_metadata_is_not_trusted(asked):
    with pytest.raises(MetadataMalformed):
        question_of(text_with(asked, ["a", "b"], 0))


def test_without_a_right_answer_nothing_is_asked():
    assert question_of(MeasuredText(text=TextInput("What?"), choices=("a", "b"))) is None
    assert question_of(MeasuredText(text=TextInput("What?"), answer=None)) is None
