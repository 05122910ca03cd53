"""What every request gets: an id, security headers, a line in the log, a count in the metrics."""

from __future__ import annotations

import asyncio
import random
import re
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import SHORTEST_WAIT_S, Stopping
from service.metrics import Metrics
from service.problems import problem_of, problem_of_status, problem_response
from service.tracing import current_trace

log = structlog.get_logger()

REQUEST_ID = "X-Request-ID"
RAW_REQUEST_ID = REQUEST_ID.lower().encode()
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
PROBES = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
TOLD = ("client", "reason")  # whose key came, and why the request was refused, where that is so
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
RAW_HEADERS = [(k.lower().encode(), v.encode()) for k, v in SECURITY_HEADERS.items()]


class Access:
    """ASGI middleware around everything; also the last resort for an error that nobody expected."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(_given_id(scope))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        code = 0

        async def send_on(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                headers = message["headers"]
                given = {name for name, _ in headers}
                headers += [pair for pair in RAW_HEADERS if pair[0] not in given]
                headers.append((RAW_REQUEST_ID, request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:  # the grace period is over
            if code:
                raise
            await self._stopped(scope, receive, send_on)
        except Exception:  # whatever it is: nobody further out would answer
            log.exception("unexpected error", request_id=request_id, path=scope["path"])
            if code:  # the answer has begun: let the server close the connection
                raise
            problem = problem_of_status(500, "something went wrong on our side", request_id)
            state["reason"] = problem.reason
            await problem_response(problem, path=scope["path"])(scope, receive, send_on)
        finally:
            # 499: the client left before there was an answer.
            self._record(scope, code or 499, time.perf_counter() - started)

    async def _stopped(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell who waits still, in our words: the server has a traceback and a 500 for that."""
        error = Stopping("the service is shutting down", SHORTEST_WAIT_S)
        problem = problem_of(error, scope["state"]["request_id"])
        scope["state"]["reason"] = problem.reason
        self._metrics.rejection(problem.reason)
        headers = {"Retry-After": str(error.retry_after_s)}
        await problem_response(problem, headers, path=scope["path"])(scope, receive, send)

    def _record(self, scope: Scope, code: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.request(route, scope["method"], code, seconds)
        state = scope["state"]
        write = log.debug if route in PROBES else log.info
        write(
            "request",
            request_id=state["request_id"],
            method=scope["method"],
            route=route,
            code=code,
            duration_s=round(seconds, 6),
            photos=state.get("photos", 0),
            **{name: state[name] for name in TOLD if name in state},
            **({"trace_id": trace} if (trace := current_trace()) else {}),
        )


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == RAW_REQUEST_ID:
            return str(value, "latin-1")
    return None


def request_id_of(given: str | None) -> str:
    """The client's own id where it is sane, else a new one."""
    return given if given and SANE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
