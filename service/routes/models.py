"""Which models there are."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.schemas import ModelsAnswer
from service.serving import serving

router = APIRouter(tags=["models"])


@router.get("/v1/models")
async def models(request: Request) -> ModelsAnswer:
    """Every bundle that was found when the service started, and which one answers."""
    return ModelsAnswer(models=serving(request).models)
