"""`GET /v1/drift`: which sites, lines and cameras no longer look as the model is used to."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.drift import Reading
from service.intake import identify
from service.keys import KeyRefused
from service.openapi import KEYED, refusals
from service.registry import LoadedModel
from service.schemas import DriftAnswer, DriftModel, DriftPart, DriftPlace, ModelId
from service.serving import serving

DIGITS = 4

router = APIRouter(tags=["drift"])


@router.get("/v1/drift", responses=refusals(KeyRefused), openapi_extra=KEYED)
async def drift(request: Request) -> DriftAnswer:
    """How far the photos of each site, line and camera have moved from what the model knows.

    The tags are those of `POST /v1/classify`. A score of 1 or more is an alarm; what moved most is
    told in words. Of several workers the one that answers tells what came to it.
    """
    identify(request)
    held = serving(request)
    models = [_model(model) for model in held.registry.loaded]
    return DriftAnswer(workers=held.settings.workers, models=models)


def _model(model: LoadedModel) -> DriftModel:
    monitor = model.drift
    return DriftModel(
        model=ModelId(name=model.manifest.name, version=model.manifest.version),
        watched=monitor is not None,
        window=int(monitor.reference.window) if monitor else None,
        places=[_place(reading) for reading in monitor.readings()] if monitor else [],
    )


def _place(reading: Reading) -> DriftPlace:
    return DriftPlace(
        site=reading.tags.site,
        line=reading.tags.line,
        camera=reading.tags.camera,
        score=round(reading.score, DIGITS),
        alarm=reading.score >= 1.0,
        photos=reading.photos,
        enough=reading.enough,
        since=reading.since,
        moved=[
            DriftPart.model_validate(
                {"part": part.part, "score": round(part.score, DIGITS), "words": part.words}
            )
            for part in reading.parts
        ],
        confidence_shift={name: round(shift, DIGITS) for name, shift in reading.shifts.items()},
    )
