"""What stands before a text. Oracles: texts that a model itself generated, `generate`, float64 logits."""

import copy
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.utils import get_rolling_token_windows
from rapidfuzz.distance import Levenshtein
from tokenizers.processors import TemplateProcessing

from tests.log_probabilities import log_probabilities
from tests.tiny_models import (
    BEGINNING_OF_TEXT,
    END_OF_TEXT,
    english_sentences,
    save_reciting_model,
    save_tiny_model,
    train_tokenizer,
)
from workers.science.errors import PrefixTokenUnusable
from workers.science.metrics.metric import MetricResult
from workers.science.models.description import describe_checkpoint
from workers.science.models.loading import load_language_model
from workers.science.models.tokenization import tokenize, tokens_put_in_front
from workers.science.scoring.batching import cut_windows
from workers.science.scoring.prefix_token import PrefixToken, resolve_prefix_token
from workers.science.scoring.scorer import ScoringOptions, TextInput, TextScore, count_tokens, score_texts

MANUAL = " ".join(english_sentences())
BOS, EOS = 1, 0
# A tokenizer without BOS, one whose BOS it never adds, one that adds it (as Llama's does).
TOKENIZERS = {
    "without": {"bos": False},
    "unused": {"bos": True, "adds_bos": False},
    "added": {"bos": True, "adds_bos": True},
}
CHOICES = ("auto", "bos", "eos", "bos_else_eos", "none", 7)
# The tokens that the model sees in front, by tokenizer and choice; BOS is refused where there is none.
IN_FRONT = {
    "without": {"auto": [], "eos": [EOS], "bos_else_eos": [EOS], "none": [], 7: [7]},
    "unused": {"auto": [], "bos": [BOS], "eos": [EOS], "bos_else_eos": [BOS], "none": [], 7: [7]},
    "added": {"auto": [BOS], "bos": [BOS], "eos": [EOS], "bos_else_eos": [BOS], "none": [], 7: [7]},
}
CASES = [(name, choice, front) for name, fronts in IN_FRONT.items() for choice, front in fronts.items()]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models that speak a little English, trained on texts as their tokenizers encode them."""
    pieces = [MANUAL[start : start + 400] for start in range(0, 24_000, 400)]
    directory = tmp_path_factory.mktemp("prefix_token")
    return {
        name: load_language_model(
            save_reciting_model(directory / name, pieces, steps=20, **special), device="cpu"
        )
        for name, special in TOKENIZERS.items()
    }


@pytest.fixture(scope="module")
def own_texts(models):
    """Of each model ten texts that it generated itself."""
    return {name: generated_texts(model, 10) for name, model in models.items()}


@pytest.fixture(scope="module")
def random_models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("random")
    return {
        name: load_language_model(save_tiny_model(directory / name, **special), device="cpu")
        for name, special in TOKENIZERS.items()
    }


@torch.inference_mode()
def generated(language_model, token_ids, n_new_tokens):
    prompt = torch.tensor([token_ids])
    said = language_model.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=n_new_tokens,
        pad_token_id=EOS,
    )
    return said[0, len(token_ids) :].tolist()


def generated_texts(language_model, count):
    """Texts of 64 + 48 tokens whose end the model generated from their beginning, asked plainly."""
    tokenizer = language_model.tokenizer
    texts = []
    for sentence in english_sentences()[100:]:
        prompt = tokenizer.decode(tokenizer(sentence, add_special_tokens=False)["input_ids"][:64])
        encoded = tokenizer(prompt)["input_ids"]
        said = generated(language_model, encoded, 48)
        text = tokenizer.decode(encoded + said, skip_special_tokens=True)
        # Only where the text's tokens are those that were generated.
        if len(encoded) >= 64 and len(said) == 48 and tokenizer(text)["input_ids"] == encoded + said:
            texts.append(text)
        if len(texts) == count:
            return texts
    raise AssertionError("the model generated too few texts")


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_a_model_generates_it_recites(models, own_texts, name):
    """With BOS in front although the tokenizer never adds it, hardly any of them are recited."""
    texts = [TextInput(text) for text in own_texts[name]]
    scores = score_texts(models[name], texts, ScoringOptions())
    assert [score.metrics["extraction"]["status"] for score in scores] == ["ok"] * 10
    assert [score.metrics["extraction"]["strict"] for score in scores] == [True] * 10


def test_a_bos_that_was_never_seen_hides_what_is_recited(models, own_texts):
    texts = [TextInput(text) for text in own_texts["unused"]]
    scores = score_texts(models["unused"], texts, ScoringOptions(prefix_token="bos"))
    assert sum(score.metrics["extraction"]["strict"] for score in scores) < 5


@pytest.mark.parametrize(("name", "choice", "front"), CASES)
def test_recitation_is_what_generate_says(models, own_texts, name, choice, front):
    """The prompt is the text's tokens after what stands in front, whatever that does to the model."""
    language_model = models[name]
    texts = own_texts[name][:6] + [MANUAL[start : start + 200] for start in range(0, 2000, 400)]
    scores = score_texts(
        language_model, [TextInput(text) for text in texts], ScoringOptions(prefix_token=choice)
    )
    for text, score in zip(texts, scores, strict=True):
        ids = language_model.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert score.evidence.token_ids.tolist() == ids
        metric = score.metrics["extraction"]
        prefix, suffix = metric["prefix_tokens"], metric["suffix_tokens"]
        said = generated(language_model, [*front, *ids[:prefix]], suffix)
        true = ids[prefix : prefix + suffix]
        assert metric["strict"] == (said == true)
        assert metric["similarity"] == 1 - Levenshtein.distance(said, true) / suffix


@pytest.mark.parametrize("name", TOKENIZERS)
def test_auto_is_what_the_tokenizer_encodes_in_float64(random_models, name):
    language_model = random_models[name]
    exact = copy.copy(language_model.__dict__) | {"model": copy.deepcopy(language_model.model).double()}
    double = type(language_model)(**exact)
    for text in (MANUAL[:200], MANUAL[2000:2150], "x", "naïve 🦜"):
        following, ids = log_probabilities(language_model, text)
        expected = following.gather(-1, ids[:, None])[:, 0].numpy()
        (score,) = score_texts(language_model, [TextInput(text)], ScoringOptions())
        np.testing.assert_allclose(score.evidence.log_likelihood, expected, rtol=1e-5, atol=1e-5)
        assert score.log_likelihood == pytest.approx(expected.sum(), rel=1e-5)
        assert (score.n_tokens, score.n_windows) == (len(ids), 1)
        assert score.nl == score.log_likelihood / len(ids)
        # Logits are cast to float32 before the softmax whatever the weights are.
        (score,) = score_texts(double, [TextInput(text)], ScoringOptions())
        np.testing.assert_allclose(score.evidence.log_likelihood, expected, rtol=1e-6, atol=1e-6)
        ranks = 1 + (following > following.gather(-1, ids[:, None])).sum(-1)
        assert score.evidence.rank.tolist() == ranks.tolist()


@pytest.mark.parametrize("choice", CHOICES)
def test_a_long_text_is_scored_in_the_windows_of_the_harness(random_models, choice):
    """Without anything in front, the text's first token is to the rest what a prefix token is to a text."""
    language_model = random_models["unused"]
    ids = language_model.tokenizer(MANUAL[5000:6200])["input_ids"]
    (score,) = score_texts(
        language_model, [TextInput(MANUAL[5000:6200])], ScoringOptions(prefix_token=choice)
    )
    front = IN_FRONT["unused"][choice]
    stream = [*front, *ids]
    windows = list(get_rolling_token_windows(stream[1:], stream[0], 128, 1))
    assert score.n_windows == len(windows) > 2
    expected = []
    for inputs, targets in windows:
        with torch.inference_mode():
            following = language_model.model(torch.tensor([inputs])).logits[0, -len(targets) :]
        expected += (
            following.double().log_softmax(-1).gather(-1, torch.tensor(targets)[:, None])[:, 0].tolist()
        )
    scored = score.evidence.log_likelihood if front else score.evidence.log_likelihood[1:]
    np.testing.assert_allclose(scored, expected, rtol=1e-5, atol=1e-5)


@given(n_tokens=st.integers(1, 200), context_length=st.integers(3, 50), n_in_front=st.integers(0, 3))
def test_windows_score_every_token_that_something_precedes_once(n_tokens, context_length, n_in_front):
    windows = list(cut_windows(4, n_tokens, context_length, n_in_front))
    stream = n_in_front + n_tokens
    scored = [place + 1 for w in windows for place in range(w.end - w.n_scored, w.end)]
    assert scored == list(range(max(1, n_in_front), stream))
    assert all(w.start >= 0 and len(w) <= context_length and w.text == 4 for w in windows)
    assert all(w.start == 0 or len(w) == context_length for w in windows)


def without_membership(score: TextScore) -> dict[str, MetricResult]:
    """What is measured of suffixes, which a first token is no part of."""
    return {name: found for name, found in score.metrics.items() if name != "membership"}


def test_none_leaves_the_first_token_out(random_models):
    language_model = random_models["unused"]
    texts = [TextInput(text) for text in (MANUAL[:300], "x", "", MANUAL[700:730])]
    scored = score_texts(language_model, texts, ScoringOptions(prefix_token="none"))
    everything = score_texts(language_model, texts, ScoringOptions())
    assert [score.error for score in scored] == [None, "only_first_token", "no_tokens", None]
    assert (scored[1].n_tokens, scored[1].n_bytes, scored[1].nl, scored[1].evidence) == (0, 1, None, None)
    for ours, whole in ((scored[0], everything[0]), (scored[3], everything[3])):
        assert ours.n_tokens == whole.n_tokens - 1
        assert without_membership(ours) == without_membership(whole)
        np.testing.assert_array_equal(ours.evidence.token_ids, whole.evidence.token_ids)
        np.testing.assert_array_equal(ours.evidence.log_likelihood[1:], whole.evidence.log_likelihood[1:])
        np.testing.assert_array_equal(ours.evidence.rank[1:], whole.evidence.rank[1:])
        assert np.isnan(ours.evidence.log_likelihood[0])
        assert (ours.evidence.rank[0], ours.evidence.matched[0]) == (0, False)
        first = float(whole.evidence.log_likelihood[0])
        assert ours.log_likelihood == pytest.approx(whole.log_likelihood - first, abs=1e-6)
        assert ours.nl == ours.log_likelihood / ours.n_tokens


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_an_empty_prompt_is_none(random_models, choice):
    """Nobody can ask a model to go on from nothing; with a token in front it can be asked."""
    text = TextInput("Hello world", prefix="", suffix="Hello world")
    for options in (
        ScoringOptions(prefix_token=choice),
        ScoringOptions(prefix_token=choice, prefix_tokens=0),
    ):
        (score,) = score_texts(random_models["unused"], [text], options)
        assert score.metrics["extraction"]["status"] == "not_applicable"
        assert score.metrics["p_z"]["status"] == "not_applicable"
    (score,) = score_texts(random_models["added"], [text], ScoringOptions())
    assert score.metrics["extraction"]["status"] == "ok"
    assert score.metrics["extraction"]["prefix_tokens"] == 0


def test_without_anything_in_front_one_more_token_can_be_recited(random_models):
    """A context of 128 tokens predicts the 129th."""
    text = TextInput(MANUAL[:2000])
    for name, room in (("unused", 129), ("added", 128)):
        (score,) = score_texts(
            random_models[name], [text], ScoringOptions(prefix_tokens=100, suffix_tokens=100)
        )
        metric = score.metrics["extraction"]
        assert metric["status"] == "scaled"
        assert metric["prefix_tokens"] + metric["suffix_tokens"] == room


def test_neighbours_do_not_matter_where_the_first_token_stands_alone(random_models):
    generator = random.Random(5)
    texts = [MANUAL[start : start + generator.randint(1, 700)] for start in range(0, 12_000, 600)]
    inputs = [TextInput(text) for text in ("x", "", *texts, "y")]
    seen = []
    together = score_texts(random_models["unused"], inputs, ScoringOptions(), on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(inputs)
    for text, ours in zip(inputs, together, strict=True):
        (alone,) = score_texts(random_models["unused"], [text], ScoringOptions(batch_tokens=50))
        if ours.error is None:
            assert ours.nl == pytest.approx(alone.nl, abs=1e-5)
            assert ours.metrics["extraction"] == alone.metrics["extraction"]
            assert ours.evidence.rank.tolist() == alone.evidence.rank.tolist()


@pytest.mark.parametrize(
    ("name", "choice", "prefix_token"),
    [
        ("without", "auto", PrefixToken((EOS,), "first_token")),
        ("unused", "auto", PrefixToken((BOS,), "first_token")),
        ("added", "auto", PrefixToken((BOS,), "all")),
        ("added", "eos", PrefixToken((EOS,), "all")),
        ("unused", "bos_else_eos", PrefixToken((BOS,), "all")),
        ("without", "bos_else_eos", PrefixToken((EOS,), "all")),
        ("without", 383, PrefixToken((383,), "all")),
        ("added", "none", PrefixToken((), "nothing")),
    ],
)
def test_what_a_choice_means(random_models, name, choice, prefix_token):
    assert resolve_prefix_token(choice, random_models[name]) == prefix_token


@pytest.mark.parametrize(
    ("choice", "code"), [("bos", "no_bos_token"), (384, "prefix_token_outside_vocabulary")]
)
def test_a_token_that_the_model_lacks_is_refused_by_name(random_models, choice, code):
    with pytest.raises(PrefixTokenUnusable) as refusal:
        score_texts(random_models["without"], [TextInput("Hello")], ScoringOptions(prefix_token=choice))
    assert refusal.value.code == code


@pytest.mark.parametrize("wrong", [{"prefix_token": "BOS"}, {"prefix_token": -1}, {"special_tokens": "both"}])
def test_wrong_choices_are_value_errors(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScoringOptions(**wrong)


def with_template(template):
    tokenizer = train_tokenizer(bos=True, adds_bos=False)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=[(END_OF_TEXT, EOS), (BEGINNING_OF_TEXT, BOS)]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("template", "in_front"),
    [
        (f"{BEGINNING_OF_TEXT} $A", (BOS,)),
        (f"{BEGINNING_OF_TEXT} $A {END_OF_TEXT}", (BOS,)),
        (f"$A {END_OF_TEXT}", ()),
        ("$A", ()),
        (f"{END_OF_TEXT} {BEGINNING_OF_TEXT} $A", (EOS, BOS)),
    ],
)
def test_what_a_tokenizer_puts_in_front(template, in_front):
    assert tokens_put_in_front(with_template(template)) == in_front


def test_a_description_says_what_the_tokenizer_does(tmp_path):
    found = {}
    for name, special in TOKENIZERS.items():
        tokenizer = describe_checkpoint(save_tiny_model(tmp_path / name, **special)).tokenizer
        found[name] = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.prefix_token_ids)
    assert found == {"without": (None, EOS, ()), "unused": (BOS, EOS, ()), "added": (BOS, EOS, (BOS,))}


def test_two_tokens_in_front_condition_the_text_as_well(tmp_path):
    """GLM's tokenizer adds two."""
    save_tiny_model(tmp_path, bos=True)
    with_template(f"{END_OF_TEXT} {BEGINNING_OF_TEXT} $A").save_pretrained(tmp_path)
    language_model = load_language_model(tmp_path, device="cpu")
    assert resolve_prefix_token("auto", language_model) == PrefixToken((EOS, BOS), "all")
    text = MANUAL[:200]
    encoded = language_model.tokenizer(text)["input_ids"]
    with torch.inference_mode():
        logits = language_model.model(torch.tensor([encoded])).logits[0, 1:-1].double()
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(encoded[2:])[:, None])[:, 0]
    (score,) = score_texts(language_model, [TextInput(text)], ScoringOptions())
    np.testing.assert_allclose(score.evidence.log_likelihood, expected, rtol=1e-5, atol=1e-5)


def test_a_special_tokens_string_is_control_or_text(random_models):
    language_model = random_models["unused"]
    text = f"One{END_OF_TEXT} two {BEGINNING_OF_TEXT}"
    control, plain = (
        tokenize(language_model.tokenizer, [text], special_tokens)[0]
        for special_tokens in ("control", "text")
    )
    assert control.token_ids.tolist() == language_model.tokenizer(text)["input_ids"]
    assert {BOS, EOS} <= set(control.token_ids.tolist())
    assert not {BOS, EOS} & set(plain.token_ids.tolist())
    for tokens in (control, plain):
        assert language_model.tokenizer.decode(tokens.token_ids) == text
        starts, ends = tokens.offsets.T.tolist()
        assert (starts[0], ends[-1], starts[1:]) == (0, len(text), ends[:-1])
    assert control.tokens_within(3 + len(END_OF_TEXT)) == control.token_ids.tolist().index(EOS) + 1
    for special_tokens, tokens in (("control", control), ("text", plain)):
        options = ScoringOptions(special_tokens=special_tokens)
        (score,) = score_texts(language_model, [TextInput(text)], options)
        assert score.evidence.token_ids.tolist() == tokens.token_ids.tolist()
        assert count_tokens(language_model, [text], special_tokens) == [score.n_tokens]
    # What was asked for one text does not stay with the tokenizer.
    assert tokenize(language_model.tokenizer, [text])[0].token_ids.tolist() == control.token_ids.tolist()
