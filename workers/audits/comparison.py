"""An audit's texts beside those of its companions, once all of these are scored.

What is compared is `nl`, or with a reference model `nl` less that under the reference.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from app.contracts.audits import AuditOptions
from app.contracts.results.calibration import Verdict
from app.errors import ScoresMissing
from app.store.audits import Audit
from app.store.companions import Companion, CompanionRole
from app.store.scores import ScoreFacts, read_score_facts
from app.store.texts import iterate_text_batches
from workers.audits.dose_response import MOST_LEVELS
from workers.audits.findings import Findings
from workers.audits.shown import show_texts
from workers.science.calibration.calibration import Calibration, calibrate
from workers.science.calibration.comparison import MOST_CHARACTERS, ShownText
from workers.science.calibration.grounds import CalibrationTexts, places_to_show
from workers.science.calibration.shared_texts import shared_places
from workers.science.statistics.estimates import Mean, as_object

JSONObject = dict[str, Any]
Array = npt.NDArray[Any]

# More groups than this are no kinds of texts: texts are then compared whatever their group.
MOST_GROUPS: Final = 1000
_UNKNOWN: Final = -1


class Numbers:
    """What is compared of the texts of an audit, by their places; NaN for a text without numbers.

    Args:
        groups: the numbers of groups by their names, which those of new ones are added to.
    """

    def __init__(self, groups: dict[str | None, int]) -> None:
        self._names = groups
        self._groups = array("i")
        self._nl = array("d")
        self._n_tokens = array("q")
        self._duplicates = array("q")

    def add(self, fact: ScoreFacts) -> None:
        """Take the next text in."""
        self._nl.append(float("nan") if fact.nl is None else fact.nl)
        self._n_tokens.append(fact.n_tokens)
        self._duplicates.append(_UNKNOWN if fact.duplicates is None else fact.duplicates)
        if fact.group not in self._names and len(self._names) <= MOST_GROUPS:
            self._names[fact.group] = len(self._names)
        self._groups.append(self._names.get(fact.group, _UNKNOWN))

    def __len__(self) -> int:
        """How many texts were taken in."""
        return len(self._nl)

    @property
    def nl(self) -> Array:
        """NL of each text [texts]."""
        return np.array(self._nl)

    @property
    def n_tokens(self) -> Array:
        """Scored tokens of each text [texts]."""
        return np.array(self._n_tokens)

    @property
    def groups(self) -> Array | None:
        """The number of each text's group [texts]; None if none has one, or there are too many."""
        groups = np.array(self._groups)
        if len(self._names) > MOST_GROUPS or (groups == self._names.get(None, _UNKNOWN)).all():
            return None
        return groups

    @property
    def duplicates(self) -> Array:
        """Known insertions of each text [texts], negative where they are not known."""
        return np.array(self._duplicates)


@dataclass(frozen=True, slots=True)
class ToCalibrate:
    """What is judged, and by what.

    Attributes:
        audited: the texts to judge.
        controls: those that they are judged by.
        shown: those of either that the check of the comparison reads.
        among_texts: how many controls were left out because they are audited texts too.
    """

    audited: CalibrationTexts
    controls: CalibrationTexts
    shown: tuple[list[ShownText], list[ShownText]]
    among_texts: int


class Comparison:
    """An audit beside its companions. Its texts come one by one, as the summary takes them.

    Args:
        session: to read with.
        audit: whose companions these are.
        companions: by role, all succeeded.
        on_row: called at each row and batch of texts; may raise to stop.

    Raises:
        ScoresMissing: a companion has a row too many or too few.
    """

    def __init__(
        self,
        session: Session,
        audit: Audit,
        companions: Mapping[str, Companion],
        on_row: Callable[[], object],
    ) -> None:
        self._session = session
        self._on_row = on_row
        self._text_set_id = audit.text_set_id
        self._shots = audit.recall_shots or 0
        self._groups: dict[str | None, int] = {}
        self._numbers = Numbers(self._groups)
        reference = companions.get(CompanionRole.REFERENCE)
        self._reference = None if reference is None else self._read(reference, audit.texts_total).nl
        self._controls = companions.get(CompanionRole.CONTROL)
        self._reference_controls = companions.get(CompanionRole.REFERENCE_CONTROL)

    def add(self, fact: ScoreFacts) -> ScoreFacts:
        """Take the next audited text in; the same with what its `membership` lacks without the reference."""
        place = len(self._numbers)
        self._numbers.add(fact)
        membership = fact.metrics.get("membership")
        if self._reference is None or membership is None or fact.nl is None:
            return fact
        difference = fact.nl - float(self._reference[place])
        known = membership | {"reference": difference if np.isfinite(difference) else None}
        return replace(fact, metrics=fact.metrics | {"membership": known})

    def to_calibrate(self, options: AuditOptions) -> ToCalibrate | None:
        """The texts with their numbers, read while the session lasts; None without controls.

        Controls that are among the audited texts are left out: a text is no control of itself. So are those
        that stood before the audited texts for ReCaLL.
        """
        if self._controls is None:
            return None
        text_set_id = self._controls.text_set_id
        controls = self._read(self._controls)
        reference = None
        if self._reference_controls is not None:
            reference = self._read(self._reference_controls, len(controls)).nl
        shared = self._shared(text_set_id)
        used = np.append(shared, np.arange(self._shots))
        usable = np.setdiff1d(_comparable(controls.nl, reference), used)
        audited = _comparable(self._numbers.nl, self._reference)
        to_judge = _texts(self._numbers, audited, self._reference)
        judges = _texts(controls, usable, reference)
        at_audited, at_controls = places_to_show(to_judge, judges, seed=options.seed)
        shown = (
            show_texts(self._session, self._text_set_id, audited[at_audited].tolist(), self._on_row),
            show_texts(self._session, text_set_id, usable[at_controls].tolist(), self._on_row),
        )
        return ToCalibrate(to_judge, judges, shown, len(shared))

    def calibrate(
        self, given: ToCalibrate | None, options: AuditOptions, findings: Findings
    ) -> JSONObject | None:
        """Judge each audited text by the controls; None without controls.

        Returns:
            What `app.contracts.results.calibration.Calibration` reads.
        """
        if given is None:
            return None
        found = calibrate(
            given.audited,
            given.controls,
            given.shown,
            fdr=options.fdr,
            seed=options.seed,
            on_progress=self._on_row,
        )
        _put(findings, _comparable(self._numbers.nl, self._reference), found)
        return {
            "statistic": "nl" if self._reference is None else "reference",
            "seed": options.seed,
            "controls_among_texts": given.among_texts,
            "characters": MOST_CHARACTERS,
            **_as_object(found),
        }

    def reference_difference(self, findings: Findings) -> JSONObject | None:
        """How much higher NL is than under the reference model, text by text; None without one.

        Returns:
            What `app.contracts.results.calibration.ReferenceDifference` reads.
        """
        if self._reference is None:
            return None
        places = _comparable(self._numbers.nl, self._reference)
        differences = (self._numbers.nl - self._reference)[places].tolist()
        findings.put("reference", places, differences)
        overall, levels = Mean(), dict[int, Mean]()
        duplicates = self._numbers.duplicates[places].tolist()
        for level, difference in zip(duplicates, differences, strict=True):
            overall.add(difference)
            if level != _UNKNOWN:
                levels.setdefault(level, Mean()).add(difference)
        few = sorted(levels) if len(levels) <= MOST_LEVELS else []
        by_duplicates = [{"duplicates": level, "difference": levels[level].result()} for level in few]
        return {"difference": overall.result(), "by_duplicates": by_duplicates}

    def _read(self, companion: Companion, expected: int | None = None) -> Numbers:
        numbers = Numbers(self._groups)
        for fact in read_score_facts(self._session, companion.audit_id, companion.text_set_id):
            self._on_row()
            numbers.add(fact)
        if expected not in {None, len(numbers)}:
            raise ScoresMissing(f"{expected} texts have {len(numbers)} score rows in a companion.")
        return numbers

    def _shared(self, control_text_set_id: UUID) -> Array:
        """The places of controls whose text is among the audited ones too."""
        return shared_places(self._all_texts(self._text_set_id), self._all_texts(control_text_set_id))

    def _all_texts(self, text_set_id: UUID) -> Iterator[str]:
        for batch in iterate_text_batches(self._session, text_set_id):
            self._on_row()
            yield from batch


def _texts(numbers: Numbers, places: Array, reference: Array | None) -> CalibrationTexts:
    """What is compared of the texts at some places."""
    nl, groups = numbers.nl[places], numbers.groups
    beside = None if reference is None else reference[places]
    return CalibrationTexts(
        statistics=nl if beside is None else nl - beside,
        n_tokens=numbers.n_tokens[places],
        reference=beside,
        groups=None if groups is None else groups[places],
    )


def _comparable(nl: Array, reference: Array | None) -> Array:
    """The places of the texts that have all numbers."""
    return np.flatnonzero(np.isfinite(nl if reference is None else nl - reference))


def _put(findings: Findings, places: Array, found: Calibration) -> None:
    """Note what was found of those texts that have a verdict."""
    known = np.isfinite(found.p_values)
    findings.put("p_value", places[known], found.p_values[known])
    findings.put("q_value", places[known], found.q_values[known])
    findings.put("verdict", places[known], np.array(found.verdicts, dtype=object)[known])


def _as_object(found: Calibration) -> JSONObject:
    """A calibration as JSON has it: of its findings, how many there are of each verdict."""
    nothing = np.empty(0)
    plain = asdict(replace(found, p_values=nothing, q_values=nothing))
    del plain["p_values"], plain["q_values"]
    memorized, uncalibrated = plain.pop("memorized"), plain.pop("uncalibrated")
    verdicts = {
        Verdict.MEMORIZED: memorized,
        Verdict.NOT_SHOWN: found.n_audited - memorized - uncalibrated,
        Verdict.UNCALIBRATED: uncalibrated,
    }
    return plain | {"verdicts": verdicts, "effect": as_object(found.effect)}
