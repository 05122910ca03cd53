"""`POST /v1/classify`: photos in, superclasses out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from service.errors import SuperbinError
from service.preprocess import Pixels, decode
from service.problems import problem_of
from service.results import classification
from service.routes.classify_docs import DESCRIPTION, REQUEST_BODY, RESPONSES
from service.schemas import Classification, ClassifyAnswer, ModelId, Refusal
from service.serving import Serving, serving
from service.uploads import Upload, receive

T = TypeVar("T")

router = APIRouter(tags=["classify"])


@dataclass
class Timings:
    """Where a request's time went, in seconds; of several photos the slowest counts."""

    read: float = 0.0
    decode: float = 0.0
    queue: float = 0.0
    infer: float = 0.0

    def header(self) -> str:
        """As `Server-Timing`, in milliseconds."""
        return ", ".join(f"{name};dur={1000 * s:.2f}" for name, s in vars(self).items())


@router.post(
    "/v1/classify",
    description=DESCRIPTION,
    responses=RESPONSES,
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def classify(request: Request, response: Response) -> ClassifyAnswer:
    """Classify every photo of the request."""
    held = serving(request)
    started = time.perf_counter()
    async with receive(request, held.settings) as uploads:
        timings = Timings(read=time.perf_counter() - started)
        request.state.photos = len(uploads)
        with held.batcher.places(len(uploads)):
            found = await _unless_gone(request, _classify_all(held, uploads, timings))
    response.headers["Server-Timing"] = timings.header()
    response.headers["Cache-Control"] = "no-store"
    results = _results(held, request.state.request_id, uploads, found)
    model = ModelId(name=held.manifest.name, version=held.manifest.version)
    return ClassifyAnswer(request_id=request.state.request_id, model=model, results=results)


def _results(
    held: Serving,
    request_id: str,
    uploads: list[Upload],
    found: list[Classification | SuperbinError],
) -> list[Classification | Refusal]:
    """Answers and refusals in order; where a lone photo was refused, that is the answer."""
    results: list[Classification | Refusal] = []
    for upload, one in zip(uploads, found, strict=True):
        if isinstance(one, Classification):
            held.metrics.prediction(one)
            results.append(one)
            continue
        if len(found) == 1:
            raise one
        problem = problem_of(one, request_id)
        held.metrics.rejection(problem.reason)
        results.append(Refusal(filename=upload.filename, error=problem))
    return results


async def _classify_all(
    held: Serving, uploads: list[Upload], timings: Timings
) -> list[Classification | SuperbinError]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_classify_one(held, upload, timings)) for upload in uploads]
    return [task.result() for task in tasks]


async def _classify_one(
    held: Serving, upload: Upload, timings: Timings
) -> Classification | SuperbinError:
    """One photo's answer, or why there is none: a bad photo must not fail its neighbours."""
    try:
        pixels = await _decode(held, upload, timings)
        outcome = await held.batcher.classify(pixels)
        timings.queue = max(timings.queue, outcome.queue_s)
        timings.infer = max(timings.infer, outcome.infer_s)
        return classification(held.manifest, outcome.answers, upload.filename)
    except SuperbinError as error:
        return error


async def _decode(held: Serving, upload: Upload, timings: Timings) -> Pixels:
    limits = held.settings.photo_limits

    def work() -> tuple[Pixels, float]:
        started = time.perf_counter()
        pixels = decode(upload.read(limits.max_bytes), held.manifest.preprocessing, limits)
        return pixels, time.perf_counter() - started

    loop = asyncio.get_running_loop()
    pixels, seconds = await loop.run_in_executor(held.decoders, work)
    held.metrics.stage("decode", seconds)
    timings.decode = max(timings.decode, seconds)
    return pixels


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and drop it where the client leaves first.

    Raises:
        ClientDisconnect: where it did.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    """Return when the client has gone; the body was read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
