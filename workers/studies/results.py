"""What a study found, as `app.contracts.results.studies` reads it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from app.contracts.studies import StoredStudyModel
from workers.science.statistics.estimates import as_object
from workers.science.statistics.intervals import gain_between, mean_with_interval
from workers.science.statistics.shares import share_with_interval
from workers.science.studies.differences import Numbers, moments_of, transitions
from workers.science.studies.forgetting import find_half_life, find_peak
from workers.science.studies.levels import Level, StudiedTexts

JSONObject = dict[str, Any]

_NEVER_INSERTED: Final = 0


def compared_places(models: int) -> list[tuple[int, int]]:
    """Which models are compared, by their places: each with the first, and with the one before it."""
    return [(earlier, later) for later in range(1, models) for earlier in sorted({0, later - 1})]


def studied_model(
    model: StoredStudyModel, texts: StudiedTexts, place: int, levels: Sequence[Level]
) -> JSONObject:
    """What a study found of one language model by itself."""
    found = []
    for level in levels:
        nl, strict = texts.nl[level.places, place], _known(texts.strict[level.places, place])
        mean = as_object(mean_with_interval(moments_of(_known(nl))))
        if mean is not None:
            share = as_object(share_with_interval(int(strict.sum()), len(strict)))
            found.append({**_named(level), "nl": mean, "strict": share})
    return {**_labelled(model), "levels": found, "gain": _gain(texts, place, levels)}


def comparison(
    models: Sequence[StoredStudyModel], texts: StudiedTexts, pair: tuple[int, int], levels: Sequence[Level]
) -> JSONObject:
    """What became of the texts from one model to another."""
    earlier, later = pair
    changes = {
        (level.group, level.duplicates): _known(
            texts.nl[level.places, later] - texts.nl[level.places, earlier]
        )
        for level in levels
    }
    found = []
    for level in levels:
        change, strict = changes[level.group, level.duplicates], texts.strict[level.places]
        difference = as_object(mean_with_interval(moments_of(change)))
        if difference is None:
            continue
        excess = None
        never = changes.get((level.group, _NEVER_INSERTED))
        if level.duplicates and never is not None:
            excess = as_object(gain_between(moments_of(never), moments_of(change)))
        changed = transitions(strict[:, earlier], strict[:, later])
        found.append(
            {
                **_named(level),
                "difference": difference,
                "excess": excess,
                "transitions": asdict(changed) if changed else None,
            }
        )
    return {"from_label": models[earlier].label, "to_label": models[later].label, "levels": found}


def curves(
    models: Sequence[StoredStudyModel], texts: StudiedTexts, levels: Sequence[Level]
) -> list[JSONObject]:
    """How texts stand out from those never inserted, over the models of a trajectory."""
    scored = {
        (level.group, level.duplicates): _scored_by_all(texts.nl[level.places])
        for level in levels
        if level.duplicates is not None
    }
    steps = [model.step for model in models if model.step is not None]
    found = []
    for (group, duplicates), nl in scored.items():
        baseline = scored.get((group, _NEVER_INSERTED))
        if duplicates == _NEVER_INSERTED or baseline is None:
            continue
        peak = find_peak(nl, baseline)
        if peak is None:
            continue
        half_life = find_half_life(nl, baseline, steps, peak.place) if steps else None
        found.append(
            {
                "group": group,
                "duplicates": duplicates,
                "peak": {**_labelled(models[peak.place]), "excess": asdict(peak.excess)},
                "half_life": asdict(half_life) if half_life else None,
            }
        )
    return found


def _gain(texts: StudiedTexts, place: int, levels: Sequence[Level]) -> JSONObject | None:
    known = {
        level.duplicates: _known(texts.nl[level.places, place])
        for level in levels
        if level.group is None and level.duplicates is not None
    }
    scored = sorted(duplicates for duplicates, nl in known.items() if len(nl))
    if len(scored) < 2:  # noqa: PLR2004 - a gain is between two levels
        return None
    fewest, most = scored[0], scored[-1]
    gain = as_object(gain_between(moments_of(known[fewest]), moments_of(known[most])))
    return None if gain is None else {"from_duplicates": fewest, "to_duplicates": most, **gain}


def _labelled(model: StoredStudyModel) -> JSONObject:
    return {"label": model.label, "step": model.step}


def _named(level: Level) -> JSONObject:
    return {"group": level.group, "duplicates": level.duplicates}


def _known(numbers: Numbers) -> Numbers:
    return numbers[np.isfinite(numbers)]


def _scored_by_all(nl: Numbers) -> Numbers:
    """The texts that every model could score [texts, models]."""
    return nl[np.isfinite(nl).all(axis=1)]
