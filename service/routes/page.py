"""The page for people, the page for developers, and the few files that they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse

from service.openapi import describe

STATIC = Path(__file__).resolve().parent.parent / "static"
FRESH = {"Cache-Control": "no-cache"}  # small files: revalidated, so never of two versions

router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
async def page() -> FileResponse:
    """Drop, choose or photograph an image."""
    return FileResponse(STATIC / "index.html", headers=FRESH)


@router.get("/docs")
async def docs() -> FileResponse:
    """The API, rendered from /openapi.json without anything from elsewhere."""
    return FileResponse(STATIC / "docs.html", headers=FRESH)


@router.get("/openapi.json")
async def openapi(request: Request) -> dict[str, Any]:
    """The API's description, for the page and for code generators."""
    return describe(request.app)


@router.get("/static/{name}")
async def static(name: str) -> FileResponse:
    """A file of the pages; only names that are in the folder."""
    known = {file.name: file for file in STATIC.iterdir()}
    if name not in known:
        raise HTTPException(404)
    return FileResponse(known[name], headers=FRESH)
