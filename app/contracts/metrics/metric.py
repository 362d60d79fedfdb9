"""What the service says of a metric: its result for a text, and what becomes of that in a summary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from app.contracts.audits import AuditOptions

OLDER_SUMMARY = "null in audits that an older release ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryNumber:
    """A field of a summary that is the mean or the share of one field of the texts' results.

    Attributes:
        name: of the field in the summary.
        of: the field of the result, as `field` or `object.field`: a number for a mean, true or false for a
            share; texts with null are left out.
        kind: what is made of it, with its 95 % interval.
        description: of the field in the summary.
        within: the least and the most that a number can be, which the interval of a mean then keeps to.
        by_level: whether each level (group and duplicates) has the field too.
        required: whether summaries of every release have it; if not, it is null in older ones.
    """

    name: str
    of: str
    kind: Literal["mean", "share"]
    description: str
    within: tuple[float, float] | None = None
    by_level: bool = False
    required: bool = False

    def read(self, result: dict[str, Any] | None) -> Any:
        """The field of a text's result; None where there is none."""
        found: Any = result
        for field in self.of.split("."):
            found = (found or {}).get(field)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryObject:
    """A field of a summary that the metric makes by itself, of its results for all texts.

    Attributes:
        name: of the field in the summary.
        schema: its type, of pydantic.
        description: of the field in the summary.
    """

    name: str
    schema: Any
    description: str


def _none(options: "AuditOptions", texts: int, tokens: float) -> float:  # noqa: ARG001 - whatever they are
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric that an audit can be asked for.

    Attributes:
        name: as clients ask for it, and of its field in a score.
        score: the type of its result for a text: a model of pydantic, or a mapping of them.
        description: of its field in a score, before that says why it may be null.
        numbers: the fields of a summary that are means and shares.
        summary: what it makes for a summary by itself; the worker's metric says how.
        more_tokens: about how many tokens it sends through the model beside the one pass over the texts,
            given the options, the number of texts and of their tokens in all.
        sized_by: the options that this depends on.
    """

    name: str
    score: Any
    description: str = ""
    numbers: tuple[SummaryNumber, ...] = ()
    summary: SummaryObject | None = None
    more_tokens: "Callable[[AuditOptions, int, float], float]" = _none
    sized_by: tuple[str, ...] = ()
