"""How NL and extraction rise with the number of insertions, as a summary tells it."""

from app.contracts.base import Described


class FittedLevel(Described):
    """A point of a monotone fit."""

    duplicates: int
    """A known number of insertions of at least six texts."""
    nl: float
    """Fitted mean `nl` there, in nats per token, at most 0; it never falls as `duplicates` rises."""


class DoseFit(Described):
    """The isotonic regression of mean `nl` on `duplicates`, by which texts of unknown count are compared.

    Weighted by the number of texts at each level (Barlow, Bartholomew, Bremner and Brunk 1972). Between
    levels it is interpolated over log(1 + `duplicates`).
    """

    group: str | None
    """Whose texts; null for all together."""
    fitted: list[FittedLevel]
    """Fewest duplicates first."""


class ExtractionOnset(Described):
    """From how many insertions on texts are recited more often than at a given rate."""

    group: str | None
    """Whose texts; null for all together."""
    rate: float
    """The audit's `extraction_rate`, in [0, 1)."""
    duplicates: int | None
    """The fewest known duplicates at which the share `strict` exceeds it; null where it does at none."""
    duplicates_certain: int | None
    """The fewest at which the lower end of that share's 95 % interval exceeds it, at least `duplicates`; null
    where it does at none."""
