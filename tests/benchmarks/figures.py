"""Figures with a unit, what they must keep to, and how a table shows them."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """A number that was measured, or why it was not.

    Attributes:
        name: what it is of.
        value: the number; None where it could not be measured, of which `beside` says why.
        unit: of the number.
        beside: what it is to be read with.
        at_least: what it must reach.
        at_most: what it must not exceed.
    """

    name: str
    value: float | None
    unit: str = ""
    beside: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it keeps to its limit; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        if self.value is None:
            return False
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def target(self) -> str:
        """Its limit, and whether it is met."""
        limits = (("at least", self.at_least), ("at most", self.at_most))
        said = [f"{which} {limit:g}" for which, limit in limits if limit is not None]
        return f"{', '.join(said)}: {'met' if self.met else 'MISSED'}" if said else ""


def add_figures(table: Table, title: str, figures: Iterable[Figure]) -> None:
    """Add a section with a title and a row for each figure: name, number, what stands beside it, target."""
    table.add_section()
    table.add_row(title, "", "", "")
    for figure in figures:
        number = "-" if figure.value is None else f"{_number(figure.value)} {figure.unit}".rstrip()
        table.add_row(f"  {figure.name}", number, figure.beside, figure.target)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
