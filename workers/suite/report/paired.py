"""The same texts under two models: what the one makes of them more than the other."""

from collections.abc import Iterable, Sequence

from workers.science.statistics.intervals import Moments, gain_between
from workers.suite.report.audit import Audited
from workers.suite.report.finding import Cell, Row, levels_of, named_groups, written

DIFFERENCE, BEYOND = "NL difference", "beyond never inserted"


def compare(audited: Audited, first: str, second: str) -> list[Row]:
    """NL under the first model less NL under the second, text by text, in nats a token.

    `BEYOND` is the mean difference less that of the group's texts that were never inserted. What two
    trainings do to any text of a kind, such as to the template of all biographies, drops out of it.
    """
    differences = audited.nl(first) - audited.nl(second)
    rows: list[Row] = []
    for name, groups in named_groups(audited).items():
        found = [
            (level, Moments.of(differences[place].tolist())) for level, place in levels_of(audited, groups)
        ]
        for level, moments in found:
            cell = Cell(f"{first} - {second}", name, level)
            rows += cell.mean(DIFFERENCE, moments)
            if level and not found[0][0]:
                rows += cell.estimate(BEYOND, gain_between(found[0][1], moments))
    return rows


def excludes_zero(row: Row) -> bool:
    """Whether the interval lies on one side of 0."""
    return row.low is not None and row.high is not None and not row.low <= 0 <= row.high


def shown_both_ways(rows: Sequence[Row]) -> list[Row]:
    """The differences that exclude 0, and do so on the same side beyond what was never inserted.

    Where both models may recite a text whole, its NL is near 0 under either and cannot differ: taking off the
    change of other texts then makes up a difference, and leaving it on takes that change for one.
    """
    beyond = {(row.model, row.group, row.duplicates): row for row in rows if row.measure == BEYOND}
    return [
        row
        for row in rows
        if row.measure == DIFFERENCE
        and excludes_zero(row)
        and (other := beyond.get((row.model, row.group, row.duplicates))) is not None
        and excludes_zero(other)
        and (other.value > 0) == (row.value > 0)
    ]


def verdict(rows: Iterable[Row], group: str, higher: str, lower: str) -> str:
    """A sentence on a group: at which duplicates the difference beyond never inserted is which, and how much.

    Args:
        rows: of one comparison.
        group: which texts.
        higher: what it means that the first model's are likelier.
        lower: what it means that they are less likely.
    """
    told = [row for row in rows if row.group == group and row.measure == BEYOND]
    if not told:
        return f"{group}: without texts that were never inserted there is nothing to compare with."
    signs = {
        higher: [row for row in told if excludes_zero(row) and row.value > 0],
        lower: [row for row in told if excludes_zero(row) and row.value < 0],
        "no difference is shown": [row for row in told if not excludes_zero(row)],
    }
    said = [f"{meaning} at {levels(found)}" for meaning, found in signs.items() if found]
    return (
        f"{group}: {'; '.join(said)} duplicates. At {told[-1].duplicates}: {written(told[-1])} nats a token."
    )


def levels(rows: Iterable[Row]) -> str:
    """The numbers of duplicates of some rows."""
    return ", ".join(str(row.duplicates) for row in rows)
