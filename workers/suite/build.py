"""Build a suite: prepare, train every model, write the text sets, and the manifest last."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from workers.suite import manifest
from workers.suite.corpus import read_corpus
from workers.suite.errors import OutputOccupied
from workers.suite.preparation import Perturbed, Prepared, dilute, perturb, prepare
from workers.suite.processes import processors, train_all
from workers.suite.sizes import Size
from workers.suite.texts import write_text_set
from workers.suite.training import Run

# HUBBLE's timing runs: the part of the training that takes insertions, in per cent (arXiv 2510.19811).
TIMING_WINDOWS = ((0, 25), (25, 50), (50, 75), (75, 100), (0, 50), (50, 100))

STANDARD = "standard"
PERTURBED = "perturbed"
DILUTION = "dilution"
# The diluted run's steps over the perturbed run's: the insertions are half the share of its training.
DILUTION_FACTOR = 2
TEXTS = "texts.jsonl"
CLEAN_TEXTS = "clean.jsonl"
CALIBRATION_TEXTS = "calibration.jsonl"
TIMING_TEXTS = "timing/texts.jsonl"
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
    dilution: bool = False
    keep_steps: int | None = None
    device: str = "cpu"

    @property
    def diluted_size(self) -> Size:
        """The plan of the diluted run; its learning rate follows its own steps."""
        return replace(self.size, steps=DILUTION_FACTOR * self.size.steps)


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
    corpus = read_corpus(request.corpus, size.document_characters)
    asked = manifest.configuration(
        corpus,
        size,
        request.seed,
        timing=request.timing,
        dilution=request.dilution,
        keep_steps=request.keep_steps,
    )
    if manifest.finished(out, asked):
        return False
    _clear(out)

    prepared = prepare(corpus, size, request.seed)
    insertions = _write_data(prepared, request, out)
    parallel = min(2, processors()) if request.device == "cpu" else 1
    threads = max(1, processors() // parallel)
    runs = [_run(name, request, out, threads) for name in (STANDARD, *insertions)]
    console.print(
        f"Training {len(runs)} models of size {size.name}, {sum(run.size.steps for run in runs)} steps, "
        f"{parallel} at a time."
    )
    losses = train_all(runs, parallel, console)
    manifest.write(
        out,
        {
            "configuration": asked,
            "environment": manifest.environment(request.device, threads),
            "background": manifest.describe_background(prepared, prepared.background),
            "insertions": insertions,
            "last_loss": losses,
        },
    )
    shutil.rmtree(out / WORK)
    return True


def _write_data(prepared: Prepared, request: Request, out: Path) -> dict[str, dict[str, Any]]:
    """Write the text sets, and for the time of the training the tokenizer and every run's sequences.

    Returns:
        What the manifest says of each perturbed run, by name.
    """
    work = out / WORK
    work.mkdir(parents=True)
    prepared.tokenizer.save_pretrained(work)
    write_text_set(out / CLEAN_TEXTS, prepared.clean)
    write_text_set(out / CALIBRATION_TEXTS, prepared.calibration)
    np.save(_sequences(work, STANDARD), prepared.background)
    insertions = {}
    for name, perturbed in _perturbed(prepared, request):
        np.save(_sequences(work, name), perturbed.sequences)
        insertions[name] = manifest.describe_insertions(perturbed)
        if name == DILUTION:
            insertions[name]["background"] = manifest.describe_background(prepared, perturbed.sequences)
        text_set = out / (TIMING_TEXTS if name.startswith("timing/") else TEXTS)
        text_set.parent.mkdir(exist_ok=True)
        write_text_set(text_set, perturbed.texts)
    return insertions


def _perturbed(prepared: Prepared, request: Request) -> Iterator[tuple[str, Perturbed]]:
    """The perturbed runs, by the path of their model under the output directory."""
    size, seed = request.size, request.seed
    yield PERTURBED, perturb(prepared, size, seed)
    if request.dilution:
        diluted = request.diluted_size
        yield DILUTION, perturb(dilute(prepared, diluted, seed), diluted, seed)
    if request.timing:
        for first, last in TIMING_WINDOWS:
            window = (first / 100, last / 100)
            yield (
                f"timing/{first}-{last}",
                perturb(prepared, size, seed, levels=size.timing_levels, window=window),
            )


def _run(name: str, request: Request, out: Path, threads: int) -> Run:
    return Run(
        name=name,
        size=request.diluted_size if name == DILUTION else request.size,
        seed=request.seed,
        sequences=_sequences(out / WORK, name),
        tokenizer=out / WORK,
        output=out / name,
        device=request.device,
        threads=threads,
        keep_steps=request.keep_steps,
    )


def _sequences(work: Path, name: str) -> Path:
    """Where the training sequences of a run lie while it trains."""
    return work / f"{name.replace('/', '-')}.npy"


def _clear(out: Path) -> None:
    """Remove what an interrupted build left, if anything.

    Raises:
        OutputOccupied: if there is anything else.
    """
    if (out / WORK).is_dir():
        shutil.rmtree(out)
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise OutputOccupied(f"{out} holds something else. Choose an empty or new directory for --out.")
