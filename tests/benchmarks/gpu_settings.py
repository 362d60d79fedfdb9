"""The shapes that are measured on a GPU, on how much, and what must be reached."""

from dataclasses import dataclass, replace
from typing import Any, Final

from transformers import LlamaConfig, Olmo2Config

from tests.benchmarks.curvature import PAPER_TOKENS

# Collecting so many tokens took the paper (arXiv 2510.24256) 50 minutes; well under that is half of it.
PAPER_MINUTES: Final = 50
MINUTES_AT_MOST: Final = PAPER_MINUTES / 2
MFU_AT_LEAST: Final = 0.45


@dataclass(frozen=True)
class GpuSetting:
    """A model, and what it is given.

    Attributes:
        title: of its figures.
        config: of transformers.
        texts: how many are scored.
        characters: their fewest and most.
        tokens: that curvature is collected from.
        block: tokens of a block of these.
        mfu_at_least: the share of the matrix rate that scoring must reach, if any.
        minutes_at_most: that collecting `calibration` tokens may take, if any.
        calibration: tokens of a whole calibration, which is derived from the speed.
    """

    title: str
    config: Any
    texts: int
    characters: tuple[int, int]
    tokens: int
    block: int = 512
    mfu_at_least: float | None = None
    minutes_at_most: float | None = None
    calibration: float = PAPER_TOKENS


SETTINGS: Final = {
    # configs/hubble_1b of allegro-lab/hubble; its tokenizer is OLMo's.
    "1B": GpuSetting(
        "1B, HUBBLE's shape",
        LlamaConfig(
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            vocab_size=50_304,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
        ),
        texts=2000,
        characters=(200, 4000),
        tokens=524_288,
        mfu_at_least=MFU_AT_LEAST,
    ),
    # OLMo-2-1124-7B.
    "7B": GpuSetting(
        "7B, OLMo-2's shape",
        Olmo2Config(
            hidden_size=4096,
            intermediate_size=11_008,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=32,
            vocab_size=100_352,
            max_position_embeddings=4096,
            tie_word_embeddings=False,
        ),
        texts=400,
        characters=(200, 4000),
        tokens=131_072,
        minutes_at_most=MINUTES_AT_MOST,
    ),
}
_TINY: Final = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}


def tiny(setting: GpuSetting) -> GpuSetting:
    """The same architecture in a size for any device, on a little, without targets: to see that it runs."""
    return replace(
        setting,
        title=f"{setting.title}, but tiny",
        config=type(setting.config)(**_TINY),
        texts=6,
        characters=(40, 400),
        tokens=512,
        block=64,
        mfu_at_least=None,
        minutes_at_most=None,
    )
