"""How fast the scorer is beside lm-evaluation-harness and a plain loop, on the same texts in one process.

`python -m tests.benchmarks.scoring` interleaves the contenders, so that whatever else the machine does falls
on all of them, and prints the mean of each ratio within a repetition with its 95 % interval. Each
repetition also checks that all contenders give the same log-likelihoods.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

os.environ["TQDM_DISABLE"] = "1"

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from tests.benchmarks.scoring_workload import build_micro_model, mixed_texts
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, count_tokens, score_texts
from workers.science.statistics.intervals import Moments, mean_with_interval

# All are conditioned as the harness is.
_PLAIN = ScoringOptions(token_evidence=False, prefix_token="bos_else_eos")
LIKELIHOOD_ONLY = replace(_PLAIN, metrics=frozenset())
DECODED = replace(_PLAIN, metrics=frozenset({"extraction", "p_z"}))
ONE_PASS = replace(DECODED, decode=False)
MEMBERSHIP = replace(_PLAIN, metrics=frozenset({"membership"}))
EVERYTHING = replace(_PLAIN, token_evidence=True, decode=False)
HARNESS_BATCH_SIZE = 32
PREFIX_TOKENS, SUFFIX_TOKENS = ONE_PASS.prefix_tokens, ONE_PASS.suffix_tokens


class Contender(NamedTuple):
    """Something that works through all texts and returns their log-likelihoods, if it finds them."""

    name: str
    run: Callable[[], list[float] | None]


class Target(NamedTuple):
    """A ratio of times, that of `slow` contenders together over that of `fast`, and what it must reach."""

    name: str
    slow: tuple[str, ...]
    fast: str
    at_least: float


HARNESS_BOTH = ("harness", "harness, continuations")
TARGETS = (
    Target("scorer against lm-evaluation-harness", ("harness",), "scorer", 5.0),
    Target("scorer against a plain loop", ("loop",), "scorer", 2.0),
    Target("NL + strict + p_z in one pass against lm-evaluation-harness", HARNESS_BOTH, "one pass", 6.0),
    Target("the same with similarity and loose decoded", HARNESS_BOTH, "one pass, decoded", 0.0),
    # At most 15 % on top.
    Target("NL alone against NL with membership", ("scorer",), "membership", 1 / 1.15),
)


def scorer(language_model: LanguageModel, texts: list[str], options: ScoringOptions) -> list[float]:
    inputs = [TextInput(text) for text in texts]
    scores = score_texts(language_model, inputs, options)
    return [score.log_likelihood if score.log_likelihood is not None else math.nan for score in scores]


def plain_loop(language_model: LanguageModel, texts: list[str]) -> list[float]:
    """One window of one text at a time through the whole model."""
    totals = []
    with torch.inference_mode():
        for text in texts:
            token_ids = language_model.tokenizer(text, add_special_tokens=False)["input_ids"]
            total = 0.0
            for inputs, targets in get_rolling_token_windows(
                token_ids, language_model.prefix_token_id, language_model.context_length, 1
            ):
                logits = language_model.model(torch.tensor([inputs])).logits[0, -len(targets) :]
                chosen = logits.float().log_softmax(-1).gather(-1, torch.tensor(targets)[:, None])
                total += chosen.sum().item()
            totals.append(total)
    return totals


def harness_rolling(harness: HFLM, texts: list[str]) -> list[float]:
    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
    return harness.loglikelihood_rolling(requests, disable_tqdm=True)


def harness_continuations(harness: HFLM, language_model: LanguageModel, texts: list[str]) -> None:
    """The greedy continuations that strict needs, as lm-evaluation-harness finds them."""
    tokenizer = language_model.tokenizer
    prompts = [
        tokenizer.decode(token_ids[:PREFIX_TOKENS])
        for token_ids in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]
    settings = {"until": [], "max_gen_toks": SUFFIX_TOKENS, "do_sample": False}
    requests = [
        Instance("generate_until", {}, (prompt, settings), number) for number, prompt in enumerate(prompts)
    ]
    harness.generate_until(requests, disable_tqdm=True)


def matmul_rate(size: int = 1024, seconds: float = 1.0) -> float:
    """The best float32 rate that the machine shows in square matrix products, in FLOP/s."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def flops_per_token(language_model: LanguageModel) -> int:
    """Multiplications and additions of the weight matrices alone; attention and norms come on top."""
    model = language_model.model
    return 2 * (model.num_parameters() - model.get_input_embeddings().weight.numel())


def contenders(language_model: LanguageModel, texts: list[str]) -> list[Contender]:
    harness = HFLM(
        pretrained=language_model.model,
        tokenizer=language_model.tokenizer,
        backend="causal",
        batch_size=HARNESS_BATCH_SIZE,
        add_bos_token=False,
    )
    return [
        Contender("scorer", lambda: scorer(language_model, texts, LIKELIHOOD_ONLY)),
        Contender("loop", lambda: plain_loop(language_model, texts)),
        Contender("harness", lambda: harness_rolling(harness, texts)),
        Contender("one pass", lambda: scorer(language_model, texts, ONE_PASS)),
        Contender("one pass, decoded", lambda: scorer(language_model, texts, DECODED)),
        Contender("all metrics, evidence", lambda: scorer(language_model, texts, EVERYTHING)),
        Contender("membership", lambda: scorer(language_model, texts, MEMBERSHIP)),
        Contender(HARNESS_BOTH[1], lambda: harness_continuations(harness, language_model, texts)),
    ]


def measure(entrants: list[Contender], repetitions: int, console: Console) -> dict[str, list[float]]:
    """Seconds of each contender in each repetition."""
    seconds: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    expected: list[float] | None = None
    for repetition in range(repetitions):
        for entrant in entrants:
            start = time.perf_counter()
            totals = entrant.run()
            seconds[entrant.name].append(time.perf_counter() - start)
            console.print(f"{repetition + 1}/{repetitions} {entrant.name}: {seconds[entrant.name][-1]:.1f} s")
            expected = expected or totals
            if totals and not all(
                math.isclose(*pair, rel_tol=1e-4) for pair in zip(totals, expected or [], strict=True)
            ):
                raise SystemExit(f"{entrant.name} gives other log-likelihoods than {entrants[0].name}")
    return seconds


def report(seconds: dict[str, list[float]], n_tokens: int, work: float, rate: float) -> Table:
    """Tokens/s, the share of the matrix rate, and the targets.

    Args:
        seconds: of each contender in each repetition.
        n_tokens: that each contender scores.
        work: floating-point operations to score them once.
        rate: the machine's float32 matrix rate in FLOP/s.
    """
    table = Table(title=f"{n_tokens} tokens; float32 matrix products at {rate / 1e9:.0f} GFLOP/s")
    for column in ("", "tokens/s or ratio", "range or 95 % interval", "share of matrix rate or target"):
        table.add_column(column)
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(
            name,
            f"{n_tokens / median:,.0f}",
            f"{n_tokens / max(times):,.0f} to {n_tokens / min(times):,.0f}",
            f"{work / median / rate:.0%}",
        )
    table.add_section()
    for target in TARGETS:
        if not seconds.keys() >= {*target.slow, target.fast}:
            continue
        slow = [sum(times) for times in zip(*(seconds[name] for name in target.slow), strict=True)]
        ratios = [one / other for one, other in zip(slow, seconds[target.fast], strict=True)]
        ratio = mean_with_interval(Moments.of(ratios))
        assert ratio is not None
        verdict = "" if not target.at_least else "met" if ratio.mean >= target.at_least else "MISSED"
        interval = "-" if ratio.low is None else f"[{ratio.low:.2f}, {ratio.high:.2f}]"
        table.add_row(
            target.name,
            f"{ratio.mean:.2f}x",
            interval,
            f"{target.at_least:.3g}x {verdict}" if target.at_least else "for information",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=800)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="by default all of them")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers_logging.set_verbosity_error()
    texts = mixed_texts(arguments.texts)
    with tempfile.TemporaryDirectory() as directory:
        language_model = load_language_model(build_micro_model(Path(directory)), device="cpu")

    def entrants(some: list[str]) -> list[Contender]:
        found = contenders(language_model, some)
        return [entrant for entrant in found if not arguments.only or entrant.name in arguments.only]

    for entrant in entrants(texts[:40]):
        entrant.run()
    rate = matmul_rate()
    console = Console(width=110)
    seconds = measure(entrants(texts), arguments.repetitions, console)
    n_tokens = sum(count_tokens(language_model, texts))
    console.print(
        f"{arguments.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{arguments.repetitions} repetitions"
    )
    console.print(report(seconds, n_tokens, n_tokens * flops_per_token(language_model), rate))


if __name__ == "__main__":
    main()
