"""The scorer against two oracles on 500 texts: lm-evaluation-harness 0.4.13 and plain `generate`."""

import random
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from rapidfuzz.distance import Levenshtein

from tests.tiny_models import english_sentences, one_thread, save_reciting_model
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, TextScore, score_texts

CONTEXT_LENGTH = 128
N_TEXTS = 500
N_RECITED = 6


def recited_passages() -> list[str]:
    return [sentence for sentence in english_sentences() if len(sentence) > 300][:N_RECITED]


def drop_a_word(text: str, generator: random.Random) -> str:
    words = text.split(" ")
    del words[generator.randrange(len(words))]
    return " ".join(words)


def texts_of_mixed_length() -> list[str]:
    """Passages of 1 to 900 characters, a fifth of them recited by the models in whole or but for a word."""
    generator = random.Random(11)
    manual = " ".join(english_sentences())
    texts = []
    for number in range(N_TEXTS):
        if number % 5 == 0:
            passage = recited_passages()[number % N_RECITED]
            texts.append(passage if number % 10 else drop_a_word(passage, generator))
        else:
            start = generator.randrange(len(manual) - 900)
            texts.append(manual[start : start + generator.randint(1, 900)])
    return texts


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neox"])
def language_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LanguageModel]:
    directory = tmp_path_factory.mktemp(request.param)
    save_reciting_model(directory, recited_passages(), request.param, context_length=CONTEXT_LENGTH)
    with one_thread():
        yield load_language_model(directory, device="cpu")


def scores_of(language_model: LanguageModel, options: ScoringOptions) -> list[TextScore]:
    return score_texts(language_model, [TextInput(text) for text in texts_of_mixed_length()], options)


@pytest.mark.parametrize("prefix_token", ["bos_else_eos", "eos"])
def test_log_likelihood_equals_lm_evaluation_harness(language_model, prefix_token):
    """The tokenizer has no BOS."""
    scores = scores_of(language_model, ScoringOptions(frozenset(), prefix_token=prefix_token))
    harness = HFLM(
        pretrained=language_model.model,
        tokenizer=language_model.tokenizer,
        backend="causal",
        batch_size=16,
        add_bos_token=False,
    )
    assert harness.max_length == CONTEXT_LENGTH
    requests = [
        Instance("loglikelihood_rolling", {}, (text,), number)
        for number, text in enumerate(texts_of_mixed_length())
    ]
    expected = harness.loglikelihood_rolling(requests, disable_tqdm=True)
    assert len(expected) == len(scores) == N_TEXTS
    assert sum(score.n_windows > 1 for score in scores) > 100
    for score, log_likelihood in zip(scores, expected, strict=True):
        assert score.log_likelihood == pytest.approx(log_likelihood, rel=1e-4)


def test_recitation_equals_plain_generate(language_model):
    scores = scores_of(language_model, ScoringOptions())
    model, tokenizer = language_model.model, language_model.tokenizer
    by_split = defaultdict(list)
    for text, score in zip(texts_of_mixed_length(), scores, strict=True):
        metric = score.metrics["extraction"]
        if metric["status"] != "not_applicable":
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            by_split[metric["prefix_tokens"], metric["suffix_tokens"]].append((ids, metric))
    decisions = []
    for (prefix, suffix), texts in by_split.items():
        # Prompts of one length need no padding, so the batch is the plain computation.
        prompts = torch.tensor([ids[:prefix] for ids, _ in texts])
        generated = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            max_new_tokens=suffix,
            pad_token_id=tokenizer.eos_token_id,
        )
        for (ids, metric), row in zip(texts, generated[:, prefix:].tolist(), strict=True):
            said = row[: row.index(tokenizer.eos_token_id) + 1] if tokenizer.eos_token_id in row else row
            true = ids[prefix : prefix + suffix]
            similarity = 1 - Levenshtein.distance(said, true) / suffix
            assert metric["strict"] == (said == true)
            assert metric["similarity"] == similarity
            assert metric["loose"] == (similarity >= 0.75)
            decisions.append((metric["strict"], metric["loose"]))
    assert len(decisions) > 0.95 * N_TEXTS
    assert 30 < sum(is_strict for is_strict, _ in decisions) < 0.3 * N_TEXTS
    assert any(loose and not is_strict for is_strict, loose in decisions)
