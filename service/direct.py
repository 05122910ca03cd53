"""A short way to the routes that photos come by.

FastAPI's routing, its stack of middleware and its handling of exceptions cost more than reading a
photo's form does. The routes here take the request and give a response, and need none of it; every
other route, and every other method, goes the usual way.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import REQUEST_ID, Access
from service.announced import TIMEOUT
from service.errors import SuperbinError
from service.metrics import Metrics
from service.parameters import refuse_unknown
from service.routes.inference_protocol import HEADER_LENGTH

KEYS = ("Authorization", "X-API-Key", "X-Reviewer")
ASKED_WITH = ("Content-Type", *KEYS, "traceparent", "tracestate")


class DirectRoutes(FastAPI):
    """FastAPI with some routes that are reached at once."""

    _direct: dict[tuple[str, str], ASGIApp]
    _shared: CORSMiddleware | None = None

    def add_direct(self, routes: Sequence[APIRoute], metrics: Metrics) -> None:
        """Reach these at once; their endpoints take a request alone and give a response."""
        self._direct = {
            (method, route.path): Access(_Direct(self, route), metrics)
            for route in routes
            for method in route.methods or ()
        }

    def share_with(self, origins: Sequence[str]) -> None:
        """Let pages of these origins ask from a browser, without cookies; `*` is any."""
        self._shared = CORSMiddleware(
            self._dispatch,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=(*ASKED_WITH, TIMEOUT, REQUEST_ID, HEADER_LENGTH),
            expose_headers=("Retry-After", "Server-Timing", REQUEST_ID, HEADER_LENGTH),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._shared or self._dispatch)(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            direct = self._direct.get((scope["method"], scope["path"]))
            if direct is not None:
                await direct(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


class _Direct:
    """One endpoint, with the application's words for its errors."""

    def __init__(self, app: FastAPI, route: APIRoute) -> None:
        self._app = app
        self._route = route
        self._endpoint = route.endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"], scope["route"] = self._app, self._route
        request = Request(scope, receive, send)
        response: Response
        try:
            if scope["query_string"]:
                await refuse_unknown(request)
            response = await self._endpoint(request)
        except SuperbinError as error:
            response = await self._app.exception_handlers[SuperbinError](request, error)  # type: ignore[misc]
        except ClientDisconnect as error:
            response = await self._app.exception_handlers[ClientDisconnect](request, error)  # type: ignore[misc]
        await response(scope, receive, send)
