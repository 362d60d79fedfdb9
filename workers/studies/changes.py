"""Which texts a later version has newly memorized, and which it no longer has: single texts, with q-values.

The null distribution is that of control texts, which neither version saw more often than the other: their
paired differences are what a retraining changes anyway.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from app.contracts.results.calibration import Verdict
from app.contracts.studies import StoredStudyModel
from workers.science.calibration.calibration import Calibration, calibrate
from workers.science.calibration.comparison import ShownText
from workers.science.calibration.grounds import CalibrationTexts, places_to_show
from workers.science.studies.differences import Numbers
from workers.science.studies.levels import Codes, StudiedTexts

JSONObject = dict[str, Any]

# Of the texts that changed, so many are named in the result.
MOST_NAMED: Final = 100
NO_CONTROLS: Final = "no_controls"

ShowTexts = Callable[[Sequence[int]], list[ShownText]]
NameTexts = Callable[[Sequence[int]], dict[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What differences are compared with.

    Attributes:
        texts: the control texts under the models.
        show_audited: gives what the check of the comparison reads of the audited texts at some places.
        show_controls: the same of control texts.
        among_texts: how many control texts have no numbers because they are audited texts too.
        fdr: the share of false ones among those that are named.
        seed: of all that is drawn at random.
    """

    texts: StudiedTexts
    show_audited: ShowTexts
    show_controls: ShowTexts
    among_texts: int
    fdr: float
    seed: int


@dataclass(frozen=True, slots=True)
class Judged:
    """Texts that changed in one direction, by their places, the q-value of each, and how all were judged."""

    places: Codes
    q_values: Numbers
    found: Calibration


def change(
    models: Sequence[StoredStudyModel],
    texts: StudiedTexts,
    pair: tuple[int, int],
    controls: Controls | None,
    name_texts: NameTexts,
) -> JSONObject:
    """What became of single texts from one version to another.

    Args:
        models: of the study.
        texts: under the models.
        pair: the places of the earlier and the later version.
        controls: None if there are none: then no text is called memorized.
        name_texts: gives the ids of texts by their places.
    """
    earlier, later = pair
    differences = texts.nl[:, later] - texts.nl[:, earlier]
    named = _Named(differences, name_texts)
    reason: str | None = NO_CONTROLS
    risen = fallen = rise = fall = None
    if controls is not None:
        up, down = (judge(texts, pair, controls, sign=sign) for sign in (1, -1))
        reason = up.found.reason or down.found.reason
        rise, fall = (_judgement(each.found, controls) for each in (up, down))
        if reason is None:
            risen, fallen = named.of(up.places, up.q_values), named.of(down.places, down.q_values)
    before, after = texts.strict[:, earlier], texts.strict[:, later]
    told = bool((np.isfinite(before) & np.isfinite(after)).any())
    return {
        "from_label": models[earlier].label,
        "to_label": models[later].label,
        "verdict": "uncalibrated" if reason else "calibrated",
        "reason": reason,
        "rise": rise,
        "fall": fall,
        "newly_memorized": risen,
        "no_longer_memorized": fallen,
        "newly_recited": named.of(np.flatnonzero((before == 0) & (after == 1))) if told else None,
        "no_longer_recited": named.of(np.flatnonzero((before == 1) & (after == 0))) if told else None,
    }


def judge(texts: StudiedTexts, pair: tuple[int, int], controls: Controls, *, sign: int) -> Judged:
    """Which texts rose (sign 1) or fell (sign -1) more than controls do."""
    places, audited = _statistics(texts, pair, sign)
    control_places, compared = _statistics(controls.texts, pair, sign)
    fdr, seed = controls.fdr, controls.seed
    at_audited, at_controls = places_to_show(audited, compared, seed=seed)
    shown = (
        controls.show_audited(places[at_audited].tolist()),
        controls.show_controls(control_places[at_controls].tolist()),
    )
    found = calibrate(audited, compared, shown, fdr=fdr, seed=seed)
    told = np.array([verdict == "memorized" for verdict in found.verdicts], dtype=bool)
    return Judged(places[told], found.q_values[told], found)


def _judgement(found: Calibration, controls: Controls) -> JSONObject:
    """How texts were judged, as `app.contracts.results.studies.Judgement` reads it."""
    check, within = (each and asdict(each) for each in (found.check, found.check_within_strata))
    return {
        "fdr": found.fdr,
        "seed": controls.seed,
        "n_texts": found.n_audited,
        "n_controls": found.n_controls,
        "controls_among_texts": controls.among_texts,
        "verdicts": {
            Verdict.MEMORIZED: found.memorized,
            Verdict.NOT_SHOWN: found.n_audited - found.memorized - found.uncalibrated,
            Verdict.UNCALIBRATED: found.uncalibrated,
        },
        "least_p_of_all": found.least_p_of_all,
        "check": check,
        "strata": found.strata,
        "check_within_strata": within,
        "reason": found.reason,
    }


def _statistics(texts: StudiedTexts, pair: tuple[int, int], sign: int) -> tuple[Codes, CalibrationTexts]:
    """The texts that both versions could score, by their places, and their differences."""
    earlier, later = pair
    differences = sign * (texts.nl[:, later] - texts.nl[:, earlier])
    places = np.flatnonzero(np.isfinite(differences))
    return places, CalibrationTexts(differences[places], texts.n_tokens[places])


class _Named:
    """Texts with their ids and differences."""

    def __init__(self, differences: Numbers, name_texts: NameTexts) -> None:
        self._differences = differences
        self._name_texts = name_texts

    def of(self, places: Codes, q_values: Numbers | None = None) -> JSONObject:
        """How many there are, and those that come first."""
        sizes = -np.abs(self._differences[places])
        order = np.argsort(sizes) if q_values is None else np.lexsort((sizes, q_values))
        first = order[:MOST_NAMED].tolist()
        names = self._name_texts([int(places[each]) for each in first])
        return {
            "count": len(places),
            "texts": [
                {
                    "text_id": names[int(places[each])],
                    "difference": float(self._differences[places[each]]),
                    "q_value": None if q_values is None else float(q_values[each]),
                }
                for each in first
            ],
        }
