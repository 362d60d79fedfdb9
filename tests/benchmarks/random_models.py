"""Random models in memory and random tokens: speed does not ask what weights and texts say."""

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from workers.science.models.loading import LanguageModel, packs_fast
from workers.science.models.token_blocks import TokenBlocks

CPU = torch.device("cpu")


def random_language_model(
    config: Any, tokenizer: Any = None, device: torch.device = CPU, dtype: torch.dtype = torch.float32
) -> LanguageModel:
    """A model that is made where it computes, so that none of its weights pass a disk or another memory.

    Args:
        config: of transformers.
        tokenizer: whose tokens are the first of the vocabulary; none where blocks of tokens are all it gets.
        device: of the weights.
        dtype: of the weights.
    """
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    language_model = LanguageModel(
        model=model,
        tokenizer=tokenizer,
        prefix_token_id=0 if tokenizer is None else tokenizer.eos_token_id,
        context_length=config.max_position_embeddings,
        vocabulary_size=config.vocab_size,
        device=device,
        dtype=dtype,
    )
    return replace(language_model, packs=packs_fast(language_model))


def random_llama(hidden: int, layers: int, intermediate: int, vocabulary: int, heads: int) -> LanguageModel:
    """A Llama on the CPU in float32."""
    return random_language_model(
        LlamaConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=intermediate,
            vocab_size=vocabulary,
            num_attention_heads=heads,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            initializer_range=0.05,
        )
    )


def random_blocks(tokens: int, length: int, vocabulary: int) -> TokenBlocks:
    """Blocks of so many random tokens, one at least."""
    ids = torch.randint(0, vocabulary, (max(1, tokens // length), length))
    return TokenBlocks(ids, torch.ones_like(ids, dtype=torch.bool))
