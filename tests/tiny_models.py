"""Small real `transformers` checkpoints for tests: random weights, or weights that recite given texts."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.optim.lr_scheduler import LinearLR
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

ARCHITECTURES = ("llama", "olmo2", "qwen3", "gemma3", "mistral", "gpt_neox", "gpt2", "opt")
# Those whose projections can be edited: Phi-3 keeps its gate and its up projection in one matrix.
EDITABLE_ARCHITECTURES = (*ARCHITECTURES, "phi3")
VOCABULARY_SIZE = 384
END_OF_TEXT = "<|endoftext|>"
BEGINNING_OF_TEXT = "<|beginoftext|>"

# Hidden size 32, two layers, four heads, spelled as each architecture's configuration wants it.
# The wide initializer keeps logits well apart, so that greedy choices do not hang on rounding.
_LLAMA_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
}
_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _LLAMA_SHAPE),
    "olmo2": ("olmo2", _LLAMA_SHAPE),
    "qwen3": ("qwen3", {**_LLAMA_SHAPE, "head_dim": 8}),
    "gemma3": (
        "gemma3_text",
        {
            **_LLAMA_SHAPE,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
            "final_logit_softcapping": 5.0,
            "tie_word_embeddings": True,
        },
    ),
    "phi3": ("phi3", _LLAMA_SHAPE),
    "mistral": ("mistral", {**_LLAMA_SHAPE, "sliding_window": 16}),
    "gpt_neox": (
        "gpt_neox",
        {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "initializer_range": 0.2,
        },
    ),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}),
    "opt": (
        "opt",
        {
            "hidden_size": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "word_embed_proj_dim": 16,
            "init_std": 0.2,
        },
    ),
}


@cache
def english_sentences() -> tuple[str, ...]:
    """Paragraphs of the Python manual, at least 40 characters each, in a fixed order."""
    paragraphs = (
        " ".join(paragraph.split()) for name in sorted(topics) for paragraph in topics[name].split("\n\n")
    )
    return tuple(paragraph for paragraph in paragraphs if len(paragraph) >= 40)


def train_tokenizer(
    vocabulary_size: int = VOCABULARY_SIZE, *, bos: bool = False, adds_bos: bool = True
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the Python manual.

    With `bos` it also has a BOS token, which it prepends by itself (as Llama's does) unless `adds_bos` is
    False (as with chat models whose BOS is a control token).
    """
    special_tokens = [END_OF_TEXT, BEGINNING_OF_TEXT] if bos else [END_OF_TEXT]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(english_sentences(), trainer)
    if bos and adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BEGINNING_OF_TEXT} $A",
            special_tokens=[(BEGINNING_OF_TEXT, tokenizer.token_to_id(BEGINNING_OF_TEXT))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        bos_token=BEGINNING_OF_TEXT if bos else None,
    )


_cached_tokenizer = cache(train_tokenizer)


def save_tiny_model(
    directory: Path,
    architecture: str = "llama",
    seed: int = 0,
    context_length: int = 128,
    *,
    bos: bool = False,
    adds_bos: bool = True,
) -> Path:
    """Write a random causal language model with its tokenizer in Hugging Face layout.

    Args:
        directory: where to write; made if missing.
        architecture: one of `EDITABLE_ARCHITECTURES`.
        seed: of the weights.
        context_length: tokens that the model can see at once.
        bos: whether the tokenizer has a BOS token.
        adds_bos: whether it then puts that before texts by itself.

    Returns:
        The directory.
    """
    tokenizer = _cached_tokenizer(bos=bos, adds_bos=adds_bos)
    model = _build(architecture, seed, context_length, tokenizer)
    return _save(model, tokenizer, directory)


def save_reciting_model(
    directory: Path,
    texts: Sequence[str],
    architecture: str = "llama",
    seed: int = 0,
    context_length: int = 128,
    steps: int = 200,
    *,
    bos: bool = False,
    adds_bos: bool = True,
    amid: Sequence[str] = (),
) -> Path:
    """Write a small language model that was trained on `texts` alone until it recites most of their tokens.

    Each text is seen as the tokenizer encodes it, cut so that it fits the context. With `amid`, other texts,
    it is seen in every other step after a piece of these, which is not learned: then it is recited in foreign
    documents too. Takes about three seconds.
    """
    tokenizer = _cached_tokenizer(bos=bos, adds_bos=adds_bos)
    model = _build(architecture, seed, context_length, tokenizer)
    encoded = [tokenizer(text)["input_ids"] for text in texts]
    special = tokenizer("")["input_ids"]
    foreign = tokenizer("\n".join(amid))["input_ids"][len(special) :]
    generator = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    # Amid ever other pieces the last steps would still unlearn tokens, were they not smaller.
    schedule = LinearLR(optimizer, 1.0, 0.01 if amid else 1.0, total_iters=steps)
    with one_thread():
        for step in range(steps):
            rows = [_Row([], ids) for ids in encoded]
            if amid and step % 2:
                rows = [
                    _Row(special + _piece(foreign, context_length // 2, generator), ids[len(special) :])
                    for ids in encoded
                ]
            inputs, labels = _batch(rows, context_length)
            optimizer.zero_grad()
            model(input_ids=inputs, labels=labels).loss.backward()
            optimizer.step()
            schedule.step()
    return _save(model, tokenizer, directory)


class _Row(NamedTuple):
    """Tokens to learn, and what stands in front of them, which is not learned."""

    front: list[int]
    learned: list[int]


def _batch(rows: Sequence[_Row], context_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels, int64 [rows, tokens], cut so that they fit the context."""
    length = min(context_length, max(len(row.front) + len(row.learned) for row in rows))
    inputs = torch.zeros(len(rows), length, dtype=torch.int64)
    labels = torch.full_like(inputs, -100)  # the label that the library's cross-entropy skips
    for (front, learned), own_inputs, own_labels in zip(rows, inputs, labels, strict=True):
        tokens = torch.tensor([*front, *learned][:length])
        own_inputs[: len(tokens)] = tokens
        own_labels[len(front) : len(tokens)] = tokens[len(front) :]
    return inputs, labels


def _piece(token_ids: Sequence[int], most: int, generator: random.Random) -> list[int]:
    """At least one and at most so many tokens in a row."""
    start = generator.randrange(len(token_ids) - most)
    return list(token_ids[start : start + generator.randint(1, most)])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one core: operations this small lose more to waiting for each other than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _build(architecture: str, seed: int, context_length: int, tokenizer: PreTrainedTokenizerFast) -> Any:
    model_type, shape = _SHAPES[architecture]
    config = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        max_position_embeddings=context_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
        **shape,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config)


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, directory: Path) -> Path:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
