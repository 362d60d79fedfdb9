"""Membership scores. Oracle: the papers' formulas in float64, from all logits of the model, text by text.

Sources: arXiv 2310.16789 (Min-K%), 2404.02936 (Min-K%++), 2012.07805 (zlib), and the definitions of the
public code to them: the lowest int(k n) tokens, mean log-likelihood over the compressed length.
"""

import math
import zlib

import numpy as np
import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.metrics.membership import lowest_mean, standardized
from workers.science.metrics.tokens import ScoredTokens
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts
from workers.science.scoring.shots import MOST_SHOTS, choose_shots

# A short one, one letter, some of several windows, some that are not ASCII.
TEXTS = ["Hello", "x", "naïve café 🦜🦜 дом", "a" * 300, *english_sentences()[40:52]]


def published(model, tokenizer, text, min_k):
    """The scores of a text that fits the context, after an end token; float64."""
    ids = torch.tensor([tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        logits = model(ids[None, :-1]).logits[0].double()
    log_p = logits.log_softmax(-1)
    p = logits.softmax(-1)
    token = log_p.gather(-1, ids[1:, None])[:, 0]
    mu = (p * log_p).sum(-1)
    variance = (p * log_p.square()).sum(-1) - mu.square()
    plus_plus = (token - mu) / variance.clamp(min=1e-6).sqrt()
    count = max(1, int(min_k * len(token)))
    return {
        "loss": token.mean().item(),
        "zlib": token.mean().item() / len(zlib.compress(bytes(text, "utf-8"))),
        "min_k": token.sort().values[:count].mean().item(),
        "min_k_pp": plus_plus.sort().values[:count].mean().item(),
    }


@pytest.mark.parametrize("min_k", [0.05, 0.2, 0.4, 1.0])
def test_scores_equal_the_papers_in_float64(each_language_model, min_k):
    tokenizer = each_language_model.tokenizer
    texts = [text for text in TEXTS if len(tokenizer(text)["input_ids"]) < 128]
    assert len(texts) > 6
    options = ScoringOptions(frozenset({"membership"}), min_k=min_k, token_evidence=False, prefix_token="eos")
    scores = score_texts(each_language_model, [TextInput(text) for text in texts], options)
    for text, score in zip(texts, scores, strict=True):
        expected = published(each_language_model.model, tokenizer, text, min_k)
        found = score.metrics["membership"]
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=2e-5, abs=1e-5)
        assert found["loss"] == score.nl
        assert (found["reference"], found["recall"]) == (None, None)


def test_of_a_first_token_that_is_not_scored_nothing_counts(llama):
    options = ScoringOptions(frozenset({"membership"}), min_k=1.0, prefix_token="none")
    (score,) = score_texts(llama, [TextInput(TEXTS[-1])], options)
    scored = score.evidence.log_likelihood[1:].astype(np.float64)
    assert math.isnan(score.evidence.mean[0])
    assert math.isnan(score.evidence.deviation[0])
    found = score.metrics["membership"]
    assert found["min_k"] == pytest.approx(scored.mean())
    assert found["loss"] == score.nl
    z = (scored - score.evidence.mean[1:]) / score.evidence.deviation[1:]
    assert found["min_k_pp"] == pytest.approx(z.mean(), rel=1e-6)


def test_evidence_explains_itself(each_language_model):
    """The mean is minus an entropy, so at most 0; a deviation is no less than 0; both of every token."""
    texts = [TextInput(text) for text in TEXTS]
    for score in score_texts(each_language_model, texts, ScoringOptions(frozenset())):
        assert (score.evidence.mean <= 0).all()
        assert (score.evidence.mean >= -np.log(each_language_model.vocabulary_size) - 1e-5).all()
        assert (score.evidence.deviation >= 0).all()
        assert score.evidence.sampling_log_likelihood is None


def test_evidence_keeps_sampling_where_it_was_asked_for(llama):
    (score,) = score_texts(llama, [TextInput(TEXTS[-1])], ScoringOptions(frozenset({"p_z"}), top_k=3))
    sampled, found = score.evidence.sampling_log_likelihood, score.metrics["p_z"]
    assert np.isnan(sampled[:5]).all()
    known = sampled[~np.isnan(sampled)]
    assert len(known) > 5
    assert (known.sum(dtype=np.float64) if np.isfinite(known).all() else None) == found["log_p_z"]


@pytest.mark.parametrize(
    ("n", "share", "counted"),
    [(1, 0.2, 1), (4, 0.2, 1), (9, 0.2, 1), (10, 0.2, 2), (10, 1.0, 10), (10, 0.19, 1)],
)
def test_the_lowest_share_is_rounded_down_to_one_token_at_least(n, share, counted):
    values = np.random.default_rng(0).permutation(np.arange(n, dtype=np.float64))
    assert lowest_mean(values, share) == np.arange(counted).mean()


def test_a_variance_that_is_almost_none_is_taken_for_a_millionth():
    one = np.ones(1, np.float32)
    tokens = ScoredTokens(
        text="x",
        token_ids=np.zeros(1, np.int64),
        log_likelihood=-2 * one,
        n_scored=1,
        chosen=one.astype(bool),
        ends=one.astype(bool),
        mean=-one,
        deviation=0 * one,
        sampling_log_likelihood=one,
        continuation=None,
        after_shots=None,
        min_k=0.2,
    )
    assert standardized(tokens).tolist() == pytest.approx([-1000.0])


SHOTS = tuple(sentence[:25] for sentence in english_sentences()[200:212])


@pytest.mark.parametrize("choice", ["eos", "auto", "none"])
def test_recall_equals_the_definition_in_float64(each_language_model, choice):
    """Oracle: LL(x | P) / LL(x) on the whole model's logits (arXiv 2406.15968), text by text."""
    tokenizer, context = each_language_model.tokenizer, each_language_model.context_length
    shots = choose_shots(each_language_model, SHOTS, "control")
    assert 1 < len(shots) < len(SHOTS)
    before = [token for shot in shots for token in tokenizer(shot, add_special_tokens=False)["input_ids"]]
    assert len(before) <= context // 2
    options = ScoringOptions(frozenset({"membership"}), prefix_token=choice, shots=shots, batch_tokens=400)
    texts = [*TEXTS, " ".join(english_sentences()[60:64])]
    scores = score_texts(each_language_model, [TextInput(text) for text in texts], options)
    front = [tokenizer.eos_token_id] if choice == "eos" else []
    for text, score in zip(texts, scores, strict=True):
        if score.error:
            continue
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = ids[: context + 1 - len(front) - len(before)]
        unscored = choice == "none"
        after = exact_log_likelihoods(each_language_model.model, [*front, *before], ids)[unscored:].sum()
        alone = score.evidence.log_likelihood[: len(ids)][unscored:].sum(dtype=np.float64)
        if len(ids) == unscored:
            assert score.metrics["membership"]["recall"] is None
        else:
            assert score.metrics["membership"]["recall"] == pytest.approx(after / alone, rel=1e-4)


def exact_log_likelihoods(model, before, ids):
    stream = torch.tensor([*before, *ids])
    with torch.inference_mode():
        log_p = model(stream[None, :-1]).logits[0].double().log_softmax(-1)
    return log_p.gather(-1, stream[1:, None])[-len(ids) :, 0].numpy()


def test_shots_are_the_leading_texts_that_fit_half_of_the_context(llama):
    tokenizer = llama.tokenizer
    lengths = [len(tokenizer(shot)["input_ids"]) for shot in SHOTS]
    fitting = sum(total <= llama.context_length // 2 for total in np.cumsum(lengths))
    assert choose_shots(llama, SHOTS, "control") == SHOTS[:fitting]
    assert choose_shots(llama, ["a"] * 50, "control") == ("a",) * MOST_SHOTS
    assert choose_shots(llama, [SHOTS[0] * 20, "a"], "control") == ()
    assert choose_shots(llama, ["", ""], "control") == ()
    assert choose_shots(llama, ["", "a"], "control") == ("", "a")
    assert choose_shots(llama, [], "control") == ()


def test_no_text_stands_before_itself(llama):
    """One that was never seen would have a recall near 0: it has just been said."""
    options = ScoringOptions(frozenset({"membership"}), shots=SHOTS[:2], token_evidence=False)
    scores = score_texts(llama, [TextInput(text) for text in SHOTS[1:3]], options)
    own, other = (score.metrics["membership"]["recall"] for score in scores)
    assert own is None
    assert other > 0


def test_shots_change_no_other_number(llama):
    texts = [TextInput(text) for text in TEXTS]
    without = score_texts(llama, texts, ScoringOptions())
    for plain, score in zip(without, score_texts(llama, texts, ScoringOptions(shots=SHOTS[:2])), strict=True):
        recall = score.metrics["membership"].pop("recall")
        assert recall >= 0
        assert plain.metrics["membership"].pop("recall") is None
        assert score.metrics == plain.metrics
        assert score.nl == plain.nl
