"""What the service knows of edit methods without running them: one entry each, in the order of the API."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, LiteralString, get_args

from app.contracts.base import Contract
from app.contracts.edit_methods.cost import EditTexts, Matrix
from app.contracts.projections import Role
from app.contracts.results.receipt_facts import ReceiptFacts
from app.contracts.texts import TextSetRole

if TYPE_CHECKING:
    from app.contracts.edits import EditSpec

# Where in the whole of an edit, in per cent, the stages of its method begin, and where they have ended.
METHOD_BEGINS: Final = 5
METHOD_ENDS: Final = 65
# The stage of a method that learns from curvature, which several workers may share.
COLLECTING: Final = "collecting_factors"


@dataclass(frozen=True)
class Refusal:
    """What one field of a request alone cannot tell to be wrong: a code, a message, and when it is."""

    code: LiteralString
    message: LiteralString
    applies: Callable[["EditSpec"], bool]


@dataclass(frozen=True)
class DefaultLayers:
    """The layers that are edited unless a request says otherwise, in a model of 32 layers."""

    first: int
    count: int


def _no_tokens(spec: "EditSpec", texts: EditTexts) -> float:  # noqa: ARG001 - whatever they are
    return 0.0


def _no_bytes(spec: "EditSpec", matrices: Sequence[Matrix]) -> int:  # noqa: ARG001 - whatever they are
    return 0


@dataclass(frozen=True, kw_only=True)
class MethodContract:
    """What a client may ask of an edit method, and what it is answered.

    Attributes:
        name: as requests, stored edits and receipts have it.
        description: what it does to weights, in one sentence.
        receipt: the receipt of such an edit; its `method` is this name.
        stages: what its worker goes through between loading and writing, each with the per cent of the
            whole edit at which it begins.
        default_layers: what it edits unless told otherwise.
        default_projections: the same, as far as the architecture has them; None if its options tell.
        needs: the text sets that it learns from.
        searches: whether it can try several settings (`sweep`, or `layers` as "auto"), aimed at a forget set.
        options: the fields of a request that it reads and some other method does not. What it would ignore
            is refused.
        own_options: what a request may give it under its own name, if that is no field of `EditSpec` itself.
        refusals: requests that contradict themselves in ways that only this method has.
        forward_tokens: about how many tokens it sends through the model; none if it sees the weights only.
        collected_tokens: how many of these collect curvature, which jobs of their own may do.
        working_bytes: what it holds at once beside the weights, at least, for the matrices that it works on.
    """

    name: str
    description: str
    receipt: type[ReceiptFacts]
    stages: Mapping[str, int]
    default_layers: DefaultLayers
    default_projections: tuple[Role, ...] | None
    needs: frozenset[Literal[TextSetRole.CALIBRATION, TextSetRole.FORGET]] = frozenset()
    searches: bool = False
    options: frozenset[str] = frozenset()
    own_options: type[Contract] | None = None
    refusals: tuple[Refusal, ...] = ()
    forward_tokens: Callable[["EditSpec", EditTexts], float] = _no_tokens
    collected_tokens: Callable[["EditSpec", EditTexts], float] = _no_tokens
    working_bytes: Callable[["EditSpec", Sequence[Matrix]], int] = _no_bytes

    def share(self, stage: str) -> tuple[int, int]:
        """Where one of its stages begins and ends, in per cent of the whole edit."""
        begin = self.stages[stage]
        return begin, min((other for other in self.stages.values() if other > begin), default=METHOD_ENDS)

    @property
    def read_options(self) -> frozenset[str]:
        """The fields of a request that some other method would ignore."""
        return self.options if self.own_options is None else self.options | {self.name}


_METHODS: Final[dict[str, MethodContract]] = {}
METHODS: Final[Mapping[str, MethodContract]] = MappingProxyType(_METHODS)


def register(method: MethodContract) -> MethodContract:
    """Add a method. Requests and receipts know those that were there when their modules were imported.

    Raises:
        ValueError: the name is taken, or the receipt or the stages are not this method's.
    """
    if method.name in _METHODS:
        raise ValueError(f"there is an edit method {method.name} already")
    if get_args(method.receipt.model_fields["method"].annotation) != (method.name,):
        raise ValueError(f"{method.receipt.__name__} is not the receipt of {method.name}")
    begins = list(method.stages.values())
    if (
        not begins
        or begins != sorted(set(begins))
        or not METHOD_BEGINS <= begins[0] <= begins[-1] < METHOD_ENDS
    ):
        raise ValueError(f"the stages of {method.name} are not in order within their share")
    _METHODS[method.name] = method
    return method
