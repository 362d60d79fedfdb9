"""How NL and strict extraction rise with duplicates on a trained suite, and how well counts are told from NL.

    python -m tests.benchmarks.dose_response SUITE

scores the texts of SUITE under its perturbed model, prints NL and strict by domain, then holds back a fifth
of the texts of each level and domain, fits the others, and says how many of those held back are told within
one step of the ladder and how many lie within their interval: over seeded splits.
"""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workers.audits.dose_response import DoseResponses, equivalents_of
from workers.science.models.loading import load_language_model
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput
from workers.science.statistics.shares import share_with_interval

SPLITS = 50
HELD_BACK = 0.2


@dataclass(frozen=True)
class Known:
    """A text's domain, count and numbers."""

    group: str
    duplicates: int
    nl: float
    strict: bool | None


def measure(suite: Path) -> list[Known]:
    rows = [json.loads(line) for line in (suite / "texts.jsonl").read_text().splitlines()]
    language_model = load_language_model(suite / "perturbed")
    options = ScoringOptions(metrics=frozenset({"extraction"}), prefix_token="eos", token_evidence=False)
    inputs = [TextInput(row.get("text") or row["prefix"] + row["suffix"]) for row in rows]
    scores = score_texts(language_model, inputs, options)
    return [
        Known(row["group"], row["duplicates"], score.nl, score.metrics["extraction"]["strict"])
        for row, score in zip(rows, scores, strict=True)
        if score.nl is not None
    ]


def print_by_level(texts: list[Known]) -> None:
    levels: dict[tuple[str, int], list[Known]] = defaultdict(list)
    for text in texts:
        levels[text.group, text.duplicates].append(text)
    for (group, duplicates), found in sorted(levels.items()):
        nl = np.array([text.nl for text in found])
        recited = [text.strict for text in found if text.strict is not None]
        share = share_with_interval(sum(recited), len(recited))
        strict = f"{share.share:.2f} [{share.low:.2f}, {share.high:.2f}]" if share else "-"
        print(
            f"{group:24} {duplicates:4} n {len(found):3} "
            f"nl {nl.mean():7.3f} sd {nl.std(ddof=1):.3f} strict {strict}"
        )


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


def main(suite: Path) -> None:
    texts = measure(suite)
    print_by_level(texts)
    ladder = sorted({text.duplicates for text in texts})
    near: dict[tuple[str, int], list[bool]] = defaultdict(list)
    covered: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for seed in range(SPLITS):
        for text, worth, low, high in tell(texts, seed):
            place = ladder.index(text.duplicates)
            neighbours = ladder[max(0, place - 1)], ladder[min(place + 1, len(ladder) - 1)]
            for group in (text.group, "all"):
                near[group, text.duplicates].append(neighbours[0] <= worth <= neighbours[1])
                covered[group, text.duplicates].append(low <= text.duplicates <= high)
    for (group, duplicates), each in sorted(near.items()):
        print(
            f"{group:24} {duplicates:4} within one step {np.mean(each):.3f} "
            f"in the interval {np.mean(covered[group, duplicates]):.3f} of {len(each)}"
        )
    repeated = [
        told for (group, level), each in near.items() if group == "all" and level >= 16 for told in each
    ]
    print(f"16 and above: within one step {np.mean(repeated):.3f} of {len(repeated)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
