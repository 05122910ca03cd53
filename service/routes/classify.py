"""`POST /v1/classify`: photos in, superclasses out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from service.batching import Outcome
from service.errors import SuperbinError
from service.preprocess import Pixels, decode
from service.problems import problem_of
from service.results import InferenceError, classification
from service.routes.classify_docs import DESCRIPTION, REQUEST_BODY, RESPONSES
from service.schemas import Classification, ClassifyAnswer, ModelId, Refusal
from service.serving import Serving, serving
from service.uploads import Announced, Upload, announce, receive

T = TypeVar("T")

router = APIRouter(tags=["classify"])


@router.post(
    "/v1/classify",
    description=DESCRIPTION,
    responses=RESPONSES,
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def classify(request: Request, response: Response) -> ClassifyAnswer:
    """Classify every photo of the request."""
    held = serving(request)
    announced = announce(request, held.settings)
    with held.admission.admit(announced.photos, announced.nbytes, announced.timeout_s) as place:
        started = time.perf_counter()
        async with receive(request, announced, held.settings) as uploads:
            read_s = time.perf_counter() - started
            request.state.photos = len(uploads)
            held.admission.settle(place, len(uploads), sum(upload.size for upload in uploads))
            found = await _unless_gone(request, _outcomes(held, request, uploads, announced))
    response.headers["Server-Timing"] = _server_timing(read_s, found)
    response.headers["Cache-Control"] = "no-store"
    results = _results(held, request.state.request_id, uploads, found)
    model = ModelId(name=held.manifest.name, version=held.manifest.version)
    return ClassifyAnswer(request_id=request.state.request_id, model=model, results=results)


async def _outcomes(
    held: Serving, request: Request, uploads: list[Upload], announced: Announced
) -> list[Outcome | SuperbinError]:
    spec, limits = held.manifest.preprocessing, held.settings.photo_limits

    def load(upload: Upload) -> Pixels:
        return decode(upload.read(limits.max_bytes), spec, limits)

    return await held.scheduler.classify(
        [partial(load, upload) for upload in uploads],
        client=request.client.host if request.client else "",
        bulk=len(uploads) > held.settings.interactive_photos,
        timeout_s=announced.timeout_s,
    )


def _results(
    held: Serving,
    request_id: str,
    uploads: list[Upload],
    found: list[Outcome | SuperbinError],
) -> list[Classification | Refusal]:
    """Answers and refusals in order; where a lone photo was refused, that is the answer."""
    results: list[Classification | Refusal] = []
    for upload, one in zip(uploads, found, strict=True):
        answer = _answer(held, upload, one)
        if isinstance(answer, Classification):
            held.metrics.prediction(answer)
            results.append(answer)
            continue
        if len(found) == 1:
            raise answer
        problem = problem_of(answer, request_id)
        held.metrics.rejection(problem.reason)
        results.append(Refusal(filename=upload.filename, error=problem))
    return results


def _answer(
    held: Serving, upload: Upload, found: Outcome | SuperbinError
) -> Classification | SuperbinError:
    if not isinstance(found, Outcome):
        return found
    try:
        return classification(held.manifest, found.answers, upload.filename)
    except InferenceError as error:
        return error


def _server_timing(read_s: float, found: list[Outcome | SuperbinError]) -> str:
    """Where the time went, in milliseconds; of several photos the slowest counts."""
    outcomes = [one for one in found if isinstance(one, Outcome)]
    times = {
        "read": read_s,
        "decode": max((one.decode_s for one in outcomes), default=0.0),
        "queue": max((one.queue_s for one in outcomes), default=0.0),
        "infer": max((one.infer_s for one in outcomes), default=0.0),
    }
    return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in times.items())


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
