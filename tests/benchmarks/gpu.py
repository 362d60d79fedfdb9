"""What a GPU makes of scoring and of edits: one command, one table, with targets.

`python -m tests.benchmarks.gpu` (`make bench-gpu`) tells what machine it runs on, and of a random model of
HUBBLE's 1B shape and one of OLMo-2 7B's, both in bfloat16, how fast it scores, collects curvature and edits.
`--tiny` takes models of a few thousand parameters, on whatever device there is, to see that it runs.
"""

import argparse
import gc
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

os.environ["TQDM_DISABLE"] = "1"

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from app.settings import CPU_QUEUE
from tests.benchmarks.figures import Figure, add_figures
from tests.benchmarks.gpu_curvature import measure_curvature
from tests.benchmarks.gpu_scoring import measure_scoring
from tests.benchmarks.gpu_settings import SETTINGS, GpuSetting, tiny
from tests.benchmarks.random_models import random_language_model
from tests.benchmarks.scoring_workload import VOCABULARY_SIZE
from tests.tiny_models import train_tokenizer
from workers.running.machine import this_machine

_DRIVER: Final = Path("/proc/driver/nvidia/version")
_NO_DEVICE: Final = 2


def machine(device: torch.device) -> list[str]:
    """What the figures are of: the card and its driver, the libraries, the processor."""
    lines = [f"torch {torch.__version__}, CUDA {torch.version.cuda}", this_machine(CPU_QUEUE).name]
    if device.type != "cuda":
        return ["no GPU", *lines]
    card = torch.cuda.get_device_properties(device)
    return [f"{card.name}, {card.total_memory / 2**30:.0f} GiB, driver {_driver()}", *lines]


def _driver() -> str:
    with suppress(OSError):
        if found := re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _DRIVER.read_text()):
            return found[1]
    return "unknown"


def measure_model(
    setting: GpuSetting, device: torch.device, repetitions: int, console: Console
) -> list[Figure]:
    """All figures of a model. Other engines are gone before curvature is collected."""
    console.print(setting.title)
    language_model = random_language_model(
        setting.config, train_tokenizer(VOCABULARY_SIZE), device, torch.bfloat16
    )
    figures = measure_scoring(language_model, setting, repetitions, console)
    _free_memory()
    return figures + measure_curvature(language_model, setting)


def _free_memory() -> None:
    """Give back what nobody refers to any more."""
    gc.collect()
    torch.cuda.empty_cache()


def print_figures(
    settings: Sequence[GpuSetting], device: torch.device, repetitions: int, console: Console
) -> list[Figure]:
    """A table for each model as soon as it is measured, so that one that does not fit costs no other's."""
    console.print("\n".join(machine(device)))
    everything = []
    for setting in settings:
        _free_memory()
        figures = measure_model(setting, device, repetitions, console)
        table = Table("bfloat16", "measured", "beside", "target")
        add_figures(table, setting.title, figures)
        console.print(table)
        everything += figures
    return everything


def chosen_settings(arguments: argparse.Namespace) -> list[GpuSetting]:
    """The models that were asked for, in the sizes that were."""
    asked = {name: getattr(arguments, name) for name in ("texts", "tokens")}
    sizes = {name: value for name, value in asked.items() if value is not None}
    settings = [SETTINGS[name] for name in arguments.models]
    return [replace(tiny(each) if arguments.tiny else each, **sizes) for each in settings]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 without a CUDA device, unless tiny models were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--texts", type=int, help="texts to score, by default as many as suit the model")
    parser.add_argument("--tokens", type=int, help="tokens to collect curvature from, likewise")
    parser.add_argument("--repetitions", type=int, default=3, help="of scoring")
    parser.add_argument("--tiny", action="store_true", help="tiny models, on any device")
    parsed = parser.parse_args(arguments)
    if not (torch.cuda.is_available() or parsed.tiny):
        print("No CUDA device: nothing was measured. --tiny runs without one.", file=sys.stderr)
        return _NO_DEVICE
    transformers_logging.set_verbosity_error()
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    print_figures(chosen_settings(parsed), device, parsed.repetitions, Console(width=140))
    return 0


if __name__ == "__main__":
    sys.exit(main())
