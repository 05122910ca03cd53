"""`GET /v1/drift`: which sites, lines and cameras no longer look as the model is used to."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.drift_reports import own_report, whole_report
from service.drift_schemas import DriftAnswer
from service.intake import identify
from service.keys import KeyRefused
from service.openapi import KEYED, refusals
from service.serving import serving

router = APIRouter(tags=["drift"])


@router.get("/v1/drift", responses=refusals(KeyRefused), openapi_extra=KEYED)
async def drift(request: Request) -> DriftAnswer:
    """How far the photos of each site, line and camera have moved from what the model knows.

    The tags are those of `POST /v1/classify`. A score of 1 or more is an alarm; what moved most is
    told in words. Of several workers, each with its share of the photos, the highest score counts.
    """
    identify(request)
    held = serving(request)
    folder = held.metrics.folder
    models = whole_report(held.registry, folder) if folder else own_report(held.registry)
    return DriftAnswer(workers=held.settings.workers, models=models)
