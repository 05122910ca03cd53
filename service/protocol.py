"""What uvicorn's HTTP protocol leaves open: how long and how large what is no body may be.

A connection that sends nothing, headers that never end, a body that was refused long ago, an answer
that nobody reads: each would hold a descriptor, and some of them memory and places in the queue,
for as long as the client likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.connection import LEAVING, Joining, Leaving
from service.unread import Unread

LINGER_S = 2.0  # for a client that still sends what was refused, so that it can read why
LINGER_BYTES = 16_000_000
LAST_S = 1.0  # for a request by a client that could not be told that there should be none
TAKEN_LATER = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.REQUEST_TIMEOUT})
OF_UPGRADES = frozenset({b"upgrade", b"http2-settings"})


@dataclass
class Guard:
    """The limits of one server, and its connections that wait for a request, longest first."""

    header_timeout_s: float
    max_header_bytes: int
    max_connections: int
    write_timeout_s: float
    refused: Callable[[str], None]  # is told the reason
    idle: dict[Protocol, None] = field(default_factory=dict)
    stopping: bool = False  # answers say that their connection is over

    def protocol(self, **given: Any) -> Protocol:
        """A connection's, as uvicorn asks for it."""
        return Protocol(self, **given)


def new_parser(protocol: Protocol) -> httptools.HttpRequestParser:
    """As uvicorn makes it."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, guard: Guard, **given: Any) -> None:
        super().__init__(**given)
        self._guard = guard
        self._timer: asyncio.TimerHandle | None = None
        self._overhead = 0  # bytes since there was a body, or an end of headers
        self._linger_bytes: int | None = None  # left to a body that nobody reads
        self._leaving = Leaving()
        self._last = False  # what runs is not the last request, but the next one is

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in; where there are too many, in the place of the one that idles longest."""
        guard = self._guard
        self._unread = Unread(transport, self.loop, guard.write_timeout_s, self._give_up)
        self._joining = Joining(transport, self.loop, self._unread.expect)
        super().connection_made(self._joining)
        if len(self.connections) > guard.max_connections:
            guard.refused("too_many_connections")
            if not guard.idle:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
                return
            next(iter(guard.idle)).evict()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and tell who works for it."""
        self._expect_no_more()
        super().connection_lost(exc)
        self._unread.expect_no_more()
        self._leaving.leave()

    def pause_writing(self) -> None:
        """More waits for the client than is good."""
        super().pause_writing()
        self._unread.expect()

    def resume_writing(self) -> None:
        """It has read most of it."""
        super().resume_writing()
        if not self.transport.is_closing():  # or the rest of it would have for ever
            self._unread.expect_no_more()

    def data_received(self, data: bytes) -> None:
        """Parse, and end what has become too much."""
        self._overhead += len(data)
        self._feed(data)
        if self.transport.is_closing():
            return
        if self._overhead > self._guard.max_header_bytes:
            self._refuse_headers()
        elif self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._expect()  # the rest of the headers

    def _feed(self, data: bytes) -> None:
        """As uvicorn does it, but for upgrades, which are ignored, as they may be (RFC 9110, 7.8).

        The parser takes a request that asks for one to have no body, and stops behind its headers.
        Java's client and `curl --http2` ask for one each time.
        """
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stopped:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse(HTTPStatus.NOT_IMPLEMENTED, "expected no CONNECT")
                    return
                data = self._headers_without_upgrade() + data[stopped.args[0] :]
                self.parser = new_parser(self)
            except httptools.HttpParserError:
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self.send_400_response(message)
                return

    def _headers_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(one for one in tokens if one.lower() not in OF_UPGRADES)
            if name not in OF_UPGRADES:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def on_headers_complete(self) -> None:
        """A request begins."""
        if self.parser.should_upgrade():  # it comes again, without
            return
        limit = self._guard.max_header_bytes
        if self._overhead > limit:  # it may be the body behind them
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > limit:
                self._refuse_headers()
                return
        if any(
            name == b"transfer-encoding" and coding.lower() != b"chunked"
            for name, coding in self.headers
        ):
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "expected no transfer coding but chunked")
            return
        self._overhead = 0
        self._expect_no_more()
        self.scope["extensions"] = {LEAVING: self._leaving}  # type: ignore[dict-item]
        super().on_headers_complete()
        if self._guard.stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Keep it, or count it where it was refused."""
        self._overhead = 0
        if self.transport.is_closing():
            return
        super().on_body(body)
        if self._linger_bytes is not None:
            self._linger_bytes -= len(body)
            if self._linger_bytes < 0:
                self.transport.abort()

    def on_message_complete(self) -> None:
        """A request has come whole."""
        if self.parser.should_upgrade():
            return
        self._overhead = 0
        if self.transport.is_closing():
            return
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # paused by a long body; that the client leaves is read, too
        if self._linger_bytes is not None:
            self._linger_bytes = None
            self._expect_no_more()
            self._expect()

    def on_response_complete(self) -> None:
        """Wait for the next request, or a while for the rest of this one."""
        self._joining.flush()
        unread = self.cycle.more_body
        super().on_response_complete()
        if self.transport.is_closing() or self.pipeline or not self.cycle.response_complete:
            return
        self._guard.idle[self] = None
        if self._last:
            self._timer = self.loop.call_later(LAST_S, self.transport.close)
        elif unread:
            self._linger_bytes = LINGER_BYTES
            self._timer = self.loop.call_later(LINGER_S, self.transport.abort)

    def shutdown(self) -> None:
        """End after the answer; one that has begun did not say so, and another request may come."""
        self._guard.stopping = True
        cycle = self.cycle
        if cycle and cycle.response_started and not cycle.response_complete and cycle.keep_alive:
            self._last = True
        else:
            super().shutdown()

    def evict(self) -> None:
        """Close it, since it idles and another needs the place."""
        self._expect_no_more()
        self.transport.abort()

    def _give_up(self) -> None:
        """Close it, since its client does not read."""
        self._guard.refused("slow_reader")
        self.transport.abort()

    def _expect(self) -> None:
        """A request, in time."""
        self._guard.idle[self] = None
        self._timer = self.loop.call_later(self._guard.header_timeout_s, self._expired)

    def _expect_no_more(self) -> None:
        self._guard.idle.pop(self, None)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self._overhead:
            self._guard.refused("slow_headers")
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the headers came too slowly")
        else:
            self.transport.close()

    def _refuse_headers(self) -> None:
        self._guard.refused("headers_too_large")
        limit = self._guard.max_header_bytes
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self._refuse(status, f"expected at most {limit:,} bytes of headers")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer where the application has not seen a request, and close."""
        self._expect_no_more()
        body = f"{why}\n".encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if status in TAKEN_LATER:
            lines.append("retry-after: 1")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
