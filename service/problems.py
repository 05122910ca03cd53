"""The one place that maps errors to HTTP: problem details after RFC 9457."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from service.admission import QueueFull, Stopping, TooSlow
from service.announced import RequestTooLarge, RequestUnsupported, TimeoutMalformed
from service.composition.answer import (
    CompositionUnavailable,
    ReportMalformed,
    ReportTooLarge,
    SiteUncounted,
    TallyOff,
)
from service.errors import (
    PhotoBroken,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoUnsupported,
    SeveralWorkers,
    SuperbinError,
)
from service.keys import (
    AdminOff,
    AdminOnly,
    KeyRefused,
    ReviewerNameless,
    ReviewerOff,
    ReviewerOnly,
    ReviewerUnlisted,
)
from service.parameters import ParameterUnknown
from service.photos import DeadlineExceeded
from service.quota import RateLimited
from service.registry import ModelRefused, ModelUnknown
from service.results import InferenceError
from service.review.records import PhotoAmbiguous, PhotoGone, StoreUnavailable
from service.review_words import BinUnfit, ReviewMalformed, ReviewOff, SuperclassUnknown
from service.rulebook import SiteUnknown
from service.schemas import Problem, ProtocolProblem
from service.site_rules import SiteUnfit
from service.tags import TagMalformed
from service.tensors import TensorMalformed
from service.uploads import RequestMalformed, RequestSlow, TooManyPhotos

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:superbin:problem:"
PROBLEM_CONTENT: dict[str, Any] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
V2 = "/v2"  # the Open Inference Protocol, whose clients read `error` alone
V2_CONTENT: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/ProtocolProblem"}}
}

MEANINGS: dict[type[SuperbinError], tuple[HTTPStatus, str]] = {
    PhotoEmpty: (HTTPStatus.BAD_REQUEST, "The photo is empty"),
    PhotoTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The photo is too large"),
    PhotoUnsupported: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The photo's format is not accepted"),
    PhotoBroken: (HTTPStatus.UNPROCESSABLE_ENTITY, "The photo is damaged"),
    RequestMalformed: (HTTPStatus.BAD_REQUEST, "The request has no photos where they belong"),
    RequestTooLarge: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"),
    TooManyPhotos: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too many photos in one request"),
    RequestUnsupported: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body's type is not accepted"),
    QueueFull: (HTTPStatus.SERVICE_UNAVAILABLE, "The queue is full"),
    TooSlow: (HTTPStatus.SERVICE_UNAVAILABLE, "There is no answer in the time given"),
    DeadlineExceeded: (HTTPStatus.GATEWAY_TIMEOUT, "No answer in time"),
    RequestSlow: (HTTPStatus.REQUEST_TIMEOUT, "The body came too slowly"),
    TimeoutMalformed: (HTTPStatus.BAD_REQUEST, "The timeout does not fit"),
    ParameterUnknown: (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "A query parameter is unknown or does not fit",
    ),
    TagMalformed: (HTTPStatus.BAD_REQUEST, "A tag is no short word"),
    Stopping: (HTTPStatus.SERVICE_UNAVAILABLE, "The service is shutting down"),
    TensorMalformed: (HTTPStatus.BAD_REQUEST, "The request is none of the inference protocol"),
    ModelUnknown: (HTTPStatus.NOT_FOUND, "No such model is served"),
    SiteUnknown: (HTTPStatus.NOT_FOUND, "No such site has rules here"),
    SiteUnfit: (HTTPStatus.CONFLICT, "The site's rules do not fit the model"),
    ModelRefused: (HTTPStatus.CONFLICT, "The model is refused"),
    SeveralWorkers: (HTTPStatus.CONFLICT, "There are several workers"),
    KeyRefused: (HTTPStatus.UNAUTHORIZED, "No key, or none that is known"),
    AdminOnly: (HTTPStatus.FORBIDDEN, "An admin's key is needed"),
    AdminOff: (HTTPStatus.FORBIDDEN, "Nobody may change what is served"),
    RateLimited: (HTTPStatus.TOO_MANY_REQUESTS, "Too many at once"),
    ReviewOff: (HTTPStatus.NOT_FOUND, "Nothing is kept for review"),
    ReviewerOff: (HTTPStatus.FORBIDDEN, "Review needs keys"),
    ReviewerOnly: (HTTPStatus.FORBIDDEN, "A reviewer's key is needed"),
    ReviewerNameless: (HTTPStatus.UNPROCESSABLE_ENTITY, "Nobody is named who looks"),
    ReviewerUnlisted: (HTTPStatus.FORBIDDEN, "The key is another person's"),
    ReviewMalformed: (HTTPStatus.UNPROCESSABLE_ENTITY, "The request does not fit"),
    SuperclassUnknown: (HTTPStatus.UNPROCESSABLE_ENTITY, "No such superclass"),
    BinUnfit: (HTTPStatus.UNPROCESSABLE_ENTITY, "The bin does not fit"),
    PhotoGone: (HTTPStatus.NOT_FOUND, "No such photo is kept"),
    PhotoAmbiguous: (HTTPStatus.CONFLICT, "Several photos go by that id"),
    StoreUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "The review store is away"),
    TallyOff: (HTTPStatus.NOT_FOUND, "Nothing is counted for reports"),
    ReportMalformed: (HTTPStatus.UNPROCESSABLE_ENTITY, "The report's time does not fit"),
    SiteUncounted: (HTTPStatus.NOT_FOUND, "Of no such site anything was counted"),
    ReportTooLarge: (HTTPStatus.UNPROCESSABLE_ENTITY, "The report has too many rows"),
    CompositionUnavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "The counts' database is away"),
    InferenceError: (HTTPStatus.INTERNAL_SERVER_ERROR, "The model failed"),
}


def problem_of(error: SuperbinError, request_id: str) -> Problem:
    """An error of ours, as a client gets it."""
    status, title = MEANINGS[type(error)]
    reason = str(getattr(error, "reason", "unknown"))
    return _problem(status, title, str(error), reason, request_id)


def problem_of_status(code: int, detail: str, request_id: str) -> Problem:
    """Any other status of 400 and more, such as 404."""
    status = HTTPStatus(code)
    return _problem(status, status.phrase, detail, status.name.lower(), request_id)


def problem_response(
    problem: Problem, headers: dict[str, str] | None = None, *, path: str = ""
) -> Response:
    """A problem as the whole answer, in the words of the protocol that `path` belongs to."""
    if path.startswith(V2):
        told = ProtocolProblem(error=problem.detail, reason=problem.reason)
        return Response(
            told.model_dump_json(), problem.status, headers=headers, media_type="application/json"
        )
    return Response(
        problem.model_dump_json(), problem.status, headers=headers, media_type=MEDIA_TYPE
    )


def _problem(status: HTTPStatus, title: str, detail: str, reason: str, request_id: str) -> Problem:
    return Problem(
        type=TYPE_PREFIX + reason,
        title=title,
        status=status.value,
        detail=detail,
        reason=reason,
        request_id=request_id,
    )
