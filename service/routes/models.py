"""Which models there are, and, with an admin key, which of them answer or look on."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request

from service.errors import SeveralWorkers
from service.intake import identify, identify_admin
from service.keys import KeyRefused
from service.openapi import ADMIN, ADMIN_REFUSALS, KEYED, refusals
from service.registry import ModelRefused, ModelUnknown, Registry
from service.schemas import ModelId, ModelsAnswer, ServedModel
from service.serving import serving
from service.shadow import Shadow

log = structlog.get_logger()

VersionQuery = Annotated[str | None, Query(description="By default the newest.")]
ShareQuery = Annotated[float, Query(gt=0.0, le=1.0, description="Of the requests.")]
REFUSALS = refusals(*ADMIN_REFUSALS, ModelUnknown, ModelRefused, SeveralWorkers)

router = APIRouter(tags=["models"])


@router.get("/v1/models", responses=refusals(KeyRefused), openapi_extra=KEYED)
async def models(request: Request) -> ModelsAnswer:
    """Every bundle of the folder, verified when it came, and which ones answer."""
    identify(request)
    held = serving(request)
    found = held.registry.models
    if shadow := held.shadow:
        found = [
            one.model_copy(update={"shadow": shadow.share})
            if f"{one.name}/{one.version}" == shadow.model.bundle.id
            else one
            for one in found
        ]
    return ModelsAnswer(models=found)


@router.post("/v1/models/{name}/load", responses=REFUSALS, openapi_extra=ADMIN)
async def load(request: Request, name: str, version: VersionQuery = None) -> ServedModel:
    """Verify, try, warm and then serve a version; where it is refused, nothing changes."""
    admin = _admin(request)
    log.info("load asked for", model=name, version=version, admin=admin)
    registry = serving(request).registry
    model = await registry.load(name, version)
    return _served(registry, name, model.manifest.version)


@router.post("/v1/models/{name}/shadow", responses=REFUSALS, openapi_extra=ADMIN)
async def shadow(
    request: Request, name: str, version: VersionQuery = None, share: ShareQuery = 0.1
) -> ModelId:
    """Let a version see a share of the photos of its own model, without ever answering.

    How often it agrees is in the metrics, `superbin_shadow_photos_total`.
    """
    admin = _admin(request)
    held = serving(request)
    log.info("shadow asked for", model=name, version=version, share=share, admin=admin)
    answering = held.registry.find(name).manifest
    model = await held.registry.open(name, version)
    if model.manifest.version == answering.version:
        await model.retire()
        raise ModelRefused(f"expected a version beside {model.bundle.id}, which answers")
    if model.manifest.superclasses != answering.superclasses:
        await model.retire()
        raise ModelRefused(
            f"expected the superclasses {list(answering.superclasses)}, and {model.bundle.id} has "
            f"{list(model.manifest.superclasses)}"
        )
    settings = held.settings
    await held.set_shadow(
        Shadow(model, share, settings.photo_limits, settings.timeout_s, held.metrics)
    )
    return ModelId(name=model.manifest.name, version=model.manifest.version)


@router.delete("/v1/models/{name}/shadow", status_code=204, responses=REFUSALS, openapi_extra=ADMIN)
async def no_shadow(request: Request, name: str) -> None:
    """End the shadow."""
    admin = _admin(request)
    held = serving(request)
    log.info("end of the shadow asked for", model=name, admin=admin)
    if held.shadow and held.shadow.model.manifest.name == name:
        await held.set_shadow(None)


@router.post("/v1/models/{name}/roll-back", responses=REFUSALS, openapi_extra=ADMIN)
async def roll_back(request: Request, name: str) -> ServedModel:
    """Serve the version again that served before."""
    admin = _admin(request)
    log.info("roll-back asked for", model=name, admin=admin)
    registry = serving(request).registry
    model = await registry.roll_back(name)
    return _served(registry, name, model.manifest.version)


def _served(registry: Registry, name: str, version: str) -> ServedModel:
    """With a word in the log where a restart would undo it."""
    after = registry.at_next_start(name)
    if f"{name}/{version}" not in after:
        log.warning("a restart serves another", served=f"{name}/{version}", at_next_start=after)
    return ServedModel(name=name, version=version, at_next_start=after)


def _admin(request: Request) -> str:
    """Who asks.

    Raises:
        AdminOff, AdminOnly, KeyRefused: where it is no admin.
        SeveralWorkers: where the call would not reach all of them.
    """
    admin = identify_admin(request)
    settings = serving(request).settings
    if settings.workers > 1:
        raise SeveralWorkers(
            f"expected one worker, and there are {settings.workers}, each with its own models: put "
            "a version into the folder, where all of them look, or start anew with SUPERBIN_MODEL"
        )
    return admin
