"""Audit every model of a trained suite and write what was found."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from app.contracts.texts import TextRecord
from workers.science.scoring.texts import TextScore
from workers.suite import manifest
from workers.suite.build import PARAPHRASES, TEXTS, TIMING_TEXTS
from workers.suite.errors import NoSuite
from workers.suite.report.accuracy import MODELS as ANSWERING
from workers.suite.report.accuracy import accuracy
from workers.suite.report.audit import Audited, answers_under, read_texts, score_under
from workers.suite.report.dilution import dilution
from workers.suite.report.document import write_csv, write_markdown
from workers.suite.report.dose_response import dose_response
from workers.suite.report.finding import Finding
from workers.suite.report.interference import interference
from workers.suite.report.minimal_pair import minimal_pair
from workers.suite.report.paraphrase import paraphrase
from workers.suite.report.plots import draw
from workers.suite.report.separation import separation
from workers.suite.report.timing import timing
from workers.suite.variants import DILUTION, STANDARD

MARKDOWN, CSV = "report.md", "report.csv"


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
    out.mkdir(parents=True, exist_ok=True)
    for finding in found:
        draw(finding, out)
    write_csv(found, out / CSV)
    write_markdown(found, trained, out / MARKDOWN)
    return out / MARKDOWN


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
