"""`python -m tests.benchmarks.effect SUITE...`: what each method forgets, by default and at the same cost.

Memorized texts are those that the perturbed model of a suite recites strictly; every other one is never shown
to any method and never used to choose a setting. First each method has the settings of its paper (arXiv
2510.24256), whatever they cost here; the service adapts the mass to what clean text may lose. Then K-FAC
takes the best setting of its own sweep, and SVD and BalancedSubnet are brought to the same perplexity by
bisection over how much they drop, to the nearest of seven.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from app.contracts.edit_methods import METHODS as CONTRACTS
from app.contracts.edit_methods.svd import RankRatios
from tests.benchmarks.over_suites import change, mean_over_suites
from workers.science.baselines.balanced_subnet import BalancedSubnetOptions, learn_subnet
from workers.science.baselines.svd import truncate
from workers.science.curvature.kfac import collect_factors, eigenbases
from workers.science.curvature.search import (
    LEAST_KEEP_MASS,
    Objective,
    Setting,
    Weights,
    automatic_settings,
    best,
    try_settings,
)
from workers.science.evaluation.utility import mean_nll, ndcg, top_ranked
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.projections import Projection, default_layers, find_projections, layer_count
from workers.science.models.token_blocks import TokenBlocks, TokenRows, pack_texts, text_blocks
from workers.science.models.weight_edit import replaced, without_low_curvature
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts
from workers.science.scoring.texts import TextScore, shares_extracted

ROLES = ("gate", "up")
MAX_INCREASE = 0.15
SAME_PERPLEXITY = 0.02
BISECTIONS = 7
# The documents of a suite come after EOS in training.
PREFIX_TOKEN: Final = "eos"
BASE = "base"
OPTIONS = ScoringOptions(metrics=frozenset({"extraction"}), token_evidence=False, prefix_token=PREFIX_TOKEN)


@dataclass(frozen=True)
class Material:
    """The model and the texts of the comparison."""

    language_model: LanguageModel
    seen: list[TextInput]
    unseen: list[TextInput]
    never: dict[str, list[TextInput]]
    clean: TokenRows
    curvature: TokenBlocks


@dataclass(frozen=True)
class Row:
    """One line of the table: `name` is the same in all suites, `setting` is what was chosen in this one."""

    name: str
    setting: str
    perplexity: float
    ndcg: float
    seen: tuple[float, float]
    unseen: tuple[float, float]
    never_nl: dict[str, float]


def read_material(suite: Path) -> Material:
    """Load the perturbed model and split what it recites."""
    language_model = load_language_model(suite / "perturbed", device="cpu")
    texts = read(suite / "texts.jsonl")
    scores = score_texts(language_model, [TextInput(text["text"]) for text in texts], OPTIONS)
    recited = [
        TextInput(text["text"])
        for text, score in zip(texts, scores, strict=True)
        if score.metrics["extraction"]["strict"]
    ]
    never: dict[str, list[TextInput]] = {}
    for text in texts:
        if text["duplicates"] == 0:
            never.setdefault(text["group"], []).append(TextInput(text["text"]))
    context = language_model.context_length
    return Material(
        language_model=language_model,
        seen=recited[::2],
        unseen=recited[1::2],
        never=never,
        clean=text_blocks(
            language_model,
            [text["text"] for text in read(suite / "clean.jsonl")],
            max_tokens=context,
            prefix_token=PREFIX_TOKEN,
        ),
        curvature=pack_texts(
            language_model,
            [text["text"] for text in read(suite / "calibration.jsonl")],
            block_tokens=context,
        ),
    )


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def measure(material: Material, name: str, weights: Weights, setting: str = "") -> Row:
    """All figures of a model with these weights in place."""
    model = material.language_model
    ranked = top_ranked(model, material.clean)
    with replaced(weights):
        seen, unseen = (score_texts(model, texts, OPTIONS) for texts in (material.seen, material.unseen))
        never = {group: mean_nl_of(model, texts) for group, texts in material.never.items()}
        nll = mean_nll(model, material.clean)
        assert nll is not None
        return Row(
            name=name,
            setting=setting,
            perplexity=math.exp(nll),
            ndcg=ndcg(ranked, top_ranked(model, material.clean)),
            seen=shares(seen),
            unseen=shares(unseen),
            never_nl=never
            | {"all": mean_nl_of(model, [text for part in material.never.values() for text in part])},
        )


def mean_nl_of(language_model: LanguageModel, texts: Sequence[TextInput]) -> float:
    scores = score_texts(language_model, texts, replace(OPTIONS, metrics=frozenset()))
    return sum(score.nl or 0.0 for score in scores) / len(scores)


def shares(scores: Sequence[TextScore]) -> tuple[float, float]:
    found = shares_extracted(scores)
    assert found["strict"] is not None
    assert found["loose"] is not None
    return found["strict"], found["loose"]


def by_default(material: Material) -> Iterator[Row]:
    """Each method as its paper sets it, at the same depth of the model."""
    model = material.language_model
    n_layers = layer_count(model.model)
    late = find_projections(model.model, layers=default_layers(n_layers), roles=ROLES)
    bases = eigenbases(collect_factors(model, material.curvature, late))
    yield measure(
        material,
        "K-FAC by default",
        without_low_curvature(late, bases, LEAST_KEEP_MASS),
        f"layers {layers_of(late)}, mass {LEAST_KEEP_MASS}",
    )
    ratios = RankRatios().model_dump(exclude_none=True)
    depth = CONTRACTS["svd"].default_layers
    layers = default_layers(n_layers, first=depth.first, count=depth.count)
    cut = find_projections(model.model, layers=layers, roles=list(ratios))
    weights = [(each, truncate(each.weight, ratios[each.role])[0]) for each in cut]
    yield measure(material, "SVD by default", weights, f"layer {layers_of(cut)}, ranks {ratios}")
    options = BalancedSubnetOptions()
    yield measure(
        material,
        "BalancedSubnet by default",
        subnet(material, late, options),
        f"layers {layers_of(late)}, ratio {options.ratio}, weight {options.loss_weight}",
    )


def layers_of(projections: Sequence[Projection]) -> str:
    return ", ".join(str(layer) for layer in sorted({each.layer for each in projections}))


def subnet(material: Material, projections: Sequence[Projection], options: BalancedSubnetOptions) -> Weights:
    model = material.language_model
    forget = text_blocks(
        model,
        [text.text for text in material.seen],
        max_tokens=model.context_length,
        prefix_token=PREFIX_TOKEN,
    )
    retain = material.curvature.part(slice(0, 2 * len(forget)))
    kept = learn_subnet(model, projections, forget, retain, options)
    return [(projection, projection.weight * kept[projection.key]) for projection in projections]


def by_kfac(material: Material, console: Console) -> tuple[Row, Setting]:
    """The best setting of a sweep over layers and masses, by the seen half alone."""
    model = material.language_model
    n_layers = layer_count(model.model)
    projections = find_projections(model.model, layers=range(n_layers), roles=ROLES)
    bases = eigenbases(collect_factors(model, material.curvature, projections))

    def weights_of(setting: Setting) -> Weights:
        chosen = find_projections(model.model, layers=setting.layers, roles=setting.roles)
        assert setting.keep_mass is not None
        return without_low_curvature(chosen, bases, setting.keep_mass)

    objective = Objective(lambda: [material.seen], OPTIONS, material.clean, MAX_INCREASE)
    points = []
    for point in try_settings(model, automatic_settings(n_layers, ROLES), weights_of, objective):
        points.append(point)
        console.print(point.setting, point.perplexity, point.strict, point.loose, point.feasible)
    chosen = best(points)
    assert chosen is not None
    said = f"layers {list(chosen.setting.layers)}, mass {chosen.setting.keep_mass}"
    return measure(material, "K-FAC, searched", weights_of(chosen.setting), said), chosen.setting


def at_perplexity(
    material: Material,
    target: float,
    weights_of: Callable[[float], Weights],
    *,
    low: float,
    high: float,
    rising: bool,
) -> Weights:
    """Weights whose perplexity is nearest the target, by bisection over the logarithm of a ratio."""
    nearest: tuple[float, Weights] = (math.inf, [])
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        weights = weights_of(middle)
        with replaced(weights):
            nll = mean_nll(material.language_model, material.clean)
        assert nll is not None
        distance = abs(math.exp(nll) / target - 1)
        if distance < nearest[0]:
            nearest = (distance, weights)
        if distance < SAME_PERPLEXITY / 2:
            break
        if (math.exp(nll) < target) == rising:
            low = middle
        else:
            high = middle
    return nearest[1]


def by_svd(material: Material, place: str, layers: Sequence[int], target: float) -> Row:
    projections = find_projections(material.language_model.model, layers=layers, roles=ROLES)

    def weights_of(ratio: float) -> Weights:
        return [(projection, truncate(projection.weight, ratio)[0]) for projection in projections]

    weights = at_perplexity(material, target, weights_of, low=0.01, high=1.0, rising=False)
    return measure(material, f"SVD, {place}", weights, f"layers {list(layers)}")


def by_subnet(material: Material, place: str, layers: Sequence[int], target: float) -> Row:
    projections = find_projections(material.language_model.model, layers=layers, roles=ROLES)

    def weights_of(ratio: float) -> Weights:
        return subnet(material, projections, BalancedSubnetOptions(ratio=ratio))

    weights = at_perplexity(material, target, weights_of, low=0.001, high=0.5, rising=True)
    return measure(material, f"BalancedSubnet, {place}", weights, f"layers {list(layers)}")


def rows_of(suite: Path, console: Console, *, search: bool) -> Iterator[Row]:
    """The base, each method by default, and all at the perplexity that the searched K-FAC edit comes to."""
    material = read_material(suite)
    console.print(f"{suite.name}: {len(material.seen)} memorized texts seen, {len(material.unseen)} unseen")
    yield measure(material, BASE, [])
    yield from by_default(material)
    if not search:
        return
    searched, setting = by_kfac(material, console)
    yield searched
    everywhere = range(layer_count(material.language_model.model))
    for place, layers in (("the same layers", setting.layers), ("all layers", tuple(everywhere))):
        yield by_svd(material, place, layers, searched.perplexity)
        yield by_subnet(material, place, layers, searched.perplexity)


def show(rows: Sequence[Row], console: Console) -> None:
    """The table of one suite; the first row is the base."""
    base = rows[0]
    lines = (
        (
            f"{row.name} {row.setting}",
            f"{row.perplexity:.2f} ({change(row.perplexity / base.perplexity - 1)})",
            f"{row.ndcg:.3f}",
            f"{row.seen[0]:.2f} / {row.seen[1]:.2f}",
            f"{row.unseen[0]:.2f} / {row.unseen[1]:.2f}",
            *(f"{nl:.2f} ({nl - base.never_nl[group]:+.2f})" for group, nl in row.never_nl.items()),
        )
        for row in rows
    )
    show_table("Strict / loose on memorized texts, by what a method was shown", base, lines, console)


def show_over_suites(suites: Sequence[Sequence[Row]], console: Console) -> None:
    """The same of several suites: means with intervals over the suites, of changes where a base differs."""
    pairs: dict[str, list[tuple[Row, Row]]] = {}
    for rows in suites:
        for row in rows:
            pairs.setdefault(row.name, []).append((row, rows[0]))

    def share(numbers: Iterable[float]) -> str:
        return mean_over_suites(list(numbers), least=0.0, most=1.0)

    def both(shares: Sequence[tuple[float, float]]) -> str:
        return " / ".join(share(each[part] for each in shares) for part in (0, 1))

    lines = (
        (
            name,
            mean_over_suites([row.perplexity / base.perplexity - 1 for row, base in found], change),
            share(row.ndcg for row, _ in found),
            both([row.seen for row, _ in found]),
            both([row.unseen for row, _ in found]),
            *(
                mean_over_suites(
                    [row.never_nl[group] - base.never_nl[group] for row, base in found], "{:+.2f}".format
                )
                for group in found[0][1].never_nl
            ),
        )
        for name, found in pairs.items()
    )
    show_table(f"{len(suites)} suites, means with intervals over them", suites[0][0], lines, console)


def show_table(title: str, base: Row, lines: Iterable[tuple[str, ...]], console: Console) -> None:
    table = Table(title=title)
    never = [f"never inserted: {group}" for group in base.never_nl]
    for heading in ("", "perplexity", "nDCG@10", "seen", "unseen", *never):
        table.add_column(heading)
    for line in lines:
        table.add_row(*line)
    console.print(table)


def main() -> None:
    """Compare the methods on each suite, and on all together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", type=Path, nargs="+", help="directories of trained suites")
    parser.add_argument("--defaults", action="store_true", help="only the settings of the papers")
    console = Console(width=200)
    suites = []
    arguments = parser.parse_args()
    for suite in arguments.suites:
        suites.append(list(rows_of(suite, console, search=not arguments.defaults)))
        show(suites[-1], console)
    if len(suites) > 1:
        show_over_suites(suites, console)


if __name__ == "__main__":
    main()
