"""The application: what it holds while it runs, and how errors become answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service import __version__
from service.access import Access
from service.admission import Admission, Unavailable
from service.batching import Scheduler
from service.catalogue import list_models, open_classifiers
from service.classifier import Classifier
from service.errors import SuperbinError
from service.metrics import Metrics
from service.problems import problem_of, problem_of_status, problem_response
from service.routes import classify, health, inference_protocol, metrics, models, page
from service.serving import Serving
from service.settings import Settings

log = structlog.get_logger()

DESCRIPTION = "Sorts photos of refuse into superclasses, that is, into bins."
CLIENT_GONE = 499


def create_app(settings: Settings) -> FastAPI:
    """An application of its own for each call: nothing is shared between two of them."""
    measures = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            classifiers = open_classifiers(settings)
        except SuperbinError as error:
            app.state.start_error = error  # the server tells it without a traceback
            raise
        async with _serving(settings, measures, classifiers) as app.state.serving:
            yield

    app = FastAPI(
        title="Superbin",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # routes/page.py has it, and /docs: FastAPI's loads parts from elsewhere
    )
    app.add_middleware(Access, metrics=measures)
    for family in (classify, models, inference_protocol, health, metrics, page):
        app.include_router(family.router)
    _handle_errors(app, measures)
    return app


@asynccontextmanager
async def _serving(
    settings: Settings, measures: Metrics, classifiers: list[Classifier]
) -> AsyncIterator[Serving]:
    """Put the parts together around warm classifiers; at the end answer what waits and let go."""
    classifier = classifiers[0]
    measures.model(classifier)
    scheduler = Scheduler(
        [one.run for one in classifiers],
        decode_workers=settings.decode_workers,
        max_batch=settings.max_batch,
        max_delay_s=settings.max_delay_s,
        metrics=measures,
    )
    admission = Admission(
        scheduler.backlog,
        max_photos=settings.max_queue,
        max_bytes=settings.max_queue_bytes,
        max_request_photos=settings.max_photos,
        metrics=measures,
    )
    served = classifier.bundle
    models = list_models(settings.models_dir, default=served.path, loaded=classifier)
    serving = Serving(settings, measures, served.manifest, admission, scheduler, models)
    serving.set_ready(True)
    log.info(
        "ready",
        model=served.id,
        variant=classifier.variant,
        providers=[one.provider for one in classifiers],
    )
    try:
        yield serving
    finally:
        serving.set_ready(False)
        admission.close()
        await scheduler.close()
        log.info("stopped")


def _handle_errors(app: FastAPI, measures: Metrics) -> None:
    @app.exception_handler(SuperbinError)
    async def ours(request: Request, error: SuperbinError) -> Response:
        problem = problem_of(error, request.state.request_id)
        measures.rejection(problem.reason)
        headers = None
        if isinstance(error, Unavailable):
            headers = {"Retry-After": str(error.retry_after_s)}
        return problem_response(problem, headers, path=request.url.path)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}"
        problem = problem_of_status(error.status_code, detail, request.state.request_id)
        return problem_response(problem, dict(error.headers or {}), path=request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        detail = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        problem = problem_of_status(422, detail, request.state.request_id)
        return problem_response(problem, path=request.url.path)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_GONE)  # for the log: nobody reads it
