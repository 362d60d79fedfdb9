"""From memory to reasoning: what an edit keeps of each task (the spectrum of arXiv 2510.24256)."""

import csv
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from app.contracts.texts import TextRecord
from app.plots.bars import Bar
from workers.science.evaluation.items import answers_right
from workers.science.evaluation.stress import recites
from workers.science.evaluation.utility import mean_nll
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.token_blocks import text_blocks
from workers.science.models.weight_edit import replaced
from workers.science.scoring.texts import TextInput
from workers.science.statistics.intervals import MeanEstimate, Moments, mean_with_interval
from workers.science.statistics.ratios import PairedCounts
from workers.suite.build import CALIBRATION_TEXTS, CAPABILITIES, CLEAN_TEXTS, TEXTS
from workers.suite.capabilities import ARITHMETIC, CLOSED_BOOK, COPYING, LOGIC, OPEN_BOOK
from workers.suite.report.audit import OPTIONS, read_texts
from workers.suite.report.edited import KEEP_MASS, edited_layers, edited_weights
from workers.suite.report.finding import Finding, Grid
from workers.suite.variants import PERTURBED, STANDARD

MEMORIZED = "memorized"
PAPER = "arXiv 2510.24256"
# What the paper's edit keeps of the base's score, from the lowest of its tasks to the highest.
PUBLISHED = {
    LOGIC: (0.95, 1.06),
    OPEN_BOOK: (0.93, 0.99),
    CLOSED_BOOK: (0.74, 0.86),
    ARITHMETIC: (0.66, 0.74),
    MEMORIZED: (0.03, 0.16),
}
_ORDER = (LOGIC, COPYING, OPEN_BOOK, CLOSED_BOOK, ARITHMETIC, MEMORIZED)


@dataclass(frozen=True)
class Answered:
    """What one suite's models answer: the standard one, and the perturbed one before and after the edit.

    Attributes:
        seed: of the suite.
        standard: the share that the standard model answers, by task.
        tasks: the held-out items of each task; last, the inserted texts that are recited strictly.
        increase: by which share the perplexity of clean text grew.
        layers: that were edited.
    """

    seed: int
    standard: dict[str, float]
    tasks: dict[str, PairedCounts]
    increase: float
    layers: tuple[int, ...]


@dataclass(frozen=True)
class TaskRow:
    """One task over all suites: shares of right answers, and what is kept of them, with a 95 % interval."""

    task: str
    suites: int
    n: int
    standard: float
    before: float
    after: float
    kept: float | None
    low: float | None
    high: float | None


def answer(directory: Path, seed: int, device: str) -> Answered:
    """Ask both models of a suite everything, edit the perturbed one in memory, and ask it again."""
    model = load_language_model(directory / PERTURBED, device=device)
    items = read_texts(directory / CAPABILITIES)
    inserted = [text for text in read_texts(directory / TEXTS) if text.duplicates]
    clean = [text.full_text for text in read_texts(directory / CLEAN_TEXTS)]
    calibration = [text.full_text for text in read_texts(directory / CALIBRATION_TEXTS)]
    standard = _right(load_language_model(directory / STANDARD, device=device), items, inserted)
    edit = edited_weights(model, calibration)
    before = _right(model, items, inserted), _mean_nll(model, clean)
    with replaced(edit):
        after = _right(model, items, inserted), _mean_nll(model, clean)
    known = [(task, was, became) for (task, was), (_, became) in zip(before[0], after[0], strict=True)]
    return Answered(
        seed=seed,
        standard=_shares(standard),
        tasks={
            task: PairedCounts.of((was, became) for of, was, became in known if of == task)
            for task in dict.fromkeys(of for of, _, _ in known)
        },
        increase=math.expm1(after[1] - before[1]),
        layers=tuple(edited_layers(model)),
    )


def _right(
    model: LanguageModel, items: Sequence[TextRecord], inserted: Sequence[TextRecord]
) -> list[tuple[str, bool]]:
    """Of each item and each inserted text, its task and whether it is answered, or recited."""
    asked = [TextInput(item.full_text, prefix=item.prefix, suffix=item.suffix) for item in items]
    answered = answers_right(model, asked, OPTIONS.prefix_token)
    found = [(str(item.group), bool(right)) for item, right in zip(items, answered, strict=True)]
    recited = recites(model, [TextInput(text.full_text) for text in inserted], OPTIONS)
    return found + [(MEMORIZED, strict) for strict in recited if strict is not None]


def _shares(answered: Sequence[tuple[str, bool]]) -> dict[str, float]:
    """The share of right answers by task."""
    by_task: dict[str, list[bool]] = {}
    for task, right in answered:
        by_task.setdefault(task, []).append(right)
    return {task: sum(right) / len(right) for task, right in by_task.items()}


def _mean_nll(model: LanguageModel, texts: Sequence[str]) -> float:
    rows = text_blocks(model, texts, max_tokens=model.context_length, prefix_token=OPTIONS.prefix_token)
    return mean_nll(model, rows)


def task_rows(suites: Sequence[Answered]) -> list[TaskRow]:
    """Each task over all suites.

    Of one suite the interval is of its items (see `PairedCounts.ratio`). Of several it is of suites: what is
    kept is a mean over them, with Student's or Hall's interval.
    """
    rows = []
    for task in sorted({task for suite in suites for task in suite.tasks}, key=_ORDER.index):
        asked = [suite for suite in suites if task in suite.tasks]
        counts = [suite.tasks[task] for suite in asked]
        kept = _kept(counts)
        rows.append(
            TaskRow(
                task=task,
                suites=len(counts),
                n=sum(each.n for each in counts),
                standard=sum(suite.standard[task] for suite in asked) / len(asked),
                before=sum(each.first / each.n for each in counts) / len(counts),
                after=sum(each.second / each.n for each in counts) / len(counts),
                kept=None if kept is None else kept.mean,
                low=None if kept is None or kept.low is None else max(0.0, kept.low),
                high=None if kept is None else kept.high,
            )
        )
    return rows


def _kept(counts: Sequence[PairedCounts]) -> MeanEstimate | None:
    if len(counts) == 1:
        return counts[0].ratio()
    ratios = [ratio.mean for each in counts if (ratio := each.ratio()) is not None]
    return mean_with_interval(Moments.of(ratios)) if len(ratios) == len(counts) else None


def spectrum(suites: Sequence[Answered]) -> Finding:
    """What an edit keeps of each task, beside what the paper's edits keep of theirs."""
    rows = task_rows(suites)
    increases = ", ".join(f"{suite.increase:+.1%}" for suite in suites)
    layers = ", ".join(map(str, suites[0].layers))
    unit = (
        "Intervals are of items." if len(suites) == 1 else f"Intervals are of {len(suites)} suites' numbers."
    )
    return Finding(
        name="spectrum",
        title="From memory to reasoning",
        question="What does an edit that forgets texts cost tasks that need memory less and less?",
        explanation=(
            f"K-FAC on gate and up projections of layers {layers} with {KEEP_MASS:.0%} of the curvature, in "
            f"memory, on background documents; no setting was searched. {unit} The paper's models and tasks "
            "are others, and much larger; its numbers are there to compare the order."
        ),
        answers=(_order(rows), f"Perplexity of clean text changes by {increases}."),
        rows=(),
        grids=(
            Grid(
                ("task", "items", "standard model", "right before", "right after", "kept", f"kept, {PAPER}"),
                tuple(_line(row) for row in rows),
            ),
        ),
        panels=(),
        bars=tuple(
            Bar(row.task, row.kept, row.low, row.high, PUBLISHED.get(row.task))
            for row in rows
            if row.kept is not None
        ),
        reference=PAPER,
    )


def _order(rows: Sequence[TaskRow]) -> str:
    """Which task keeps most, and which least."""
    known = sorted(((row.kept, row.task) for row in rows if row.kept is not None), key=lambda each: -each[0])
    said = ", ".join(f"{task} {kept:.0%}" for kept, task in known)
    return f"From what is kept most to what is kept least: {said}." if known else "Nothing was answered."


def _line(row: TaskRow) -> tuple[str, ...]:
    published = PUBLISHED.get(row.task)
    kept = "" if row.kept is None else f"{row.kept:.0%}"
    if row.low is not None and row.high is not None:
        kept += f" [{row.low:.0%}, {row.high:.0%}]"
    return (
        row.task,
        str(row.n),
        f"{row.standard:.0%}",
        f"{row.before:.0%}",
        f"{row.after:.0%}",
        kept,
        "" if published is None else f"{published[0]:.0%} to {published[1]:.0%}",
    )


def write_spectrum_csv(suites: Sequence[Answered], path: Path) -> None:
    """Write each task of each suite, then each task over all of them, one a line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("seed", *(field.name for field in fields(TaskRow))))
        for suite in suites:
            writer.writerows((suite.seed, *astuple(row)) for row in task_rows([suite]))
        if len(suites) > 1:
            writer.writerows(("all", *astuple(row)) for row in task_rows(suites))
