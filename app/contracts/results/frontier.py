"""What a search of an edit's settings tried, as it is answered."""

from app.contracts.base import Described


class GivenUp(Described):
    """How far a setting was measured before it was given up."""

    perplexity: float
    """On the clean text that it had gone through by then, the longest texts first."""
    tokens: int
    """How many tokens that was."""
    of_tokens: int
    """How many there were to go through."""


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
    retain_weight: float | None = None
    """The weight of the retain set in the curvature; null without one."""
    recovery_steps: int | None = None
    """Steps of recovery that it has; null where no setting has any."""
    perplexity: float | None
    """On clean text; null if the setting was given up."""
    perplexity_increase: float | None
    """The share by which it grew; null if the setting was given up."""
    strict: float | None
    """The share of the forget set that is recited exactly; null if the setting was given up, and where only
    the mass was adapted to the constraint, which aims at nothing."""
    loose: float | None
    """The share that is recited with a similarity of at least 0.75; null likewise."""
    nl_drop: float | None = None
    """By how many nats per token the retain set became less likely; null without one, and if the setting was
    given up."""
    given_up: GivenUp | None = None
    """How far it was measured before it was given up; null if it was measured to the end, if its numbers were
    not finite, and in results of releases before this was kept."""
    feasible: bool
    """Whether it keeps the constraint."""
    chosen: bool
    """Whether it was written: of the feasible settings the one that recites least, or keeps the least mass
    where only that was adapted."""
