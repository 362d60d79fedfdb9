import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, GraniteConfig, GraniteForCausalLM
from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper

from workers.science.models.loading import load_language_model
from workers.science.scoring.likelihood import Wanted, base_hidden_states, score_positions
from workers.science.scoring.vocabulary.head import project_to_vocabulary
from workers.science.scoring.vocabulary.sampling import Sampling
from workers.science.scoring.vocabulary.softmax import RunningSoftmax

INPUT_IDS = torch.randint(0, 384, (3, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def test_logits_are_those_of_the_whole_model(each_language_model):
    model = each_language_model.model
    ours = project_to_vocabulary(model, base_hidden_states(model, INPUT_IDS))
    torch.testing.assert_close(ours, model(INPUT_IDS, use_cache=False).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config_class", "model_class", "scale"),
    [
        (CohereConfig, CohereForCausalLM, {"logit_scale": 0.25}),
        (GraniteConfig, GraniteForCausalLM, {"logits_scaling": 8.0}),
    ],
)
def test_logits_are_scaled_as_the_architecture_does(config_class, model_class, scale):
    config = config_class(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.2,
        **scale,
    )
    model = model_class(config).eval()
    ours = project_to_vocabulary(model, base_hidden_states(model, INPUT_IDS))
    torch.testing.assert_close(ours, model(INPUT_IDS, use_cache=False).logits, rtol=1e-5, atol=1e-5)


def test_scores_equal_a_log_softmax_in_float64(each_language_model):
    model = each_language_model.model
    hidden = base_hidden_states(model, INPUT_IDS[:, :-1]).flatten(0, 1)
    targets = INPUT_IDS[:, 1:].flatten()
    scores = score_positions(model, hidden, targets, Wanted(rank=True))

    log_probabilities = model(INPUT_IDS[:, :-1]).logits.flatten(0, 1).double().log_softmax(-1)
    expected = log_probabilities.gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(scores.log_likelihood.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(scores.choice, log_probabilities.argmax(-1))
    order = log_probabilities.argsort(-1, descending=True)
    places = (order == targets[:, None]).nonzero()[:, 1]
    assert torch.equal(scores.rank, places + 1)


def test_moments_equal_those_in_float64(each_language_model):
    """Oracle: the definition (arXiv 2404.02936, section 3) in float64 on the logits of the whole model."""
    model = each_language_model.model
    hidden = base_hidden_states(model, INPUT_IDS[:, :-1]).flatten(0, 1)
    scores = score_positions(model, hidden, INPUT_IDS[:, 1:].flatten(), Wanted(moments=True))
    log_probabilities = model(INPUT_IDS[:, :-1]).logits.flatten(0, 1).double().log_softmax(-1)
    mean, deviation = exact_moments(log_probabilities)
    torch.testing.assert_close(scores.mean.double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores.deviation.double(), deviation, rtol=1e-5, atol=1e-5)


def exact_moments(log_probabilities):
    probabilities = log_probabilities.exp()
    mean = (probabilities * log_probabilities).sum(-1)
    return mean, (probabilities * (log_probabilities - mean[:, None]).square()).sum(-1).sqrt()


@pytest.mark.parametrize("vocabulary_size", [3, 384, 50_000])
@pytest.mark.parametrize(
    ("scale", "offset"), [(0.0, 0.0), (1e-3, 0.0), (3.0, 200.0), (3.0, -200.0), (40.0, 0.0)]
)
def test_moments_are_exact_for_flat_and_for_peaked_logits(vocabulary_size, scale, offset):
    generator = torch.Generator().manual_seed(vocabulary_size)
    logits = scale * torch.randn(8, vocabulary_size, generator=generator) + offset
    mean, deviation = exact_moments(logits.double().log_softmax(-1))
    softmax = RunningSoftmax(8, logits.device, moments=True)
    for tile in logits.split(700, -1):
        softmax.add(tile, tile.amax(-1))
    found_mean, found_deviation = softmax.moments()
    torch.testing.assert_close(found_mean.double(), mean, rtol=2e-6, atol=2e-6)
    # Below 1e-3 Min-K%++ takes another.
    torch.testing.assert_close(found_deviation.double(), deviation, rtol=2e-5, atol=2e-5)


def test_log_likelihoods_have_the_same_bits_whatever_is_found_beside_them(llama):
    hidden = base_hidden_states(llama.model, INPUT_IDS).flatten(0, 1)
    targets = INPUT_IDS.flatten()
    some = torch.arange(len(targets)) % 3 == 0
    plain = score_positions(llama.model, hidden, targets)
    for wanted in (Wanted(choice=True, sampling=Sampling(0.7, 5)), Wanted(rank=True, moments=True)):
        scores = score_positions(llama.model, hidden, targets, wanted, some)
        assert torch.equal(scores.log_likelihood, plain.log_likelihood)


def test_choices_and_sampling_are_found_at_suffixes_alone(llama):
    hidden = base_hidden_states(llama.model, INPUT_IDS).flatten(0, 1)
    targets = INPUT_IDS.flatten()
    some = torch.arange(len(targets)) % 3 == 0
    wanted = Wanted(choice=True, sampling=Sampling(0.7, 5))
    everywhere = score_positions(llama.model, hidden, targets, wanted)
    scores = score_positions(llama.model, hidden, targets, wanted, some)
    assert torch.equal(scores.choice[some], everywhere.choice[some])
    assert (scores.choice[~some] == -1).all()
    assert torch.equal(scores.sampling_log_likelihood[some], everywhere.sampling_log_likelihood[some])
    assert scores.sampling_log_likelihood[~some].isnan().all()


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 40), (0.7, 5), (1.5, 1), (1.0, 384), (2.0, 1000)])
def test_sampling_equals_the_logits_processors_of_generate(llama, temperature, top_k):
    hidden = base_hidden_states(llama.model, INPUT_IDS).flatten(0, 1)
    targets = INPUT_IDS.flatten()
    scores = score_positions(llama.model, hidden, targets, Wanted(sampling=Sampling(temperature, top_k)))

    logits = project_to_vocabulary(llama.model, hidden).double()
    logits = TopKLogitsWarper(top_k)(None, TemperatureLogitsWarper(temperature)(None, logits))
    expected = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    torch.testing.assert_close(scores.sampling_log_likelihood.double(), expected, rtol=1e-5, atol=1e-5)


def test_softmax_runs_in_float32_whatever_the_weights(checkpoints):

    half = load_language_model(checkpoints["llama"], device="cpu", dtype="bfloat16")
    logits = project_to_vocabulary(half.model, base_hidden_states(half.model, INPUT_IDS))
    assert logits.dtype == torch.float32
    scores = score_positions(
        half.model, base_hidden_states(half.model, INPUT_IDS).flatten(0, 1), INPUT_IDS.flatten()
    )
    expected = logits.double().log_softmax(-1).gather(-1, INPUT_IDS[..., None]).flatten()
    torch.testing.assert_close(scores.log_likelihood.double(), expected, rtol=1e-5, atol=1e-5)
