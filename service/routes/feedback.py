"""`POST /v1/feedback`: what a photo that was classified really shows."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from service.intake import identify
from service.openapi import KEY_REFUSALS, KEYED, json_body, refusals
from service.review.records import StoreUnavailable
from service.review_schemas import FeedbackAnswer
from service.review_words import (
    MAX_BODY_BYTES,
    FeedbackBody,
    ReviewMalformed,
    ReviewOff,
    SuperclassUnknown,
    checked,
    read_words,
)
from service.reviewing import capture_of, known_kinds, known_superclasses
from service.serving import serving
from service.uploads import RequestSlow, RequestTooLarge, RequestUnsupported, read_json

REFUSALS = refusals(
    *KEY_REFUSALS,
    ReviewOff,
    ReviewMalformed,
    SuperclassUnknown,
    StoreUnavailable,
    RequestTooLarge,
    RequestUnsupported,
    RequestSlow,
)

router = APIRouter(tags=["review"])


@router.post("/v1/feedback", responses=REFUSALS, openapi_extra=json_body(FeedbackBody) | KEYED)
async def feedback(request: Request) -> FeedbackAnswer:
    """Say what a photo that was classified really shows.

    Where the photo is kept for review this counts as one person's review of it; where it is not,
    the words alone are recorded. The same client's next word on the same photo replaces its last.
    """
    held = serving(request)
    client = identify(request)
    held.feedback_quota.check(client)
    held.feedback_quota.charge(client, 1)
    capture = capture_of(held)
    data = await read_json(request, MAX_BODY_BYTES, held.settings)
    body = read_words(FeedbackBody, data)
    verdict = checked(body, known_superclasses(held), known_kinds(held))
    found = await asyncio.to_thread(
        capture.store.feedback, body.request_id, body.photo, f"client:{client}"[:64], verdict
    )
    kept = found.photo_id is not None
    held.metrics.review_feedback("photo" if kept else "alone")
    return FeedbackAnswer(
        request_id=body.request_id,
        photo=body.photo,
        superclass=body.superclass,
        recorded=True,
        kept=kept,
    )
