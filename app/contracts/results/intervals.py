"""Numbers with their 95 % intervals, as several resources give them."""

from typing import Any

from pydantic import model_validator

from app.contracts.base import Described


class MeanInterval(Described):
    """A mean (or a difference of means) of `n` numbers, and its 95 % interval [`low`, `high`].

    In the unit of the numbers.
    """

    n: int
    """How many numbers."""
    mean: float
    """Their mean."""
    low: float | None
    """Where the interval begins; null for fewer than two numbers or where all are equal, which says nothing
    of how numbers vary."""
    high: float | None
    """Where the interval ends; null likewise."""


class ShareInterval(Described):
    """How many of `n` texts have a property: `share` is `count` / `n`, with its 95 % interval in [0, 1].

    The interval has a width even where all texts have the property or none has.
    """

    n: int
    """How many texts were looked at."""
    count: int
    """How many of them have the property."""
    share: float
    """`count` / `n`."""
    low: float | None
    """Where the interval begins; null in results of an older release, whose intervals were too narrow."""
    high: float | None
    """Where the interval ends; null likewise."""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, value: Any) -> Any:
        """A share as it was stored before: as a mean of noughts and ones."""
        if isinstance(value, dict) and "share" not in value and "mean" in value:
            n, share = value["n"], value["mean"]
            return {"n": n, "count": round(n * share), "share": share, "low": None, "high": None}
        return value


class ShareDifference(Described):
    """The share of `n` texts that have a property after a change, less the share that had it before.

    Text by text, with its 95 % interval: Newcombe (1998, Statistics in Medicine 17: 2635-2650), method 10,
    with Blaker's intervals of the two shares.
    """

    n: int
    """Texts of which both is known."""
    lost: int
    """Texts that had it before alone."""
    gained: int
    """Texts that have it after alone."""
    difference: float
    """(`gained` - `lost`) / `n`, in [-1, 1]; negative = fewer have it."""
    low: float
    """Where the interval begins."""
    high: float
    """Where the interval ends."""
