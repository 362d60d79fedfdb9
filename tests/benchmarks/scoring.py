"""How fast the scorer is beside lm-evaluation-harness and a plain loop, on the same texts in one process.

`python -m tests.benchmarks.scoring` interleaves the contenders, so that whatever else the machine does falls
on all of them, and prints the mean of each ratio within a repetition with its 95 % interval. Each
repetition also checks that all contenders give the same log-likelihoods. The machine's matrix rate is taken
before each contender, on as many threads; see `scoring_parts` for what counts as work.
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

from tests.benchmarks.scoring_parts import Work, matrix_rate, part_runners, windows_of, work_of
from tests.benchmarks.scoring_settings import HARNESS_BOTH, SETTINGS, Setting, Target
from tests.benchmarks.scoring_workload import mixed_texts
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, count_tokens, score_texts
from workers.science.statistics.intervals import Moments, mean_with_interval

# All are conditioned as the harness is.
_PLAIN = ScoringOptions(token_evidence=False, prefix_token="bos_else_eos")
LIKELIHOOD_ONLY = replace(_PLAIN, metrics=frozenset())
DECODED = replace(_PLAIN, metrics=frozenset({"extraction", "p_z"}))
ONE_PASS = replace(DECODED, decode=False)
MEMBERSHIP = replace(_PLAIN, metrics=frozenset({"membership"}))
ALL_METRICS = replace(ONE_PASS, metrics=frozenset({"extraction", "p_z", "membership"}))
EVERYTHING = replace(_PLAIN, token_evidence=True, decode=False)
HARNESS_BATCH_SIZE = 32
PREFIX_TOKENS, SUFFIX_TOKENS = ONE_PASS.prefix_tokens, ONE_PASS.suffix_tokens


class Contender(NamedTuple):
    """Something that works through all texts and returns their log-likelihoods, if it finds them."""

    name: str
    run: Callable[[], list[float] | None]


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


def harness_of(language_model: LanguageModel) -> HFLM:
    """The same model as lm-evaluation-harness has it."""
    return HFLM(
        pretrained=language_model.model,
        tokenizer=language_model.tokenizer,
        backend="causal",
        batch_size=HARNESS_BATCH_SIZE,
        add_bos_token=False,
    )


def contenders(language_model: LanguageModel, texts: list[str]) -> list[Contender]:
    harness = harness_of(language_model)
    return [
        Contender("scorer", lambda: scorer(language_model, texts, LIKELIHOOD_ONLY)),
        Contender("loop", lambda: plain_loop(language_model, texts)),
        Contender("harness", lambda: harness_rolling(harness, texts)),
        Contender("one pass", lambda: scorer(language_model, texts, ONE_PASS)),
        Contender("one pass, decoded", lambda: scorer(language_model, texts, DECODED)),
        Contender("all metrics", lambda: scorer(language_model, texts, ALL_METRICS)),
        Contender("all metrics, evidence", lambda: scorer(language_model, texts, EVERYTHING)),
        Contender("membership", lambda: scorer(language_model, texts, MEMBERSHIP)),
        Contender(HARNESS_BOTH[1], lambda: harness_continuations(harness, language_model, texts)),
    ]


def measure(
    entrants: list[Contender],
    repetitions: int,
    console: Console,
    rate: Callable[[], float] = matrix_rate,
    tolerance: float = 1e-4,
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each contender in each repetition, and the matrix rate before each of them in FLOP/s.

    Args:
        entrants: in the order in which they run.
        repetitions: of all of them.
        console: told each time.
        rate: finds the matrix rate.
        tolerance: how far log-likelihoods may be from those of the first, relative to them.
    """
    seconds: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    rates: list[float] = []
    expected: list[float] | None = None
    for repetition in range(repetitions):
        for entrant in entrants:
            rates.append(rate())
            start = time.perf_counter()
            totals = entrant.run()
            seconds[entrant.name].append(time.perf_counter() - start)
            console.print(f"{repetition + 1}/{repetitions} {entrant.name}: {seconds[entrant.name][-1]:.1f} s")
            expected = expected or totals
            if totals and not all(
                math.isclose(*pair, rel_tol=tolerance) for pair in zip(totals, expected or [], strict=True)
            ):
                raise SystemExit(f"{entrant.name} gives other log-likelihoods than {entrants[0].name}")
    return seconds, rates


def add_rows(
    table: Table, setting: Setting, seconds: dict[str, list[float]], n_tokens: int, work: Work, rate: float
) -> None:
    """Tokens/s, shares of the matrix rate, and the targets of one setting.

    Args:
        table: to add to.
        setting: that was measured.
        seconds: of each contender and each part in each repetition.
        n_tokens: that each contender scores.
        work: to score them once.
        rate: the machine's float32 matrix rate in FLOP/s.
    """
    table.add_section()
    table.add_row(f"{setting.name}: {n_tokens} tokens", "", f"{rate / 1e9:.0f} GFLOP/s in products", "")
    done = {"body": work.body, "head": work.head}
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(
            name,
            f"{n_tokens / median:,.0f}",
            f"{n_tokens / max(times):,.0f} to {n_tokens / min(times):,.0f}",
            f"{done.get(name, work.whole) / median / rate:.2f}",
        )
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    if "scorer" in medians:
        rest = 1 - (medians["body"] + medians["head"]) / medians["scorer"]
        table.add_row("rest of the scorer's time", f"{rest:.1%}", "", "")
        shares = {
            "head": work.head / medians["head"] / rate,
            "whole": work.whole / medians["scorer"] / rate,
        }
        for part, at_least in setting.shares:
            verdict = "met" if shares[part] >= at_least else "MISSED"
            table.add_row(
                f"{part}: share of the matrix rate", f"{shares[part]:.2f}", "", f"{at_least} {verdict}"
            )
    for target in setting.targets:
        if seconds.keys() >= {*target.slow, target.fast}:
            table.add_row(*target_row(target, seconds))


def ratios_of(target: Target, seconds: dict[str, list[float]]) -> list[float]:
    """How many times as long the slow ones take as the fast one, in each repetition."""
    slow = [sum(times) for times in zip(*(seconds[name] for name in target.slow), strict=True)]
    return [one / other for one, other in zip(slow, seconds[target.fast], strict=True)]


def target_row(target: Target, seconds: dict[str, list[float]]) -> tuple[str, str, str, str]:
    """The ratio of a target, its interval, and whether it is met."""
    ratio = mean_with_interval(Moments.of(ratios_of(target, seconds)))
    assert ratio is not None
    verdict = "met" if ratio.mean >= target.at_least else "MISSED"
    interval = "-" if ratio.low is None else f"[{ratio.low:.2f}, {ratio.high:.2f}]"
    limit = f"{target.at_least:.3g}x {verdict}" if target.at_least else "for information"
    return target.name, f"{ratio.mean:.2f}x", interval, limit


def measure_setting(setting: Setting, arguments: argparse.Namespace, table: Table, console: Console) -> None:
    """Load the model, warm up, measure, and add the rows."""
    texts = mixed_texts(max(2, round(setting.texts * arguments.scale)), 0, *setting.characters)
    with tempfile.TemporaryDirectory() as directory:
        language_model = load_language_model(setting.build(Path(directory)), device="cpu")
    windows = windows_of(language_model, texts)

    def entrants(some: list[str]) -> list[Contender]:
        chosen = arguments.only or setting.contenders
        return [entrant for entrant in contenders(language_model, some) if entrant.name in chosen]

    for entrant in entrants(texts[: max(2, len(texts) // 20)]):
        entrant.run()
    console.print(setting.name)
    parts = [Contender(name, run) for name, run in part_runners(language_model, windows).items()]
    seconds, rates = measure([*entrants(texts), *parts], arguments.repetitions, console)
    n_tokens = sum(count_tokens(language_model, texts))
    add_rows(table, setting, seconds, n_tokens, work_of(language_model, windows), statistics.median(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of texts")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", help="by default all of them")
    parser.add_argument("--settings", nargs="+", metavar="MODEL", default=["4M", "160M"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers_logging.set_verbosity_error()
    console = Console(width=120)
    table = Table(title=f"{arguments.threads} threads, {arguments.repetitions} repetitions")
    for column in ("", "tokens/s or ratio", "range or 95 % interval", "share of matrix rate or target"):
        table.add_column(column)
    for setting in SETTINGS:
        if setting.name.split(",")[0] in arguments.settings:
            measure_setting(setting, arguments, table, console)
    console.print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
