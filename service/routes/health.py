"""Liveness and readiness."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.problems import PROBLEM_CONTENT, problem_of_status, problem_response
from service.schemas import Health
from service.serving import serving

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Health:
    """Whether the process runs and answers; restart it where not."""
    return Health(status="alive")


@router.get("/readyz", response_model=Health, responses={503: {"content": PROBLEM_CONTENT}})
async def readyz(request: Request) -> Health | Response:
    """Whether it wants requests: from the end of the warm-up to the start of the shutdown.

    Not while a batch does not end, since nobody would be answered.
    """
    held = serving(request)
    if held.ready:
        return Health(status="ready")
    request_id = request.state.request_id
    why = (
        "a batch does not end: its device may hang"
        if held.stuck
        else "the service is shutting down"
    )
    return problem_response(problem_of_status(503, why, request_id))
