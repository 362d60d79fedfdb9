"""`client.text_sets`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Unpack

from memaudit.calls import Call, OnSent, work_headers
from memaudit.formats import MEDIA_TYPES, Format, format_of
from memaudit.requests import ListTextSets, TextSetCreate, TextSetImport
from memaudit.synchronous.resources import Resources
from memaudit.types import Text, TextSet, TextSetReceipt


class TextSets(Resources[TextSet]):
    """Immutable sets of texts."""

    def create(self, *, idempotency_key: str | None = None, **request: Unpack[TextSetCreate]) -> TextSet:
        """Store texts that are at hand.

        Args:
            idempotency_key: the same key and request give the same text set; a fresh one unless given.
            request: as of `POST /v1/text-sets`.

        Raises:
            Invalid: a text is not in order.
        """
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return self._sender.read(TextSet, call)

    def import_preset(
        self, *, idempotency_key: str | None = None, **request: Unpack[TextSetImport]
    ) -> TextSet:
        """Let a worker fetch the texts of a preset; `wait` until they are there."""
        call = Call("POST", self._path, json=request, headers=work_headers(idempotency_key))
        return self._sender.read(TextSet, call)

    def upload(
        self,
        content: str | Path | bytes | Iterable[bytes],
        *,
        name: str | None = None,
        format: Format | None = None,
        on_sent: OnSent | None = None,
        idempotency_key: str | None = None,
    ) -> TextSet:
        """Stream texts into a text set.

        Args:
            content: the path of a file, bytes, or blocks of bytes. Blocks come once: if the connection
                breaks, they are not sent again.
            name: of the text set; that of the file unless given.
            format: told by the file's name unless given.
            on_sent: called, for a file, with how many of its bytes are sent; fewer where that begins again.
            idempotency_key: the same key and content give the same text set; a fresh one unless given.

        Raises:
            ValueError: name or format are not given, and nothing tells them.
            Invalid: a text is not in order.
        """
        if isinstance(content, str | Path):
            content = Path(content)
            name = name or content.name
            format = format or format_of(content)
        if name is None or format is None:
            raise ValueError(
                "give name and format: only a file ending in .jsonl, .csv or .parquet tells them"
            )
        call = Call(
            "POST",
            self._path,
            {"name": name},
            content=content,
            headers={"Content-Type": MEDIA_TYPES[format], **work_headers(idempotency_key)},
            replayable=isinstance(content, Path | bytes),
            on_sent=on_sent,
        )
        return self._sender.read(TextSet, call)

    def list(self, *, page_size: int = 100, **filters: Unpack[ListTextSets]) -> Iterator[TextSet]:
        """All text sets, newest first, page by page as they are reached."""
        return self._sender.pages(TextSet, self._path, filters, page_size)

    def texts(self, id: str, *, page_size: int = 100) -> Iterator[Text]:
        """The texts of a set in order, page by page as they are reached."""
        return self._sender.pages(Text, self._path_of(id, "texts"), {}, page_size)

    def delete(self, id: str) -> TextSetReceipt:
        """Erase the texts of a set; the receipt says what is gone, and its `envelope` is signed."""
        return self._sender.read(TextSetReceipt, Call("DELETE", self._path_of(id)))
