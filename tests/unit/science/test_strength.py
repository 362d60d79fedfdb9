"""How much of a suffix is held. Oracles: greedy decoding from each longer prompt; what scores say."""

import math

import numpy as np
import pytest
import torch

from tests.tiny_models import english_sentences
from workers.science.evaluation.strength import exact_memorization, extraction_strength, holdings
from workers.science.metrics.sampling import samples_needed
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(prefix_tokens=24, suffix_tokens=16)


def flags(text: str) -> np.ndarray:
    return np.array([mark == "x" for mark in text])


@pytest.mark.parametrize(
    ("chosen", "strength", "share"),
    [
        ("....", 0.0, 0.0),  # fully forgotten
        ("xxxx", 1.0, 1.0),  # fully recited
        ("xxx.", 0.0, 0.75),  # the end is not recited, however much is given
        (".xxx", 0.75, 0.75),
        ("x.xx", 0.5, 0.75),
        ("...x", 0.25, 0.25),
        ("x", 1.0, 1.0),
    ],
)
def test_by_hand(chosen, strength, share):
    nowhere = np.zeros(len(chosen), np.bool_)
    assert extraction_strength(flags(chosen), nowhere) == strength
    assert exact_memorization(flags(chosen)) == share


def test_after_an_end_token_nothing_is_said():
    assert extraction_strength(flags("xxxx"), flags("...x")) == 1.0
    assert extraction_strength(flags("xxxx"), flags(".x..")) == 0.5
    assert extraction_strength(flags(".xxx"), flags("x...")) == 0.75
    assert extraction_strength(flags("xxxx"), flags("..x.")) == 0.25


@torch.inference_mode()
def by_generation(language_model, text: str) -> float:
    """Give one token more at a time until the library's own greedy decoding says the rest."""
    ids = language_model.tokenizer(text)["input_ids"][:40]
    for given in range(16):
        prompt = torch.tensor([ids[: 24 + given]])
        said = language_model.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=16 - given,
            do_sample=False,
            pad_token_id=language_model.padding_token_id,
        )[0, 24 + given :]
        if said.tolist() == ids[24 + given :]:
            return 1 - given / 16
    return 0.0


def test_it_is_the_shortest_prompt_from_which_generation_says_the_rest(reciting, recited_texts):
    sentences = [sentence for sentence in english_sentences()[50:] if len(sentence) > 200][:6]
    ids = reciting.tokenizer(recited_texts[1])["input_ids"][:40]
    ids[30] += 1
    texts = [*recited_texts, *sentences, reciting.tokenizer.decode(ids)]
    found = list(holdings(reciting, [TextInput(text) for text in texts], OPTIONS))
    assert [each.extraction_strength for each in found] == [by_generation(reciting, text) for text in texts]
    assert {0.0, 1.0} < {each.extraction_strength for each in found}
    for each in found:
        assert each.strict == (each.extraction_strength == 1)
        assert each.exact_memorization >= each.extraction_strength


def test_the_rest_is_what_scores_say(reciting, recited_texts):
    texts = [TextInput(text) for text in (*recited_texts, *english_sentences()[:6], "", "a")]
    *found, empty, short = holdings(reciting, texts, OPTIONS)
    scores = score_texts(reciting, texts[:-2], OPTIONS)
    for each, score in zip(found, scores, strict=True):
        assert each.membership is not None
        assert each.membership["loss"] == pytest.approx(score.nl)
        assert set(each.membership) == {"loss", "zlib", "min_k", "min_k_pp"}
        assert each.strict == score.metrics["extraction"]["strict"]
        assert each.log_p_z == score.metrics["p_z"]["log_p_z"]
        split = score.metrics["extraction"]
        ranks = score.evidence.rank[split["prefix_tokens"] :][: split["suffix_tokens"]]
        assert each.exact_memorization == pytest.approx((ranks == 1).mean())
        if each.log_p_z is not None:
            assert each.n_50 == samples_needed(each.log_p_z, 0.5)
            # More than one sample in two says it whole, so that greedy decoding does too.
            assert each.strict or each.log_p_z <= math.log(0.5) + 1e-6
    assert (empty.membership, empty.strict) == (None, None)
    assert (short.strict, short.extraction_strength, short.exact_memorization) == (None, None, None)
