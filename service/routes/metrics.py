"""The scrape: a plain route, since a mount would redirect `/metrics` to `/metrics/`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.serving import serving

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Everything in the application's registry, in Prometheus' text format."""
    return Response(
        generate_latest(serving(request).metrics.registry), media_type=CONTENT_TYPE_LATEST
    )
