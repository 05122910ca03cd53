"""The page for people, the page for developers, and the few files that they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from service.openapi import describe
from service.reporting import recorder_of
from service.reviewing import capture_of
from service.serving import serving

STATIC = Path(__file__).resolve().parent.parent / "static"
FRESH = {"Cache-Control": "no-cache"}  # small files: revalidated, so never of two versions

router = APIRouter(include_in_schema=False)


FORGOTTEN = "They are looked at and forgotten: nothing is kept."
SOME_KEPT = (
    "Some are kept, without what the camera wrote into them, for people to check the answers."
)
LINK = '<a href="review">Review</a> '
REPORT_LINK = '<a href="report">Report</a> '


@router.head("/")
@router.get("/")
async def page(request: Request) -> Response:
    """Drop, choose or photograph an image; the page does not promise more than is kept."""
    held = serving(request)
    if held.capture is None and held.recorder is None:
        return FileResponse(STATIC / "index.html", headers=FRESH)
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    if held.capture is not None:
        text = text.replace(FORGOTTEN, SOME_KEPT).replace("<!--review-->", LINK)
    if held.recorder is not None:
        text = text.replace("<!--report-->", REPORT_LINK)
    return HTMLResponse(text, headers=FRESH)


@router.get("/review")
async def review(request: Request) -> FileResponse:
    """For the people who look at what was kept; the photos themselves need a key."""
    capture_of(serving(request))
    return FileResponse(STATIC / "review.html", headers=FRESH)


@router.get("/report")
async def report(request: Request) -> FileResponse:
    """What came and where it went; the figures themselves need a key where keys are set."""
    recorder_of(serving(request))
    return FileResponse(STATIC / "report.html", headers=FRESH)


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
