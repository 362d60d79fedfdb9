"""What a study shows of its audits' scores. Oracles: numpy on the same numbers; simulated runs."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from app.contracts.results.studies import Change, StudyResult
from app.contracts.studies import StoredStudyModel
from workers.science.calibration.comparison import ShownText
from workers.science.studies.levels import MOST_STUDIED_LEVELS, UNKNOWN, StudiedTexts, levels_of
from workers.studies.changes import Controls, change
from workers.studies.results import compared_places, comparison, curves, studied_model

# Twelve of so many make texts that share few.
WORDS = ["".join(letters) for letters in product("bdfklmnprst", "aeiou", "bdfklmnprst", "aeiou")]


def models(labels: str, *, steps: bool = False) -> list[StoredStudyModel]:
    return [
        StoredStudyModel(model="mdl_x", label=label, step=100 * place if steps else None)
        for place, label in enumerate(labels)
    ]


def studied(nl: np.ndarray, *, groups: list[str | None], duplicates: list[int | None]) -> StudiedTexts:
    """Texts [texts, models], those of an NL above -1 recited."""
    names = sorted({group for group in groups if group})
    return StudiedTexts(
        names=names,
        groups=np.array([names.index(group) if group else UNKNOWN for group in groups]),
        duplicates=np.array([UNKNOWN if each is None else each for each in duplicates]),
        n_tokens=np.full(len(nl), 50),
        nl=nl,
        strict=np.where(np.isfinite(nl), nl > -1, np.nan),
    )


def whole(kind: str, of: list[StoredStudyModel], texts: StudiedTexts) -> StudyResult:
    levels = levels_of(texts)
    return StudyResult.model_validate(
        {
            "kind": kind,
            "models": [studied_model(model, texts, place, levels) for place, model in enumerate(of)],
            "comparisons": [comparison(of, texts, pair, levels) for pair in compared_places(len(of))],
            "curves": curves(of, texts, levels),
            "changes": None,
        }
    )


def test_a_pair_is_compared_text_by_text_at_each_level() -> None:
    random = np.random.default_rng(0)
    duplicates: list[int | None] = [0, 4] * 20
    baseline = random.normal(-3, 1, 40)
    later = baseline + np.array(duplicates) / 2 + random.normal(0, 0.1, 40)
    later[1] = np.nan
    groups: list[str | None] = ["a"] * 20 + ["b"] * 18 + [None] * 2
    result = whole(
        "pair", models("sp"), studied(np.stack([baseline, later], 1), groups=groups, duplicates=duplicates)
    )

    (found,) = result.comparisons
    assert (found.from_label, found.to_label) == ("s", "p")
    named = [(level.group, level.duplicates, level.difference.n) for level in found.levels]
    assert named == [
        (None, None, 39), (None, 0, 20), (None, 4, 19), ("a", None, 19), ("b", None, 18),
        ("a", 0, 10), ("a", 4, 9), ("b", 0, 9), ("b", 4, 9),
    ]  # fmt: skip
    at_four = found.levels[2]
    assert at_four.difference.mean == pytest.approx(np.nanmean((later - baseline)[1::2]))
    paired = stats.ttest_rel(later[3::2], baseline[3::2]).confidence_interval(0.95)
    assert (at_four.difference.low, at_four.difference.high) == pytest.approx(tuple(paired), abs=0.02)
    assert at_four.excess is not None
    assert at_four.excess.mean == pytest.approx(at_four.difference.mean - found.levels[1].difference.mean)
    welch = stats.ttest_ind((later - baseline)[3::2], (later - baseline)[::2], equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert (at_four.excess.low, at_four.excess.high) == pytest.approx(tuple(interval), abs=0.02)
    assert [level.excess is None for level in found.levels[:5]] == [True, True, False, True, True]
    assert at_four.transitions is not None
    before, after = baseline[3::2] > -1, later[3::2] > -1
    assert (at_four.transitions.lost, at_four.transitions.gained) == (
        sum(before & ~after),
        sum(after & ~before),
    )
    gains = [model.gain.mean for model in result.models if model.gain]
    assert gains == pytest.approx(
        [column[1::2][~np.isnan(column[1::2])].mean() - column[::2].mean() for column in (baseline, later)]
    )
    overall = result.models[1].levels[0]
    assert (overall.nl.n, overall.nl.mean) == (39, pytest.approx(np.nanmean(later)))
    assert overall.strict is not None
    assert (overall.strict.n, overall.strict.count) == (39, sum(later[~np.isnan(later)] > -1))


def test_a_trajectory_has_its_peak_and_its_half_life_by_level() -> None:
    random = np.random.default_rng(0)
    decay = np.array([0.2, 1.0, 0.7, 0.3, 0.1])
    duplicates: list[int | None] = [0] * 30 + [16] * 30
    nl = -4 + 0.3 * np.arange(5) + random.normal(0, 0.1, (60, 5))
    nl[30:] += 2 * decay
    texts = studied(nl, groups=["a"] * 60, duplicates=duplicates)
    result = whole("trajectory", models("vwxyz", steps=True), texts)
    assert result.curves is not None
    assert [(curve.group, curve.duplicates) for curve in result.curves] == [(None, 16), ("a", 16)]
    for curve in result.curves:
        assert (curve.peak.label, curve.peak.step) == ("w", 100)
        assert curve.peak.excess.mean == pytest.approx(2.0, abs=0.1)
        assert curve.half_life is not None
        # Half of 1.0 lies half-way between 0.7 and 0.3, which are 100 and 200 steps after the peak.
        assert curve.half_life.steps == pytest.approx(150, abs=10)
        assert curve.half_life.low is not None
        assert curve.half_life.high is not None
        assert curve.half_life.low < 150 < curve.half_life.high
    assert [(each.from_label, each.to_label) for each in result.comparisons] == [
        ("v", "w"), ("v", "x"), ("w", "x"), ("v", "y"), ("x", "y"), ("v", "z"), ("y", "z"),
    ]  # fmt: skip
    without_steps = curves(models("vwxyz"), texts, levels_of(texts))
    assert [curve["half_life"] for curve in without_steps] == [None, None]
    assert without_steps[0]["peak"]["label"] == "w"


def test_of_very_many_levels_the_kinds_that_come_last_are_left_out() -> None:
    nl = np.zeros((400, 2))
    duplicates: list[int | None] = [place % 10 for place in range(400)]
    texts = studied(nl, groups=[f"group {place % 100:02}" for place in range(400)], duplicates=duplicates)
    levels = levels_of(texts)
    assert (len(levels), levels[0].group, levels[1].duplicates, levels[-1].group) == (
        111,
        None,
        0,
        "group 99",
    )
    assert len(levels) <= MOST_STUDIED_LEVELS
    many = studied(nl, groups=[None] * 400, duplicates=list(range(400)))
    assert [(level.group, level.duplicates) for level in levels_of(many)] == [(None, None)]


def names(places: Sequence[int]) -> dict[int, str]:
    return {place: f"t{place}" for place in places}


def test_without_controls_a_release_tells_who_recites_what_and_calls_nothing_memorized() -> None:
    nl = np.array([[-3.0, -0.5], [-2.0, -0.9], [-0.2, -1.5], [-0.1, -0.2], [-3.0, np.nan]])
    texts = studied(nl, groups=[None] * 5, duplicates=[None] * 5)
    found = Change.model_validate(change(models("ab"), texts, (0, 1), None, names))
    assert (found.verdict, found.reason) == ("uncalibrated", "no_controls")
    assert (found.newly_memorized, found.no_longer_memorized) == (None, None)
    assert found.newly_recited is not None
    assert found.no_longer_recited is not None
    # The greatest change first; a text that one could not score is none of either.
    assert [(each.text_id, each.difference) for each in found.newly_recited.texts] == [
        ("t0", 2.5),
        ("t1", pytest.approx(1.1)),
    ]
    assert [(each.text_id, each.q_value) for each in found.no_longer_recited.texts] == [("t2", None)]
    unasked = replace(texts, strict=np.full_like(nl, np.nan))
    assert change(models("ab"), unasked, (0, 1), None, names)["newly_recited"] is None


def test_of_many_changes_a_hundred_are_named_and_all_are_counted() -> None:
    nl = np.stack([np.full(300, -2.0), np.linspace(-0.9, -0.1, 300)], 1)
    found = change(
        models("ab"), studied(nl, groups=[None] * 300, duplicates=[None] * 300), (0, 1), None, names
    )
    assert found["newly_recited"]["count"] == 300
    assert [each["text_id"] for each in found["newly_recited"]["texts"]] == [
        f"t{299 - place}" for place in range(100)
    ]


def test_what_a_version_newly_memorized_is_told_from_what_retraining_moves() -> None:
    """Simulated: all texts move a little, forty of three hundred rise and thirty fall by more."""
    random = np.random.default_rng(0)
    words = [" ".join(random.choice(WORDS, 12)) for _ in range(900)]
    moved = np.zeros(300)
    moved[:40], moved[40:70] = 1.5, -1.5
    first = random.normal(-3, 0.7, 900)
    nl = np.stack([first, first + 0.2 + random.normal(0, 0.2, 900)], 1)
    nl[:300, 1] += moved
    audited = studied(nl[:300], groups=[None] * 300, duplicates=[None] * 300)
    controls = Controls(
        texts=studied(nl[300:], groups=[None] * 600, duplicates=[None] * 600),
        show_audited=lambda places: [ShownText.of(words[place]) for place in places],
        show_controls=lambda places: [ShownText.of(words[300 + place]) for place in places],
        among_texts=2,
        fdr=0.1,
        seed=0,
    )
    found = Change.model_validate(change(models("ab"), audited, (0, 1), controls, names))
    assert (found.verdict, found.reason) == ("calibrated", None)
    for judged, changed in ((found.rise, found.newly_memorized), (found.fall, found.no_longer_memorized)):
        assert judged is not None
        assert changed is not None
        assert (judged.n_texts, judged.n_controls, judged.controls_among_texts) == (300, 600, 2)
        assert (judged.fdr, judged.reason, judged.strata) == (0.1, None, 1)
        assert judged.verdicts.memorized == changed.count
        assert judged.verdicts.not_shown == 300 - changed.count - judged.verdicts.uncalibrated
        assert judged.check is not None
    for changed, truth in ((found.newly_memorized, range(40)), (found.no_longer_memorized, range(40, 70))):
        assert changed is not None
        told = {int(each.text_id[1:]) for each in changed.texts}
        assert len(told) == changed.count
        assert len(told & set(truth)) >= 0.9 * len(truth)
        assert len(told - set(truth)) <= 0.2 * len(told)
        assert all(each.q_value is not None and 0 < each.q_value <= 0.1 for each in changed.texts)
