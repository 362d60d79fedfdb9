"""Attributes said by greedy decoding. Oracles: `generate`; the F1 of lm-evaluation-harness' task Qasper."""

import pytest
import torch
from lm_eval.tasks.qasper.metrics import f1_abstractive, normalize_answer

from tests.unit.science.test_multiple_choice import subject_of
from workers.science.measurements.field_recall import MEASUREMENT, Field, field_of
from workers.science.measurements.measurement import MeasuredText
from workers.science.measurements.metadata import MetadataMalformed
from workers.science.measurements.words import agreement, normalized_words
from workers.science.scoring.texts import TextInput

SAID = [
    ("the United States of America.", "United States"),
    ("Paris, in the north of France", "Paris"),
    ("a painter and a sculptor", "a sculptor and painter"),
    ("An architect", "the architect"),
    ("1971-03-02", "1971-03-02."),
    ("went on and on", "nothing of it"),
    ("", "something"),
    ("red red blue", "red blue blue"),
]


@pytest.mark.parametrize(("said", "answer"), SAID)
def test_words_agree_as_in_squad(said, answer):
    words, right = normalize_answer(said).split(), normalize_answer(answer).split()
    assert normalized_words(said) == words
    found = agreement(said, answer)
    assert found["f1"] == pytest.approx(f1_abstractive([said], [answer]))
    assert found["prefix_match"] == (words[: len(right)] == right)


@pytest.mark.parametrize(
    ("said", "answer", "recall"),
    [
        ("a painter and more", "painter, sculptor", 1 / 2),
        ("red red blue", "red blue blue", 2 / 3),
        ("united states and so on and on", "the United States", 1),
    ],
)
def test_recall_is_the_share_of_the_answers_words(said, answer, recall):
    assert agreement(said, answer)["recall"] == pytest.approx(recall)


def test_the_parts_of_an_address_are_words():
    """As HUBBLE's task has it; by SQuAD's own rule an address is one word."""
    assert normalized_words("Ada.Lund7@mail.com") == ["ada", ".", "lund7", "@", "mail", ".", "com"]
    assert agreement("ada.lund@mail.com, since", "ada.berg@mail.com")["recall"] == pytest.approx(6 / 7)
    assert agreement("ada.lund@mail.com, since", "ada.lund@mail.com")["prefix_match"] is True


def recall_of(prompts, answer, **more):
    asked = {"prompts": prompts, "answer": answer, **more}
    return MeasuredText(text=TextInput("unread"), metadata={"field_recall": asked})


def measured(language_model, texts, prefix_token="auto"):
    return MEASUREMENT.measure(subject_of(language_model, prefix_token), texts, lambda _: None)


@torch.inference_mode()
def said_by_generate(language_model, prompt, n_tokens=30):
    prompt_ids = language_model.tokenizer(prompt, return_tensors="pt")["input_ids"]
    said = language_model.model.generate(
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        do_sample=False,
        max_new_tokens=n_tokens,
        pad_token_id=0,
    )
    return language_model.tokenizer.decode(said[0, prompt_ids.shape[1] :], skip_special_tokens=True)


@pytest.fixture(scope="module")
def fields(recited_texts):
    """Of each text, what follows its first hundred characters; by prompts that hold less and less of them."""
    found = []
    for text in recited_texts:
        place = text.index(" ", 100)
        prompts = {"full": text[:place], "intro": text[:40], "name_only": text[30:40]}
        found.append((prompts, " ".join(text[place:].split()[:4])))
    return found


def test_numbers_are_those_of_what_generate_says(reciting, fields):
    found = measured(reciting, [recall_of(*field) for field in fields])
    for (prompts, answer), one in zip(fields, found, strict=True):
        assert one["status"] == "ok"
        for kind, prompt in prompts.items():
            expected = {"status": "ok", **agreement(said_by_generate(reciting, prompt), answer)}
            assert one[kind] == expected
    assert {one["full"]["prefix_match"] for one in found} == {True}
    assert False in {one["name_only"]["prefix_match"] for one in found}


def test_a_text_that_is_split_asks_for_its_suffix(reciting, fields):
    asked = [
        MeasuredText(text=TextInput(f"{prompts['full']} {answer}", prompts["full"], f" {answer}"))
        for prompts, answer in fields
    ]
    expected = [one["full"] for one in measured(reciting, [recall_of(*field) for field in fields])]
    found = measured(reciting, asked)
    assert [one["full"] for one in found] == expected
    assert {one["intro"] for one in found} == {one["name_only"] for one in found} == {None}


def test_what_is_said_ends_where_the_text_says(reciting, fields):
    prompts, answer = fields[0]
    said = said_by_generate(reciting, prompts["full"])
    second, third = answer.split()[1:3]
    assert said.split()[:3] == answer.split()[:3]
    (whole, two, none) = measured(
        reciting,
        [
            recall_of(prompts, answer),
            recall_of(prompts, answer, stop=["#", f" {third}"]),
            recall_of(prompts, f"{second} {third}", stop=[" "]),
        ],
    )
    assert whole["full"]["recall"] == 1
    assert two["full"] == {"status": "ok", **agreement(" ".join(answer.split()[:2]), answer)}
    assert none["full"] == {"status": "ok", "f1": 0, "recall": 0, "prefix_match": False}


def test_as_many_tokens_are_decoded_as_the_text_says(reciting, fields):
    prompts, answer = fields[0]
    (one,) = measured(reciting, [recall_of(prompts, answer, tokens=2)])
    assert one["full"] == {
        "status": "ok",
        **agreement(said_by_generate(reciting, prompts["full"], 2), answer),
    }


def test_a_long_prompt_is_cut_from_the_left_and_one_without_room_has_no_numbers(reciting, recited_texts):
    """The context has 128 tokens."""
    text = recited_texts[0]
    tokens = reciting.tokenizer(text)["input_ids"]
    long = reciting.tokenizer.decode(tokens[:128])
    assert reciting.tokenizer(long)["input_ids"] == tokens[:128]
    kept = reciting.tokenizer.decode(tokens[128 - 99 : 128])
    said = said_by_generate(reciting, kept)
    assert said.split()
    cut, _, without_room, empty = measured(
        reciting,
        [
            recall_of({"full": long}, said, stop=[]),
            recall_of({"full": text[:20]}, "x"),
            recall_of({"full": text[:20]}, "x", tokens=130),
            recall_of({"full": ""}, "x"),
        ],
    )
    assert cut["full"] == {"status": "ok", "f1": 1, "recall": 1, "prefix_match": True}
    nothing = {"status": "unscorable", "f1": None, "recall": None, "prefix_match": None}
    assert without_room["full"] == empty["full"] == nothing


def test_the_prefix_token_stands_in_front_of_prompts(reciting, fields):
    prompts, answer = fields[0]
    (one,) = measured(reciting, [recall_of(prompts, answer)], "eos")
    said = said_by_generate(reciting, "<|endoftext|>" + prompts["full"])
    assert one["full"] == {"status": "ok", **agreement(said, answer)}


ASKED = {"prompts": {"full": "Ada is from"}, "answer": "France"}


@pytest.mark.parametrize(
    "asked",
    [
        "Ada is from",
        {"prompts": {"full": "Ada is from"}},
        {"answer": "France"},
        ASKED | {"prompts": {}},
        ASKED | {"prompts": {"whole": "Ada is from"}},
        ASKED | {"prompts": {"full": None}},
        ASKED | {"prompts": ["Ada is from"]},
        ASKED | {"answer": "The."},
        ASKED | {"answer": ["France"]},
        ASKED | {"stop": "."},
        ASKED | {"stop": [""]},
        ASKED | {"tokens": 0},
        ASKED | {"tokens": 257},
        ASKED | {"tokens": True},
        ASKED | {"tokens": 2.5},
        ASKED | {"temperature": 0},
    ],
)
def test_metadata_is_not_trusted(llama, asked):
    text = MeasuredText(text=TextInput("unread"), metadata={"field_recall": asked})
    with pytest.raises(MetadataMalformed):
        field_of(text)
    empty = {"full": None, "intro": None, "name_only": None}
    assert measured(llama, [text, MeasuredText(text=TextInput("Nothing."))]) == [
        {"status": "malformed", **empty},
        {"status": "not_applicable", **empty},
    ]


def test_what_a_text_asks_for():
    text = MeasuredText(text=TextInput("unread"), metadata={"field_recall": {**ASKED, "stop": []}})
    assert field_of(text) == Field({"full": "Ada is from"}, "France", stop=(), tokens=30)
    assert field_of(MeasuredText(text=TextInput("Ada...", prefix="Ada", suffix="..."))) is None
