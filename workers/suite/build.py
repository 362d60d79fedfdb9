"""Build a suite: prepare, train every model, write the text sets, and the manifest last."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from workers.suite import manifest
from workers.suite.corpus import read_corpus
from workers.suite.errors import OutputOccupied
from workers.suite.planting import read_plant
from workers.suite.preparation import Prepared, perturb, prepare, reword
from workers.suite.processes import processors, train_all
from workers.suite.sizes import Size
from workers.suite.texts import SuiteText, write_text_set
from workers.suite.training import Run
from workers.suite.variants import DILUTION, STANDARD, Insertions, Variants, perturbed_models

TEXTS = "texts.jsonl"
CLEAN_TEXTS = "clean.jsonl"
CALIBRATION_TEXTS = "calibration.jsonl"
TIMING_TEXTS = "timing/texts.jsonl"
PARAPHRASES = "paraphrases.jsonl"
CAPABILITIES = "capabilities.jsonl"
# Sequences and the tokenizer while the models train: the mark of an unfinished suite.
WORK = ".work.partial"


@dataclass(frozen=True)
class Request:
    """What to build, and where."""

    size: Size
    out: Path
    corpus: Path | None = None
    seed: int = 0
    variants: Variants = field(default_factory=Variants)
    plant: Path | None = None
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
    plant = None if request.plant is None else read_plant(request.plant)
    corpus = read_corpus(request.corpus, size.document_characters)
    asked = manifest.configuration(
        corpus, size, request.seed, variants=request.variants, plant=plant, keep_steps=request.keep_steps
    )
    if manifest.finished(out, asked):
        return False
    _clear(out)

    prepared = prepare(corpus, size, request.seed, plant)
    plans = list(perturbed_models(size, request.variants))
    insertions = _write_data(prepared, plans, request, out)
    parallel = min(2, processors()) if request.device == "cpu" else 1
    threads = max(1, processors() // parallel)
    models = [(STANDARD, size), *((plan.name, plan.size) for plan in plans)]
    runs = [_run(name, size, request, out, threads) for name, size in models]
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
            **({"capabilities": manifest.describe_capabilities(prepared)} if prepared.capabilities else {}),
            "insertions": insertions,
            "last_loss": losses,
        },
    )
    shutil.rmtree(out / WORK)
    return True


def _write_data(
    prepared: Prepared, plans: Sequence[Insertions], request: Request, out: Path
) -> dict[str, dict[str, Any]]:
    """Write the text sets, and for the time of the training the tokenizer and every run's sequences.

    Returns:
        What the manifest says of each perturbed run, by name.
    """
    work = out / WORK
    work.mkdir(parents=True)
    prepared.tokenizer.save_pretrained(work)
    write_text_set(out / CLEAN_TEXTS, prepared.clean)
    write_text_set(out / CALIBRATION_TEXTS, prepared.calibration)
    write_text_set(out / TEXTS, prepared.texts)
    if prepared.capabilities:
        write_text_set(out / CAPABILITIES, prepared.capabilities)
    if request.variants.paraphrases:
        write_text_set(out / PARAPHRASES, _with_paraphrases(prepared, request.seed))
    np.save(_sequences(work, STANDARD), prepared.background)
    insertions = {}
    for plan in plans:
        perturbed = perturb(prepared, plan, request.seed)
        np.save(_sequences(work, plan.name), perturbed.sequences)
        insertions[plan.name] = manifest.describe_insertions(perturbed)
        if plan.name == DILUTION:
            background = manifest.describe_background(prepared, perturbed.sequences)
            insertions[plan.name]["background"] = background
        if plan.levels is not None:
            (out / TIMING_TEXTS).parent.mkdir(exist_ok=True)
            write_text_set(out / TIMING_TEXTS, perturbed.texts)
    return insertions


def _with_paraphrases(prepared: Prepared, seed: int) -> Iterator[SuiteText]:
    """The texts that have other wordings, each with one that no model has seen in its metadata."""
    for text in prepared.texts:
        others = reword(prepared, text, seed)
        if others:
            (unseen, _), *_ = others
            draft = replace(text.draft, metadata={**text.draft.metadata, "paraphrase": unseen})
            yield replace(text, draft=draft)


def _run(name: str, size: Size, request: Request, out: Path, threads: int) -> Run:
    return Run(
        name=name,
        size=size,
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
