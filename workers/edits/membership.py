"""Membership of an edit's proof: are memorized texts told from those never inserted, before and after?"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from app.contracts.texts import TextSetRole
from workers.edits.evaluation import RECITED, Readings
from workers.science.metrics.membership import MOST_RANKED, SEED
from workers.science.statistics.intervals import Values
from workers.science.statistics.paired import auc_change
from workers.science.statistics.ranking import roc_auc
from workers.science.statistics.reservoir import Reservoir

JSONObject = dict[str, Any]
Scores = Mapping[str, float] | None
CHANCE: Final = 0.5
LOSS: Final = ("loss",)
EVERY_SCORE: Final = ("loss", "zlib", "min_k", "min_k_pp")


class Membership:
    """Scores of texts by set, of at most MOST_RANKED of each, drawn at random.

    Args:
        names: of the scores; each is higher for what is more likely a member.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._paired: dict[TextSetRole, Reservoir] = {}
        self._reference: dict[TextSetRole, Reservoir] = {}

    def add(self, role: TextSetRole, before: Scores, after: Scores) -> None:
        """Take in a text that both models could score."""
        if before is not None and after is not None:
            self._of(self._paired, role, 2).add([*self._values(before), *self._values(after)])

    def add_reference(self, role: TextSetRole, scores: Scores) -> None:
        """Take in a text that the reference model could score."""
        if scores is not None:
            self._of(self._reference, role, 1).add(self._values(scores))

    def result(self) -> JSONObject | None:
        """A `MembershipChange` by text set and score; None without texts to tell from one another."""
        control = self._paired.get(TextSetRole.CONTROL)
        roles = [role for role in RECITED if role in self._paired]
        if control is None or not roles:
            return None
        return {
            str(role): {name: self._change(role, number) for number, name in enumerate(self._names)}
            for role in roles
        }

    def _of(self, kept: dict[TextSetRole, Reservoir], role: TextSetRole, models: int) -> Reservoir:
        columns = models * len(self._names)
        return kept.setdefault(role, Reservoir(columns, room=MOST_RANKED, seed=SEED))

    def _values(self, scores: Mapping[str, float]) -> list[float]:
        return [scores[name] for name in self._names]

    def _change(self, role: TextSetRole, number: int) -> JSONObject:
        columns = number, number + len(self._names)
        members, others = (
            tuple(self._paired[each].column(column) for column in columns)
            for each in (role, TextSetRole.CONTROL)
        )
        change = auc_change((members[0], members[1]), (others[0], others[1]))
        before, after = (_auc(members[when], others[when]) for when in (0, 1))
        reference = None
        if {role, TextSetRole.CONTROL} <= self._reference.keys():
            sides = (self._reference[each].column(number) for each in (role, TextSetRole.CONTROL))
            reference = _auc(*sides)
        return {
            "before": before,
            "after": after,
            "change": None if change is None else asdict(change),
            "reference": reference,
            "over_forgotten": _over_forgotten(after, reference),
        }


def _auc(members: Values, others: Values) -> JSONObject | None:
    estimate = roc_auc(members, others)
    return None if estimate is None else asdict(estimate)


def least_auc(reference: JSONObject | None) -> float:
    """Below which AUC a model avoids texts: chance, or what one that never saw them comes to, if less."""
    if reference is None or reference["low"] is None:
        return CHANCE
    return min(CHANCE, float(reference["low"]))


def _over_forgotten(after: JSONObject | None, reference: JSONObject | None) -> bool:
    """Whether a model clearly avoids texts: the whole interval is below `least_auc`."""
    return after is not None and after["high"] is not None and after["high"] < least_auc(reference)


def membership_of_readings(before: Readings, after: Readings) -> Membership:
    """Membership by loss, from what was measured anyway."""
    found = Membership(LOSS)
    for role in (*RECITED, TextSetRole.CONTROL):
        if role in before.sets:
            pairs = zip(before.sets[role].rows, after.sets[role].rows, strict=True)
            for (_, was), (_, became) in pairs:
                found.add(role, _loss(was.nl), _loss(became.nl))
    return found


def _loss(nl: float | None) -> Scores:
    return None if nl is None else {"loss": nl}
