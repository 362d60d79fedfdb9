"""uvicorn's HTTP/1.1 protocol with bounds on what is read and how long is waited.

uvicorn itself bounds only how long a connection idles between requests. Its limit on concurrency refuses what
comes on connections that it has accepted, health checks too, and so is not used.

What is refused is answered with a problem document, and then the connection is closed. What is sent on it
still is read and thrown away for a moment: else the operating system would reset it, and the answer be lost.
"""

import asyncio
import json
import uuid
from typing import Any, Final

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import (
    AddressTooLong,
    BadRequest,
    HeadersTooLarge,
    MemauditError,
    RequestTimedOut,
    TooManyConnections,
)
from app.serving.connections import STATE, Connections

log = structlog.get_logger()

# Of the parts of a chunked body between which lies nothing of it: sizes, extensions and trailers.
_BETWEEN_CHUNKS_BYTES: Final = 64 * 1024
_RETRY_SECONDS: Final = 1


class _Refused(Exception):
    """Ends the parsing of a request that has been refused."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection, looked at every second for as long as it is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections: Connections = self.app_state.get(STATE) or Connections()
        self._patience = self._connections.patience
        self._look: asyncio.TimerHandle | None = None
        self._served = True
        self._refused = False
        # Since when the headers of a request, a body, and a reader are waited for; None while they are not.
        self._head_since: float | None = None
        self._body_since: float | None = None
        self._body_moved = 0.0
        self._writing_since: float | None = None
        self._unread = 0
        self._head_bytes = 0
        self._headers_bytes = 0
        self._body_bytes = 0
        self._between_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop. A connection that is one too many is told so when it asks for something."""
        super().connection_made(transport)
        self._served = self._connections.enter(self._address)
        if self._connections.far_too_many:
            self._drop("connections")
        self._head_since = self.loop.time()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        if self._look is not None:
            self._look.cancel()
        self._connections.leave(self._address)
        super().connection_lost(exc)

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def data_received(self, data: bytes) -> None:
        """Called by the loop. What comes after a refusal is thrown away."""
        if self._refused:
            return
        in_head = self._body_since is None
        if in_head and self._head_since is None:
            self._head_since = self.loop.time()
        self._head_bytes += len(data)
        self._between_bytes += len(data)
        self._parse(data)
        if self._refused or self.transport.is_closing():
            return
        if self._body_since is None and self._head_since is not None:
            if self._head_bytes > self._patience.head_bytes:
                self._refuse(HeadersTooLarge(self._headers_advice()), "headers")
        elif self._between_bytes > _BETWEEN_CHUNKS_BYTES and not in_head:
            self._refuse(BadRequest("The chunks of the body have too much between them."), "headers")

    def _parse(self, data: bytes) -> None:
        """As uvicorn does, but that a client can write nothing into the log."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if not self._refused:
                self._refuse(BadRequest("The request is not valid HTTP/1.1."), None)
        except httptools.HttpParserUpgrade:
            pass  # there is nothing to upgrade to; the request is answered as it is

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        if self._head_since is None:
            self._head_since = self.loop.time()
        self._headers_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser, perhaps for a part of it."""
        super().on_url(url)
        if len(self.url) > self._patience.address_bytes:
            self._stop(
                AddressTooLong(f"Path and query may have {self._patience.address_bytes} bytes."), "headers"
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for what trails a body too."""
        super().on_header(name, value)
        patience, size = self._patience, len(name) + len(value)
        self._headers_bytes += size
        if (
            size > patience.header_bytes
            or self._headers_bytes > patience.all_headers_bytes
            or len(self.headers) > patience.headers
        ):
            self._stop(HeadersTooLarge(self._headers_advice()), "headers")

    def on_headers_complete(self) -> None:
        """Called by the parser. From here on the body is waited for, if there is one."""
        self._head_since, self._head_bytes = None, 0
        if not self._served:
            self._stop(
                TooManyConnections("Too many connections are open; repeat the request."), "connections"
            )
        super().on_headers_complete()
        self._body_since = self._body_moved = self.loop.time()
        self._body_bytes = self._between_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._body_bytes += len(body)
        self._between_bytes = 0
        self._body_moved = self.loop.time()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._body_since, self._head_bytes = None, 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Called by the transport: more waits to be read by the client than is kept for it."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Called by the transport: the client has read."""
        super().resume_writing()
        self._writing_since = None

    def _expect_reading(self) -> None:
        self._writing_since, self._unread = self.loop.time(), self.transport.get_write_buffer_size()

    def _look_later(self) -> None:
        self._look = self.loop.call_later(self._patience.look_seconds, self._look_at_it)

    def _look_at_it(self) -> None:
        """End a connection that is waited on for too long."""
        now, patience = self.loop.time(), self._patience
        if self.transport.is_closing() and self._writing_since is None:
            # What is left of an answer has to be read like all of it.
            self._expect_reading()
        if self._writing_since is not None:
            if self._unread - self.transport.get_write_buffer_size() >= patience.kept_pace_bytes:
                self._expect_reading()
            elif now - self._writing_since > patience.reader_pause_seconds:
                self._drop("slow_reader")
        elif self._refused:
            pass
        elif self._head_since is not None and now - self._head_since > patience.header_seconds:
            if self._head_bytes:
                self._refuse(RequestTimedOut("The headers of the request came too slowly."), "slow_headers")
            else:
                self.transport.close()
        elif self._body_since is not None and self._body_is_slow(now):
            self._refuse(RequestTimedOut("The body of the request came too slowly."), "slow_body")
        self._look_later()

    def _body_is_slow(self, now: float) -> bool:
        """Whether the client is to blame for what has not come yet."""
        patience = self._patience
        if self.flow.read_paused or self.cycle.waiting_for_100_continue:
            # It is this service that lets it wait; that time does not count.
            self._body_since = self._body_moved = now
            self._body_bytes = 0
            return False
        took = now - self._body_since if self._body_since is not None else 0.0
        return now - self._body_moved > patience.body_pause_seconds or (
            took > patience.body_pause_seconds and self._body_bytes < took * patience.bytes_a_second
        )

    def _headers_advice(self) -> str:
        patience = self._patience
        return (
            f"A request may have {patience.headers} headers of {patience.header_bytes} bytes each and "
            f"{patience.all_headers_bytes} bytes in all."
        )

    def _stop(self, error: MemauditError, limit: str) -> None:
        """Refuse a request while it is parsed."""
        self._refuse(error, limit)
        raise _Refused

    def _refuse(self, error: MemauditError, limit: str | None) -> None:
        """Answer with a problem and say good-bye; without the problem if another answer is under way."""
        self._refused = True
        self._unset_keepalive_if_required()
        request_id = f"req_{uuid.uuid4().hex}"
        if limit is not None:
            self._connections.count_refused(limit)
        log.info("request_refused", problem=error.slug, request_id=request_id)
        can_answer = self._can_answer()
        self._hang_up()
        if not can_answer:
            self.transport.close()
            return
        self.transport.write(_answer(error, request_id))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(self._patience.farewell_seconds, self.transport.close)

    def _can_answer(self) -> bool:
        """Whether the next thing to be sent is the beginning of an answer to the request that comes in."""
        if self.pipeline:
            return False
        if self._body_since is None:
            return self.cycle is None or self.cycle.response_complete
        return not self.cycle.response_started

    def _drop(self, limit: str) -> None:
        """End a connection on which nothing can be said."""
        self._connections.count_refused(limit)
        self._hang_up()
        self.transport.abort()

    def _hang_up(self) -> None:
        """Tell the application that whoever asked is gone."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _answer(error: MemauditError, request_id: str) -> bytes:
    """A whole response."""
    body = json.dumps(error.problem() | {"request_id": request_id}).encode()
    retry = f"retry-after: {_RETRY_SECONDS}\r\n" if isinstance(error, TooManyConnections) else ""
    head = (
        f"HTTP/1.1 {int(error.status)} {error.status.phrase}\r\n"  # type: ignore[attr-defined]
        "content-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\n{retry}"
        f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
