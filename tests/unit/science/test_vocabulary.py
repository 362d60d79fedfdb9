"""What is read off the output projection tile by tile, against all logits at once in float64.

The plain path of every test is the definition on the logits of transformers' own model.
"""

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PretrainedConfig,
)

from workers.science.models.gradients import divergence_gradients, frozen, loss_gradients
from workers.science.scoring.likelihood import Wanted, base_hidden_states, score_positions
from workers.science.scoring.vocabulary import head as heads
from workers.science.scoring.vocabulary import ranking, sampling
from workers.science.scoring.vocabulary.head import VocabularyHead, project_to_vocabulary
from workers.science.scoring.vocabulary.ranking import RunningTop, top_tokens
from workers.science.scoring.vocabulary.sampling import Sampling, drawn_log_probabilities
from workers.science.scoring.vocabulary.softmax import RunningSoftmax

VOCABULARY = 389
INPUT_IDS = torch.randint(0, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "initializer_range": 0.2,
}
# A factor, a divisor, a soft cap and a bias.
MODELS = {
    "cohere": (CohereForCausalLM, CohereConfig(**_SHAPE, logit_scale=0.25)),
    "granite": (GraniteForCausalLM, GraniteConfig(**_SHAPE, logits_scaling=3.0)),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**_SHAPE, head_dim=8, final_logit_softcapping=5.0)),
    "phi": (PhiForCausalLM, PhiConfig(**_SHAPE)),
}
EVERYTHING = Wanted(rank=True, moments=True, sampling=Sampling(0.7, 5))


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    model_class, config = MODELS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config).eval()
        if model.lm_head.bias is not None:
            torch.nn.init.normal_(model.lm_head.bias)
    return model


@pytest.fixture(params=[1, 64, 100, 192, 1000])
def tile_width(request, monkeypatch):
    """Tiles of about so many tokens: of one, of some that divide no vocabulary, and one of all."""
    set_width(monkeypatch, request.param)
    return request.param


def set_width(monkeypatch, width):
    monkeypatch.setattr(heads, "_CPU_TILE_BYTES", 0)
    monkeypatch.setattr(heads, "_NARROWEST", width)
    monkeypatch.setattr(heads, "_LANES", 1)
    monkeypatch.setattr(VocabularyHead, "rows_at_once", 23)


class Identity(torch.nn.Module):
    """A model whose hidden states are its logits, so that these are chosen exactly."""

    config = PretrainedConfig()

    def __init__(self, vocabulary: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.embedding = torch.nn.Linear(vocabulary, vocabulary, bias=False, dtype=dtype)
        torch.nn.init.eye_(self.embedding.weight)

    def get_output_embeddings(self) -> torch.nn.Linear:
        return self.embedding


@torch.inference_mode()
def hidden_and_logits(model):
    hidden = base_hidden_states(model, INPUT_IDS).flatten(0, 1)
    return hidden, model(INPUT_IDS, use_cache=False).logits.flatten(0, 1).double()


@torch.inference_mode()
def test_scores_are_those_of_all_logits_at_once(model, tile_width):
    hidden, logits = hidden_and_logits(model)
    targets = INPUT_IDS.flatten()
    scores = score_positions(model, hidden, targets, EVERYTHING)

    def of_targets(numbers):
        return numbers.gather(-1, targets[:, None])[:, 0]

    log_p = logits.log_softmax(-1)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(scores.log_likelihood.double(), of_targets(log_p), **close)
    assert torch.equal(scores.choice, logits.argmax(-1))
    assert torch.equal(scores.rank, 1 + (logits > of_targets(logits)[:, None]).sum(-1))
    mean = (log_p.exp() * log_p).sum(-1)
    deviation = (log_p.exp() * (log_p - mean[:, None]).square()).sum(-1).sqrt()
    torch.testing.assert_close(scores.mean.double(), mean, **close)
    torch.testing.assert_close(scores.deviation.double(), deviation, **close)
    drawn = of_targets(drawn_log_probabilities(logits, EVERYTHING.sampling))
    torch.testing.assert_close(scores.sampling_log_likelihood.double(), drawn, **close)


@torch.inference_mode()
def test_the_likeliest_tokens_are_those_of_all_logits_at_once(model, tile_width):
    hidden, logits = hidden_and_logits(model)
    assert torch.equal(top_tokens(model, hidden, 7), logits.topk(7).indices)


def test_gradients_are_those_of_autograd(model, tile_width):
    hidden, _ = hidden_and_logits(model)
    labels = INPUT_IDS.flatten()
    leaf = hidden.clone().requires_grad_()
    torch.nn.functional.cross_entropy(logits_of(model, leaf), labels, reduction="sum").backward()
    with frozen(model):
        found = loss_gradients(model, hidden, labels=labels)
    torch.testing.assert_close(found, leaf.grad, rtol=1e-5, atol=1e-6)


def logits_of(model, hidden):
    logits = model.lm_head(hidden)
    if isinstance(model, CohereForCausalLM):
        return logits * model.config.logit_scale
    if isinstance(model, GraniteForCausalLM):
        return logits / model.config.logits_scaling
    if isinstance(model, Gemma2ForCausalLM):
        cap = model.config.final_logit_softcapping
        return cap * torch.tanh(logits / cap)
    return logits


def test_gradients_of_divergence_are_those_of_autograd(model, tile_width):
    hidden, _ = hidden_and_logits(model)
    wanted = hidden + 0.3 * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(3))
    leaf = hidden.clone().requires_grad_()
    log_p, log_q = (logits_of(model, each).log_softmax(-1) for each in (leaf, wanted))
    torch.nn.functional.kl_div(log_p, log_q.detach(), log_target=True, reduction="sum").backward()
    with frozen(model):
        found = divergence_gradients(model, hidden, wanted)
        assert not divergence_gradients(model, hidden, hidden.clone()).any()
    torch.testing.assert_close(found, leaf.grad, rtol=1e-5, atol=1e-6)


def test_labels_lie_where_the_cumulative_distribution_exceeds_their_quantiles(model, tile_width):
    hidden, logits = hidden_and_logits(model)
    quantiles = torch.rand(len(hidden), generator=torch.Generator().manual_seed(1))
    quantiles[:2] = torch.tensor([0.0, 1 - 2**-24])
    labels = (logits.softmax(-1).cumsum(-1) <= quantiles[:, None]).sum(-1).clamp(max=VOCABULARY - 1)
    with frozen(model):
        expected = loss_gradients(model, hidden, labels=labels)
        found = loss_gradients(model, hidden, quantiles=quantiles)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ties_are_decided_as_among_all_logits(tile_width, dtype):
    """Whole numbers, of which many tie, within a tile and across tiles; also the k-th largest."""
    targets = torch.arange(60)
    logits = torch.randint(-4, 5, (60, 300), generator=torch.Generator().manual_seed(2)).to(dtype)
    scores = score_positions(
        Identity(300, dtype), logits, targets, Wanted(rank=True, sampling=Sampling(2.0, 40))
    )
    logits = logits.double()
    target_logits = logits.gather(-1, targets[:, None])
    assert torch.equal(scores.choice, logits.argmax(-1))
    likelier = (logits > target_logits).sum(-1)
    assert torch.equal(scores.rank, torch.where(scores.choice == targets, 1, 1 + likelier.clamp(min=1)))
    assert ((likelier == 0) & (scores.choice != targets)).any()
    drawn = drawn_log_probabilities(logits, Sampling(2.0, 40)).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(scores.sampling_log_likelihood.double(), drawn, rtol=1e-5, atol=1e-5)


def _tied_with_targets(dtype):
    """A projection in which every row stands twice, and hidden states that make a row the likeliest."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(150, 48, generator=generator)
    model = Identity(1, dtype)
    model.embedding = torch.nn.Linear(48, 300, bias=False, dtype=dtype)
    model.embedding.weight = torch.nn.Parameter(torch.cat((rows, rows)).to(dtype))
    return model, (rows[:60] + 0.3 * torch.randn(60, 48, generator=generator)).to(dtype)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("room", [64, 0])
def test_a_dot_product_that_rounds_otherwise_makes_no_rank_wrong(monkeypatch, tile_width, dtype, room):
    """What is expected of the true token's logit is off by twice what rounding takes a dot product off."""
    model, hidden = _tied_with_targets(dtype)
    monkeypatch.setattr(ranking, "_UNDECIDED", room)
    exact = VocabularyHead.expected_logits

    def off(head, hidden, tokens):
        logits, error = exact(head, hidden, tokens)
        return logits + error * torch.linspace(-0.9, 0.9, len(logits)), error

    monkeypatch.setattr(VocabularyHead, "expected_logits", off)
    logits = torch.cat([tile.logits.clone() for tile in VocabularyHead.of(model).tiles(hidden)], -1)
    for targets in (torch.arange(60), torch.arange(60) + 150, torch.arange(60) * 5):
        scores = torch.cat([score_positions(model, hidden, targets, Wanted(rank=True)).rank])
        likelier = (logits > logits.gather(-1, targets[:, None])).sum(-1)
        chosen = logits.argmax(-1) == targets
        expected = torch.where(chosen, 1, 1 + likelier.clamp(min=1))
        assert torch.equal(scores == 1, chosen)
        if room:
            assert torch.equal(scores, expected)


@torch.inference_mode()
def test_what_a_dot_product_leaves_undecided_is_little(monkeypatch):
    """Of a real head almost nothing lies as near as rounding to the true token's logit."""
    generator = torch.Generator().manual_seed(4)
    model = Identity(1)
    model.embedding = torch.nn.Linear(768, 20_000, bias=False)
    hidden = torch.randn(64, 768, generator=generator)
    targets = torch.randint(0, 20_000, (64,), generator=generator)
    logits, error = VocabularyHead.of(model).expected_logits(hidden, targets)
    found = project_to_vocabulary(model, hidden)
    torch.testing.assert_close(
        logits, found.gather(-1, targets[:, None])[:, 0], rtol=0, atol=float(error.min())
    )
    near = ((found - logits[:, None]).abs() <= error[:, None]).sum(-1).float()
    assert near.mean() < 10


@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_the_largest_are_kept_with_the_number_of_those_passed_over(k):
    logits = torch.randint(0, 30, (40, 64), generator=torch.Generator().manual_seed(5)).float()
    top = RunningTop(40, k, logits.device)
    for start in range(0, 64, 10):
        top.add(start, logits[:, start : start + 10])
    assert torch.equal(top.values, logits.topk(k).values)
    assert torch.equal(logits.gather(-1, top.tokens), top.values)
    assert all(len(set(row)) == k for row in top.tokens.tolist())
    assert torch.equal(top.ties + k, (logits >= top.values[:, -1:]).sum(-1))


@pytest.mark.parametrize("order", ["rising", "falling", "random"])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 3.0, 40.0, 1e4])
def test_sums_stay_exact_when_the_largest_logit_comes_late(order, scale):
    """Oracle: float64 over the whole vocabulary. Rising logits move the reference with every tile."""
    logits = scale * torch.randn(8, 5000, generator=torch.Generator().manual_seed(6)) + 50
    if order != "random":
        logits = logits.sort(-1, descending=order == "falling").values
    softmax = RunningSoftmax(8, logits.device, moments=True)
    for tile in logits.clone().split(64, -1):
        softmax.add(tile, tile.amax(-1))
    log_p = logits.double().log_softmax(-1)
    mean = (log_p.exp() * log_p).sum(-1)
    deviation = (log_p.exp() * (log_p - mean[:, None]).square()).sum(-1).sqrt()
    found_mean, found_deviation = softmax.moments()
    torch.testing.assert_close(
        softmax.log_probability(logits[:, 7]).double(), log_p[:, 7], rtol=2e-6, atol=2e-6
    )
    torch.testing.assert_close(found_mean.double(), mean, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(found_deviation.double(), deviation, rtol=2e-5, atol=2e-5)


@torch.inference_mode()
def test_tokens_that_are_never_said_do_not_spoil_the_rest(tile_width):
    """Whole tiles of logits at minus infinity, as some heads have for rows that fill up the vocabulary."""
    model = Identity(300)
    model.embedding.bias = torch.nn.Parameter(torch.zeros(300))
    model.embedding.bias[:150] = model.embedding.bias[200:] = -torch.inf
    hidden = torch.randn(60, 300, generator=torch.Generator().manual_seed(7))
    targets = 150 + torch.arange(60) % 50
    scores = score_positions(model, hidden, targets, Wanted(rank=True, sampling=Sampling(1.0, 60)))
    some = hidden[:, 150:200].double()
    expected = some.log_softmax(-1).gather(-1, targets[:, None] - 150)[:, 0]
    torch.testing.assert_close(scores.log_likelihood.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores.sampling_log_likelihood.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores.choice, 150 + some.argmax(-1))
    quantiles = torch.linspace(0, 1 - 2**-24, 60)
    labels = 150 + (some.softmax(-1).cumsum(-1) <= quantiles[:, None]).sum(-1).clamp(max=49)
    found = loss_gradients(model, hidden, quantiles=quantiles)
    torch.testing.assert_close(found, loss_gradients(model, hidden, labels=labels))


@torch.inference_mode()
def test_sampling_from_very_many_tokens_is_the_same(monkeypatch, model):
    hidden, _ = hidden_and_logits(model)
    wanted = Wanted(sampling=Sampling(0.7, 50))
    suffixes = torch.arange(len(hidden)) % 3 == 0
    kept = score_positions(model, hidden, INPUT_IDS.flatten(), wanted, suffixes).sampling_log_likelihood
    monkeypatch.setattr(sampling, "_MOST_KEPT", 49)
    monkeypatch.setattr(sampling, "_ROWS", 7)
    by_rows = score_positions(model, hidden, INPUT_IDS.flatten(), wanted, suffixes).sampling_log_likelihood
    torch.testing.assert_close(by_rows, kept, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert torch.equal(by_rows.isnan(), ~suffixes)


@pytest.mark.parametrize(
    ("rows", "vocabulary"), [(1, 50304), (64, 50304), (1024, 50304), (1024, 256_000), (7, 3)]
)
def test_tiles_cover_the_vocabulary_and_hold_few_logits(rows, vocabulary):
    head = VocabularyHead(torch.zeros(1, 1).expand(vocabulary, 1))
    assert rows <= head.rows_at_once
    starts = head.starts(rows)
    assert starts[-1] < vocabulary <= starts[-1] + starts.step
    assert 4 * rows * (starts.step - heads._LANES) <= heads._CPU_TILE_BYTES


def test_labels_or_quantiles_have_to_be_given():
    hidden = torch.zeros(2, 3)
    for given in ({}, {"labels": torch.zeros(2).long(), "quantiles": torch.zeros(2)}):
        with pytest.raises(ValueError, match="labels or quantiles"):
            loss_gradients(Identity(3), hidden, **given)
