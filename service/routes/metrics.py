"""The scrape: a plain route, since a mount would redirect `/metrics` to `/metrics/`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.serving import serving

router = APIRouter(include_in_schema=False)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """What is measured, of all workers, in Prometheus' text format."""
    return Response(serving(request).metrics.scrape(), media_type=CONTENT_TYPE_LATEST)
