"""`python -m tests.benchmarks.curvature_text SUITE...`: how much text the curvature of an edit needs.

The edit is the default one: three late layers, gate and up, and the least mass from 0.6 on with which
perplexity on clean text grows by 10 % at most. Every other clean text decides that; the others say what it
cost. Memorized texts are those that the perturbed model recites strictly, in two halves, of which no edit
here sees any. The AUC tells them by their NL from texts that were never inserted. The standard model saw
neither: an AUC that is clearly below its own says that the edited model avoids the texts.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.cli.intervals import number_cell
from tests.benchmarks.effect import OPTIONS, PREFIX_TOKEN, ROLES, read, shares
from tests.benchmarks.over_suites import change, mean_over_suites
from workers.edits.curvature_warnings import curvature_warnings
from workers.science.curvature.kfac import Factors, collect_factors, eigenbases
from workers.science.curvature.search import Objective, Setting, Weights, least_mass, try_settings
from workers.science.evaluation.utility import mean_nll
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.projections import Projection, default_layers, find_projections, layer_count
from workers.science.models.token_blocks import TokenBlocks, TokenRows, pack_texts, text_blocks
from workers.science.models.weight_edit import replaced, without_low_curvature
from workers.science.scoring.scorer import TextInput, score_texts
from workers.science.statistics.ranking import AucEstimate, roc_auc

TOKENS = (4_000, 16_000, 64_000, None)
MAX_INCREASE = 0.1


@dataclass(frozen=True)
class Texts:
    """What is measured: two halves of memorized texts, texts never inserted, and two halves of clean text."""

    seen: list[TextInput]
    unseen: list[TextInput]
    never: list[TextInput]
    deciding: TokenRows
    judging: TokenRows


@dataclass(frozen=True)
class Measured:
    """Strict shares of both halves, the AUC, and mean NLL on the judging half of the clean text."""

    seen: float
    unseen: float
    auc: AucEstimate | None
    nll: float


def read_texts(suite: Path, model: LanguageModel) -> Texts:
    """Split what a suite has, by what its perturbed model recites."""
    texts = read(suite / "texts.jsonl")
    scores = score_texts(model, [TextInput(text["text"]) for text in texts], OPTIONS)
    recited = [
        TextInput(text["text"])
        for text, score in zip(texts, scores, strict=True)
        if score.metrics["extraction"]["strict"]
    ]
    clean = [text["text"] for text in read(suite / "clean.jsonl")]
    context = model.context_length
    halves = [
        text_blocks(model, half, max_tokens=context, prefix_token=PREFIX_TOKEN)
        for half in (clean[::2], clean[1::2])
    ]
    never = [TextInput(text["text"]) for text in texts if text["duplicates"] == 0]
    return Texts(recited[::2], recited[1::2], never, *halves)


def measure(model: LanguageModel, texts: Texts) -> Measured:
    """The figures of a model as its weights are now."""
    seen, unseen, never = (
        list(score_texts(model, part, OPTIONS)) for part in (texts.seen, texts.unseen, texts.never)
    )
    members, others = (
        [score.nl for score in part if score.nl is not None] for part in ([*seen, *unseen], never)
    )
    return Measured(
        shares(seen)[0], shares(unseen)[0], roc_auc(members, others), mean_nll(model, texts.judging)
    )


@dataclass(frozen=True)
class Line:
    """One model of a suite: what it gives, None if no edit was feasible, and how the edit came about."""

    name: str
    measured: Measured | None
    increase: float | None = None
    error: float | None = None
    mass: float | None = None
    doubts: str = ""


HEADINGS = (
    "",
    "split-half error",
    "mass kept",
    "perplexity",
    "strict, half",
    "other half",
    "AUC",
    "warnings",
)


def lines_of(suite: Path) -> Iterator[Line]:
    """A line for the perturbed model, one for each amount of text, and one for the standard model."""
    model = load_language_model(suite / "perturbed", device="cpu")
    texts = read_texts(suite, model)
    base = measure(model, texts)
    yield line("not edited", base, base)
    layers = default_layers(layer_count(model.model))
    projections = find_projections(model.model, layers=layers, roles=ROLES)
    calibration = [text["text"] for text in read(suite / "calibration.jsonl")]
    for tokens in TOKENS:
        blocks = pack_texts(model, calibration, block_tokens=model.context_length, limit=tokens)
        name = "all tokens" if tokens is None else f"{tokens:,} tokens at most"
        yield edited_line(name, model, texts, base, projections, blocks)
    standard = load_language_model(suite / "standard", device="cpu")
    yield line("the standard model", measure(standard, texts), base)


def edited_line(
    name: str,
    model: LanguageModel,
    texts: Texts,
    base: Measured,
    projections: Sequence[Projection],
    blocks: TokenBlocks,
) -> Line:
    factors = collect_factors(model, blocks, projections)
    bases = eigenbases(factors)
    setting = Setting(tuple(sorted({each.layer for each in projections})), ROLES, None)

    def of(tried: Setting) -> Weights:
        assert tried.keep_mass is not None
        return without_low_curvature(projections, bases, tried.keep_mass)

    objective = Objective(None, OPTIONS, texts.deciding, MAX_INCREASE)
    chosen = least_mass(list(try_settings(model, [setting], of, objective)))
    doubts = ", ".join(warning["code"] for warning in curvature_warnings(factors))
    if chosen is None:
        return Line(name, None, error=largest_error(factors), doubts=doubts)
    with replaced(of(chosen.setting)):
        after = measure(model, texts)
    found = line(name, after, base)
    return replace(found, error=largest_error(factors), mass=chosen.setting.keep_mass, doubts=doubts)


def largest_error(factors: dict[str, Factors]) -> float | None:
    """The split-half statistic of the factor that has settled least."""
    errors = (error for each in factors.values() for error in (each.activations_error, each.gradients_error))
    return max((error for error in errors if error is not None), default=None)


def line(name: str, measured: Measured, base: Measured) -> Line:
    return Line(name, measured, math.expm1(measured.nll - base.nll))


def cells(found: Line) -> tuple[str, ...]:
    """A line of one suite as a table shows it."""
    measured = found.measured
    error = "" if found.error is None else f"{found.error:.2f}"
    if measured is None or found.increase is None:
        return (found.name, error, "refused: no mass is enough", *[""] * 4, found.doubts)
    area = measured.auc
    return (
        found.name,
        error,
        "" if found.mass is None else f"{found.mass:g}",
        f"{math.exp(measured.nll):.2f} ({change(found.increase)})",
        f"{measured.seen:.2f}",
        f"{measured.unseen:.2f}",
        "" if area is None else number_cell(area.auc, area.low, area.high),
        found.doubts,
    )


def cells_over_suites(found: Sequence[Line]) -> tuple[str, ...]:
    """The same line of several suites: means, with intervals over the suites."""

    def share(numbers: Sequence[float | None]) -> str:
        return mean_over_suites(numbers, least=0.0, most=1.0)

    def of_edits(numbers: Sequence[float | None]) -> str:
        return share(numbers) if any(number is not None for number in numbers) else ""

    measured = [each.measured for each in found]
    areas = [None if each is None or each.auc is None else each.auc.auc for each in measured]
    return (
        found[0].name,
        of_edits([each.error for each in found]),
        of_edits([each.mass for each in found]),
        mean_over_suites([each.increase for each in found], change),
        share([None if each is None else each.seen for each in measured]),
        share([None if each is None else each.unseen for each in measured]),
        share(areas),
        " or ".join(dict.fromkeys(each.doubts or "none" for each in found)),
    )


def show(title: str, rows: Iterable[tuple[str, ...]], console: Console) -> None:
    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def main() -> None:
    """Print a table for each suite, and of several one over all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", type=Path, nargs="+", help="directories of trained suites")
    console = Console(width=180)
    found = []
    title = "the default edit by how much text its curvature is learnt from"
    for suite in parser.parse_args().suites:
        found.append(list(lines_of(suite)))
        show(f"{suite.name}: {title}", map(cells, found[-1]), console)
    if len(found) > 1:
        over = map(cells_over_suites, zip(*found, strict=True))
        show(f"{len(found)} suites, means with intervals over them: {title}", over, console)


if __name__ == "__main__":
    main()
