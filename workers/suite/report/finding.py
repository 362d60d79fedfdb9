"""A finding: a question, its answer in words, the numbers, and what is drawn of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.plots.bars import Bar
from workers.science.statistics.intervals import MeanEstimate, Moments, mean_with_interval
from workers.science.statistics.ranking import AucEstimate
from workers.science.statistics.shares import share_with_interval
from workers.suite import biographies, multiple_choice
from workers.suite.preparation import PASSAGES
from workers.suite.report.audit import Audited, Mask

# One of each domain; HUBBLE pools them in none of its tables, but few texts at a level show more together.
OWN_GROUPS = (PASSAGES, biographies.GROUP, multiple_choice.GROUP)
ALL = "all three"


@dataclass(frozen=True, slots=True)
class Row:
    """One number: `n` texts of a group at a number of duplicates under a model, and its 95 % interval."""

    model: str
    group: str
    duplicates: int
    measure: str
    n: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Grid:
    """A table for readers: rows of cells below a header."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Panel:
    """A plot of numbers by duplicates, one line a series.

    Attributes:
        title: above it.
        y_title: what is drawn, with its unit.
        rows: what is drawn.
        series: the name of the line that a row belongs to.
        legend: what tells the lines apart.
        baseline: a number to compare with, drawn as a rule.
    """

    title: str
    y_title: str
    rows: tuple[Row, ...]
    series: Callable[[Row], str]
    legend: str = "texts"
    baseline: float | None = None


@dataclass(frozen=True)
class Finding:
    """What the report says of one question; `name` is that of its table and of its plots' files."""

    name: str
    title: str
    question: str
    answers: tuple[str, ...]
    rows: tuple[Row, ...]
    grids: tuple[Grid, ...]
    panels: tuple[Panel, ...]
    explanation: str = ""  # what to know before the answers
    bars: tuple[Bar, ...] = ()  # a plot of their own, of shares that are kept
    reference: str = ""  # whose numbers stand beside the bars


@dataclass(frozen=True)
class Cell:
    """The place of a number: which texts under which model."""

    model: str
    group: str
    duplicates: int

    def mean(self, measure: str, moments: Moments) -> list[Row]:
        """The mean of values with its interval; nothing without values."""
        return self.estimate(measure, mean_with_interval(moments))

    def share(self, measure: str, known: Sequence[bool | None]) -> list[Row]:
        """The share of texts with a property among those of which it is known; nothing without any."""
        told = [holds for holds in known if holds is not None]
        share = share_with_interval(sum(told), len(told))
        if share is None:
            return []
        return [self._row(measure, share.n, share.share, share.low, share.high)]

    def estimate(self, measure: str, found: MeanEstimate | None) -> list[Row]:
        """A mean or a difference of means."""
        if found is None:
            return []
        return [self._row(measure, found.n, found.mean, found.low, found.high)]

    def auc(self, measure: str, found: AucEstimate | None) -> list[Row]:
        """An AUC; `n` is the number of members."""
        if found is None:
            return []
        return [self._row(measure, found.n_members, found.auc, found.low, found.high)]

    def _row(self, measure: str, n: int, value: float, low: float | None, high: float | None) -> Row:
        return Row(self.model, self.group, self.duplicates, measure, n, value, low, high)


def named_groups(audited: Audited) -> dict[str, tuple[str, ...]]:
    """The groups to report on, by name: the suite's own together, then each, then planted ones."""
    own = tuple(group for group in OWN_GROUPS if group in audited.groups)
    return {ALL: own, **{group: (group,) for group in (*own, *audited.groups)}}


def by_group(rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows of single groups."""
    return tuple(row for row in rows if row.group != ALL)


def levels_of(audited: Audited, groups: tuple[str, ...]) -> list[tuple[int, Mask]]:
    """The numbers of duplicates at which there are texts of these groups, and where those are."""
    places = [(level, audited.where(groups, level)) for level in audited.levels]
    return [(level, place) for level, place in places if place.any()]


def chosen(known: Sequence[bool | None], place: Mask) -> list[bool | None]:
    """The elements at a place."""
    return [holds for holds, there in zip(known, place, strict=True) if there]


def grid(rows: Sequence[Row], column: Callable[[Row], str], *, digits: int = 2) -> Grid:
    """Rows side by side: a line for each group and number of duplicates, a column for each name."""
    columns = list(dict.fromkeys(column(row) for row in rows))
    lines: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((row.group, row.duplicates), {})[column(row)] = row
    return Grid(
        ("texts", "duplicates", "n", *columns),
        tuple(
            (
                group,
                str(duplicates),
                str(max(cell.n for cell in cells.values())),
                *(written(cells[name], digits) if name in cells else "" for name in columns),
            )
            for (group, duplicates), cells in lines.items()
        ),
    )


def written(row: Row, digits: int = 2) -> str:
    """A number with its interval, as readers see it."""
    value = f"{row.value:.{digits}f}"
    if row.low is None or row.high is None:
        return value
    return f"{value} [{row.low:.{digits}f}, {row.high:.{digits}f}]"
