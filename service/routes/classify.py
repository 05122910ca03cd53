"""`POST /v1/classify` and `/v1/embed`: photos in, superclasses or embeddings out.

One JSON document by default; with `Accept: application/x-ndjson` a line for each photo as soon as
it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from service.announced import announce
from service.errors import SuperbinError
from service.intake import AdmittedRequest, Intake, admitted, results_unless_gone, take_in
from service.languages import pick_language
from service.photos import DeadlineExceeded, Outcome, result_of
from service.problems import problem_of
from service.results import InferenceError, Sorted, classification, embedding
from service.reviewing import keep_for_review
from service.routes.classify_docs import (
    CLASSIFY_DESCRIPTION,
    CLASSIFY_RESPONSES,
    EMBED_DESCRIPTION,
    EMBED_RESPONSES,
    NDJSON,
    REQUEST,
)
from service.rulebook import SiteUnknown
from service.schemas import (
    Classification,
    ClassifyAnswer,
    EmbedAnswer,
    Embedding,
    Line,
    Refusal,
)
from service.site_rules import SiteUnfit
from service.uploads import Upload

NOT_STORED = {"Cache-Control": "no-store"}

Answer = TypeVar("Answer", Classification, Embedding)
Tell = Callable[[Intake, Upload, Outcome], Answer]

router = APIRouter(tags=["classify"])


@router.post(
    "/v1/classify",
    description=CLASSIFY_DESCRIPTION,
    response_model=ClassifyAnswer,
    responses=CLASSIFY_RESPONSES,
    openapi_extra=REQUEST,
)
async def classify(request: Request) -> Response:
    """Classify every photo of the request."""
    return await _answer(request, _classification, watched=True)


@router.post(
    "/v1/embed",
    description=EMBED_DESCRIPTION,
    response_model=EmbedAnswer,
    responses=EMBED_RESPONSES,
    openapi_extra=REQUEST,
)
async def embed(request: Request) -> Response:
    """The embedding of every photo of the request."""
    return await _answer(request, _embedding, watched=False)


def _classification(photos: Intake, upload: Upload, outcome: Outcome) -> Classification:
    answer = classification(
        photos.model.manifest,
        outcome.answers,
        upload.filename,
        _sorted(photos.admitted),
        outcome.doubts,
    )
    held = photos.admitted.held
    held.metrics.prediction(photos.model.bundle.id, answer)
    if held.recorder:
        held.recorder.count(answer, photos.admitted.tags, photos.model.bundle.id)
    if outcome.watched and photos.model.drift:
        photos.model.drift.observe(photos.admitted.tags, outcome.answers, outcome.appearance)
    return keep_for_review(photos, upload, outcome, answer)


def _sorted(admitted: AdmittedRequest) -> Sorted | None:
    """By which rules, and in which of their languages.

    Raises:
        SiteUnknown: where the site is gone since the request was let in.
    """
    rules = admitted.rules
    if rules is None:
        return None
    accepted = admitted.request.headers.get("accept-language")
    return Sorted(rules, pick_language(accepted, rules.site.languages))


def _embedding(photos: Intake, upload: Upload, outcome: Outcome) -> Embedding:
    return embedding(outcome.answers, upload.filename)


async def _answer(request: Request, tell: Tell[Answer], *, watched: bool) -> Response:
    model = request.query_params.get("model") if request.scope["query_string"] else None
    if NDJSON in request.headers.get("accept", ""):
        with ExitStack() as stack:
            photos = await take_in(stack.enter_context(admitted(request, model, announce)))
            outcomes = stack.enter_context(photos.submitted(watched=watched))
            return _Lines(_lines(photos, outcomes, tell), stack.pop_all())
    with admitted(request, model, announce) as let_in:
        photos = await take_in(let_in)
        with photos.submitted(watched=watched) as outcomes:
            found = await results_unless_gone(request, outcomes)
    answer = {  # a ClassifyAnswer, or an EmbedAnswer
        "request_id": request.state.request_id,
        "model": photos.model.id,
        "results": _results(photos, found, tell),
    }
    timing = {"Server-Timing": _server_timing(photos.read_s, found)}
    return Response(
        to_json(answer, inf_nan_mode="null"),
        media_type="application/json",
        headers=NOT_STORED | timing,
    )


class _Lines(StreamingResponse):
    """A line for each photo in the order in which they are answered; then `stack` ends."""

    def __init__(self, lines: AsyncIterator[str], stack: ExitStack) -> None:
        super().__init__(self._closing(lines), media_type=NDJSON, headers=NOT_STORED)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stack:  # not in the generator: one that never begins never ends either
            await super().__call__(scope, receive, send)

    async def _closing(self, lines: AsyncIterator[str]) -> AsyncIterator[str]:
        """The lines; what they held is free before the client learns that there are no more."""
        async for line in lines:
            yield line
        self._stack.close()


async def _lines(
    photos: Intake, outcomes: list[asyncio.Future[Outcome]], tell: Tell[Answer]
) -> AsyncIterator[str]:
    waiting = dict(zip(outcomes, enumerate(photos.uploads), strict=True))
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for outcome in done:
            index, upload = waiting.pop(outcome)
            found = _result(photos, upload, result_of(outcome), tell)
            result = _refusal(photos, upload, found) if isinstance(found, SuperbinError) else found
            yield Line(index=index, model=photos.model.id, result=result).model_dump_json() + "\n"


def _results(
    photos: Intake, found: list[Outcome | SuperbinError], tell: Tell[Answer]
) -> list[Answer | Refusal]:
    """Answers and refusals in order.

    Raises:
        SuperbinError: of a lone photo that was refused.
        DeadlineExceeded: where every photo was too late.
    """
    late = [one for one in found if isinstance(one, DeadlineExceeded)]
    if len(late) == len(found):
        raise late[0]
    results: list[Answer | Refusal] = []
    for upload, one in zip(photos.uploads, found, strict=True):
        result = _result(photos, upload, one, tell)
        if isinstance(result, SuperbinError):
            if len(found) == 1:
                raise result
            results.append(_refusal(photos, upload, result))
        else:
            results.append(result)
    return results


def _result(
    photos: Intake, upload: Upload, found: Outcome | SuperbinError, tell: Tell[Answer]
) -> Answer | SuperbinError:
    if not isinstance(found, Outcome):
        return found
    try:
        return tell(photos, upload, found)
    except (InferenceError, SiteUnknown, SiteUnfit) as error:
        return error


def _refusal(photos: Intake, upload: Upload, error: SuperbinError) -> Refusal:
    problem = problem_of(error, photos.admitted.request.state.request_id)
    photos.admitted.held.metrics.rejection(problem.reason)
    return Refusal(filename=upload.filename, error=problem)


def _server_timing(read_s: float, found: list[Outcome | SuperbinError]) -> str:
    """Where the time went, in milliseconds; of several photos the slowest counts."""
    decode_s = queue_s = infer_s = 0.0
    for one in found:
        if isinstance(one, Outcome):
            decode_s = max(decode_s, one.decode_s)
            queue_s = max(queue_s, one.queue_s)
            infer_s = max(infer_s, one.infer_s)
    return (
        f"read;dur={1000 * read_s:.2f}, decode;dur={1000 * decode_s:.2f}, "
        f"queue;dur={1000 * queue_s:.2f}, infer;dur={1000 * infer_s:.2f}"
    )
