"""What the benchmarks score: random models with a tokenizer of real text, and slices of real text.

`python -m tests.benchmarks.scoring_workload DIRECTORY` writes the model.
"""

import argparse
import random
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.tiny_models import english_sentences, train_tokenizer

VOCABULARY_SIZE = 2048
CONTEXT_LENGTH = 256


def build_micro_model(directory: Path, seed: int = 0) -> Path:
    """Write a random Llama of 4.3 million parameters: hidden 192, 6 layers, MLP 768, vocabulary 2048."""
    tokenizer = train_tokenizer(VOCABULARY_SIZE)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def build_pythia_model(directory: Path, seed: int = 0) -> Path:
    """Write a random model of the shape of Pythia-160M: hidden 768, 12 layers, MLP 3072, vocabulary 50304.

    Its tokenizer is the micro model's, whose tokens are the first of the vocabulary.
    """
    tokenizer = train_tokenizer(VOCABULARY_SIZE)
    config = GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        GPTNeoXForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def mixed_texts(n: int, seed: int = 0, min_chars: int = 40, max_chars: int = 1000) -> list[str]:
    """Slices of the Python manual, their lengths uniform between the two bounds."""
    generator = random.Random(seed)
    manual = " ".join(english_sentences())
    texts = []
    for _ in range(n):
        length = generator.randint(min_chars, max_chars)
        start = generator.randrange(len(manual) - length)
        texts.append(manual[start : start + length])
    return texts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=build_micro_model.__doc__)
    parser.add_argument("directory", type=Path)
    build_micro_model(parser.parse_args().directory)
