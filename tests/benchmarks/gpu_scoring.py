"""How fast a GPU scores: tokens a second, the share of what the card can do, and peers in the same run."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch
from rich.console import Console

from tests.benchmarks.figures import Figure
from tests.benchmarks.gpu_settings import GpuSetting
from tests.benchmarks.gpu_vllm import NAME as VLLM
from tests.benchmarks.gpu_vllm import vllm_contender
from tests.benchmarks.rates import peak_rate, rate_of_products
from tests.benchmarks.scoring import (
    HARNESS_BATCH_SIZE,
    LIKELIHOOD_ONLY,
    Contender,
    harness_of,
    harness_rolling,
    measure,
    ratios_of,
    scorer,
)
from tests.benchmarks.scoring_parts import windows_of, work_of
from tests.benchmarks.scoring_settings import Target
from tests.benchmarks.scoring_workload import mixed_texts
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import count_tokens

SCORER: Final = "scorer"
PADDED: Final = "scorer, padded"
HARNESS: Final = "harness"
_RATIOS: Final = (
    (f"against lm-evaluation-harness, batch {HARNESS_BATCH_SIZE}", HARNESS),
    ("against vLLM, prompt_logprobs", VLLM),
    ("packed against padded", PADDED),
)
_WHY_NOT: Final = {VLLM: "vLLM is not installed", PADDED: "this model does not pack on this device"}
# The harness takes the softmax in bfloat16.
_TOLERANCE: Final = 2e-2
# Large enough that a GPU is at its best; on a processor just to have a number.
_GPU_PRODUCT, _CPU_PRODUCT = (8192, 8192, 8192), (256, 256, 256)


def measure_scoring(
    language_model: LanguageModel, setting: GpuSetting, repetitions: int, console: Console
) -> list[Figure]:
    """The figures of scoring. Contenders take turns, and have to agree on every text's log-likelihood."""
    device, dtype = language_model.device, language_model.dtype
    on_gpu = device.type == "cuda"
    texts = mixed_texts(setting.texts, 0, *setting.characters)
    with _entrants(language_model, texts) as entrants:
        for entrant in entrants:
            entrant.run()
        seconds, rates = measure(
            entrants,
            repetitions,
            console,
            lambda: rate_of_products(
                _GPU_PRODUCT if on_gpu else _CPU_PRODUCT, 0.5 if on_gpu else 0.01, device, dtype
            ),
            _TOLERANCE,
        )
    n_tokens = sum(count_tokens(language_model.tokenizer, texts))
    flops = work_of(language_model, windows_of(language_model, texts)).whole
    median = statistics.median(seconds[SCORER])
    packing = "packed" if language_model.packs else "padded"
    return [
        Figure(
            f"scoring, {packing}", n_tokens / median, "tokens/s", f"{len(texts)} texts, {n_tokens:,} tokens"
        ),
        *_shares(flops / median, statistics.median(rates), setting, device),
        *_ratios(seconds),
    ]


@contextmanager
def _entrants(language_model: LanguageModel, texts: list[str]) -> Iterator[list[Contender]]:
    harness = harness_of(language_model)
    entrants = [
        Contender(SCORER, lambda: scorer(language_model, texts, LIKELIHOOD_ONLY)),
        Contender(HARNESS, lambda: harness_rolling(harness, texts)),
    ]
    if language_model.packs:
        padded = replace(language_model, packs=False)
        entrants.append(Contender(PADDED, lambda: scorer(padded, texts, LIKELIHOOD_ONLY)))
    with vllm_contender(language_model, texts) as other:
        yield entrants if other is None else [*entrants, other]


def _shares(speed: float, rate: float, setting: GpuSetting, device: torch.device) -> list[Figure]:
    """Model FLOPs utilization: of the card's peak where that is known, else the target is of the rate.

    Args:
        speed: FLOP/s of scoring.
        rate: FLOP/s of large products.
        setting: that was measured.
        device: that it was measured on.
    """
    peak = peak_rate(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    target = setting.mfu_at_least
    return [
        Figure(
            "MFU of the measured matrix rate",
            speed / rate,
            beside=f"{rate / 1e12:.3g} TFLOP/s in products",
            at_least=target if peak is None else None,
        ),
        Figure(
            "MFU of the card's peak",
            None if peak is None else speed / peak,
            beside="not known of this device" if peak is None else f"{peak / 1e12:.0f} TFLOP/s are stated",
            at_least=None if peak is None else target,
        ),
    ]


def _ratios(seconds: dict[str, list[float]]) -> Sequence[Figure]:
    """How many times as fast as others, the median of pairs."""
    return [
        Figure(name, statistics.median(ratios_of(Target(name, (other,), SCORER, 0.0), seconds)), "x")
        if other in seconds
        else Figure(name, None, beside=_WHY_NOT[other])
        for name, other in _RATIOS
    ]
