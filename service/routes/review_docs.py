"""What `/openapi.json` says of the routes below `/v1/review`: bodies, answers and every refusal."""

from __future__ import annotations

from typing import Any

from service.announced import RequestTooLarge, RequestUnsupported
from service.errors import SuperbinError
from service.keys import KeyRefused, ReviewerNameless, ReviewerOff, ReviewerOnly, ReviewerUnlisted
from service.openapi import ADMIN, json_body, refusals
from service.review.records import PhotoGone, StoreUnavailable
from service.review_words import (
    BinUnfit,
    ReviewMalformed,
    ReviewOff,
    SuperclassUnknown,
    TakeBody,
    VerdictBody,
)
from service.uploads import RequestSlow

_ALWAYS = (KeyRefused, ReviewerOff, ReviewerOnly, ReviewOff, StoreUnavailable)
_BODY = (ReviewMalformed, RequestTooLarge, RequestUnsupported, RequestSlow)
_NAMED = (ReviewerNameless, ReviewerUnlisted)
GIVES_QUEUE: Any = {
    "responses": refusals(*_ALWAYS, *_NAMED, *_BODY),
    "openapi_extra": json_body(TakeBody) | ADMIN,
}
OF_A_PHOTO: Any = {"responses": refusals(*_ALWAYS, PhotoGone), "openapi_extra": ADMIN}
OF_MY_PHOTO: Any = {
    "responses": refusals(*_ALWAYS, *_NAMED, PhotoGone),
    "openapi_extra": ADMIN,
}
OF_A_KIND: Any = {"responses": refusals(*_ALWAYS), "openapi_extra": ADMIN}
OF_MINE: Any = {"responses": refusals(*_ALWAYS, *_NAMED), "openapi_extra": ADMIN}
TAKES_VERDICT: Any = {
    "responses": refusals(*_ALWAYS, *_NAMED, *_BODY, PhotoGone, SuperclassUnknown, BinUnfit),
    "openapi_extra": json_body(VerdictBody) | ADMIN,
}


def _gives(media_type: str, *errors: type[SuperbinError]) -> Any:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    found = {200: {"description": "The bytes", "content": content}}
    return {"responses": found | refusals(*_ALWAYS, *errors), "openapi_extra": ADMIN}


GIVES_PHOTO = _gives("image/jpeg", PhotoGone)
GIVES_CSV = _gives("text/csv")
GIVES_ZIP = _gives("application/zip")
