"""NL by duplicates as an audit finds it: monotone fits, and what texts of unknown count are worth."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from app.store.score_findings import FindingRow
from app.store.scores import read_unknown_counts
from workers.science.statistics.dose_response import DoseResponse, Numbers, Sample, fit_dose_response

JSONObject = dict[str, Any]
Fits = Mapping[str | None, DoseResponse]

# More levels than this are not kept: the groups are then not levels of anything.
MOST_LEVELS: Final = 1000
_TEXTS_AT_ONCE: Final = 1000


class DoseResponses:
    """NL by duplicates, of all texts and of each group; of none as soon as there are too many levels."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str | None, int], Sample] | None = {}

    def add(self, group: str | None, duplicates: int | None, nl: float) -> None:
        """Take a text in, if its count is known."""
        if duplicates is None:
            return
        for key in {(None, duplicates), (group, duplicates)}:
            if self._samples is None:
                return
            if key not in self._samples and len(self._samples) == MOST_LEVELS:
                self._samples = None
                return
            self._samples.setdefault(key, Sample()).add(nl)

    def fits(self) -> dict[str | None, DoseResponse]:
        """The fit of all texts, under None, then of each group that has one.

        A group's must reach from the fewest to the most duplicates of all texts, or it could not tell of
        texts that are repeated more often than its own.
        """
        by_group: dict[str | None, dict[int, Sample]] = {None: {}}
        for (group, duplicates), sample in (self._samples or {}).items():
            by_group.setdefault(group, {})[duplicates] = sample
        overall = fit_dose_response(by_group.pop(None))
        if overall is None:
            return {}
        fits: dict[str | None, DoseResponse] = {None: overall}
        for group in sorted(by_group, key=str):
            fit = fit_dose_response(by_group[group])
            if fit is not None and _reaches_as_far(fit, overall):
                fits[group] = fit
        return fits


def _reaches_as_far(fit: DoseResponse, overall: DoseResponse) -> bool:
    return bool(fit.levels[0] == overall.levels[0] and fit.levels[-1] == overall.levels[-1])


def equivalent_rows(session: Session, audit_id: UUID, fits: Fits) -> Iterator[FindingRow]:
    """What each text of unknown count is worth, in order, read from the database as it is asked for.

    None without a fit.
    """
    if not fits:
        return
    texts = read_unknown_counts(session, audit_id)
    while some := list(islice(texts, _TEXTS_AT_ONCE)):
        worth = equivalents_of(fits, [text.group for text in some], np.array([text.nl for text in some]))
        for text, (duplicates, low, high) in zip(some, worth.tolist(), strict=True):
            yield FindingRow(
                audit_id=audit_id,
                ordinal=text.ordinal,
                equivalent_duplicates=duplicates,
                equivalent_low=low,
                equivalent_high=high,
            )


def equivalents_of(fits: Fits, groups: Sequence[str | None], nl: Numbers) -> Numbers:
    """What texts are worth by the fit of their group, else by that of all texts.

    Args:
        fits: as `DoseResponses.fits` gives them, not empty.
        groups: of the texts [texts].
        nl: of the texts [texts].

    Returns:
        Equivalent duplicates and the ends of their interval [texts, 3].
    """
    found = np.empty((len(nl), 3))
    keys = [group if group in fits else None for group in groups]
    for key in set(keys):
        chosen = [each == key for each in keys]
        worth = fits[key].equivalents(nl[chosen])
        found[chosen] = np.stack([worth.duplicates, worth.low, worth.high], axis=1)
    return found


def fits_as_objects(fits: Fits) -> list[JSONObject]:
    """Fits as a summary has them."""
    return [
        {
            "group": group,
            "fitted": [
                {"duplicates": int(level), "nl": nl}
                for level, nl in zip(fit.levels.tolist(), fit.fitted.tolist(), strict=True)
            ],
        }
        for group, fit in fits.items()
    ]


def extraction_onset(levels: Iterable[JSONObject], rate: float) -> list[JSONObject]:
    """From which level on, of each group, more texts than this share are recited.

    Args:
        levels: of a summary, by group and then by duplicates, fewest first.
        rate: the share that is to be exceeded.
    """
    found: dict[str | None, JSONObject] = {}
    for level in levels:
        group, duplicates, strict = level["group"], level["duplicates"], level.get("strict")
        if duplicates is None or strict is None:
            continue
        nothing = {"group": group, "rate": rate, "duplicates": None, "duplicates_certain": None}
        onset = found.setdefault(group, nothing)
        for name, share in (("duplicates", strict["share"]), ("duplicates_certain", strict["low"])):
            if onset[name] is None and share > rate:
                onset[name] = duplicates
    return list(found.values())
