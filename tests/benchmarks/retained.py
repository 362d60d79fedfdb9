"""`python -m tests.benchmarks.retained SUITE...`: what a retain set spares of never-inserted texts.

Half of the never-inserted texts of each domain are retained, the other half judged. Memorized texts are those
that the perturbed model of a suite recites strictly, and no edit here sees any. Of clean text every other one
is judged. Each line is a setting, the same for all suites; they were chosen on the suite of seed 0.
"""

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.effect import OPTIONS, PREFIX_TOKEN, ROLES, mean_nl_of, read, read_material, shares
from tests.benchmarks.over_suites import change, mean_over_suites
from workers.science.curvature.kfac import Eigenbasis, collect_factors, eigenbases
from workers.science.curvature.mixing import mixed_factors
from workers.science.curvature.recovery import Recovery, largest_inputs, recovered
from workers.science.curvature.search import Weights
from workers.science.evaluation.utility import mean_nll
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import default_layers, find_projections, layer_count
from workers.science.models.token_blocks import TokenBlocks, TokenRows, pack_texts, text_blocks
from workers.science.models.weight_edit import replaced, without_low_curvature
from workers.science.scoring.scorer import TextInput, score_texts


@dataclass(frozen=True)
class Tried:
    """A setting: `inner` are all layers but the first and the last, else three late ones."""

    inner: bool
    mass: float
    retain_weight: float = 0.0
    steps: int = 0
    rank: int = 16

    def __str__(self) -> str:
        where = "inner layers" if self.inner else "late layers"
        retained = f", retain weight {self.retain_weight:g}" if self.retain_weight else ""
        recovery = f", {self.steps} steps of recovery in {self.rank} directions" if self.steps else ""
        return f"{where}, mass {self.mass:g}{retained}{recovery}"


TRIED = (
    Tried(inner=False, mass=0.6),
    Tried(inner=False, mass=0.5, retain_weight=0.1),
    Tried(inner=True, mass=0.4),
    Tried(inner=True, mass=0.4, steps=30, rank=8),
    Tried(inner=True, mass=0.3, steps=60),
    Tried(inner=True, mass=0.2, steps=60),
    Tried(inner=False, mass=0.4, steps=60),
)


@dataclass(frozen=True)
class Texts:
    """A suite's model, what edits learn from, and what judges them."""

    model: LanguageModel
    calibration: TokenBlocks
    ordinary: TokenRows
    retained: list[str]
    memorized: tuple[list[TextInput], list[TextInput]]
    judged: dict[str, list[TextInput]]
    clean: TokenRows


@dataclass(frozen=True)
class Measured:
    """Mean NLL of clean text, strict and loose shares of both halves, mean NL by domain."""

    nll: float
    memorized: tuple[tuple[float, float], tuple[float, float]]
    never: dict[str, float]


def read_texts(suite: Path) -> Texts:
    material = read_material(suite)
    model = material.language_model

    def rows(texts: Iterable[str]) -> TokenRows:
        return text_blocks(model, texts, max_tokens=model.context_length, prefix_token=PREFIX_TOKEN)

    return Texts(
        model=model,
        calibration=material.curvature,
        ordinary=rows(text["text"] for text in read(suite / "calibration.jsonl")),
        retained=[text.text for texts in material.never.values() for text in texts[::2]],
        memorized=(material.seen, material.unseen),
        judged={group: texts[1::2] for group, texts in material.never.items()},
        clean=rows(text["text"] for text in read(suite / "clean.jsonl")[1::2]),
    )


def measure(texts: Texts, weights: Weights) -> Measured:
    with replaced(weights):
        seen, unseen = (shares(list(score_texts(texts.model, part, OPTIONS))) for part in texts.memorized)
        return Measured(
            mean_nll(texts.model, texts.clean),
            (seen, unseen),
            {group: mean_nl_of(texts.model, judged) for group, judged in texts.judged.items()},
        )


class Edits:
    """Edits of one model by setting; curvature is collected once."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        model = texts.model
        depth = layer_count(model.model)
        self._projections = {
            inner: find_projections(model.model, layers=layers, roles=ROLES)
            for inner, layers in ((True, range(1, depth - 1)), (False, default_layers(depth)))
        }
        every = {each.key: each for found in self._projections.values() for each in found}
        retained = pack_texts(model, texts.retained, block_tokens=model.context_length)
        self._clean = collect_factors(model, texts.calibration, list(every.values()))
        self._retained = collect_factors(model, retained, list(every.values()))
        self._rows = text_blocks(
            model, texts.retained, max_tokens=model.context_length, prefix_token=PREFIX_TOKEN
        )
        self._bases: dict[float, dict[str, Eigenbasis]] = {}

    def of(self, tried: Tried) -> Weights:
        weight = tried.retain_weight
        if weight not in self._bases:
            self._bases[weight] = eigenbases(mixed_factors(self._clean, self._retained, weight))
        bases = self._bases[weight]
        projections = self._projections[tried.inner]
        edited = without_low_curvature(projections, bases, tried.mass)
        directions = largest_inputs(self._retained, tried.rank)
        texts = (self._rows, self._texts.ordinary)
        return recovered(self._texts.model, edited, texts, Recovery(tried.steps), directions=directions)


def lines_of(suite: Path) -> Iterator[tuple[str, Measured, Measured]]:
    """What each setting gives, beside the base."""
    texts = read_texts(suite)
    base = measure(texts, [])
    yield "not edited", base, base
    edits = Edits(texts)
    for tried in TRIED:
        yield str(tried), measure(texts, edits.of(tried)), base


def cells(name: str, found: Sequence[tuple[Measured, Measured]]) -> tuple[str, ...]:
    """A line of one suite, or of several with intervals over them."""

    def share(half: int, kind: int) -> str:
        numbers = [measured.memorized[half][kind] for measured, _ in found]
        return mean_over_suites(numbers, least=0.0, most=1.0)

    return (
        name,
        mean_over_suites([math.expm1(measured.nll - base.nll) for measured, base in found], change),
        *(f"{share(half, 0)} / {share(half, 1)}" for half in (0, 1)),
        *(
            mean_over_suites(
                [measured.never[group] - base.never[group] for measured, base in found], "{:+.2f}".format
            )
            for group in found[0][1].never
        ),
    )


def main() -> None:
    """Print a table for each suite, and of several one over all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", type=Path, nargs="+", help="directories of trained suites")
    console = Console(width=200)
    lines: dict[str, list[tuple[Measured, Measured]]] = {}
    groups: list[str] = []
    suites = parser.parse_args().suites

    def show(title: str, last: int) -> None:
        table = Table(title=title)
        heads = ("", "perplexity", "strict / loose, half", "other half")
        for heading in (*heads, *(f"NL of {group}" for group in groups)):
            table.add_column(heading)
        for name, found in lines.items():
            table.add_row(*cells(name, found[-last:]))
        console.print(table)

    for suite in suites:
        for name, measured, base in lines_of(suite):
            lines.setdefault(name, []).append((measured, base))
            groups = list(base.never)
        show(suite.name, 1)
    if len(suites) > 1:
        show(f"{len(suites)} suites, means with intervals over them", len(suites))


if __name__ == "__main__":
    main()
