"""What a study shows of its audits' scores. Oracles: numpy on the same numbers; simulated runs."""

import numpy as np
import pytest
from scipy import stats

from app.contracts.results.studies import StudyResult
from app.contracts.studies import StoredStudyModel
from workers.science.studies.levels import MOST_LEVELS, UNKNOWN, StudiedTexts, levels_of
from workers.studies.results import compared_places, comparison, curves, studied_model


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
    assert len(levels) <= MOST_LEVELS
    many = studied(nl, groups=[None] * 400, duplicates=list(range(400)))
    assert [(level.group, level.duplicates) for level in levels_of(many)] == [(None, None)]
