"""Free-running generation. Oracles: the library's own generate; what teacher forcing says."""

import pytest
import torch
from rapidfuzz.distance import Levenshtein

from tests.tiny_models import english_sentences
from workers.science.evaluation.generation import generate_suffixes
from workers.science.evaluation.suffixes import suffixes_of
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(metrics=frozenset({"extraction"}), prefix_tokens=24, suffix_tokens=16)


def test_what_is_generated_is_what_the_library_generates_and_what_scores_say(reciting, recited_texts):
    ids = reciting.tokenizer(recited_texts[1])["input_ids"][:40]
    ids[30] += 1
    texts = ["", *recited_texts, *english_sentences()[50:56], reciting.tokenizer.decode(ids)]
    inputs = [TextInput(text) for text in texts]
    suffixes = suffixes_of(reciting, inputs, OPTIONS)
    assert [suffix.text for suffix in suffixes] == list(range(1, len(texts)))
    told = []
    found = generate_suffixes(reciting, suffixes, told.append)
    assert sum(told) == len(suffixes)
    scores = score_texts(reciting, inputs, OPTIONS)[1:]
    for each, score, suffix in zip(found, scores, suffixes, strict=True):
        extraction = score.metrics["extraction"]
        assert (each.exact, each.similarity) == (extraction["strict"], extraction["similarity"])
        prompt = torch.from_numpy(suffix.prompt)[None]
        said = reciting.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=len(suffix.token_ids),
            do_sample=False,
            pad_token_id=reciting.padding_token_id,
        )[0, prompt.shape[1] :].tolist()
        distance = Levenshtein.distance(said, suffix.token_ids.tolist())
        assert each.similarity == pytest.approx(1 - distance / len(suffix.token_ids))
    assert {each.exact for each in found} == {True, False}
