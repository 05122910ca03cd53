"""Which models there are, and, with an admin key, which of them answer."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Request

from service.intake import identify, identify_admin
from service.problems import PROBLEM_CONTENT
from service.schemas import ModelId, ModelsAnswer
from service.serving import serving

log = structlog.get_logger()

VersionQuery = Annotated[str | None, Query(description="By default the newest.")]
REFUSALS: dict[int | str, dict[str, object]] = {
    code: {"content": PROBLEM_CONTENT} for code in (401, 403, 404, 409)
}

router = APIRouter(tags=["models"])


@router.get("/v1/models", responses={401: REFUSALS[401]})
async def models(request: Request) -> ModelsAnswer:
    """Every bundle of the folder, verified when it came, and which ones answer."""
    identify(request)
    return ModelsAnswer(models=serving(request).registry.models)


@router.post("/v1/models/{name}/load", responses=REFUSALS)
async def load(request: Request, name: str, version: VersionQuery = None) -> ModelId:
    """Verify, try, warm and then serve a version; where it is refused, nothing changes."""
    admin = identify_admin(request)
    log.info("load asked for", model=name, version=version, admin=admin)
    model = await serving(request).registry.load(name, version)
    return ModelId(name=model.manifest.name, version=model.manifest.version)


@router.post("/v1/models/{name}/roll-back", responses=REFUSALS)
async def roll_back(request: Request, name: str) -> ModelId:
    """Serve the version again that served before."""
    admin = identify_admin(request)
    log.info("roll-back asked for", model=name, admin=admin)
    model = await serving(request).registry.roll_back(name)
    return ModelId(name=model.manifest.name, version=model.manifest.version)
