"""`client.model_lines` and `client.model_versions`."""

from collections.abc import Iterator
from typing import Final, Unpack
from urllib.parse import quote

from memaudit.calls import Call, work_headers
from memaudit.events import Event
from memaudit.requests import ListModelLines, ListModelVersions, ModelLineCreate, ModelVersionCreate
from memaudit.synchronous.resources import Resources, follow
from memaudit.synchronous.sender import Sender
from memaudit.types import Event as Happening
from memaudit.types import ModelLine, ModelVersion, ModelVersionDiff

_PATH: Final = "/v1/model-lines"
_VERSION_ENDS: Final = ("version.succeeded", "version.failed", "version.cancelled")


class ModelLines:
    """Lines of versions of a language model, all of which are judged by the same checks."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def create(self, *, idempotency_key: str | None = None, **request: Unpack[ModelLineCreate]) -> ModelLine:
        """Begin a line.

        Args:
            idempotency_key: the same key and request give the same line; a fresh one unless given.
            request: as of `POST /v1/model-lines`.

        Raises:
            Conflict: there is a line of this name.
            NotFound: there is no such text set or policy.
        """
        call = Call("POST", _PATH, json=request, headers=work_headers(idempotency_key))
        return self._sender.read(ModelLine, call)

    def get(self, id: str) -> ModelLine:
        """A line with its checks."""
        return self._sender.read(ModelLine, Call("GET", _path_of(id)))

    def list(self, *, page_size: int = 100, **filters: Unpack[ListModelLines]) -> Iterator[ModelLine]:
        """All lines, newest first, page by page as they are reached."""
        return self._sender.pages(ModelLine, _PATH, filters, page_size)

    def register(
        self, id: str, *, idempotency_key: str | None = None, **request: Unpack[ModelVersionCreate]
    ) -> ModelVersion:
        """Register a version of a line; that it is judged goes on by itself.

        Args:
            id: of the line.
            idempotency_key: the same key and request give the same version; a fresh one unless given.
            request: as of `POST /v1/model-lines/{id}/versions`.

        Raises:
            Conflict: the label is taken, or a text set or the language model cannot be used.
        """
        call = Call("POST", _path_of(id, "versions"), json=request, headers=work_headers(idempotency_key))
        return self._sender.read(ModelVersion, call)

    def versions(
        self, id: str, *, page_size: int = 100, **filters: Unpack[ListModelVersions]
    ) -> Iterator[ModelVersion]:
        """All versions of a line, newest first, page by page as they are reached."""
        return self._sender.pages(ModelVersion, _path_of(id, "versions"), filters, page_size)

    def events(self, id: str, *, last_event_id: str | None = None) -> Iterator[Event[Happening]]:
        """What happens to all versions of a line, from its beginning or an event that was seen; for good."""
        return follow(self._sender, _path_of(id, "events"), Happening, _type_of, last_event_id, ())


class ModelVersions(Resources[ModelVersion]):
    """Versions of model lines. Each ends when all that judges it has ended."""

    def cancel(self, id: str) -> ModelVersion:
        """End it at once, and what was made for it.

        Raises:
            Conflict: it has ended.
        """
        return self._sender.read(self._kind, Call("POST", self._path_of(id, "cancel")))

    def diff(self, id: str) -> ModelVersionDiff:
        """What changed from the version before.

        Raises:
            Conflict: there is none before, or they are not compared yet.
        """
        return self._sender.read(ModelVersionDiff, Call("GET", self._path_of(id, "diff")))

    def events(self, id: str, *, last_event_id: str | None = None) -> Iterator[Event[Happening]]:
        """What happens to it, up to and with its end, from its beginning or an event that was seen."""
        path = self._path_of(id, "events")
        return follow(self._sender, path, Happening, _type_of, last_event_id, _VERSION_ENDS)


def _type_of(happening: Happening) -> str:
    return happening.type


def _path_of(id: str, *parts: str) -> str:
    return "/".join([_PATH, *(quote(part, safe="") for part in (id, *parts))])
