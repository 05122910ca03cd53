"""What `/openapi.json` says beyond what FastAPI finds by itself: keys, refusals, other schemas."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.errors import SuperbinError
from service.keys import AdminOff, AdminOnly, KeyRefused
from service.parameters import ParameterUnknown
from service.problems import MEANINGS, PROBLEM_CONTENT, V2, V2_CONTENT
from service.quota import RateLimited
from service.review_words import FeedbackBody, TakeBody, VerdictBody
from service.schemas import Line, Problem, ProtocolProblem
from service.tensor_json import InferRequest

KEYED: dict[str, Any] = {"security": [{}, {"key": []}, {"bearer": []}]}  # where keys are set
ADMIN: dict[str, Any] = {"security": [{"key": []}, {"bearer": []}]}

_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
_REF = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (
    Line,
    Problem,
    ProtocolProblem,
    InferRequest,
    FeedbackBody,
    TakeBody,
    VerdictBody,
)
_FASTAPIS = ("HTTPValidationError", "ValidationError")
_INVALID = "A parameter does not fit"


def schema_of(model: type[BaseModel]) -> dict[str, str]:
    """A reference to one of the document's schemas."""
    return {"$ref": _REF.format(model=model.__name__)}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A request's body, of one of the document's schemas."""
    content = {"application/json": {"schema": schema_of(model)}}
    return {"requestBody": {"required": True, "content": content}}


def refusals(*kinds: type[SuperbinError], v2: bool = False) -> dict[int | str, dict[str, Any]]:
    """Responses of a route that may fail in these ways, or be asked with an unknown parameter.

    Args:
        v2: in the inference protocol's words, whose routes let every parameter pass.
    """
    titles: dict[int, list[str]] = {}
    for kind in kinds if v2 else dict.fromkeys((*kinds, ParameterUnknown)):
        status, title = MEANINGS[kind]
        titles.setdefault(status.value, []).append(title)
    content = V2_CONTENT if v2 else PROBLEM_CONTENT
    return {
        status: {"description": "; or: ".join(told), "content": content}
        for status, told in titles.items()
    }


KEY_REFUSALS = (KeyRefused, RateLimited)
ADMIN_REFUSALS = (KeyRefused, AdminOff, AdminOnly)


def describe(app: FastAPI) -> dict[str, Any]:
    """The document."""
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = found["components"]
    _, own = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
    components["schemas"] |= own["$defs"]
    components["securitySchemes"] = _SCHEMES
    for path, operations in found["paths"].items():
        content = V2_CONTENT if path.startswith(V2) else PROBLEM_CONTENT
        for operation in operations.values():
            invalid = operation["responses"].get("422")
            if invalid and "application/json" in invalid["content"]:  # FastAPI's own
                operation["responses"]["422"] = {"description": _INVALID, "content": content}
    for name in _FASTAPIS:
        components["schemas"].pop(name, None)
    return found
