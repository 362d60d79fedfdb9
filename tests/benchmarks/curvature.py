"""How fast curvature is collected and cut, beside peers, and what that means for a large model.

`python -m tests.benchmarks.curvature` compares factor collection with kronfluence on the same blocks of the
same model, small and of Pythia-160M's shape, pair selection with a heap that pops the largest product until
the mass is reached, measures the memory of collecting for one layer of Llama 7B's shape, and derives an
estimate for OLMo-2 7B on one GPU.
"""

import argparse
import heapq
import os
import statistics
import time
import tracemalloc
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import psutil
import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.curvature_at_size import compare_at_size
from tests.benchmarks.random_models import random_blocks, random_llama
from tests.kronfluence_factors import KronfluenceCollector
from workers.science.curvature.kfac import Factors, collect_factors
from workers.science.curvature.spectrum import select_top_mass
from workers.science.models.projections import find_projections

SEQUENCE = 128
BATCH_BLOCKS = 8
COLLECTION_AT_LEAST = 1.5
SELECTION_AT_LEAST = 50
HIDDEN, INTERMEDIATE = 4096, 11008
KEEP_MASS = 0.6
HEAP_SECONDS = 12.0
LARGE_TOKENS = 64
# OLMo-2 7B beside the paper's account of it (arXiv 2510.24256): 20M tokens, 4 layers a pass, 72 GB, 50 min.
OLMO_PARAMETERS, OLMO_LAYERS, EDITED_LAYERS, PAPER_TOKENS = 7.3e9, 32, 4, 20e6
BFLOAT16_FLOPS, FLOAT32_FLOPS = 400e12, 45e12
GPU_BATCH_TOKENS = 8192


def compare_collection(table: Table, tokens: int, repetitions: int) -> None:
    """Interleaved, so that whatever else the machine does falls on both; the ratio is the median of pairs."""
    language_model = random_llama(192, 6, 768, 2048, 4)
    projections = find_projections(language_model.model, layers=[4, 5])
    blocks = random_blocks(tokens, SEQUENCE, 2048)
    peer = KronfluenceCollector(language_model.model, [projection.path for projection in projections])
    warm_up = blocks.part(slice(0, 2 * BATCH_BLOCKS))
    peer.collect(warm_up, BATCH_BLOCKS)
    collect_factors(language_model, warm_up, projections, labels="gold", batch_blocks=BATCH_BLOCKS)
    ours_s, peer_s, sampled_s = [], [], []
    for _ in range(repetitions):
        start = time.perf_counter()
        theirs = peer.collect(blocks, BATCH_BLOCKS)
        peer_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        ours = collect_factors(language_model, blocks, projections, labels="gold", batch_blocks=BATCH_BLOCKS)
        ours_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        collect_factors(language_model, blocks, projections, labels="sampled", batch_blocks=BATCH_BLOCKS)
        sampled_s.append(time.perf_counter() - start)
    n_tokens = blocks.tokens
    ratio = statistics.median(slow / fast for slow, fast in zip(peer_s, ours_s, strict=True))
    table.add_row(
        "kronfluence 1.0.1, gold labels", f"{n_tokens / statistics.median(peer_s):,.0f} tokens/s", ""
    )
    verdict = "met" if ratio >= COLLECTION_AT_LEAST else "missed"
    table.add_row(
        "memaudit, gold labels",
        f"{n_tokens / statistics.median(ours_s):,.0f} tokens/s",
        f"{ratio:.2f}x, target {COLLECTION_AT_LEAST}x: {verdict}",
    )
    table.add_row("memaudit, sampled labels", f"{n_tokens / statistics.median(sampled_s):,.0f} tokens/s", "")
    table.add_row(
        "factors, largest relative difference", f"{largest_difference(ours, theirs):.1e}", "below 1e-5"
    )


def largest_difference(
    ours: dict[str, Factors], theirs: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
) -> float:
    activations, gradients = theirs
    pairs = [(factors.activations, activations[key]) for key, factors in ours.items()]
    pairs += [(factors.gradients, gradients[key]) for key, factors in ours.items()]
    return max(float((mine - their).abs().max() / their.abs().max()) for mine, their in pairs)


def select_with_a_heap(outputs: list[float], inputs: list[float], target: float) -> tuple[int, float, bool]:
    """Pop the largest product of the staircase's frontier until the mass is reached or time is up.

    Returns:
        Pairs popped, seconds, and whether the mass was reached.
    """
    start = time.perf_counter()
    heap = [(-outputs[0] * inputs[0], 0, 0)]
    mass, popped = 0.0, 0
    while mass < target:
        product, row, column = heapq.heappop(heap)
        mass -= product
        popped += 1
        if column + 1 < len(inputs):
            heapq.heappush(heap, (-outputs[row] * inputs[column + 1], row, column + 1))
        if column == 0 and row + 1 < len(outputs):
            heapq.heappush(heap, (-outputs[row + 1] * inputs[0], row + 1, 0))
        if popped % 4096 == 0 and time.perf_counter() - start > HEAP_SECONDS:
            return popped, time.perf_counter() - start, False
    return popped, time.perf_counter() - start, True


def compare_selection(table: Table) -> None:
    generator = torch.Generator().manual_seed(0)

    def decaying(size: int, power: float) -> torch.Tensor:
        noise = torch.rand(size, generator=generator, dtype=torch.float64) + 0.5
        return (noise / torch.arange(1, size + 1) ** power).sort(descending=True).values

    outputs, inputs = decaying(HIDDEN, 0.5), decaying(INTERMEDIATE, 0.5)
    start = time.perf_counter()
    pairs = select_top_mass(outputs, inputs, KEEP_MASS)
    ours_s = time.perf_counter() - start
    tracemalloc.start()
    select_top_mass(outputs, inputs, KEEP_MASS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    target = KEEP_MASS * float(outputs.sum() * inputs.sum())
    popped, heap_s, whole = select_with_a_heap(outputs.tolist(), inputs.tolist(), target)
    expected_s = heap_s if whole else heap_s * pairs.kept / popped
    note = f"{popped:,} pairs" if whole else f"extrapolated from {popped:,} of {pairs.kept:,} pairs"
    table.add_row(f"heap, {HIDDEN} x {INTERMEDIATE}, keep {KEEP_MASS}", f"{expected_s:.1f} s", note)
    ratio = expected_s / ours_s
    verdict = "met" if ratio >= SELECTION_AT_LEAST else "missed"
    table.add_row(
        "threshold search",
        f"{ours_s * 1e3:.0f} ms, peak {peak / 2**20:.1f} MiB",
        f"{ratio:,.0f}x, target {SELECTION_AT_LEAST}x: {verdict}; {pairs.kept:,} pairs",
    )


class PeakMemory:
    """How far the resident size rose above that at the start; Linux counts the peak itself once reset."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self._start = psutil.Process().memory_info().rss

    @property
    def growth(self) -> int:
        status = Path("/proc/self/status").read_text()
        peak_kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak_kib) * 1024 - self._start


def measure_large_layer(table: Table) -> int | None:
    """Collect gate and up of one layer of Llama 7B's shape; returns the bytes that it took."""
    needed = 6 * 2**30
    if psutil.virtual_memory().available < needed:
        table.add_row("one layer of Llama 7B's shape", "not measured", "needs 6 GiB of free memory")
        return None
    language_model = random_llama(HIDDEN, 1, INTERMEDIATE, 64, 32)
    projections = find_projections(language_model.model)
    blocks = random_blocks(2 * LARGE_TOKENS, LARGE_TOKENS, 64)
    memory = PeakMemory()
    factors = collect_factors(language_model, blocks, projections, labels="gold", batch_blocks=1)
    growth = memory.growth
    exact = sum(
        matrix.numel() * 4
        for matrix in {
            id(matrix): matrix for each in factors.values() for matrix in (each.activations, each.gradients)
        }.values()
    )
    table.add_row(
        f"gate and up of one layer, {HIDDEN} x {INTERMEDIATE}",
        f"{growth / 1e9:.2f} GB",
        f"the factors alone are {exact / 1e9:.2f} GB",
    )
    return growth


def estimate_for_olmo(console: Console, layer_bytes: int | None) -> None:
    """From shapes and stated speeds: what the paper's setting would take here, on one 80 GB GPU."""
    factors = layer_bytes or 4 * (HIDDEN**2 + 2 * INTERMEDIATE**2)
    # Block upper triangles of 6 blocks: 7/12 of the full products.
    float32_products = 7 / 12 * 2 * (HIDDEN**2 + 2 * INTERMEDIATE**2) * EDITED_LAYERS
    # Forward through everything, backward (inputs only) through the edited layers and the few above them.
    layers_behind = OLMO_LAYERS - 23
    bfloat16_products = 2 * OLMO_PARAMETERS * (1 + layers_behind / OLMO_LAYERS)
    collection = PAPER_TOKENS * (float32_products / FLOAT32_FLOPS + bfloat16_products / BFLOAT16_FLOPS)
    weights = 2 * OLMO_PARAMETERS
    # Kept for the backward pass by each layer behind the first edited one, in bfloat16.
    graph = GPU_BATCH_TOKENS * layers_behind * 2 * (14 * HIDDEN + 4 * INTERMEDIATE)
    rows = GPU_BATCH_TOKENS * 4 * (INTERMEDIATE + HIDDEN) * 2
    total = weights + EDITED_LAYERS * factors + graph + rows + 2**30
    console.print(
        f"\nOLMo-2 7B, {PAPER_TOKENS / 1e6:.0f}M tokens, gate and up of {EDITED_LAYERS} layers in one pass, "
        f"one 80 GB GPU (derived, not measured):\n"
        f"  time   about {collection / 60:.0f} min, if float32 products run at {FLOAT32_FLOPS / 1e12:.0f} "
        f"and bfloat16 ones at {BFLOAT16_FLOPS / 1e12:.0f} TFLOP/s\n"
        f"  memory about {total / 1e9:.0f} GB: weights {weights / 1e9:.1f}, factors "
        f"{EDITED_LAYERS * factors / 1e9:.1f}, graph of {GPU_BATCH_TOKENS} tokens {graph / 1e9:.1f}, "
        f"float32 rows {rows / 1e9:.1f}, logits and workspaces 1.1\n"
        f"  the paper: 50 min and 72 GB for 4 layers"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=12288, help="for each collection, at most 131072")
    parser.add_argument("--tokens-at-size", type=int, default=16384, help="the same of the 160M model")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    table = Table("what", "measured", "beside")
    compare_collection(table, min(options.tokens, 131072), options.repetitions)
    compare_at_size(table, options.tokens_at_size, options.repetitions)
    compare_selection(table)
    layer_bytes = measure_large_layer(table)
    console = Console(width=120)
    console.print(f"{torch.get_num_threads()} threads, {options.repetitions} repetitions, medians")
    console.print(table)
    estimate_for_olmo(console, layer_bytes)


if __name__ == "__main__":
    main()
