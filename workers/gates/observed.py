"""What was observed of a subject for a rule, and which texts decide."""

from collections.abc import Sequence
from typing import NamedTuple

from app.contracts.results.observations import Observation


class Observed(NamedTuple):
    """An observation, the ids of the first texts that decide, and how many there are."""

    observation: Observation
    deciding_texts: Sequence[str] = ()
    deciding_count: int = 0
