"""What every call gets, as requests over HTTP do: an id, a line in the log, a count, a status."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError

from service.access import REQUEST_ID, request_id_of
from service.announced import RequestTooLarge
from service.errors import ComeBackLater, SuperbinError, forget_frames
from service.inference import INLINE_BYTES
from service.metrics import Metrics
from service.problems import problem_of
from service.rpc.messages import SERVICE, message_class
from service.rpc.senders import Senders
from service.rpc.weight import weigh
from service.settings import Settings
from service.tensors import TensorMalformed
from service.tracing import current_trace, end_call

log = structlog.get_logger()

PROBES = frozenset({f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady"})
METHOD = "GRPC"  # in the log and the metrics, where HTTP has its own
LEAVING_S = 0.1  # a call that is cancelled has no more messages, a moment before it is known to be
STATUSES = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass
class Call:
    """One call, and what its line in the log will say (`noted`)."""

    context: Any
    settings: Settings
    senders: Senders
    headers: dict[str, str] = field(init=False)
    request_id: str = field(init=False)
    noted: dict[str, Any] = field(default_factory=lambda: {"photos": 0})

    def __post_init__(self) -> None:
        given = self.context.invocation_metadata() or ()
        self.headers = {name: value for name, value in given if isinstance(value, str)}
        self.request_id = request_id_of(self.headers.get(REQUEST_ID.lower()))

    @property
    def host(self) -> str:
        """The address that it counts for."""
        return self.senders.address(self.context.peer(), self.context.invocation_metadata() or ())

    @property
    def timeout_s(self) -> float:
        """Until its deadline, or as long as the settings give, if that is less."""
        left_s = self.context.time_remaining()
        most_s = self.settings.timeout_s
        return most_s if left_s is None else min(left_s, most_s)

    async def read(self) -> bytes:
        """Its message.

        Raises:
            TensorMalformed: where none comes.
        """
        # Not by the iterator: one that is left early keeps the message until it is collected.
        message: bytes = await self.context.read()
        if message is grpc.aio.EOF:
            await asyncio.sleep(LEAVING_S)
            raise TensorMalformed("expected a message, got none")
        return message


async def parsed(name: str, body: bytes, settings: Settings) -> Any:
    """A message of the protocol.

    Raises:
        TensorMalformed: where it is none.
        RequestTooLarge: where it would take more memory than its own bytes may.
    """
    parse = partial(_parse, message_class(name), body, settings.max_request_bytes)
    return await asyncio.to_thread(parse) if len(body) > INLINE_BYTES else parse()


def _parse(kind: Any, body: bytes, most: int) -> Any:
    if weigh(body, kind.DESCRIPTOR, most) > most:
        raise RequestTooLarge(
            f"expected a message of at most {most:,} bytes in memory beside strings and bytes, got "
            "more; many pixels are smaller in raw_input_contents"
        )
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise TensorMalformed(
            f"expected a {kind.DESCRIPTOR.name} of the protocol, got {len(body):,} bytes that are "
            "none"
        ) from error


class NoSuchMethod(Exception):
    """A method that this service has not."""


@dataclass(frozen=True)
class Ending:
    """How a call ends, in HTTP's words and in gRPC's; `wait_s` says when to come back."""

    code: int
    status: grpc.StatusCode
    detail: str = ""
    reason: str = ""
    wait_s: int | None = None


DONE = Ending(HTTPStatus.OK.value, grpc.StatusCode.OK)
GONE = Ending(499, grpc.StatusCode.CANCELLED)
LATE = Ending(HTTPStatus.GATEWAY_TIMEOUT.value, grpc.StatusCode.DEADLINE_EXCEEDED)


async def answered(
    call: Call, metrics: Metrics, route: str, answer: Callable[[Call], Awaitable[bytes]]
) -> bytes:
    """Answer a call, or refuse it with a status; in the end write down what came of it.

    Args:
        route: its method's full name, or one word for those that there are not.
    """
    started = time.perf_counter()
    body, ending = b"", GONE
    try:
        body = await answer(call)
        ending = DONE
    except asyncio.CancelledError:
        ending = LATE if call.timeout_s <= 0 else GONE
        raise
    except Exception as error:  # whatever it is: gRPC would tell the client its text
        ending = _ending_of(error, call, metrics, route)
        forget_frames(error)  # and the photos in them
    finally:
        _record(call, metrics, route, ending, time.perf_counter() - started)
    # Not where the error is handled: gRPC keeps what `abort` raises, and with it the message.
    told = {REQUEST_ID.lower(): call.request_id}
    if ending is DONE:
        call.context.set_trailing_metadata(tuple(told.items()))
        return body
    told["reason"] = ending.reason
    if ending.wait_s is not None:  # for people, and for gRPC's own retries
        told["retry-after"] = str(ending.wait_s)
        told["grpc-retry-pushback-ms"] = str(1000 * ending.wait_s)
    await call.context.abort(ending.status, ending.detail, tuple(told.items()))
    raise AssertionError("abort raises")


def _ending_of(error: Exception, call: Call, metrics: Metrics, route: str) -> Ending:
    if isinstance(error, SuperbinError):
        problem = problem_of(error, call.request_id)
        metrics.rejection(problem.reason)
        wait_s = error.retry_after_s if isinstance(error, ComeBackLater) else None
        status = STATUSES[HTTPStatus(problem.status)]
        return Ending(problem.status, status, problem.detail, problem.reason, wait_s)
    if isinstance(error, NoSuchMethod):
        return Ending(404, grpc.StatusCode.UNIMPLEMENTED, str(error), "unimplemented")
    log.error("unexpected error", request_id=call.request_id, path=route, exc_info=error)
    detail = "something went wrong on our side"
    return Ending(500, grpc.StatusCode.INTERNAL, detail, "internal_server_error")


def _record(call: Call, metrics: Metrics, route: str, ending: Ending, seconds: float) -> None:
    metrics.request(route, METHOD, ending.code, seconds)
    end_call(route, ending.status.value[0])
    write = log.debug if route in PROBES else log.info
    write(
        "request",
        request_id=call.request_id,
        method=METHOD,
        route=route,
        code=ending.code,
        status=ending.status.name,
        duration_s=round(seconds, 6),
        **call.noted,
        **({"reason": ending.reason} if ending.reason else {}),
        **({"trace_id": trace} if (trace := current_trace()) else {}),
    )
