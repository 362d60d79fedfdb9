import itertools

import pytest
import torch
from transformers import AutoTokenizer

from tests.tiny_models import english_sentences, save_tiny_model
from workers.science.errors import ScienceError, TokenOutsideVocabulary
from workers.science.models.loading import load_language_model
from workers.science.models.token_blocks import TokenBlocks, pack_texts, stream_texts, text_blocks
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

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
    assert blocks.tokens == blocks.lengths.sum() == len(stream)
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
    rows = text_blocks(llama, ["a b", TEXTS[0], "", "a"], max_tokens=10)
    assert rows.lengths.tolist() == [2, 10]
    blocks = rows.part([0, 1])
    assert blocks.ids.shape == (2, 10)
    assert blocks.ids[0, :2].tolist() == llama.tokenizer("a b")["input_ids"]
    assert blocks.mask.sum(1).tolist() == [2, 10]
    assert blocks.ids[1].tolist() == llama.tokenizer(TEXTS[0])["input_ids"][:10]
    assert (blocks.ids[0, 2:] == llama.prefix_token_id).all()
    assert rows.predictions == blocks.predictions == 10


def test_rows_are_padded_to_the_longest_of_those_that_are_taken(llama):
    rows = text_blocks(llama, [*TEXTS, "a b", "of it"], max_tokens=100)
    assert len(rows.ids) == int(rows.lengths.sum())
    everything = rows.part(range(len(rows)))
    for chosen in ([5], [6, 5], [1, 6, 1], torch.tensor([0, 5])):
        part = rows.part(chosen)
        expected = everything.part(chosen)
        longest = int(expected.mask.sum(1).max())
        assert torch.equal(part.ids, expected.ids[:, :longest])
        assert torch.equal(part.mask, expected.mask[:, :longest])
    assert rows.part([]).ids.shape == (0, 0)


def test_a_long_text_leaves_room_for_all_the_short_ones(llama):
    """Only real tokens count: padded to the longest, two rows would exhaust the limit."""
    short = ["a word"] * 40
    rows = text_blocks(llama, [TEXTS[0] * 10, *short], max_tokens=128, limit=256)
    tokens = len(llama.tokenizer("a word")["input_ids"])
    assert rows.lengths.tolist() == [128, *[tokens] * min(40, 128 // tokens)]


@pytest.mark.parametrize("limit", [1, 30, 128, 129, 300, 10**6])
def test_rows_and_blocks_are_the_first_that_a_limit_has_room_for(llama, limit):
    rows, every_row = (text_blocks(llama, TEXTS, max_tokens=60, limit=most) for most in (limit, None))
    assert len(rows) == max(1, int((every_row.lengths.cumsum(0) <= limit).sum()))
    assert torch.equal(rows.ids, every_row.ids[: len(rows.ids)])
    blocks, every_block = (pack_texts(llama, TEXTS, block_tokens=50, limit=most) for most in (limit, None))
    assert len(blocks) == max(1, int((every_block.lengths.cumsum(0) <= limit).sum()))
    assert torch.equal(blocks.ids, every_block.ids[: len(blocks)])
    assert torch.equal(blocks.mask, every_block.mask[: len(blocks)])


@pytest.mark.parametrize("limit", [None, 150, 300])
def test_blocks_can_be_read_from_where_they_begin(llama, limit):
    """From each block on, with no text before it: one block, and all that follow. Two texts have no token."""
    texts = ["", TEXTS[0], "", *TEXTS[1:]]
    stream = stream_texts(llama, texts, block_tokens=50, limit=limit)
    blocks = stream.blocks()
    assert len(stream) == len(blocks) > 2
    for block in range(len(stream)):
        text, skip = stream.place(block)
        for count in (1, len(stream) - block):
            part = stream_texts(llama, texts[text:], block_tokens=50, limit=50 * count, skip=skip).blocks()
            assert torch.equal(part.ids, blocks.ids[block : block + count])
            assert torch.equal(part.mask, blocks.mask[block : block + count])


@pytest.mark.parametrize(
    "make",
    [
        lambda language_model, texts: pack_texts(language_model, texts, block_tokens=50, limit=500),
        lambda language_model, texts: text_blocks(language_model, texts, max_tokens=50, limit=500),
    ],
)
def test_no_more_texts_are_read_than_are_needed(llama, make):
    endless = itertools.count()
    make(llama, (f"text {next(endless)}" for _ in itertools.repeat(None)))
    assert next(endless) < 5000
    texts = iter(["a long text " * 10_000] * 1000)
    make(llama, texts)
    assert len(list(texts)) > 970


def test_text_blocks_begin_as_the_tokenizer_encodes(tmp_path):
    language_model = load_language_model(save_tiny_model(tmp_path, bos=True), device="cpu")
    blocks = text_blocks(language_model, ["a", TEXTS[0]], max_tokens=10).part([0, 1])
    assert blocks.ids[0, :2].tolist() == language_model.tokenizer("a")["input_ids"]
    assert blocks.ids[1].tolist() == language_model.tokenizer(TEXTS[0])["input_ids"][:10]
    alone = text_blocks(language_model, ["a b"], max_tokens=10, prefix_token="none").ids.tolist()
    assert alone == language_model.tokenizer("a b", add_special_tokens=False)["input_ids"]
    after = text_blocks(language_model, ["a b"], max_tokens=10, prefix_token=7).ids.tolist()
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
    assert refusal.value.code == "text_set_empty"


def test_a_block_of_one_token_is_refused(llama):
    with pytest.raises(ValueError, match="at least two"):
        pack_texts(llama, TEXTS, block_tokens=1)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A model whose tokenizer was given a token that the weights know nothing of, as extended ones are."""
    directory = save_tiny_model(tmp_path_factory.mktemp("extended"))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["zyzzyva"])
    tokenizer.save_pretrained(directory)
    language_model = load_language_model(directory, device="cpu")
    assert len(language_model.tokenizer) > language_model.vocabulary_size
    return language_model


@pytest.mark.parametrize(
    "make",
    [
        lambda language_model, texts: pack_texts(language_model, texts, block_tokens=8),
        lambda language_model, texts: text_blocks(language_model, texts, max_tokens=1000),
    ],
)
def test_a_token_that_the_model_has_no_row_for_is_refused_without_the_text(extended, make):
    """A GPU would end the process on it; scoring checks with the same function and says so of the text."""
    make(extended, TEXTS)
    text = "the zyzzyva is a weevil"
    with pytest.raises(TokenOutsideVocabulary, match="has no row for") as refusal:
        make(extended, [*TEXTS, text])
    assert refusal.value.code == "token_outside_vocabulary"
    assert "zyzzyva" not in refusal.value.detail
    (score,) = score_texts(extended, [TextInput(text)], ScoringOptions())
    assert score.error == refusal.value.code
