"""Build a suite: prepare, train every model, write the text sets, and the manifest last."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from workers.suite import manifest
from workers.suite.corpus import read_corpus
from workers.suite.errors import OutputOccupied
from workers.suite.preparation import Perturbed, Prepared, perturb, prepare
from workers.suite.processes import processors, train_all
from workers.suite.sizes import Size
from workers.suite.texts import write_text_set
from workers.suite.training import Run

# HUBBLE's timing runs: the part of the training that takes insertions, in per cent (arXiv 2510.19811).
TIMING_WINDOWS = ((0, 25), (25, 50), (50, 75), (75, 100), (0, 50), (50, 100))

STANDARD = "standard"
PERTURBED = "perturbed"
TIMING = "timing"
TEXTS = "texts.jsonl"
CLEAN_TEXTS = "clean.jsonl"
# Sequences and the tokenizer while the models train: the mark of an unfinished suite.
WORK = ".work.partial"


@dataclass(frozen=True)
class Request:
    """What to build, and where."""

    size: Size
    out: Path
    corpus: Path | None = None
    seed: int = 0
    timing: bool = False
    keep_steps: int | None = None
    device: str = "cpu"


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def build(request: Request, console: Console) -> bool:
    """Train the models of a suite and write its text sets.

    Returns:
        False if the directory already held this very suite, so that nothing was done.

    Raises:
        SuiteError: see `workers.suite.errors`.
    """
    size, out = request.size, request.out.absolute()
    corpus = read_corpus(request.corpus)
    asked = manifest.configuration(
        corpus, size, request.seed, timing=request.timing, keep_steps=request.keep_steps
    )
    if manifest.finished(out, asked):
        return False
    _clear(out)

    prepared = prepare(corpus, size, request.seed)
    perturbed = dict(_perturbed(prepared, request))
    parallel = min(2, processors()) if request.device == "cpu" else 1
    threads = max(1, processors() // parallel)
    work = out / WORK
    work.mkdir(parents=True)
    prepared.tokenizer.save_pretrained(work)
    sequences = {STANDARD: prepared.background} | {name: data.sequences for name, data in perturbed.items()}
    runs = [
        Run(
            name=name,
            size=size,
            seed=request.seed,
            sequences=_store(work, name, data),
            tokenizer=work,
            output=out / name,
            device=request.device,
            threads=threads,
            keep_steps=request.keep_steps,
        )
        for name, data in sequences.items()
    ]
    console.print(
        f"Training {len(runs)} models of size {size.name}, {size.steps} steps each, {parallel} at a time."
    )
    losses = train_all(runs, parallel, console)
    write_text_set(out / TEXTS, perturbed[PERTURBED].texts)
    write_text_set(out / CLEAN_TEXTS, prepared.clean)
    if request.timing:
        first_window = next(name for name in perturbed if name != PERTURBED)
        write_text_set(out / TIMING / TEXTS, perturbed[first_window].texts)
    manifest.write(
        out,
        {
            "configuration": asked,
            "environment": manifest.environment(request.device, threads),
            "background": manifest.describe_background(prepared),
            "insertions": {name: manifest.describe_insertions(data) for name, data in perturbed.items()},
            "last_loss": losses,
        },
    )
    shutil.rmtree(work)
    return True


def _perturbed(prepared: Prepared, request: Request) -> Iterator[tuple[str, Perturbed]]:
    """The perturbed runs by the path of their model under the output directory."""
    size, seed = request.size, request.seed
    yield PERTURBED, perturb(prepared, size, seed)
    if request.timing:
        for first, last in TIMING_WINDOWS:
            window = (first / 100, last / 100)
            yield (
                f"{TIMING}/{first}-{last}",
                perturb(prepared, size, seed, levels=size.timing_levels, window=window),
            )


def _store(work: Path, name: str, sequences: np.ndarray[Any, Any]) -> Path:
    path = work / f"{name.replace('/', '-')}.npy"
    np.save(path, sequences)
    return path


def _clear(out: Path) -> None:
    """Remove what an interrupted build left, if anything.

    Raises:
        OutputOccupied: if there is anything else.
    """
    if (out / WORK).is_dir():
        shutil.rmtree(out)
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise OutputOccupied(f"{out} holds something else. Choose an empty or new directory for --out.")
