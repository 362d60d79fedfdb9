import math

import pytest
import torch
from sklearn.metrics import ndcg_score

from tests.tiny_models import english_sentences
from workers.science.errors import ScienceError, ScoreNotFinite
from workers.science.evaluation import utility
from workers.science.evaluation.utility import mean_nll, measure_nll, ndcg, top_ranked
from workers.science.models.loading import load_language_model
from workers.science.models.token_blocks import TokenBlocks, pack_texts
from workers.science.scoring import batching

RANDOM = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def blocks(llama):
    return pack_texts(llama, english_sentences()[:12], block_tokens=64)


def test_mean_nll_is_the_loss_of_transformers(each_language_model, blocks):
    labels = blocks.ids.masked_fill(~blocks.mask, -100)
    with torch.inference_mode():
        loss = each_language_model.model(blocks.ids, labels=labels, use_cache=False).loss
    assert mean_nll(each_language_model, blocks) == pytest.approx(float(loss), rel=1e-5)


def test_mean_nll_is_over_tokens_not_over_batches(llama, blocks, monkeypatch):
    whole = mean_nll(llama, blocks)
    monkeypatch.setattr(batching, "_CPU_BATCH_TOKENS", 64)
    assert mean_nll(llama, blocks) == pytest.approx(whole, rel=1e-6)
    wider = TokenBlocks(
        torch.nn.functional.pad(blocks.ids, (0, 9)), torch.nn.functional.pad(blocks.mask, (0, 9))
    )
    assert mean_nll(llama, wider) == pytest.approx(whole, rel=1e-6)


def test_early_stop_is_exact_and_saves_work(llama, blocks, monkeypatch):
    monkeypatch.setattr(batching, "_CPU_BATCH_TOKENS", 64)
    seen = []
    hidden_states = utility.base_hidden_states
    monkeypatch.setattr(
        utility, "base_hidden_states", lambda model, ids: seen.append(len(ids)) or hidden_states(model, ids)
    )
    exact = mean_nll(llama, blocks)
    batches = len(seen)
    assert batches > 4
    for bound in (None, exact, math.nextafter(exact, math.inf)):
        found = measure_nll(llama, blocks, stop_above=bound)
        assert (found.mean, found.exceeded) == (exact, False)
        assert found.tokens == found.of_tokens == blocks.predictions
    assert measure_nll(llama, blocks, stop_above=exact * (1 - 1e-9)).exceeded
    seen.clear()
    third = measure_nll(llama, blocks, stop_above=exact / 3)
    assert third.exceeded
    # Enough to be sure, and not a batch more.
    assert third.mean * third.tokens > exact / 3 * blocks.predictions
    assert third.tokens < blocks.predictions // 2
    assert len(seen) <= batches // 3 + 1
    assert measure_nll(llama, blocks, stop_above=0.0).exceeded


def test_top_ranked_are_the_largest_logits_of_transformers(each_language_model, blocks):
    with torch.inference_mode():
        logits = each_language_model.model(blocks.ids, use_cache=False).logits[blocks.predicts]
    ranked = top_ranked(each_language_model, blocks, k=7)
    assert ranked.dtype == torch.int32
    assert ranked.shape == (blocks.predictions, 7)
    values = logits.gather(1, ranked.long())
    torch.testing.assert_close(values, logits.topk(7).values, rtol=1e-5, atol=1e-4)


def test_ndcg_of_identical_rankings_is_one_and_of_disjoint_ones_zero():
    ranked = torch.stack([torch.randperm(50, generator=RANDOM)[:10] for _ in range(20)]).int()
    assert ndcg(ranked, ranked) == pytest.approx(1.0, abs=1e-12)
    assert ndcg(ranked, ranked + 100) == 0.0


def test_ndcg_agrees_with_a_calculation_by_hand():
    """K = 3: gains 3 2 1 for tokens 5 6 7. Edited 7 9 5: 1/log2(2) + 0/log2(3) + 3/log2(4) = 2.5.
    Ideal: 3/1 + 2/log2(3) + 1/2 = 4.761859507.
    """
    assert ndcg(torch.tensor([[5, 6, 7]]), torch.tensor([[7, 9, 5]])) == pytest.approx(2.5 / 4.761859507)
    both = ndcg(torch.tensor([[5, 6, 7], [1, 2, 3]]), torch.tensor([[7, 9, 5], [1, 2, 3]]))
    assert both == pytest.approx((2.5 / 4.761859507 + 1) / 2)


def test_ndcg_agrees_with_scikit_learn(monkeypatch):
    """Relevance K - r + 1 of the base list's tokens, scores that rank the edited list first."""
    monkeypatch.setattr(utility, "_COMPARED_AT_ONCE", 7)
    base = torch.stack([torch.randperm(14, generator=RANDOM)[:10] for _ in range(30)])
    edited = torch.stack([torch.randperm(14, generator=RANDOM)[:10] for _ in range(30)])
    steps = torch.arange(10, 0, -1.0).expand(30, 10)
    relevance = torch.zeros(30, 14).scatter_(1, base, steps)
    scores = torch.zeros(30, 14).scatter_(1, edited, steps)
    expected = ndcg_score(relevance.numpy(), scores.numpy(), k=10)
    assert ndcg(base, edited) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(3, 4), (0, 10)])
def test_rankings_that_cannot_be_compared_are_refused(shape):
    with pytest.raises(ValueError, match="same, non-empty shape"):
        ndcg(torch.zeros(0, 10), torch.zeros(*shape))


def test_text_without_predictions_is_refused(llama, blocks):
    empty = TokenBlocks(blocks.ids, torch.zeros_like(blocks.mask))
    for measure in (mean_nll, top_ranked):
        with pytest.raises(ScienceError) as refusal:
            measure(llama, empty)
        assert refusal.value.code == "text_set_empty"


def test_a_loss_that_is_not_finite_is_refused(checkpoints, blocks):
    language_model = load_language_model(checkpoints["llama"], device="cpu")
    with torch.no_grad():
        language_model.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ScoreNotFinite):
        measure_nll(language_model, blocks, stop_above=1.0)
