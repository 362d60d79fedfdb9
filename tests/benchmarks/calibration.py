"""`python -m tests.benchmarks.calibration SUITE [--scores FILE]`: what calibration claims, on a suite.

The texts are those of the suite and, as it keeps few that were never inserted, more that its own generators
draw from another seed: people and questions without end, and passages of the documents held out as `clean`.
Scores are kept in FILE, by default calibration-scores.json in the current directory.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.benchmarks.limits import Line, print_and_exit
from workers.science.calibration.calibration import Calibration, calibrate
from workers.science.calibration.comparison import ShownText, sample_texts
from workers.science.calibration.grounds import CalibrationTexts, places_to_show
from workers.science.models.loading import load_language_model
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts
from workers.science.statistics.ranking import roc_auc
from workers.suite import biographies, multiple_choice
from workers.suite.preparation import PASSAGES, cut_passage
from workers.suite.sizes import SIZES

TRIALS = 200
NEVER, OFTEN, MOST_OFTEN = 0, 64, 256
MORE = 400
OTHER_SEED = 8_000
SIZE = "micro"


@dataclass(frozen=True)
class Scored:
    """A text of a group, how often it was inserted, and its NL under both models."""

    text: str
    group: str
    duplicates: int
    perturbed: float
    standard: float
    n_tokens: int


def judge(
    audited: Sequence[Scored], controls: Sequence[Scored], *, fdr: float, seed: int, paired: bool = False
) -> Calibration:
    """Calibrated as an audit of these texts would be, with their groups."""
    groups: dict[str, int] = {}
    judged, judges = (_numbers(side, groups, paired=paired) for side in (audited, controls))
    at_audited, at_controls = places_to_show(judged, judges, seed=seed)
    shown = (
        [ShownText.of(audited[place].text) for place in at_audited.tolist()],
        [ShownText.of(controls[place].text) for place in at_controls.tolist()],
    )
    return calibrate(judged, judges, shown, fdr=fdr, seed=seed)


def _numbers(texts: Sequence[Scored], groups: dict[str, int], *, paired: bool) -> CalibrationTexts:
    reference = np.array([text.standard for text in texts])
    statistics = np.array([text.perturbed for text in texts])
    return CalibrationTexts(
        statistics - reference if paired else statistics,
        np.array([text.n_tokens for text in texts]),
        reference if paired else None,
        np.array([groups.setdefault(text.group, len(groups)) for text in texts]),
    )


def read_texts(suite: Path, tokenizer: Any) -> list[tuple[str, str, int]]:
    """Texts, groups and duplicates: of the suite, and more that were never inserted."""
    records = [json.loads(line) for line in (suite / "texts.jsonl").read_text().splitlines()]
    texts = [(record["text"], record["group"], record["duplicates"]) for record in records]
    clean = [json.loads(line)["text"] for line in (suite / "clean.jsonl").read_text().splitlines()]
    passages = [cut_passage(document, tokenizer, SIZES[SIZE]) for document in clean]
    known = {text for text, _, _ in texts}
    more = {
        PASSAGES: [passage for passage in passages if passage is not None],
        biographies.GROUP: [d.text for d in biographies.draft_biographies(MORE, Random(OTHER_SEED))],
        multiple_choice.GROUP: [d.text for d in multiple_choice.draft_items(MORE, Random(OTHER_SEED))],
    }
    return texts + [(text, group, NEVER) for group in more for text in more[group] if text not in known]


def score(suite: Path, kept: Path) -> list[Scored]:
    if not kept.exists():
        models = {name: load_language_model(suite / name) for name in ("perturbed", "standard")}
        texts = read_texts(suite, models["perturbed"].tokenizer)
        options = ScoringOptions(metrics=frozenset(), token_evidence=False, prefix_token="eos")
        inputs = [TextInput(text) for text, _, _ in texts]
        perturbed, standard = (score_texts(model, inputs, options) for model in models.values())
        rows = [
            (*text, seen.nl, unseen.nl, seen.n_tokens)
            for text, seen, unseen in zip(texts, perturbed, standard, strict=True)
        ]
        kept.write_text(json.dumps(rows))
    return [Scored(*row) for row in json.loads(kept.read_text())]


def share(name: str, holds: Sequence[bool], least: float, most: float) -> Line:
    value = float(np.mean(holds))
    return Line(name, f"{value:.3f} of {len(holds)}", f"{least} to {most}", least <= value <= most)


@dataclass(frozen=True)
class Trials:
    """Seeded trials of `calibrate` on scored texts."""

    scored: list[Scored]

    def never(self, group: str | None = None) -> list[Scored]:
        return self.of(NEVER, NEVER, group)

    def of(self, least: int, most: int, group: str | None = None) -> list[Scored]:
        return [s for s in self.scored if least <= s.duplicates <= most and group in {None, s.group}]

    def uniformity(self, group: str | None, n: int, n_controls: int, *, paired: bool) -> Line:
        """The share of p <= 0.05 among never-inserted texts; 0.05 is one of the values that p can have."""
        low: list[bool] = []
        uncalibrated = 0
        pool = self.never(group)
        for seed in range(TRIALS):
            drawn = draw(pool, n + n_controls, seed)
            result = judge(drawn[:n], drawn[n:], fdr=0.05, seed=seed, paired=paired)
            low += (result.p_values[np.isfinite(result.p_values)] <= 0.05).tolist()
            uncalibrated += result.reason is not None
        name = f"p <= 0.05, {group or 'all groups'}, {n} against {n_controls}{' paired' if paired else ''}"
        return share(f"{name} ({uncalibrated} refused)", low, 0.03, 0.07)

    def discovery(self, group: str | None, n: int, n_controls: int, *, paired: bool) -> list[Line]:
        """False discoveries and power at q = 0.1; a tenth of the texts was inserted 64 times or more."""
        inserted, pool = self.of(OFTEN, MOST_OFTEN, group), self.never(group)
        false, power = [], []
        for seed in range(TRIALS):
            unseen = draw(pool, n - n // 10 + n_controls, seed)
            seen = draw(inserted, n // 10, seed + TRIALS)
            audited = seen + unseen[n_controls:]
            result = judge(audited, unseen[:n_controls], fdr=0.1, seed=seed, paired=paired)
            found = [verdict == "memorized" for verdict in result.verdicts]
            false.append(sum(found[len(seen) :]) / max(1, sum(found)))
            power.append(sum(found[: len(seen)]) / len(seen))
        name = f"{group or 'all groups'}, {n} against {n_controls}{' paired' if paired else ''}"
        rate, found_share = float(np.mean(false)), float(np.mean(power))
        return [
            Line(f"FDR at q = 0.1, {name}", f"{rate:.3f}", "<= 0.12", rate <= 0.12),
            Line(f"power, {name}", f"{found_share:.3f}", ">= 0.9", found_share >= 0.9),
        ]

    def refusals(self, audited: str, controls: str, n: int, n_controls: int) -> Line:
        """How often all verdicts are withheld because the controls differ."""
        refused = []
        for seed in range(TRIALS):
            texts = draw(self.never(audited), n + (n_controls if audited == controls else 0), seed)
            others = texts[n:] if audited == controls else draw(self.never(controls), n_controls, seed)
            refused.append(differ(judge(texts[:n], others, fdr=0.05, seed=seed)))
        name = f"refused: {audited} against {controls}, {n} and {n_controls}"
        return share(name, refused, *((0, 0.07) if audited == controls else (0.95, 1)))

    def memorized_pass(self, group: str, n_controls: int) -> Line:
        """How often inserted texts and controls of the same domain are told apart: they must not be."""
        refused = []
        for seed in range(TRIALS):
            seen = draw(self.of(1, MOST_OFTEN, group), 60, seed)
            controls = draw(self.never(group), n_controls, seed)
            refused.append(differ(judge(seen, controls, fdr=0.05, seed=seed)))
        return share(f"refused: inserted {group} against never inserted", refused, 0, 0.07)

    def level(self, group: str, n: int) -> Line:
        """How often the check alone finds a difference where there is none."""
        failed, pool = [], self.never(group)
        for seed in range(TRIALS):
            drawn = draw(pool, 2 * n, seed)
            random = np.random.default_rng(seed)
            lengths, labels = np.array([text.n_tokens for text in drawn]), np.arange(2 * n) < n
            check = sample_texts([ShownText.of(text.text) for text in drawn], lengths, labels)
            failed.append(not check.check(np.zeros(2 * n, dtype=int), random).passed)
        return share(f"check alone, {group}, {n} against {n}", failed, 0, 0.07)

    def ranking(self, group: str) -> list[Line]:
        never = [text.perturbed for text in self.never(group)]
        often = roc_auc([text.perturbed for text in self.of(MOST_OFTEN, MOST_OFTEN, group)], never)
        halves = roc_auc(never[::2], never[1::2])
        assert often is not None
        assert halves is not None
        assert halves.low is not None
        assert halves.high is not None
        interval = f"{halves.auc:.3f} [{halves.low:.3f}, {halves.high:.3f}]"
        covered = halves.low <= 0.5 <= halves.high
        return [
            Line(f"AUC of loss, 256 against 0, {group}", f"{often.auc:.4f}", ">= 0.99", often.auc >= 0.99),
            Line(f"AUC of loss, 0 against 0, {group}", interval, "0.5 within", covered),
        ]


def differ(result: Calibration) -> bool:
    return result.reason == "controls_differ"


def draw(pool: Sequence[Scored], n: int, seed: int) -> list[Scored]:
    places = np.random.default_rng([OTHER_SEED, seed]).permutation(len(pool))[:n]
    assert len(places) == n, "too few texts"
    return [pool[place] for place in places]


def measure(scored: list[Scored]) -> Iterator[Line]:
    trials = Trials(scored)
    groups = list(dict.fromkeys(text.group for text in scored))
    for group in groups:
        yield from trials.ranking(group)
        yield trials.uniformity(group, 40, 59, paired=False)
    yield trials.uniformity(None, 60, 99, paired=True)
    for paired in (False, True):
        for group in groups:
            yield from trials.discovery(group, 60, 119, paired=paired)
    yield from trials.discovery(None, 60, 139, paired=False)
    for audited in groups:
        yield from (trials.refusals(audited, controls, 40, 60) for controls in groups)
        yield trials.memorized_pass(audited, 60)
        yield trials.level(audited, 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--scores", type=Path, default=Path("calibration-scores.json"))
    arguments = parser.parse_args()
    print_and_exit(measure(score(arguments.suite, arguments.scores)))


if __name__ == "__main__":
    main()
