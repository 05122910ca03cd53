"""The application: what it holds while it runs, and how errors become answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from service import __version__
from service.access import Access
from service.admission import Admission
from service.direct import DirectRoutes
from service.drift_reports import share_report
from service.errors import ComeBackLater, SuperbinError, forget_frames
from service.keyring import Keyring
from service.keys import KeyRefused
from service.memory import give_back_freed
from service.metrics import Metrics
from service.openapi import refusals
from service.parameters import refuse_unknown
from service.problems import problem_of, problem_of_status, problem_response
from service.quota import Quota
from service.registry import Registry
from service.reporting import open_recorder
from service.reviewing import open_capture
from service.rounds import every
from service.routes import (
    classify,
    composition,
    drift,
    feedback,
    health,
    inference_protocol,
    metrics,
    models,
    page,
    review,
    sites,
)
from service.rpc.start import check_packages, grpc_served
from service.rulebook import Rulebook
from service.schemas import Problem
from service.serving import Serving
from service.settings import Settings
from service.tracing import open_provider, telemetry
from service.validation import told_problems

log = structlog.get_logger()

DESCRIPTION = "Sorts photos of refuse into superclasses, that is, into bins."
OWN = (classify, feedback, review, drift, composition, models, sites)
OTHERS = (inference_protocol, health, metrics, page)
FAMILIES = OWN + OTHERS
CLIENT_GONE = 499
REFRESH_S = 1.0


def create_app(settings: Settings) -> DirectRoutes:
    """An application of its own for each call: nothing is shared between two of them."""
    measures = Metrics()
    provider = open_provider(settings.otlp_endpoint)
    check_packages(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            try:
                app.state.serving = serving = await _start(settings, measures)
                await running.enter_async_context(_serving(serving))
                app.state.grpc = await running.enter_async_context(grpc_served(serving, provider))
            except SuperbinError as error:
                app.state.start_error = error  # the server tells it without a traceback
                raise
            yield
        if provider:
            await asyncio.to_thread(provider.shutdown)

    app = DirectRoutes(
        title="Superbin",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry=telemetry(provider),
        redirect_slashes=False,  # to where Host says, and a photo would be sent in vain
        openapi_url=None,  # routes/page.py has it, and /docs: FastAPI's loads parts from elsewhere
    )
    app.state.metrics = measures
    app.add_middleware(Access, metrics=measures)
    for family in OWN:
        for router in (family.router, _heads(family.router)):
            app.include_router(router, dependencies=[Depends(refuse_unknown)], responses=refusals())
    for family in OTHERS:
        for router in (family.router, _heads(family.router)):
            app.include_router(router)
    _handle_errors(app, measures)
    # A trace is begun by FastAPI: where there are traces, everything goes the usual way.
    direct = [] if provider else [r for r in classify.router.routes if isinstance(r, APIRoute)]
    app.add_direct(direct, measures)
    if settings.origins:
        app.share_with(settings.origins)
    return app


async def _start(settings: Settings, measures: Metrics) -> Serving:
    """Load the models and put the parts together around them."""
    registry = Registry(settings, measures, lambda model: rulebook.vet(model, keyring.sites))
    rulebook = Rulebook(
        settings.sites_dir,
        settings.site,
        lambda: registry.default.manifest if registry.served else None,
        measures,
    )
    keyring = Keyring(settings.keys_file, rulebook, measures)
    await registry.start()
    rulebook.meet(registry.default.manifest, keyring.sites.values())
    if settings.watch_s:
        await keyring.look_aside()  # what others shared may be older than the file
    measures.drift(registry.drift_readings)
    measures.drain_rate(lambda: registry.default.scheduler.backlog.rate or 0.0)
    admission = Admission(
        max_photos=settings.max_queue,
        max_bytes=settings.max_queue_bytes,
        interactive_photos=settings.interactive_photos,
        client_share=settings.client_share,
        metrics=measures,
    )
    burst = max(settings.max_photos, math.ceil(settings.rate_photos_s))
    quota = Quota(settings.rate_photos_s, burst)
    capture = await asyncio.to_thread(open_capture, settings, measures)
    corrections = Quota(
        settings.feedback_rate_s, max(1, math.ceil(settings.feedback_rate_s)), "corrections"
    )
    recorder = await asyncio.to_thread(open_recorder, settings, measures)
    return Serving(
        *(settings, measures, keyring, quota, admission, registry, rulebook, corrections),
        capture=capture,
        recorder=recorder,
    )


@asynccontextmanager
async def _serving(serving: Serving) -> AsyncIterator[None]:
    """Welcome requests; at the end answer what waits and let go."""
    registry = serving.registry
    watch_s = serving.settings.watch_s
    background = [asyncio.create_task(give_back_freed())]
    if watch_s:
        background.append(asyncio.create_task(registry.watch()))
        background.append(asyncio.create_task(serving.rulebook.watch(watch_s)))
        background.append(asyncio.create_task(serving.keyring.watch(watch_s)))
    if serving.metrics.shared:
        _refresh(serving)
        background.append(asyncio.create_task(_keep_fresh(serving)))
    serving.metrics.readiness(lambda: serving.ready)
    serving.set_ready(True)
    sessions = registry.default.sessions
    log.info(
        "ready",
        model=registry.default.bundle.id,
        beside=[one.bundle.id for one in registry.served[1:]],
        variant=sessions.first.variant,
        provider=sessions.provider,
        sessions=len(sessions.workers),
    )
    try:
        yield
    finally:
        serving.set_ready(False)
        serving.admission.close()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        stores = [store for store in (serving.capture, serving.recorder) if store]
        # At the same time: a session that never returns keeps no store from its last writes.
        await asyncio.gather(
            *(asyncio.to_thread(store.close) for store in stores), _let_go_of_models(serving)
        )
        serving.let_go = True
        log.info("stopped")


async def _let_go_of_models(serving: Serving) -> None:
    await serving.set_shadow(None)
    await serving.registry.close()


async def _keep_fresh(serving: Serving) -> None:
    """For scrapes and questions that another worker answers."""

    async def refresh() -> None:
        _refresh(serving)

    await every(REFRESH_S, "sharing figures with the other workers", refresh)


def _refresh(serving: Serving) -> None:
    serving.metrics.refresh()
    if serving.metrics.folder:
        share_report(serving.registry, serving.metrics.folder)


def _heads(router: APIRouter) -> APIRouter:
    """HEAD wherever there is GET; the server leaves out the body."""
    heads = APIRouter()
    for route in router.routes:
        if isinstance(route, APIRoute) and "GET" in (route.methods or ()):
            heads.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                response_class=route.response_class,
                response_model=route.response_model,
                include_in_schema=False,
            )
    return heads


def _methods(request: Request) -> list[str]:
    """That some route takes at the request's path; the router itself names those of one."""
    found: set[str] = set()
    for family in FAMILIES:
        for route in family.router.routes:
            if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
                found |= route.methods or set()
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _noted(request: Request, problem: Problem) -> Problem:
    """A problem, of which the request's line in the log will say the reason."""
    request.scope["state"]["reason"] = problem.reason
    return problem


def _handle_errors(app: FastAPI, measures: Metrics) -> None:
    @app.exception_handler(SuperbinError)
    async def ours(request: Request, error: SuperbinError) -> Response:
        forget_frames(error)  # and the photos in them
        problem = _noted(request, problem_of(error, request.state.request_id))
        measures.rejection(problem.reason)
        headers = None
        if isinstance(error, ComeBackLater):
            headers = {"Retry-After": str(error.retry_after_s)}
        elif isinstance(error, KeyRefused):
            headers = {"WWW-Authenticate": "Bearer"}
        return problem_response(problem, headers, path=request.url.path)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        path = request.url.path[:200]
        detail = f"{request.method} {path}: {error.detail}"
        if error.status_code == HTTPStatus.NOT_FOUND:
            detail = f"expected one of the routes that /docs lists, got {request.method} {path}"
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(request))
            detail = f"expected {headers['Allow']} of {path}, got {request.method[:20]}"
        told = problem_of_status(error.status_code, detail, request.state.request_id)
        problem = _noted(request, told)
        return problem_response(problem, headers, path=request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        detail = told_problems(error.errors())
        problem = _noted(request, problem_of_status(422, detail, request.state.request_id))
        return problem_response(problem, path=request.url.path)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)  # for the log: nobody reads it
