"""A thin client of the HTTP contract.

ClientError
├── ServiceUnreachable     nobody answers at the URL, or its database is away
└── RequestRefused         the service answered with a problem document
"""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import tenacity

JSON = dict[str, Any]

_TIMEOUT: Final = httpx.Timeout(30.0, read=90.0)
_LONG_POLL_SECONDS: Final = 1
_LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_PATHS: Final = {"audit": "/v1/audits", "edit": "/v1/edits", "gate": "/v1/gates"}
_ACTIVE: Final = frozenset({"queued", "running"})


class ClientError(Exception):
    """A request was not fulfilled; the text says why in plain words."""


class ServiceUnreachable(ClientError):
    """Nobody answers at the URL, or the service says that it cannot answer now."""


class RequestRefused(ClientError):
    """The service understood the request and refused it."""


class ServiceClient:
    """One connection pool to a service, as the owner of an API key. A context manager.

    Args:
        url: base URL of the service.
        key: API key, `mak_…`.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=_TIMEOUT,
            # A proxy of the environment does not lead to this machine.
            trust_env=httpx.URL(url).host not in _LOCAL_HOSTS,
        )
        # What was begun is not given up for a restart of the service. Requests that create work
        # repeat their Idempotency-Key, so they create it once.
        self._patiently = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ServiceUnreachable),
            stop=tenacity.stop_after_delay(30),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5),
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def upload_texts(self, content: Iterable[bytes], media_type: str, name: str) -> JSON:
        """Store a text set from a streamed body; the new text set."""
        return self._send(
            "POST",
            "/v1/text-sets",
            params={"name": name},
            content=content,
            headers={"Content-Type": media_type, "Idempotency-Key": str(uuid.uuid4())},
        )

    def request_audit(self, body: JSON) -> JSON:
        """Request an audit; the new audit."""
        return self._request(_PATHS["audit"], body)

    def request_edit(self, body: JSON) -> JSON:
        """Request an edited model; the new edit."""
        return self._request(_PATHS["edit"], body)

    def request_gate(self, body: JSON) -> JSON:
        """Request a gate; the new gate."""
        return self._request(_PATHS["gate"], body)

    def create(self, path: str, body: JSON, *, key: str) -> JSON:
        """Create a resource once for each key."""
        answer: JSON = self._patiently(self._send, "POST", path, json=body, headers={"Idempotency-Key": key})
        return answer

    def follow(self, work: JSON) -> Iterator[JSON]:
        """An audit, an edit or a gate as it goes on, about once a second, up to and with its end."""
        parameters = {"wait": _LONG_POLL_SECONDS}
        path = f"{_PATHS[work['object']]}/{work['id']}"
        while work["status"] in _ACTIVE:
            work = self._patiently(self._send, "GET", path, params=parameters)
            yield work

    def read(self, path: str, parameters: dict[str, str]) -> JSON:
        """Any resource."""
        return self._patiently(self._send, "GET", path, params=parameters)

    def save_scores(self, audit: JSON, media_type: str, target: Path) -> None:
        """Stream all scores of an audit that succeeded into a file."""
        request = self._http.build_request(
            "GET", f"/v1/audits/{audit['id']}/scores", headers={"Accept": media_type}
        )
        try:
            response = self._http.send(request, stream=True)
            self._require_success(response)
            with target.open("wb") as file:
                file.writelines(response.iter_bytes())
            response.close()
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """An answer whose body is read as it comes. What breaks off while it is read is translated too."""
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                self._require_success(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _request(self, path: str, body: JSON) -> JSON:
        return self.create(path, body, key=str(uuid.uuid4()))

    def _send(self, method: str, path: str, **options: Any) -> JSON:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        self._require_success(response)
        answer: JSON = response.json()
        return answer

    def _unreachable(self, error: httpx.TransportError) -> ServiceUnreachable:
        return ServiceUnreachable(f"no answer from {self._url} ({type(error).__name__})")

    def _require_success(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        message = _plain_words(response)
        if response.status_code in {httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE}:
            raise ServiceUnreachable(message)
        raise RequestRefused(message)


def _plain_words(response: httpx.Response) -> str:
    """What a problem document says, and where."""
    try:
        problem = response.json()
        words = f"{problem['title']}: {problem['detail']}"
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"the service answered {response.status_code}"
    places = [f"\n  {entry['pointer'] or '/'}: {entry['code']}" for entry in problem.get("errors") or []]
    return words + "".join(places)
