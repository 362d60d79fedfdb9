"""What a search of an edit's settings tried, as it is answered."""

from app.contracts.base import Described


class FrontierPoint(Described):
    """One setting that a search tried.

    One whose perplexity grows by far more than is allowed, or whose numbers are not finite, is given up: what
    was not measured then is null.
    """

    layers: list[int]
    """The layers that it edits, from 0."""
    projections: list[str]
    """What it edits of them."""
    keep_mass: float
    """The share of the curvature mass that stays."""
    perplexity: float | None
    """On clean text; null if the setting was given up."""
    perplexity_increase: float | None
    """The share by which it grew; null if the setting was given up."""
    strict: float | None
    """The share of the forget set that is recited exactly; null if the setting was given up."""
    loose: float | None
    """The share that is recited with a similarity of at least 0.75; null if the setting was given up."""
    feasible: bool
    """Whether it keeps the constraint."""
    chosen: bool
    """Whether it was written: of the feasible settings the one that recites least."""
