"""A Hugging Face hub, and why it gave nothing: it is away, which passes, or it refuses, which does not."""

from http import HTTPStatus
from typing import Final

from httpx2 import TransportError
from huggingface_hub import is_offline_mode
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from app.errors import HubUnreachable, JobFailed

_ABSENT: Final = (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)
# What a request to a hub may raise.
HUB_FAILURES: Final = (
    *_ABSENT,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    TransportError,
    ConnectionError,
    TimeoutError,
)
# Refusals that a hub takes back by itself.
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


def hub_failure(error: Exception, *, refused: type[JobFailed], instead: str) -> JobFailed:
    """What one of `HUB_FAILURES` means for the job.

    Args:
        error: what was raised.
        refused: the failure if the hub refuses or may not be asked.
        instead: what to do, once the workers may ask it or in place of that.
    """
    if isinstance(error, _ABSENT):
        return refused("The hub has no such repository or revision, or asks for a token.")
    if is_offline_mode():
        return refused(
            "The workers may not ask the hub because HF_HUB_OFFLINE is set: unset it for them and " + instead
        )
    status = _refusal(error)
    if status is None or status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        answer = type(error).__name__ if status is None else f"HTTP {status}"
        return HubUnreachable(f"The hub did not answer ({answer}).")
    return refused(
        f"The hub refuses the repository (HTTP {status}): check its name, its revision and HF_TOKEN."
    )


def _refusal(error: BaseException | None) -> int | None:
    """The HTTP status with which a hub refused; None when it did not answer at all."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return None
