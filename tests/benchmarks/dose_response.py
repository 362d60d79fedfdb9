"""How NL and strict extraction rise with duplicates on a trained suite, and how well counts are told from NL.

    python -m tests.benchmarks.dose_response SUITE

scores the texts of SUITE under its perturbed model and, if it has them, its timing models. Says whether NL
and strict rise from level to level, and by how much texts inserted early end lower than those inserted late.
Then holds back a fifth of the texts of each level and domain, fits the others, and says how many of those
held back are told within one step of the ladder, and how many lie within their interval: over seeded splits.
Ends with 1 if a line misses its limit.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.benchmarks.limits import Line, print_and_exit
from workers.audits.dose_response import DoseResponses, equivalents_of
from workers.suite.build import TEXTS, TIMING_TEXTS
from workers.suite.report.audit import Audited, read_texts, score_under
from workers.suite.report.dose_response import NL, STRICT, dose_rows
from workers.suite.report.finding import ALL, OWN_GROUPS, written
from workers.suite.report.paired import BEYOND, compare
from workers.suite.report.timing import EARLY, LATE
from workers.suite.variants import PERTURBED

SPLITS = 50
HELD_BACK = 0.2
LEAST_TOLD, FROM_DUPLICATES = 0.8, 16


@dataclass(frozen=True)
class Known:
    """A text's domain, count and number."""

    group: str
    duplicates: int
    nl: float


def audited(suite: Path, texts: str, *models: str) -> Audited:
    """The texts of one of the suite's files under some of its models."""
    records = read_texts(suite / texts)
    asked = [text.full_text for text in records]
    return Audited(
        records, {model: score_under(suite / model, asked, "cpu", lambda _: None) for model in models}
    )


def dose_lines(texts: Audited) -> Iterator[Line]:
    """Whether NL rises at every level, and strict never falls and ends higher than it began."""
    rows = dose_rows(texts, PERTURBED)
    for group in OWN_GROUPS:
        for measure in (NL, STRICT):
            values = [row.value for row in rows if (row.group, row.measure) == (group, measure)]
            steps = [after - before for before, after in pairwise(values)]
            rises = min(steps) > 0 if measure == NL else min(steps) >= 0 and values[-1] > values[0]
            yield Line(
                f"{measure} by duplicates, {group}",
                " ".join(f"{value:.2f}" for value in values),
                "rises at every level" if measure == NL else "never falls, and rises",
                rises,
            )


def timing_lines(texts: Audited) -> Iterator[Line]:
    """NL of late less early insertions, beyond the same of texts never inserted, at each level."""
    for row in compare(texts, LATE, EARLY):
        if row.measure == BEYOND and row.group == ALL:
            name = f"NL of (75,100) less (0,25), all domains, {row.duplicates} duplicates"
            yield Line(name, written(row), "above 0", row.value > 0)


def tell(texts: list[Known], seed: int) -> list[tuple[Known, float, float, float]]:
    """Texts that were held back, each with its equivalent and the ends of the interval."""
    random = np.random.default_rng(seed)
    held, responses = [], DoseResponses()
    levels: dict[tuple[str, int], list[Known]] = defaultdict(list)
    for text in texts:
        levels[text.group, text.duplicates].append(text)
    for found in levels.values():
        order = random.permutation(len(found))
        cut = round(HELD_BACK * len(found))
        held += [found[place] for place in order[:cut]]
        for place in order[cut:]:
            responses.add(found[place].group, found[place].duplicates, found[place].nl)
    told = equivalents_of(
        responses.fits(), [text.group for text in held], np.array([text.nl for text in held])
    )
    return [(text, *row) for text, row in zip(held, told.tolist(), strict=True)]


def told_lines(texts: list[Known]) -> Iterator[Line]:
    """How many texts held back are told within one step of the ladder, and how many within their interval."""
    ladder = sorted({text.duplicates for text in texts})
    near: dict[int, list[bool]] = defaultdict(list)
    covered: dict[int, list[bool]] = defaultdict(list)
    for seed in range(SPLITS):
        for text, worth, low, high in tell(texts, seed):
            place = ladder.index(text.duplicates)
            least, most = ladder[max(0, place - 1)], ladder[min(place + 1, len(ladder) - 1)]
            near[text.duplicates].append(least <= worth <= most)
            covered[text.duplicates].append(low <= text.duplicates <= high)
    for level in ladder:
        figure = f"{np.mean(near[level]):.3f}, {np.mean(covered[level]):.3f} of {len(near[level])}"
        yield Line(f"told within one step, and within the interval, {level}", figure, "to know", passed=True)
    often = [told for level in ladder if level >= FROM_DUPLICATES for told in near[level]]
    share = float(np.mean(often))
    name = f"told within one step, {FROM_DUPLICATES} duplicates and above"
    yield Line(name, f"{share:.3f} of {len(often)}", f">= {LEAST_TOLD}", share >= LEAST_TOLD)


def measure(suite: Path) -> Iterator[Line]:
    texts = audited(suite, TEXTS, PERTURBED)
    yield from dose_lines(texts)
    if (suite / TIMING_TEXTS).exists():
        yield from timing_lines(audited(suite, TIMING_TEXTS, LATE, EARLY))
    yield from told_lines(
        [
            Known(str(text.group), text.duplicates or 0, float(nl))
            for text, nl in zip(texts.texts, texts.nl(PERTURBED), strict=True)
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    print_and_exit(measure(parser.parse_args().suite))


if __name__ == "__main__":
    main()
