"""Collection of curvature from a random 160M model, beside kronfluence and the machine's matrix rate."""

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rich.table import Table
from torch import nn

from tests.benchmarks.random_models import random_blocks, random_llama
from tests.benchmarks.rates import rate_of_products, timed
from tests.kronfluence_factors import KronfluenceCollector
from workers.science.curvature.kfac import Labels, collect_factors
from workers.science.curvature.packed import packed_size
from workers.science.models.loading import LanguageModel
from workers.science.models.projections import Projection, find_projections
from workers.science.models.token_blocks import TokenBlocks

HIDDEN, LAYERS, INTERMEDIATE, VOCABULARY, HEADS = 768, 12, 3072, 50_304, 12
CHOSEN: Final = (8, 9, 10, 11)
SEQUENCE, BATCH_BLOCKS = 512, 2
# The products that stand for the matrix rate, [1024, 3072] x [3072, 3072].
PRODUCT: Final = (1024, INTERMEDIATE, INTERMEDIATE)
AT_LEAST = 1.5
# Pieces of a run whose speeds are shown one by one.
PIECES = 8


def operations_a_token(model: nn.Module, projections: Sequence[Projection], *, packed: bool = True) -> float:
    """Operations of all matrix products of a collection, attention's own left out.

    Forward through everything, the head's gradient, backward to the inputs of what lies above the first
    chosen layer (of which only the outputs' gradients are needed), and the outer products: packed, of inputs
    that projections share once, or else whole and of each.
    """
    layers = [
        sum(weight.numel() for weight in layer.parameters() if weight.ndim > 1)
        for layer in model.model.layers
    ]
    head = model.get_output_embeddings().weight.numel()
    first = min(projection.layer for projection in projections)
    down = model.model.layers[first].mlp.down_proj.weight.numel()
    forward = sum(layers) + head
    backward = sum(layers[first + 1 :]) + down + head
    outputs = [projection.weight.shape[0] for projection in projections]
    inputs = [projection.weight.shape[1] for projection in projections]
    shared = {projection.layer: projection.weight.shape[1] for projection in projections}
    sums = sum(map(packed_size, [*shared.values(), *outputs]))
    return 2.0 * (forward + backward + (sums if packed else sum(side**2 for side in (*inputs, *outputs))))


def speeds_over_a_run(language_model: LanguageModel, blocks: TokenBlocks, labels: Labels) -> list[float]:
    """Tokens a second in consecutive pieces of one collection."""
    told = [(time.perf_counter(), 0)]
    collect_factors(
        language_model,
        blocks,
        find_projections(language_model.model, layers=CHOSEN),
        labels=labels,
        on_progress=lambda done: told.append((time.perf_counter(), done)),
    )
    step = max(1, len(told) // PIECES)
    marks = told[::step]
    length = blocks.ids.shape[1]
    return [(after[1] - before[1]) * length / (after[0] - before[0]) for before, after in pairwise(marks)]


def compare_at_size(table: Table, tokens: int, repetitions: int) -> None:
    """Add rows: both collectors interleaved, the ratio as the median of pairs; the speed over one run."""
    rate = rate_of_products(PRODUCT)
    language_model = random_llama(HIDDEN, LAYERS, INTERMEDIATE, VOCABULARY, HEADS)
    projections = find_projections(language_model.model, layers=CHOSEN)
    blocks = random_blocks(tokens, SEQUENCE, VOCABULARY)
    peer = KronfluenceCollector(language_model.model, [projection.path for projection in projections])
    warm_up = blocks.part(slice(0, BATCH_BLOCKS))
    peer.collect(warm_up, BATCH_BLOCKS)
    collect_factors(language_model, warm_up, projections)
    peer_s, ours_s = [], []
    for _ in range(repetitions):
        peer_s.append(timed(lambda: peer.collect(blocks, BATCH_BLOCKS)))
        ours_s.append(timed(lambda: collect_factors(language_model, blocks, projections)))
    speeds = [blocks.tokens / statistics.median(seconds) for seconds in (peer_s, ours_s)]
    ratio = statistics.median(slow / fast for slow, fast in zip(peer_s, ours_s, strict=True))
    shares = [
        operations_a_token(language_model.model, projections, packed=packed) * speed / rate
        for packed, speed in zip((False, True), speeds, strict=True)
    ]
    verdict = "met" if ratio >= AT_LEAST else "missed"
    table.add_row("160M, kronfluence 1.0.1, gold labels", f"{speeds[0]:,.0f} tokens/s", "gate, up, 4 layers")
    table.add_row(
        "160M, memaudit, sampled labels",
        f"{speeds[1]:,.0f} tokens/s",
        f"{ratio:.2f}x, target {AT_LEAST}x: {verdict}",
    )
    table.add_row(
        "160M, share of the matrix rate",
        f"{shares[1]:.2f}, kronfluence {shares[0]:.2f}",
        f"of {rate / 1e9:,.0f} GFLOP/s, each by its own products",
    )
    over_a_run = speeds_over_a_run(language_model, blocks, "sampled")
    table.add_row("160M, tokens/s over one run", " ".join(f"{speed:.0f}" for speed in over_a_run), "")
