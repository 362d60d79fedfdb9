"""Near-verbatim bounds; the oracle goes through every output that there is, in float64."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from rapidfuzz.distance import Levenshtein
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tiny_models import english_sentences
from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.near_verbatim import measure_near_verbatim
from workers.science.measurements.options import MeasurementOptions, NearVerbatimOptions
from workers.science.models.loading import LanguageModel
from workers.science.passages.near_verbatim import Recital, largest_distance, near_verbatim
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts
from workers.science.scoring.vocabulary.sampling import Sampling

VOCABULARY = 5
END = 4
LENGTH = 4
PROMPT = (1, 2, 0)
PLAIN = Sampling(temperature=1.0, top_k=40)
CASES = {
    "plain": PLAIN,
    "sharp": Sampling(temperature=0.5, top_k=VOCABULARY),
    "top 3": Sampling(temperature=1.3, top_k=3),
}


@pytest.fixture(scope="module")
def toy():
    """A random model of five tokens, one of which ends an output."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = AutoConfig.for_model(
            "llama",
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.6,
            max_position_embeddings=32,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=None,
        )
        model = AutoModelForCausalLM.from_config(config).eval()
    return LanguageModel(
        model=model,
        tokenizer=None,
        prefix_token_id=END,
        context_length=32,
        vocabulary_size=VOCABULARY,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


@torch.inference_mode()
def all_outputs(language_model, prompt, sampling):
    """Every output that may be drawn after a prompt, with its log-probability, in float64."""
    model = copy.deepcopy(language_model.model).double()
    done, open_ = [], [((), 0.0)]
    for _ in range(LENGTH):
        logits = model(torch.tensor([[*prompt, *said] for said, _ in open_])).logits[:, -1]
        grown = []
        for (said, log_p), row in zip(open_, logits / sampling.temperature, strict=True):
            kept = row.argsort(descending=True)[: sampling.top_k]
            drawn = row[kept].log_softmax(0)
            grown += [
                ((*said, int(token)), log_p + float(more)) for token, more in zip(kept, drawn, strict=True)
            ]
        done += [output for output in grown if output[0][-1] == END]
        open_ = [output for output in grown if output[0][-1] != END]
    return done + open_


def bounds(language_model, prompt, suffixes, sampling, edits, beams):
    recitals = [Recital(np.array(prompt), np.array(suffix)) for suffix in suffixes]
    return near_verbatim(
        language_model,
        recitals,
        sampling,
        similarity=1 - edits / LENGTH,
        beams=beams,
        on_batch=lambda _: None,
    )


def event(outputs, suffix, distance):
    return math.fsum(
        math.exp(log_p) for said, log_p in outputs if Levenshtein.distance(said, suffix) <= distance
    )


@pytest.mark.parametrize("name", CASES)
def test_with_beams_for_all_the_bound_is_the_probability(toy, name):
    """Also of suffixes that are said by chance only, that hold an end token, or that end in one."""
    sampling = CASES[name]
    outputs = all_outputs(toy, PROMPT, sampling)
    assert math.fsum(math.exp(log_p) for _, log_p in outputs) == pytest.approx(1)
    suffixes = [(0, 1, 2, 3), (3, 3, 1, 1), (2, 2, 0, END), (0, END, 2, 3), (1, 0, 1, 2)]
    for edits in range(4):
        found = bounds(toy, PROMPT, suffixes, sampling, edits, beams=VOCABULARY**LENGTH)
        for suffix, bound in zip(suffixes, found, strict=True):
            assert bound.distance == edits
            assert math.exp(bound.log_p) == pytest.approx(event(outputs, suffix, edits), rel=1e-5)
            assert math.exp(bound.log_p_z) == pytest.approx(event(outputs, suffix, 0), rel=1e-5)


def test_fewer_beams_find_less_but_never_less_than_the_suffix(toy):
    outputs = all_outputs(toy, PROMPT, PLAIN)
    suffixes = list(itertools.islice(itertools.product(range(4), repeat=LENGTH), 0, None, 17))
    exact = [event(outputs, suffix, 2) for suffix in suffixes]
    before = 0.0
    for beams in (1, 2, 4, 8, 16):
        found = bounds(toy, PROMPT, suffixes, PLAIN, 2, beams)
        for bound, limit in zip(found, exact, strict=True):
            assert bound.log_p_z <= bound.log_p
            assert math.exp(bound.log_p) <= limit * (1 + 1e-5)
        total = sum(math.exp(bound.log_p) for bound in found)
        assert total > before
        before = total
    assert before > 0.9 * sum(exact)


def test_a_typo_in_the_suffix_is_forgiven(toy):
    """The suffix is what is likeliest but for one token, so that nearly is likelier than exactly."""
    whole = [output for output in all_outputs(toy, PROMPT, PLAIN) if len(output[0]) == LENGTH]
    likeliest, log_p = max(whole, key=lambda output: output[1])
    typo = (*likeliest[:2], (likeliest[2] + 1) % END, *likeliest[3:])
    (bound,) = bounds(toy, PROMPT, [typo], PLAIN, 1, beams=4)
    assert bound.log_p >= log_p - 1e-5 > bound.log_p_z


def test_beams_see_what_the_one_pass_sees(each_language_model):
    """Without edits the bound is p_z, whatever cache an architecture keeps; also of texts split unlike."""
    texts = [TextInput(text[:length]) for text in english_sentences()[5:8] for length in (30, 90, 60)]
    options = ScoringOptions(metrics=frozenset({"p_z"}), prefix_tokens=8, suffix_tokens=12, top_k=200)
    subject = Subject(
        language_model=each_language_model,
        prefix_token=resolve_prefix_token("auto", each_language_model),
        scoring=options,
        options=MeasurementOptions(near_verbatim=NearVerbatimOptions(similarity=1.0, beams=3)),
    )
    done = []
    found = measure_near_verbatim(subject, [MeasuredText(text=text) for text in texts], done.append)
    for score, near in zip(score_texts(each_language_model, texts, options), found, strict=True):
        assert near["status"] == score.metrics["p_z"]["status"]
        assert near["log_p"] == near["log_p_z"]
        assert near["log_p"] == pytest.approx(score.metrics["p_z"]["log_p_z"], abs=1e-4)
    assert done == sorted(done)
    assert done[-1] == len(texts)


def test_a_share_of_tokens_becomes_a_distance():
    assert [largest_distance(48, share) for share in (1.0, 0.95, 0.75, 0.0)] == [0, 2, 12, 48]
    assert largest_distance(10, 0.9) == 1  # 1 - 0.9 is a little below 0.1
