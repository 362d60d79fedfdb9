import pytest
import torch

from tests.tiny_models import english_sentences, save_tiny_model
from workers.science.calibration import TokenBlocks, pack_texts, text_blocks
from workers.science.errors import ScienceError
from workers.science.loading import load_language_model

TEXTS = english_sentences()[:5]


def stream_of(language_model, texts):
    tokenizer, prefix = language_model.tokenizer, language_model.prefix_token_id
    return [
        token for text in texts for token in (prefix, *tokenizer(text, add_special_tokens=False)["input_ids"])
    ]


def test_packed_blocks_are_the_texts_end_to_end_with_a_prefix_token_before_each(llama):
    blocks = pack_texts(llama, iter(TEXTS), block_tokens=50)
    stream = stream_of(llama, TEXTS)
    assert blocks.ids[blocks.mask].tolist() == stream
    assert blocks.tokens == len(stream)
    assert blocks.ids.shape == (-(-len(stream) // 50), 50)
    assert blocks.mask[:-1].all()
    assert blocks.mask[-1].tolist() == [True] * (len(stream) % 50) + [False] * (-len(stream) % 50)


def test_a_block_is_at_most_as_long_as_the_context(llama):
    assert pack_texts(llama, TEXTS, block_tokens=4096).ids.shape[1] == llama.context_length == 128


def test_a_tokenizer_that_adds_a_bos_by_itself_gives_one_prefix_token_only(tmp_path):
    language_model = load_language_model(save_tiny_model(tmp_path, bos=True), device="cpu")
    blocks = pack_texts(language_model, TEXTS[:1], block_tokens=100)
    assert (blocks.ids[blocks.mask] == language_model.prefix_token_id).sum() == 1


def test_text_blocks_hold_one_text_a_row_cut_to_length(llama):
    blocks = text_blocks(llama, ["a b", TEXTS[0], "", "a"], max_tokens=10)
    assert blocks.ids.shape == (2, 10)
    assert blocks.ids[0, :2].tolist() == llama.tokenizer("a b")["input_ids"]
    assert blocks.mask.sum(1).tolist() == [2, 10]
    assert blocks.ids[1].tolist() == llama.tokenizer(TEXTS[0])["input_ids"][:10]


def test_text_blocks_begin_as_the_tokenizer_encodes(tmp_path):
    language_model = load_language_model(save_tiny_model(tmp_path, bos=True), device="cpu")
    blocks = text_blocks(language_model, ["a", TEXTS[0]], max_tokens=10)
    assert blocks.ids[0, :2].tolist() == language_model.tokenizer("a")["input_ids"]
    assert blocks.ids[1].tolist() == language_model.tokenizer(TEXTS[0])["input_ids"][:10]
    (alone,) = text_blocks(language_model, ["a b"], max_tokens=10, prefix_token="none").ids.tolist()
    assert alone == language_model.tokenizer("a b", add_special_tokens=False)["input_ids"]
    (after,) = text_blocks(language_model, ["a b"], max_tokens=10, prefix_token=7).ids.tolist()
    assert after == [7, *alone]


def test_a_place_predicts_if_its_successor_is_real():
    blocks = TokenBlocks(
        ids=torch.tensor([[7, 8, 9], [7, 5, 0]]), mask=torch.tensor([[True, True, True], [True, True, False]])
    )
    assert blocks.predicts.tolist() == [[True, True, False], [True, False, False]]
    assert blocks.predictions == 3
    assert blocks.labels[blocks.predicts].tolist() == [8, 9, 5]


@pytest.mark.parametrize(
    "make",
    [
        lambda language_model, texts: pack_texts(language_model, texts, block_tokens=8),
        lambda language_model, texts: text_blocks(language_model, texts, max_tokens=8),
    ],
)
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_texts_without_tokens_are_refused(llama, make, texts):
    with pytest.raises(ScienceError) as refusal:
        make(llama, texts)
    assert refusal.value.code == "calibration_empty"


def test_a_block_of_one_token_is_refused(llama):
    with pytest.raises(ValueError, match="at least two"):
        pack_texts(llama, TEXTS, block_tokens=1)
