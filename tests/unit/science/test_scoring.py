import copy
import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from lm_eval.utils import get_rolling_token_windows

from tests.tiny_models import END_OF_TEXT, english_sentences, one_thread, save_tiny_model
from workers.science.errors import ScoreNotFinite
from workers.science.models.loading import load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, count_tokens, score_texts

EVERYTHING = ScoringOptions()
# BOS, else EOS, before all of a text.
LIKE_THE_HARNESS = ScoringOptions(prefix_token="bos_else_eos")
PLAIN = ScoringOptions(metrics=frozenset(), token_evidence=False)


@pytest.fixture(scope="module")
def texts(recited_texts):
    """Texts of 1 to 700 characters, some longer than the context, some recited, some emoji."""
    generator = random.Random(3)
    manual = " ".join(english_sentences())
    pieces = []
    for _ in range(36):
        start = generator.randrange(len(manual) - 700)
        pieces.append(manual[start : start + generator.randint(1, 700)])
    return [TextInput(text) for text in [*pieces, *recited_texts, "x", "naïve café 🦜🦜 дом", " \n\t "]]


def assert_close(ours, theirs):
    """Equal but for rounding: 1e-5 on every number that is an average, exact on every decision."""
    assert (ours.n_tokens, ours.n_bytes, ours.n_windows, ours.error) == (
        theirs.n_tokens,
        theirs.n_bytes,
        theirs.n_windows,
        theirs.error,
    )
    assert ours.nl == pytest.approx(theirs.nl, abs=1e-5)
    assert ours.nl_byte == pytest.approx(theirs.nl_byte, abs=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, rel=1e-5, abs=1e-5)
    assert ours.metrics["extraction"] == theirs.metrics["extraction"]
    assert ours.metrics["verbatim"] == theirs.metrics["verbatim"]
    assert ours.metrics["p_z"]["p_z"] == pytest.approx(theirs.metrics["p_z"]["p_z"], abs=1e-5)
    np.testing.assert_allclose(
        ours.evidence.log_likelihood, theirs.evidence.log_likelihood, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(ours.evidence.rank, theirs.evidence.rank)


def test_numbers_do_not_depend_on_batch_size(each_language_model, texts):
    some = texts[::3]
    alone = [score_texts(each_language_model, [text], EVERYTHING)[0] for text in some]
    for batch_tokens in (300, 100_000):
        together = score_texts(each_language_model, some, ScoringOptions(batch_tokens=batch_tokens))
        for ours, theirs in zip(together, alone, strict=True):
            assert_close(ours, theirs)


def test_numbers_do_not_depend_on_order_and_neighbours(reciting, texts):
    in_order = score_texts(reciting, texts, EVERYTHING)
    shuffled = random.Random(0).sample(range(len(texts)), k=len(texts) // 2)
    for place, score in zip(
        shuffled, score_texts(reciting, [texts[place] for place in shuffled], EVERYTHING), strict=True
    ):
        assert_close(score, in_order[place])


@pytest.mark.parametrize("threads", [1, 2])
def test_a_second_run_is_bit_equal(reciting, texts, threads):
    with one_thread():
        torch.set_num_threads(threads)
        first = score_texts(reciting, texts, ScoringOptions(batch_tokens=600))
        second = score_texts(reciting, texts, ScoringOptions(batch_tokens=600))
    for ours, theirs in zip(first, second, strict=True):
        assert ours.log_likelihood == theirs.log_likelihood
        assert ours.metrics == theirs.metrics
        assert ours.evidence.log_likelihood.tobytes() == theirs.evidence.log_likelihood.tobytes()


def test_cores_do_not_change_the_bits_of_full_batches(reciting, texts):
    options = ScoringOptions(batch_tokens=600)
    one = score_texts(reciting, texts, options)
    with one_thread():
        torch.set_num_threads(2)
        two = score_texts(reciting, texts, options)
    assert [score.log_likelihood for score in one] == [score.log_likelihood for score in two]


def test_each_window_is_conditioned_as_lm_evaluation_harness_does(each_language_model):
    model, prefix = each_language_model.model, each_language_model.prefix_token_id
    text = " ".join(english_sentences())[5000:6200]
    (score,) = score_texts(each_language_model, [TextInput(text)], LIKE_THE_HARNESS)
    assert score.n_windows > 2
    expected = []
    for inputs, targets in get_rolling_token_windows(score.evidence.token_ids.tolist(), prefix, 128, 1):
        with torch.inference_mode():
            logits = model(torch.tensor([inputs])).logits[0, -len(targets) :].double()
        expected += logits.log_softmax(-1).gather(-1, torch.tensor(targets)[:, None])[:, 0].tolist()
    np.testing.assert_allclose(score.evidence.log_likelihood, expected, rtol=1e-5, atol=1e-5)


def test_evidence_adds_up_to_the_score(llama, texts):
    for text, score in zip(texts, score_texts(llama, texts, EVERYTHING), strict=True):
        evidence = score.evidence
        assert evidence.log_likelihood.sum(dtype=np.float64) == pytest.approx(score.log_likelihood)
        assert score.nl == pytest.approx(score.log_likelihood / score.n_tokens)
        assert score.nl_byte == pytest.approx(score.log_likelihood / len(text.text.encode()))
        assert score.perplexity == pytest.approx(math.exp(-score.nl))
        assert evidence.token_ids.tolist() == llama.tokenizer(text.text)["input_ids"]
        assert evidence.offsets.shape == (score.n_tokens, 2)
        assert evidence.offsets[-1, 1] == len(text.text)
        assert [array.dtype for array in (evidence.token_ids, evidence.rank, evidence.offsets)] == [
            "int32"
        ] * 3
        assert evidence.rank.min() >= 1
        assert score.n_windows == max(1, math.ceil((score.n_tokens - 1) / 128))


def test_evidence_agrees_with_strict(reciting, recited_texts):
    text = TextInput(recited_texts[0])
    (score,) = score_texts(reciting, [text], EVERYTHING)
    extraction = score.metrics["extraction"]
    assert (extraction["prefix_tokens"], extraction["suffix_tokens"]) == (64, 48)
    assert extraction["strict"]
    assert extraction["similarity"] == 1
    assert score.evidence.matched[64:112].all()
    assert score.metrics["verbatim"]["50"] == {
        "status": "ok",
        "suffix_tokens": 50,
        "strict": True,
        "matched_tokens": 50,
    }
    assert score.metrics["p_z"]["p_z"] > 0.5
    assert score.metrics["p_z"]["n_50"] == 1


def test_a_mistake_in_the_middle_is_loose_but_not_strict(reciting, recited_texts):
    ids = reciting.tokenizer(recited_texts[0])["input_ids"][:112]
    ids[100] = ids[100] + 1
    changed = reciting.tokenizer.decode(ids)
    assert reciting.tokenizer(changed)["input_ids"] == ids
    (score,) = score_texts(reciting, [TextInput(changed)], EVERYTHING)
    extraction = score.metrics["extraction"]
    assert extraction["matched_tokens"] == 36
    assert extraction["similarity"] == 1 - 1 / 48
    assert (extraction["strict"], extraction["loose"]) == (False, True)
    assert score.metrics["verbatim"]["75"]["matched_tokens"] == 25


def test_no_sample_says_what_stands_after_an_end_token(llama, texts):
    """An end token as the suffix' last token may be drawn; one before it ends the sample."""
    options = ScoringOptions(metrics=frozenset({"p_z"}), top_k=10_000)
    text = next(text for text in texts if len(llama.tokenizer(text.text)["input_ids"]) > 112)
    ids = llama.tokenizer(text.text)["input_ids"]
    seen = set()
    for place in (111, 110, 64):
        model = copy.copy(llama.model)
        model.generation_config = copy.copy(llama.model.generation_config)
        model.generation_config.eos_token_id = ids[place]
        (score,) = score_texts(replace(llama, model=model), [text], options)
        possible = ids[place] not in ids[64:111]
        assert (score.metrics["p_z"]["p_z"] > 0) == possible
        seen.add(possible)
    assert False in seen


def test_log_p_z_sums_the_suffix_alone(llama, texts):
    keep_all = ScoringOptions(metrics=frozenset({"p_z"}), top_k=10_000)
    for score in score_texts(llama, texts, keep_all):
        p_z = score.metrics["p_z"]
        if p_z["status"] == "ok":
            suffix = score.evidence.log_likelihood[64:112].sum(dtype=np.float64)
            assert p_z["log_p_z"] == pytest.approx(suffix, rel=1e-5)


def test_one_forward_pass_serves_every_metric(llama, texts, monkeypatch):
    tokens_seen = []
    base = llama.model.base_model
    hook = base.register_forward_pre_hook(
        lambda _module, _args, kwargs: tokens_seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    try:
        score_texts(llama, texts, PLAIN)
        plain = sum(tokens_seen)
        tokens_seen.clear()
        score_texts(llama, texts, ScoringOptions(decode=False))
        everything = sum(tokens_seen)
    finally:
        hook.remove()
    assert everything == plain


def test_decoding_starts_at_the_first_mistake(reciting, recited_texts):
    steps = []
    base = reciting.model.base_model
    hook = base.register_forward_pre_hook(
        lambda _module, _args, kwargs: steps.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    ids = reciting.tokenizer(recited_texts[0])["input_ids"][:112]
    ids[100] += 1
    texts = [TextInput(recited_texts[0]), TextInput(reciting.tokenizer.decode(ids))]
    try:
        score_texts(reciting, texts, ScoringOptions(metrics=frozenset({"extraction"})))
    finally:
        hook.remove()
    # The strict text needs nothing; the other goes on after 64 + 36 recited tokens and its own mistake.
    first_tokens, *windows = steps[:-11]
    decoding = steps[-11:]
    assert (first_tokens, sum(rows for rows, _ in windows)) == ((1, 1), 4)
    assert decoding == [(1, 64 + 36 + 1), *[(1, 1)] * 10]


@pytest.mark.parametrize(
    ("prefix", "suffix", "prefix_tokens"),
    [
        ("Hello world", " again and again", None),
        ("Hello world ", "again and again", None),
        ("🦜 naïve", " café 🦜", None),
        ("", "Hello world", 0),
    ],
)
def test_the_clients_split_is_kept(llama, prefix, suffix, prefix_tokens):
    text = TextInput(prefix + suffix, prefix=prefix, suffix=suffix)
    (score,) = score_texts(llama, [text], LIKE_THE_HARNESS)
    extraction = score.metrics["extraction"]
    boundary = extraction["prefix_tokens"]
    ids = llama.tokenizer(text.text)["input_ids"]
    assert extraction["status"] == "ok"
    assert boundary + extraction["suffix_tokens"] == len(ids)
    # No part of the suffix is in the prompt, and no token that would fit is left out of it.
    assert prefix.startswith(llama.tokenizer.decode(ids[:boundary]))
    assert not prefix.startswith(llama.tokenizer.decode(ids[: boundary + 1]))
    if prefix_tokens is not None:
        assert boundary == prefix_tokens


def test_a_split_without_suffix_is_not_applicable(llama):
    (score,) = score_texts(llama, [TextInput("Hello", prefix="Hello", suffix="")], EVERYTHING)
    assert score.metrics["extraction"]["status"] == "not_applicable"
    assert score.metrics["extraction"]["strict"] is None
    assert score.metrics["p_z"]["p_z"] is None
    assert score.nl < 0


def test_a_text_without_tokens_is_an_error_row(llama):
    empty, text = score_texts(llama, [TextInput(""), TextInput("Hello")], EVERYTHING)
    assert empty.error == "no_tokens"
    assert (empty.n_tokens, empty.n_bytes, empty.n_windows) == (0, 0, 0)
    assert (empty.log_likelihood, empty.nl, empty.nl_byte, empty.perplexity) == (None,) * 4
    assert (empty.metrics, empty.evidence) == ({}, None)
    assert text.error is None


def test_a_token_without_a_row_in_the_model_is_an_error_row(checkpoints):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    language_model.tokenizer.add_tokens(["<|image|>"])
    image, text = score_texts(language_model, [TextInput("a <|image|>"), TextInput("Hello")], EVERYTHING)
    assert image.error == "token_outside_vocabulary"
    assert image.nl is None
    assert text.error is None


def test_no_texts_give_no_scores(llama):
    assert score_texts(llama, [], EVERYTHING) == []
    assert count_tokens(llama, []) == []


def test_special_tokens_are_not_added(tmp_path):
    language_model = load_language_model(save_tiny_model(tmp_path, bos=True), device="cpu")
    assert language_model.tokenizer("Hello")["input_ids"][0] == language_model.tokenizer.bos_token_id
    (score,) = score_texts(language_model, [TextInput("Hello")], EVERYTHING)
    ids = language_model.tokenizer("Hello", add_special_tokens=False)["input_ids"]
    assert score.evidence.token_ids.tolist() == ids
    inputs = torch.tensor([[language_model.tokenizer.bos_token_id, *ids]])
    log_probabilities = language_model.model(inputs).logits[0, :-1].double().log_softmax(-1)
    expected = log_probabilities.gather(-1, torch.tensor(ids)[:, None]).sum().item()
    assert score.log_likelihood == pytest.approx(expected, rel=1e-5)


def test_count_tokens_agrees_with_the_scores(llama, texts):
    counts = count_tokens(llama, [text.text for text in texts])
    assert counts == count_tokens(llama.tokenizer, [text.text for text in texts])
    assert counts == [score.n_tokens for score in score_texts(llama, texts, PLAIN)]


def test_progress_counts_every_text_once_and_never_falls(llama, texts):
    for options in (EVERYTHING, PLAIN, ScoringOptions(batch_tokens=1)):
        seen = []
        score_texts(llama, [*texts, TextInput("")], options, on_progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == len(texts) + 1
        assert len(seen) > 1


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("after", [1, 5, 40])
def test_progress_may_stop_the_work(llama, texts, after):
    """After 40 texts the work is in its decoding stage."""

    def cancel(n_done):
        if n_done >= after:
            raise Cancelled

    with pytest.raises(Cancelled):
        score_texts(llama, texts, ScoringOptions(batch_tokens=300), on_progress=cancel)


def test_a_number_that_is_not_finite_stops_the_work(checkpoints):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    rare = language_model.tokenizer("z")["input_ids"][0]
    with torch.no_grad():
        language_model.model.get_input_embeddings().weight[rare] = torch.nan
    score_texts(language_model, [TextInput("a")], EVERYTHING)
    with pytest.raises(ScoreNotFinite) as failure:
        score_texts(language_model, [TextInput("a"), TextInput("zebra")], EVERYTHING)
    assert failure.value.code == "log_likelihood_not_finite"
    assert "zebra" not in str(failure.value)


def test_metrics_are_json(llama, texts):
    for score in score_texts(llama, texts, EVERYTHING):
        assert set(score.metrics) == {"extraction", "verbatim", "p_z", "membership"}
        json.dumps(score.metrics, allow_nan=False)
        numbers = (score.log_likelihood, score.nl, score.nl_byte, score.perplexity)
        json.dumps(numbers, allow_nan=False)


def test_only_what_was_asked_for_is_measured(llama, texts):
    (score,) = score_texts(llama, texts[:1], PLAIN)
    assert (score.metrics, score.evidence) == ({}, None)
    (score,) = score_texts(llama, texts[:1], ScoringOptions(metrics=frozenset({"verbatim"})))
    assert set(score.metrics) == {"verbatim"}
    without = ScoringOptions(metrics=frozenset({"extraction"}), decode=False)
    (score,) = score_texts(llama, texts[:1], without)
    assert score.metrics["extraction"]["similarity"] is None
    assert score.metrics["extraction"]["strict"] is False


def test_an_end_token_inside_a_text_ends_the_recitation(reciting, recited_texts):
    text = TextInput(recited_texts[0][:200] + END_OF_TEXT + recited_texts[1][:200])
    (score,) = score_texts(reciting, [text], EVERYTHING)
    assert (score.evidence.token_ids == reciting.tokenizer.eos_token_id).sum() == 1
    assert score.metrics["extraction"]["strict"] is False


def test_a_perplexity_beyond_all_floats_is_the_largest_one(checkpoints):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    with torch.no_grad():
        language_model.model.get_output_embeddings().weight *= 1e4
    (score,) = score_texts(language_model, [TextInput("Hello")], PLAIN)
    assert score.nl < -1000
    assert math.isfinite(score.perplexity)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": frozenset({"bleu"})},
        {"prefix_tokens": -1},
        {"suffix_tokens": 0},
        {"temperature": 0.0},
        {"top_k": 0},
        {"batch_tokens": 0},
    ],
)
def test_wrong_options_are_value_errors(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScoringOptions(**wrong)


def test_a_split_must_make_up_the_text():
    with pytest.raises(ValueError, match=r"prefix \+ suffix"):
        TextInput("Hello", prefix="He", suffix="lo")
    with pytest.raises(ValueError, match="together"):
        TextInput("Hello", prefix="He")
