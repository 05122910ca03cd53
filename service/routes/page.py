"""The page for people, the page for developers, and the few files that they need."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from service.composition.answer import TallyOff
from service.openapi import describe
from service.problems import problem_of
from service.reporting import recorder_of
from service.review_words import ReviewOff
from service.reviewing import capture_of
from service.serving import Serving, serving

STATIC = Path(__file__).resolve().parent.parent / "static"
FRESH = {"Cache-Control": "no-cache"}  # small files: revalidated, so never of two versions

router = APIRouter(include_in_schema=False)


FORGOTTEN = "They are looked at and forgotten: nothing is kept."
SOME_KEPT = (
    "Some are kept, without what the camera wrote into them, for people to check the answers."
)
LINK = '<a href="review">Review</a> '
REPORT_LINK = '<a href="report">Report</a> '


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
async def review(request: Request) -> Response:
    """For the people who look at what was kept; the photos themselves need a key."""
    return _page_of(request, "review.html", capture_of)


@router.get("/report")
async def report(request: Request) -> Response:
    """What came and where it went; the figures themselves need a key where keys are set."""
    return _page_of(request, "report.html", recorder_of)


def _page_of(request: Request, name: str, part: Callable[[Serving], object]) -> Response:
    """A page of a part that may be switched off, which a browser is told by a page, too."""
    try:
        part(serving(request))
    except (ReviewOff, TallyOff) as error:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        problem = problem_of(error, request.state.request_id)
        request.state.reason = problem.reason  # for the log
        text = (STATIC / "off.html").read_text(encoding="utf-8")
        text = text.replace("<!--title-->", escape(problem.title))
        text = text.replace("<!--detail-->", escape(problem.detail))
        return HTMLResponse(text, problem.status, headers=FRESH)
    return FileResponse(STATIC / name, headers=FRESH)


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
