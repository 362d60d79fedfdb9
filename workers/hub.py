"""A Hugging Face hub, and why it gave nothing: it is away, which passes, or it refuses, which does not."""

from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from httpx2 import URL, Request, TransportError
from huggingface_hub import constants, is_offline_mode, set_client_factory
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._http import default_client_factory

from app.errors import HubUnreachable, JobFailed

_ABSENT: Final = (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)
# Where hubs send those who download, by the hub's own host: to others of the same owner.
_OWN_HOSTS: Final = {"huggingface.co": (".huggingface.co", ".hf.co")}


class HubElsewhere(Exception):
    """The hub sends this worker to a host that it may not ask."""


# What a request to a hub may raise.
HUB_FAILURES: Final = (
    *_ABSENT,
    HfHubHTTPError,
    HubElsewhere,
    LocalEntryNotFoundError,
    TransportError,
    ConnectionError,
    TimeoutError,
)
# Refusals that a hub takes back by itself.
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@cache
def pin_hub(*hosts: str) -> None:
    """Let this process ask no host but the hub that `HF_ENDPOINT` names, those of its owner, and `hosts`.

    Whoever answers in the hub's place cannot send a worker to a host of the network that it stands in.
    """
    # Its protocol for large files has connections of its own; without it they come over HTTP.
    constants.HF_HUB_DISABLE_XET = True

    def client() -> Any:
        made = default_client_factory()
        made.event_hooks["request"] = [*made.event_hooks["request"], _refuse_elsewhere(hosts)]
        return made

    set_client_factory(client)


def _refuse_elsewhere(hosts: tuple[str, ...]) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        hub, asked = URL(constants.ENDPOINT), request.url
        same = (asked.scheme, asked.host, asked.port) == (hub.scheme, hub.host, hub.port)
        if same or asked.host in hosts:
            return
        if asked.scheme != "https" or not asked.host.endswith(_OWN_HOSTS.get(hub.host, ("\0",))):
            raise HubElsewhere

    return check


def hub_failure(error: Exception, *, refused: type[JobFailed], instead: str) -> JobFailed:
    """What one of `HUB_FAILURES` means for the job.

    Args:
        error: what was raised.
        refused: the failure if the hub refuses or may not be asked.
        instead: what to do, once the workers may ask it or in place of that.
    """
    if _leads_elsewhere(error):
        return refused(
            "The hub sends the workers to a host that they may not ask. If its files do lie there, add the "
            "host to MEMAUDIT_HUB_HOSTS of the workers and " + instead
        )
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


def _leads_elsewhere(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, HubElsewhere):
            return True
        error = error.__cause__ or error.__context__
    return False


def _refusal(error: BaseException | None) -> int | None:
    """The HTTP status with which a hub refused; None when it did not answer at all."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return None
