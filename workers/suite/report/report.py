"""Audit every model of a trained suite and write what was found."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.contracts.texts import TextRecord
from workers.science.scoring.texts import TextScore
from workers.suite import manifest
from workers.suite.build import PARAPHRASES, TEXTS, TIMING_TEXTS
from workers.suite.errors import NoSuite, SuitesDiffer
from workers.suite.report.accuracy import MODELS as ANSWERING
from workers.suite.report.accuracy import accuracy
from workers.suite.report.audit import Audited, answers_under, read_texts, score_under
from workers.suite.report.dilution import dilution
from workers.suite.report.document import table, write_csv, write_markdown, write_spectrum_markdown
from workers.suite.report.dose_response import dose_response
from workers.suite.report.finding import Finding
from workers.suite.report.interference import interference
from workers.suite.report.minimal_pair import minimal_pair
from workers.suite.report.paraphrase import paraphrase
from workers.suite.report.plots import draw
from workers.suite.report.separation import separation
from workers.suite.report.spectrum import Answered, answer, spectrum, write_spectrum_csv
from workers.suite.report.timing import timing
from workers.suite.variants import DILUTION, STANDARD

MARKDOWN, CSV = "report.md", "report.csv"
SPECTRUM_MARKDOWN, SPECTRUM_CSV = "spectrum.md", "spectrum.csv"


def write_report(directory: Path, out: Path, device: str, console: Console) -> Path:
    """Score the texts of a suite under each of its models; write Markdown, CSV and a plot a finding.

    The same suite gives the same bytes on the same machine.

    Returns:
        The path of the Markdown.

    Raises:
        NoSuite: if the directory holds no finished suite.
        OutputDamaged: if a file of the suite differs from its digest.
    """
    trained = _read_manifest(directory)
    texts = read_texts(directory / TEXTS)
    reworded = read_texts(directory / PARAPHRASES) if "paraphrase" in trained["insertions"] else ()
    wordings = [str((text.metadata or {})["paraphrase"]) for text in reworded]
    models = [STANDARD, *trained["insertions"]]
    scores: dict[str, list[TextScore]] = {}
    with _progress(console) as progress:
        for model in models:
            asked = [*(text.full_text for text in texts), *wordings]
            bar = progress.add_task(model, total=len(asked))
            show = partial(_show, progress, bar)
            scores[model] = score_under(directory / model, asked, device, show)
    found = _findings(directory, trained, texts, reworded, scores)
    items = tuple(text for text in texts if text.choices and text.answer is not None)
    if items:
        correct = {model: answers_under(directory / model, items, device) for model in ANSWERING}
        found.append(accuracy(Audited(items, {}), correct))
    answered = [_answer(directory, trained, device)] if trained.get("capabilities") else []
    found += [spectrum(answered)] if answered else []
    out.mkdir(parents=True, exist_ok=True)
    if answered:
        write_spectrum_csv(answered, out / SPECTRUM_CSV)
    for finding in found:
        draw(finding, out)
    write_csv(found, out / CSV)
    write_markdown(found, trained, out / MARKDOWN)
    return out / MARKDOWN


def write_spectrum(directories: Sequence[Path], out: Path, device: str, console: Console) -> tuple[Path, str]:
    """Edit the perturbed model of each suite and write what it keeps of each task, over all suites.

    Returns:
        The path of the Markdown, and the table in it.

    Raises:
        NoSuite: if a directory holds no finished suite, or one that was taught no tasks.
        SuitesDiffer: if the suites differ in more than their seed, or not in it.
        OutputDamaged: if a file of a suite differs from its digest.
    """
    manifests = [_read_manifest(directory) for directory in directories]
    for directory, trained in zip(directories, manifests, strict=True):
        if not trained.get("capabilities"):
            raise NoSuite(f"{directory} was taught no tasks. Train one with --size reason.")
    plans = [{**trained["configuration"], "seed": None} for trained in manifests]
    seeds = {trained["configuration"]["seed"] for trained in manifests}
    if any(plan != plans[0] for plan in plans) or len(seeds) < len(manifests):
        raise SuitesDiffer("Suites are taken together where they differ in --seed and in nothing else.")
    answered = []
    for directory, trained in zip(directories, manifests, strict=True):
        console.print(f"Editing and asking {directory}", markup=False)
        answered.append(_answer(directory, trained, device))
    finding = spectrum(answered)
    out.mkdir(parents=True, exist_ok=True)
    draw(finding, out)
    write_spectrum_csv(answered, out / SPECTRUM_CSV)
    write_spectrum_markdown(finding, manifests, out / SPECTRUM_MARKDOWN)
    return out / SPECTRUM_MARKDOWN, table(finding.grids[0])


def _answer(directory: Path, trained: dict[str, Any], device: str) -> Answered:
    return answer(directory, trained["configuration"]["seed"], device)


def _findings(
    directory: Path,
    trained: dict[str, Any],
    texts: tuple[TextRecord, ...],
    reworded: tuple[TextRecord, ...],
    scores: dict[str, list[TextScore]],
) -> list[Finding]:
    """What can be told of the models that there are."""
    audited = Audited(texts, {model: found[: len(texts)] for model, found in scores.items()})
    findings = [dose_response(audited), minimal_pair(audited)]
    if trained["configuration"]["timing"]:
        findings.append(timing(Audited(read_texts(directory / TIMING_TEXTS), audited.scores)))
    if DILUTION in scores:
        findings.append(dilution(audited))
    findings.append(separation(audited))
    if reworded:
        places = {text.id: place for place, text in enumerate(texts)}
        own = {
            model: [found[places[text.id]] for text in reworded] for model, found in audited.scores.items()
        }
        unseen = {model: found[len(texts) :] for model, found in scores.items()}
        findings.append(paraphrase(Audited(reworded, own), Audited(reworded, unseen)))
    if trained["configuration"].get("interference"):
        findings.append(interference(audited))
    return findings


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / manifest.MANIFEST
    if not path.is_file():
        raise NoSuite(f"{directory} holds no finished suite. Train one with `memaudit suite train`.")
    trained: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    manifest.finished(directory, trained["configuration"])
    return trained


def _show(progress: Progress, bar: TaskID, done: int) -> None:
    progress.update(bar, completed=done)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("texts"),
        TimeRemainingColumn(),
        console=console,
    )
