"""The Open Inference Protocol v2 over HTTP, for clients that speak it already."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from service import __version__
from service.admission import QueueFull, Stopping, TooSlow
from service.announced import RequestTooLarge, RequestUnsupported, TimeoutMalformed, announce_body
from service.bundle import Manifest
from service.errors import (
    PhotoBroken,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoUnsupported,
    SuperbinError,
)
from service.inference import INLINE_BYTES, inferring
from service.intake import admitted, identify, results_unless_gone
from service.keys import KeyRefused
from service.openapi import KEY_REFUSALS, KEYED, refusals, schema_of
from service.photos import DeadlineExceeded, Outcome
from service.registry import LoadedModel, ModelUnknown
from service.results import InferenceError
from service.serving import Serving, serving
from service.tensor_json import InferRequest, json_length, read_inference, write_answer
from service.tensors import EXTENSIONS, Inference, TensorMalformed, answers_of, metadata
from service.uploads import RequestSlow, TooManyPhotos, read_body

HEADER_LENGTH = "Inference-Header-Content-Length"
MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"

OF_A_MODEL = refusals(KeyRefused, ModelUnknown, v2=True)
NOT_READY = refusals(Stopping, v2=True)
OF_INFER = refusals(
    *KEY_REFUSALS,
    ModelUnknown,
    TensorMalformed,
    TimeoutMalformed,
    PhotoEmpty,
    PhotoTooLarge,
    PhotoUnsupported,
    PhotoBroken,
    RequestTooLarge,
    RequestUnsupported,
    RequestSlow,
    TooManyPhotos,
    QueueFull,
    TooSlow,
    Stopping,
    DeadlineExceeded,
    InferenceError,
    v2=True,
)
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": schema_of(InferRequest)},
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": f"JSON of as many bytes as {HEADER_LENGTH} says, then tensors.",
                }
            },
        },
    }
}

router = APIRouter(tags=["Open Inference Protocol v2"])


@router.get("/v2")
async def server() -> dict[str, Any]:
    """The server and the extensions that it has."""
    return {"name": "superbin", "version": __version__, "extensions": EXTENSIONS}


@router.get("/v2/health/live")
async def live() -> dict[str, bool]:
    """Whether the process runs and answers."""
    return {"live": True}


@router.get("/v2/health/ready", responses=NOT_READY)
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Whether it wants requests."""
    return _ready(serving(request), response)


@router.get(MODEL, responses=OF_A_MODEL, openapi_extra=KEYED)
@router.get(VERSION, responses=OF_A_MODEL, openapi_extra=KEYED)
async def model(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Inputs and outputs of a model."""
    identify(request)
    return metadata(_served(request, name, version).manifest)


@router.get(MODEL + "/ready", responses=OF_A_MODEL | NOT_READY)
@router.get(VERSION + "/ready", responses=OF_A_MODEL | NOT_READY)
async def model_ready(
    request: Request, response: Response, name: str, version: str | None = None
) -> dict[str, bool]:
    """Whether a model wants requests."""
    _served(request, name, version)
    return _ready(serving(request), response)


@router.post(MODEL + "/infer", responses=OF_INFER, openapi_extra=KEYED | BODY)
@router.post(VERSION + "/infer", responses=OF_INFER, openapi_extra=KEYED | BODY)
async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Run photos: UINT8 pixels, or BYTES of encoded photos; JSON or the binary extension."""
    settings = serving(request).settings
    with admitted(request, _reference(name, version), announce_body) as let_in:
        manifest = let_in.model.manifest
        body = await read_body(request, settings, let_in.grow)
        asked = await _read(request, body, manifest)
        with inferring(let_in, asked, len(body)) as outcomes:
            found = await results_unless_gone(request, outcomes)
    return _answer(manifest, asked, found)


async def _read(request: Request, body: bytes, manifest: Manifest) -> Inference:
    length = request.headers.get(HEADER_LENGTH)
    read = partial(read_inference, body, length, manifest)
    if len(body) <= INLINE_BYTES:
        return read()
    if json_length(length, len(body)) <= INLINE_BYTES:
        return await asyncio.to_thread(read)
    async with serving(request).parsing:
        return await asyncio.to_thread(read)


def _answer(manifest: Manifest, asked: Inference, found: list[Outcome | SuperbinError]) -> Response:
    body, header_length = write_answer(manifest, asked, answers_of(manifest, found))
    if header_length is None:
        return Response(body, media_type="application/json")
    return Response(
        body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(header_length)}
    )


def _served(request: Request, name: str, version: str | None) -> LoadedModel:
    return serving(request).registry.find(_reference(name, version))


def _reference(name: str, version: str | None) -> str:
    return name if version is None else f"{name}/{version}"


def _ready(held: Serving, response: Response) -> dict[str, bool]:
    response.status_code = 200 if held.ready else 503
    return {"ready": held.ready}
