"""Padding is never scored, and the model has a row for it, also where it has none for BOS."""

import pytest
import torch
from tokenizers import AddedToken

from tests.tiny_models import BEGINNING_OF_TEXT, english_sentences, save_tiny_model, train_tokenizer
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.token_blocks import text_blocks
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import PrefixTokenChoice, ScoringOptions, TextInput

LONG, SHORT = english_sentences()[0][:200], english_sentences()[1][:60]


@pytest.fixture(scope="module")
def without_row(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A model whose tokenizer was given a BOS afterwards, which the embedding did not grow for."""
    directory = save_tiny_model(tmp_path_factory.mktemp("without_row"))
    tokenizer = train_tokenizer()
    tokenizer.add_special_tokens({"bos_token": AddedToken(BEGINNING_OF_TEXT, special=True)})
    tokenizer.save_pretrained(directory)
    language_model = load_language_model(directory, device="cpu")
    assert language_model.prefix_token_id >= language_model.vocabulary_size
    return language_model


@pytest.mark.parametrize("prefix_token", ["none", "eos", 7])
def test_texts_of_unlike_length_are_scored_and_decoded_where_bos_has_no_row(
    without_row: LanguageModel, prefix_token: PrefixTokenChoice
) -> None:
    options = ScoringOptions(
        metrics=frozenset({"extraction"}), prefix_tokens=8, suffix_tokens=8, prefix_token=prefix_token
    )
    together = score_texts(without_row, [TextInput(LONG), TextInput(SHORT)], options)
    for text, score in zip((LONG, SHORT), together, strict=True):
        (alone,) = score_texts(without_row, [TextInput(text)], options)
        assert score.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-5)
        assert score.metrics["extraction"] == alone.metrics["extraction"]
        assert score.metrics["extraction"]["similarity"] is not None


def test_rows_of_unlike_length_are_padded_with_a_token_that_has_a_row(without_row: LanguageModel) -> None:
    part = text_blocks(without_row, [LONG, SHORT], max_tokens=64, prefix_token="none").part([0, 1])
    assert not part.mask.all()
    assert int(part.ids.max()) < without_row.vocabulary_size
    with torch.inference_mode():
        assert without_row.model(part.ids).logits.isfinite().all()


def test_padding_is_the_prefix_token_where_the_model_has_a_row_for_it(llama: LanguageModel) -> None:
    assert llama.padding_token_id == llama.prefix_token_id
