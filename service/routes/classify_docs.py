"""What `/openapi.json` says of `POST /v1/classify`: both kinds of body, and every refusal."""

from __future__ import annotations

from typing import Any

from service.admission import QueueFull, Stopping, TooSlow
from service.announced import (
    FIELD,
    MULTIPART,
    SHORTEST_TIMEOUT_S,
    TIMEOUT,
    RequestTooLarge,
    RequestUnsupported,
    TimeoutMalformed,
)
from service.errors import (
    PhotoBroken,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoUnsupported,
    SuperbinError,
)
from service.openapi import KEY_REFUSALS, KEYED, refusals, schema_of
from service.parameters import ParameterUnknown
from service.photos import DeadlineExceeded
from service.problems import MEDIA_TYPE, problem_of
from service.registry import ModelUnknown
from service.results import InferenceError
from service.rulebook import SiteUnknown
from service.schemas import Line
from service.site_rules import SiteUnfit
from service.tags import TAG, TagMalformed
from service.uploads import RequestMalformed, RequestSlow, TooManyPhotos

NDJSON = "application/x-ndjson"

_BODY = (
    "Send one photo or several as multipart/form-data in the field `file`, or one photo as a raw "
    "body of type image/*. There is one result per photo, in order. Among several, a bad photo "
    "gets an `error` of its own and the others their answers; where the only photo is bad, that "
    "error is the answer. With `Accept: application/x-ndjson` there is a line of JSON for each "
    "photo as soon as it is answered, with its `index` in the request. `X-Request-Timeout` says "
    "within how many seconds the answer is wanted: a photo that is late gets an `error`, too, and "
    "where all of them are late there is a 504 in place of results, but not of lines."
)
CLASSIFY_DESCRIPTION = f"The superclass of each photo. {_BODY}"
EMBED_DESCRIPTION = f"The embedding of each photo, of unit length. {_BODY}"

_BINARY = {"type": "string", "format": "binary"}
_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "additionalProperties": False,
                "properties": {FIELD: {"type": "array", "minItems": 1, "items": _BINARY}},
            }
        },
        "image/*": {"schema": _BINARY},
    },
}

_TAG = {"type": "string", "pattern": f"^{TAG.pattern}$"}
# Described here and read from the request: FastAPI's own way costs a tenth of a millisecond.
_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "model",
        "in": "query",
        "description": "`name` or `name/version`; by default the first one served.",
        "schema": {"type": "string"},
    },
    {
        "name": "site",
        "in": "query",
        "description": "Whose rules say which bin a thing goes into, see `GET /v1/sites`; by "
        "default the key's site, or else the service's.",
        "schema": _TAG,
    },
    {
        "name": "line",
        "in": "query",
        "description": "Where at the site the photo was taken, for statistics.",
        "schema": _TAG,
    },
    {
        "name": "camera",
        "in": "query",
        "description": "What took the photo, for statistics.",
        "schema": _TAG,
    },
    {
        "name": "Accept-Language",
        "in": "header",
        "description": "Languages of the bins' names and texts.",
        "schema": {"type": "string", "example": "de, en;q=0.5"},
    },
    {
        "name": TIMEOUT,
        "in": "header",
        "description": "Seconds within which the answer is wanted.",
        "schema": {"type": "number", "minimum": SHORTEST_TIMEOUT_S, "example": 0.5},
    },
]
REQUEST = {"requestBody": _REQUEST_BODY, "parameters": _PARAMETERS} | KEYED

_ANSWER: dict[str, Any] = {
    "request_id": "3f0c9d6e5b8a4c7e9d2f1a0b6c5d4e3f",
    "model": {"name": "refuse", "version": "4"},
    "results": [
        {
            "filename": "bottle.jpg",
            "superclass": "recyclable",
            "confidence": 0.971204,
            "probabilities": {"recyclable": 0.971204, "residual": 0.028796},
            "decision": "sort",
            "doubts": [],
            "sorting": None,
            "references": [
                {
                    "id": "images/trashnet/plastic/0101.jpg",
                    "superclass": "recyclable",
                    "subclass": "plastic",
                    "source": "trashnet",
                    "weight": 0.213705,
                }
            ],
            "self_weight": 0.302811,
            "guide": [{"name": "water bottle", "superclass": "recyclable", "weight": 0.091205}],
        }
    ],
}

_EXAMPLES: list[SuperbinError] = [
    PhotoEmpty("expected an encoded photo, got 0 bytes"),
    PhotoTooLarge("expected at most 20,000,000 bytes a photo, got 31,457,280"),
    PhotoUnsupported("expected one of JPEG, PNG, ..., got 1,204 bytes that begin b'%PDF-1.7'"),
    PhotoBroken("expected a whole JPEG photo, got 20,480 bytes that do not decode"),
    ParameterUnknown("expected no query parameters but model, site, line, camera, got 'modle'"),
    QueueFull("expected at most 128 photos in the queue, which holds 128, and 1 came", 2),
    DeadlineExceeded("expected an answer within 0.5 s, got none in time"),
    RequestSlow(
        "expected the body within 10 s and then at 4,096 bytes a second, got 20,480 bytes in 15.0 s"
    ),
]
_KINDS: tuple[type[SuperbinError], ...] = (
    *KEY_REFUSALS,
    *(type(one) for one in _EXAMPLES),
    *(RequestMalformed, RequestTooLarge, TooManyPhotos, RequestUnsupported, TimeoutMalformed),
    *(ModelUnknown, SiteUnknown, SiteUnfit, TagMalformed, TooSlow, Stopping, InferenceError),
)


def _refusals() -> dict[int | str, dict[str, Any]]:
    """Everything that may be refused by its status, with examples by their reason."""
    found = refusals(*_KINDS)
    for error in _EXAMPLES:
        problem = problem_of(error, _ANSWER["request_id"])
        content = found[problem.status]["content"] = dict(found[problem.status]["content"])
        told = content[MEDIA_TYPE] = dict(content[MEDIA_TYPE])
        one = {problem.reason: {"summary": problem.title, "value": problem.model_dump()}}
        told["examples"] = told.get("examples", {}) | one
    return found


def _answers(example: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The answer in both forms, and what all of these routes may refuse."""
    content = {"application/json": {"example": example}, NDJSON: {"schema": schema_of(Line)}}
    return {200: {"description": "One result per photo", "content": content}} | _refusals()


CLASSIFY_RESPONSES = _answers(_ANSWER)
EMBED_RESPONSES = _answers(
    _ANSWER | {"results": [{"filename": "bottle.jpg", "embedding": [0.6, -0.8]}]}
)
