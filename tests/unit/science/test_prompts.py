"""Prompts that ask in another way. Oracles: the split that scores report, the tokenizer's own tokens."""

import pytest

from tests.tiny_models import english_sentences
from workers.science.evaluation.prompts import CHANGED_PROMPTS, with_changed_prompts
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput

OPTIONS = ScoringOptions(metrics=frozenset({"extraction"}), token_evidence=False)
TEXTS = [TextInput(text) for text in (*english_sentences()[20:30], " ".join(english_sentences())[7000:9000])]
# With less than 112 tokens: scoring scales their split.
SHORT_TEXTS = [TextInput(" ".join(english_sentences())[:length]) for length in (210, 120, 40)]
SPLIT_TEXTS = [
    TextInput(prefix + suffix, prefix=prefix, suffix=suffix)
    for prefix, suffix in (
        (english_sentences()[40][:60], english_sentences()[40][60:110]),
        ("Call me Ishmael. Some years ago", " never mind how long precisely"),
        ("Call me Ishmael. Some years ag", "o never mind how long"),
        (" ".join(english_sentences())[:150], " ".join(english_sentences())[150:900]),
    )
]
UNCHANGED_TEXTS = [
    TextInput(""),
    TextInput("a"),
    TextInput("abc", prefix="a", suffix="bc"),
    TextInput("Hello", prefix="", suffix="Hello"),
    TextInput("Hello", prefix="Hello", suffix=""),
    TextInput("Hello " * 201, prefix="Hello " * 200, suffix="Hello "),
]


@pytest.mark.parametrize("text", [*TEXTS, *SHORT_TEXTS, *SPLIT_TEXTS])
def test_a_changed_prompt_is_the_end_of_the_old_one_before_the_same_suffix(llama, text):
    """Oracle: the split that scoring reports, cut out of the tokenizer's own tokens."""
    (score,) = score_texts(llama, [text], OPTIONS)
    split = score.metrics["extraction"]
    prefix_tokens, suffix_tokens = split["prefix_tokens"], split["suffix_tokens"]
    encoded = llama.tokenizer(text.text, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    boundary, stop = offsets[prefix_tokens][0], offsets[prefix_tokens + suffix_tokens - 1][1]
    changed = with_changed_prompts(llama, [text], OPTIONS)
    assert tuple(changed) == CHANGED_PROMPTS
    cuts = {"prefix_shifted": prefix_tokens // 4, "prefix_shortened": prefix_tokens // 2}
    for name, dropped in cuts.items():
        (prompted,) = changed[name]
        assert dropped > 0
        assert prompted.suffix == text.text[boundary:stop]
        assert text.text[:boundary].endswith(prompted.prefix)
        assert 0 < len(prompted.prefix) < boundary
        tokens = llama.tokenizer(prompted.text)["input_ids"]
        assert tokens == ids[dropped : prefix_tokens + suffix_tokens]
        (again,) = score_texts(llama, [prompted], OPTIONS)
        asked = again.metrics["extraction"]
        assert (asked["prefix_tokens"], asked["suffix_tokens"]) == (prefix_tokens - dropped, suffix_tokens)


def test_a_prefix_of_two_tokens_loses_one(llama):
    text = TextInput("I be or not", prefix="I be", suffix=" or not")
    assert llama.tokenizer.tokenize("I be") == ["I", "Ġbe"]
    changed = with_changed_prompts(llama, [text], OPTIONS)
    for name in ("prefix_shifted", "prefix_shortened"):
        assert (changed[name][0].prefix, changed[name][0].suffix) == (" be", " or not")
    assert [changed[f"prefix_{name}"][0].text for name in ("upper_case", "lower_case", "wide_spaces")] == [
        "I BE or not",
        "i be or not",
        "I  be or not",
    ]


def test_texts_without_room_for_a_prefix_stay_in_their_place(llama):
    texts = [*UNCHANGED_TEXTS, TEXTS[-1], *UNCHANGED_TEXTS[:2]]
    for changed in with_changed_prompts(llama, texts, OPTIONS).values():
        assert changed[: len(UNCHANGED_TEXTS)] == UNCHANGED_TEXTS
        assert changed[len(UNCHANGED_TEXTS)] != TEXTS[-1]
        assert changed[-2:] == UNCHANGED_TEXTS[:2]


REWRITTEN = {
    "prefix_upper_case": str.upper,
    "prefix_lower_case": str.lower,
    "prefix_wide_spaces": lambda prefix: prefix.replace(" ", "  "),
}


@pytest.mark.parametrize("text", [*TEXTS, *SHORT_TEXTS, *SPLIT_TEXTS])
def test_a_rewritten_prompt_has_the_same_suffix_and_as_much_of_the_prefix_as_fits(llama, text):
    (score,) = score_texts(llama, [text], OPTIONS)
    asked = score.metrics["extraction"]
    offsets = llama.tokenizer(text.text, return_offsets_mapping=True)["offset_mapping"]
    boundary = offsets[asked["prefix_tokens"]][0]
    stop = offsets[asked["prefix_tokens"] + asked["suffix_tokens"] - 1][1]
    changed = with_changed_prompts(llama, [text], OPTIONS)
    for name, rewrite in REWRITTEN.items():
        (prompted,) = changed[name]
        assert prompted.suffix == text.text[boundary:stop]
        rewritten = rewrite(text.text[:boundary])
        assert rewritten.endswith(prompted.prefix)
        (again,) = score_texts(llama, [prompted], OPTIONS)
        found = again.metrics["extraction"]
        # The suffix is asked for as a whole, in the very tokens of before.
        assert found["suffix_tokens"] == asked["suffix_tokens"]
        if prompted.prefix != rewritten:
            assert found["prefix_tokens"] + found["suffix_tokens"] >= llama.context_length - 1
