"""Questions with a known answer. Oracles: a loop over transformers' logits, choice by choice; `generate`."""

import copy
import random
from dataclasses import replace

import pytest
import torch

from tests.log_probabilities import log_probabilities
from tests.tiny_models import english_sentences
from workers.science.evaluation.items import Accuracy, accuracy_of, answers_right, choices_right
from workers.science.measurements.measurement import MeasuredText
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.texts import TextInput


def item(question, choices, answer=0):
    return MeasuredText(text=TextInput(question), choices=tuple(choices), answer=answer)


def log_likelihoods_by_hand(language_model, asked):
    """Of each choice: the log-probabilities of the tokens that it adds to the question's own."""
    question = language_model.tokenizer(asked.text.text)["input_ids"]
    choices = []
    for choice in asked.choices:
        following, ids = log_probabilities(language_model, f"{asked.text.text} {choice}")
        assert ids[: len(question)].tolist() == question
        places = range(len(question), len(ids))
        choices.append([float(following[place, ids[place]]) for place in places])
    return choices


def likeliest(choices, key=sum):
    scores = [key(tokens) for tokens in choices]
    return scores.index(max(scores))


def questions():
    """Single words and phrases as choices, of very different lengths."""
    generator = random.Random(1)
    phrases = [
        " ".join(sentence.split()[: generator.randint(1, 6)]) for sentence in english_sentences()[:200]
    ]
    items = [
        item(sentence[:80].strip(), generator.sample(phrases, k=generator.randint(2, 5)))
        for sentence in english_sentences()[300:318]
    ]
    items += [item(sentence[:60].strip(), "abcd") for sentence in english_sentences()[330:336]]
    return [*items, item("Only one?", ("yes",))]


ITEMS = questions()


def choice_accuracy(language_model, items):
    return accuracy_of(choices_right(language_model, items))


def answer_accuracy(language_model, items):
    return accuracy_of(answers_right(language_model, items))


def answered(items, answers):
    return [replace(one, answer=answer) for one, answer in zip(items, answers, strict=True)]


def test_the_likeliest_choice_is_the_one_of_a_loop_over_logits(each_language_model):
    by_hand = [log_likelihoods_by_hand(each_language_model, one) for one in ITEMS]
    right = [likeliest(choices) for choices in by_hand]
    assert len(set(right)) > 2
    assert choice_accuracy(each_language_model, answered(ITEMS, right)) == Accuracy(len(ITEMS), 1.0)
    wrong = [
        (answer + 1) % len(item.choices) if place % 3 == 0 else answer
        for place, (answer, item) in enumerate(zip(right, ITEMS, strict=True))
    ]
    n_wrong = sum(a != b for a, b in zip(wrong, right, strict=True))
    expected = Accuracy(len(ITEMS), pytest.approx(1 - n_wrong / len(ITEMS)))
    assert choice_accuracy(each_language_model, answered(ITEMS, wrong)) == expected


def test_each_item_is_judged_by_itself(llama):
    for one in ITEMS:
        right = likeliest(log_likelihoods_by_hand(llama, one))
        every = [replace(one, answer=answer) for answer in range(len(one.choices))]
        judged = [choice_accuracy(llama, [answered]).accuracy for answered in every]
        assert judged == [float(answer == right) for answer in range(len(every))]


def test_a_choice_is_scored_by_the_sum_over_its_tokens_not_by_their_mean(llama):
    """The items hold cases in which both disagree, and choices of one token and of many."""
    by_hand = [log_likelihoods_by_hand(llama, one) for one in ITEMS]
    lengths = {len(tokens) for choices in by_hand for tokens in choices}
    assert 1 in lengths
    assert max(lengths) > 5
    disputed = [
        item
        for item, choices in zip(ITEMS, by_hand, strict=True)
        if likeliest(choices) != likeliest(choices, key=lambda tokens: sum(tokens) / len(tokens))
    ]
    assert disputed
    by_sum = answered(disputed, [likeliest(log_likelihoods_by_hand(llama, item)) for item in disputed])
    assert choice_accuracy(llama, by_sum).accuracy == 1


def test_of_equally_likely_choices_the_first_counts(llama):
    """Without an output projection every token has the same probability."""
    model = copy.deepcopy(llama.model)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    indifferent = LanguageModel(**{**vars(llama), "model": model})
    for choices, right in ((("a", "b", "c"), 0), (("many more words", "b", "c"), 1)):
        items = [item("Which?", choices, answer) for answer in range(3)]
        judged = [choice_accuracy(indifferent, [one]).accuracy for one in items]
        assert judged == [float(answer == right) for answer in range(3)]


def test_an_item_that_cannot_be_scored_is_left_out(checkpoints):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    right = [likeliest(log_likelihoods_by_hand(language_model, one)) for one in ITEMS[:3]]
    language_model.tokenizer.add_tokens(["<|image|>"])
    items = answered(ITEMS[:3], [right[0], (right[1] + 1) % len(ITEMS[1].choices), right[2]])
    items.insert(1, item("What is it?", ("a <|image|>", "a word")))
    items.append(item("What is <|image|>?", ("a", "b")))
    assert choice_accuracy(language_model, items) == Accuracy(3, 2 / 3)
    assert choice_accuracy(language_model, items[-1:]) == Accuracy(0, None)


@torch.inference_mode()
def said_by_generate(language_model, text):
    """Whether `generate` says the tokens after those that lie within the prefix."""
    encoded = language_model.tokenizer(text.text, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    boundary = sum(end <= len(text.prefix) for _, end in encoded["offset_mapping"])
    prompt = torch.tensor([ids[:boundary]])
    said = language_model.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=len(ids) - boundary,
        pad_token_id=0,
    )
    return said[0, prompt.shape[1] :].tolist() == ids[boundary:]


def split(text, place):
    return TextInput(text, prefix=text[:place], suffix=text[place:])


def test_an_answer_is_right_if_generate_says_it(reciting, recited_texts):
    whole_words = [text[: text.index(" ", 150)] for text in recited_texts]
    items = [split(text, place) for text in whole_words for place in (100, 125, 140)]
    items += [split(text + suffix, 140) for text in whole_words for suffix in (" 17", "#")]
    items += [TextInput("12 + 5 = 17", prefix="12 + 5 = ", suffix="17")]
    right = [said_by_generate(reciting, item) for item in items]
    assert 4 < sum(right) < len(right) - 4
    assert answer_accuracy(reciting, items) == Accuracy(len(items), sum(right) / len(right))
    for item, expected in zip(items[::5], right[::5], strict=True):
        assert answer_accuracy(reciting, [item]) == Accuracy(1, float(expected))


def test_only_questions_with_an_answer_are_counted(reciting, recited_texts):
    known = split(recited_texts[0][: recited_texts[0].index(" ", 150)], 140)
    assert said_by_generate(reciting, known)
    unknown = [TextInput("", prefix="", suffix=""), split(recited_texts[0][:50], 50)]
    assert answer_accuracy(reciting, [unknown[0], known, unknown[1]]) == Accuracy(1, 1.0)
    assert answer_accuracy(reciting, unknown) == Accuracy(0, None)


def test_without_items_there_is_no_accuracy(llama):
    assert choice_accuracy(llama, []) == Accuracy(0, None)
    assert answer_accuracy(llama, []) == Accuracy(0, None)


@torch.inference_mode()
def test_what_stands_before_a_question_is_seen(reciting, recited_texts):
    """Oracle: the likeliest tokens by transformers, after EOS and the prefix."""
    eos = reciting.tokenizer.eos_token_id
    items = [split(text[: text.index(" ", 150)], 125) for text in recited_texts]
    said = []
    for item in items:
        encoded = reciting.tokenizer(item.text, return_offsets_mapping=True)
        ids = [eos, *encoded["input_ids"]]
        boundary = 1 + sum(end <= len(item.prefix) for _, end in encoded["offset_mapping"])
        likeliest_next = reciting.model(torch.tensor([ids])).logits[0].argmax(-1).tolist()
        said.append(likeliest_next[boundary - 1 : -1] == ids[boundary:])
    assert list(answers_right(reciting, items, "eos")) == said
    assert said != list(answers_right(reciting, items)) or all(said)
