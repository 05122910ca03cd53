"""`POST /v1/feedback`: what a photo that was classified really shows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter, Request, Response

from service.announced import RequestTooLarge, RequestUnsupported
from service.capture import Capture
from service.intake import identify, key_of
from service.openapi import KEY_REFUSALS, KEYED, json_body, refusals
from service.review.records import Feedback, PhotoAmbiguous, StoreUnavailable, Verdict
from service.review_schemas import FeedbackAnswer, ReviewKind
from service.review_words import (
    MAX_BODY_BYTES,
    FeedbackBody,
    ReviewMalformed,
    ReviewOff,
    SuperclassUnknown,
    checked,
    read_words,
)
from service.reviewing import (
    capture_of,
    known_kinds,
    known_superclasses,
    spelt_kind,
    superclasses_of_kind,
)
from service.serving import serving
from service.store_threads import on_store
from service.uploads import RequestSlow, read_json

REFUSALS = refusals(
    *KEY_REFUSALS,
    ReviewOff,
    ReviewMalformed,
    SuperclassUnknown,
    PhotoAmbiguous,
    StoreUnavailable,
    RequestTooLarge,
    RequestUnsupported,
    RequestSlow,
)

router = APIRouter(tags=["review"])


WAITS: dict[int | str, dict[str, Any]] = {
    202: {"model": FeedbackAnswer, "description": "That photo is not kept, or not yet"}
}


@router.post(
    "/v1/feedback", responses=WAITS | REFUSALS, openapi_extra=json_body(FeedbackBody) | KEYED
)
async def feedback(request: Request, response: Response) -> FeedbackAnswer:
    """Say what a photo that was classified really shows.

    Where the photo is kept for review this counts as one person's review of it. A share of the
    photos wants two people (`SUPERBIN_REVIEW_DOUBLE_SHARE`): `settled` says whether it is enough.
    Where keys are set, a client's feedback counts for photos that came with its own key, and an
    admin's for everybody's.
    Where the photo is not kept (202), the words wait for one that was answered before and may be on
    its way still, as long as an unreviewed photo would be kept. The same client's next word on the
    same photo replaces its last.
    """
    held = serving(request)
    client = identify(request)
    whose = held.keys.spoken_for(key_of(request.headers))
    held.feedback_quota.check(client)
    held.feedback_quota.charge(client, 1)
    capture = capture_of(held)
    data = await read_json(request, MAX_BODY_BYTES, held.settings)
    body = read_words(FeedbackBody, data)
    kinds = known_kinds(held)
    verdict = checked(body, known_superclasses(held), kinds)
    kind = await _kind_of(verdict, kinds, capture)
    banked = superclasses_of_kind(held, kind.kind) if kind else Counter[str]()
    elsewhere = banked if verdict.superclass not in banked else Counter[str]()
    place = body.request_id, body.photo
    awaited = capture.awaits(*place, whose)  # before it may have come
    found = await on_store(capture.store.feedback, *place, f"client:{client}"[:64], verdict, whose)
    kept = found.photo_id is not None
    held.metrics.review_feedback("photo" if kept else "alone")
    response.status_code = 200 if kept else 202
    return FeedbackAnswer(
        request_id=body.request_id,
        photo=body.photo,
        superclass=body.superclass,
        no_refuse=body.no_refuse,
        recorded=kept or awaited,
        kept=kept,
        settled=found.settled,
        known=found.request_known or awaited,
        known_kind=kind and kind.known,
        near_kinds=kind.near if kind else [],
        kind_superclasses=sorted(elsewhere),
        detail=_detail(body, found, awaited, whose, held.settings.review_days)
        + _of_kind(kind)
        + _of_superclass(verdict, elsewhere),
    )


async def _kind_of(verdict: Verdict, kinds: list[str], capture: Capture) -> ReviewKind | None:
    kind = verdict.subclass
    if kind is None:
        return None
    if kind in kinds:
        return spelt_kind(kind, kinds)
    return await on_store(lambda: spelt_kind(kind, kinds, capture.store.kinds()))


def _of_kind(kind: ReviewKind | None) -> str:
    if kind is None or kind.known:
        return ""
    near = f"; should it be {' or '.join(kind.near)}, say so again" if kind.near else ""
    return f". No model and no site knows the kind {kind.kind!r}, which is taken as a new one{near}"


def _of_others(found: Feedback) -> str:
    if found.settled:
        return ""
    if found.asked_on:
        return "; it waits for another person's, and nothing is learned from it before"
    return "; people do not agree on it, and nothing is learned from it"


def _of_superclass(said: Verdict, elsewhere: Counter[str]) -> str:
    if not elsewhere:
        return ""
    those = ", ".join(f"{one} ({n:,} items)" for one, n in elsewhere.most_common())
    return (
        f". The bank has the kind {said.subclass!r} as {those} and not as {said.superclass}; "
        "should one of the two be a slip, say so again"
    )


def _detail(
    body: FeedbackBody, found: Feedback, awaited: bool, whose: str | None, days: float
) -> str:
    if found.photo_id is not None:
        return "it counts as one person's review of the photo" + _of_others(found)
    if awaited:
        return "it counts as one person's review once the photo, which is on its way, is kept"
    sent = f" that {whose} sent" if whose else ""
    which = f"photo {body.photo} of request {body.request_id!r}{sent}"
    kept = (
        f"other photos of the request are kept, and {which} is not"
        if found.request_known
        else f"nothing is kept of {which}: it was not put aside, is gone, or never came"
    )
    return (
        f"{kept}; should it still be on its way, this counts once it is kept (up to {days:g} days)"
    )
