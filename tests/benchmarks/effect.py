"""`python -m tests.benchmarks.effect SUITE`: what each method forgets at the same cost in perplexity.

Memorized texts are those that the perturbed model of a suite recites strictly; every other one is never shown
to any method and never used to choose a setting. K-FAC takes the best setting of its own sweep; SVD and
BalancedSubnet are then brought to the same perplexity (2 % either way) by bisection over how much they drop.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from workers.science.baselines.balanced_subnet import BalancedSubnetOptions, learn_subnet
from workers.science.baselines.svd import truncate
from workers.science.curvature.kfac import collect_factors, eigenbases
from workers.science.curvature.search import (
    Objective,
    Setting,
    Weights,
    automatic_settings,
    best,
    try_settings,
)
from workers.science.evaluation.utility import mean_nll, ndcg, top_ranked
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.projections import Projection, find_projections, layer_count
from workers.science.models.token_blocks import TokenBlocks, TokenRows, pack_texts, text_blocks
from workers.science.models.weight_edit import keep_top_mass, replaced
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts
from workers.science.scoring.texts import TextScore, shares_extracted

ROLES = ("gate", "up")
MAX_INCREASE = 0.15
SAME_PERPLEXITY = 0.02
BISECTIONS = 7
# The documents of a suite come after EOS in training.
PREFIX_TOKEN = "eos"
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
    """One line of the table."""

    name: str
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


def measure(material: Material, name: str, weights: Weights) -> Row:
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


def by_kfac(material: Material, console: Console) -> tuple[Row, Setting]:
    """The best setting of a sweep over layers and masses, by the seen half alone."""
    model = material.language_model
    n_layers = layer_count(model.model)
    projections = find_projections(model.model, layers=range(n_layers), roles=ROLES)
    bases = eigenbases(collect_factors(model, material.curvature, projections))

    def weights_of(setting: Setting) -> Weights:
        chosen = find_projections(model.model, layers=setting.layers, roles=setting.roles)
        assert setting.keep_mass is not None
        return [
            (projection, keep_top_mass(projection.weight, bases[projection.key], setting.keep_mass)[0])
            for projection in chosen
        ]

    objective = Objective(lambda: [material.seen], OPTIONS, material.clean, MAX_INCREASE)
    points = []
    for point in try_settings(model, automatic_settings(n_layers, ROLES), weights_of, objective):
        points.append(point)
        console.print(point.setting, point.perplexity, point.strict, point.loose, point.feasible)
    chosen = best(points)
    assert chosen is not None
    name = f"K-FAC, layers {list(chosen.setting.layers)}, mass {chosen.setting.keep_mass}"
    return measure(material, name, weights_of(chosen.setting)), chosen.setting


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


def by_svd(material: Material, layers: Sequence[int], target: float) -> Row:
    projections = find_projections(material.language_model.model, layers=layers, roles=ROLES)

    def weights_of(ratio: float) -> Weights:
        return [(projection, truncate(projection.weight, ratio)[0]) for projection in projections]

    weights = at_perplexity(material, target, weights_of, low=0.01, high=1.0, rising=False)
    return measure(material, f"SVD, layers {list(layers)}", weights)


def by_subnet(material: Material, layers: Sequence[int], target: float, loss_weight: float) -> Row:
    model = material.language_model
    projections = find_projections(model.model, layers=layers, roles=ROLES)
    forget = text_blocks(
        model,
        [text.text for text in material.seen],
        max_tokens=model.context_length,
        prefix_token=PREFIX_TOKEN,
    )
    retain = material.curvature.part(slice(0, 2 * len(forget)))

    def weights_of(ratio: float) -> list[tuple[Projection, torch.Tensor]]:
        options = BalancedSubnetOptions(ratio=ratio, loss_weight=loss_weight)
        kept = learn_subnet(model, projections, forget, retain, options)
        return [(projection, projection.weight * kept[projection.key]) for projection in projections]

    weights = at_perplexity(material, target, weights_of, low=0.001, high=0.5, rising=True)
    return measure(material, f"BalancedSubnet, layers {list(layers)}, weight {loss_weight}", weights)


def show(rows: Sequence[Row], base: Row, console: Console) -> None:
    table = Table(title="Strict / loose on memorized texts, by what a method was shown")
    never = [f"never inserted: {group}" for group in base.never_nl]
    for heading in ("", "perplexity", "nDCG@10", "seen", "unseen", *never):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.perplexity:.2f} ({row.perplexity / base.perplexity - 1:+.1%})",
            f"{row.ndcg:.3f}",
            f"{row.seen[0]:.2f} / {row.seen[1]:.2f}",
            f"{row.unseen[0]:.2f} / {row.unseen[1]:.2f}",
            *(f"{nl:.2f} ({nl - base.never_nl[group]:+.2f})" for group, nl in row.never_nl.items()),
        )
    console.print(table)


def main() -> None:
    """Compare the methods on one suite."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path, help="the directory of a trained suite")
    arguments = parser.parse_args()
    console = Console(width=180)
    material = read_material(arguments.suite)
    console.print(f"{len(material.seen)} memorized texts seen, {len(material.unseen)} unseen")
    base = measure(material, "base", [])
    kfac, setting = by_kfac(material, console)
    rows = [base, kfac]
    everywhere = range(layer_count(material.language_model.model))
    for layers in dict.fromkeys((tuple(setting.layers), tuple(everywhere))):
        rows.append(by_svd(material, layers, kfac.perplexity))
        rows.append(by_subnet(material, layers, kfac.perplexity, loss_weight=0.7))
        show(rows, base, console)


if __name__ == "__main__":
    main()
