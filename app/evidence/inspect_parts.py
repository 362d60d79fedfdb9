"""The parts of a log of Inspect, made with `inspect_ai`'s own classes and so checked by its own contract.

They are made where nothing else runs: `inspect_ai` takes seconds to import and a hundred megabytes, which the
API should not carry for one format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from app.errors import EvidenceFormatNotInstalled


@dataclass(frozen=True, slots=True)
class Head:
    """Everything of a log but its samples."""

    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples of a log: its first, or further ones."""

    facts: Sequence[dict[str, Any]]
    first: bool


def check_installed() -> None:
    """Say what to install.

    Raises:
        EvidenceFormatNotInstalled: `inspect_ai` is not there.
    """
    if find_spec("inspect_ai") is None:
        raise EvidenceFormatNotInstalled(
            "This format is written by inspect_ai, which is not installed where the API runs. "
            "Whoever runs the service can add it: pip install 'memaudit[inspect]'."
        )


def write(part: Head | Samples) -> bytes:
    """A part as Inspect writes it: parts in their order, and `]}` behind them, are a log.

    Raises:
        pydantic.ValidationError: Inspect does not take the facts, which the message quotes.
    """
    from inspect_ai.log import EvalLog, EvalSample  # noqa: PLC0415 - see above

    if isinstance(part, Head):
        head = EvalLog.model_validate(part.facts).model_dump_json(exclude_none=True)
        return f'{head[:-1]},"samples":['.encode()
    written = (EvalSample.model_validate(each).model_dump_json(exclude_none=True) for each in part.facts)
    return (("" if part.first else ",") + ",".join(written)).encode()
