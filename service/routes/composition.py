"""`GET /v1/composition`: what came by time and place, and how clean the bins are expected to be."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator, WithJsonSchema

from service.composition.answer import (
    By,
    CompositionAnswer,
    CompositionUnavailable,
    ReportMalformed,
    ReportTooLarge,
    SiteUncounted,
    TallyOff,
)
from service.composition.formats import as_csv, as_json
from service.composition.report import COLUMNS, DEFAULT_BY, answer, ask, read_time
from service.intake import identify
from service.keys import KeyRefused
from service.openapi import KEYED, refusals
from service.reporting import recorder_of
from service.serving import serving
from service.store_threads import on_store

CSV = "text/csv"
PRIVATE = {"Cache-Control": "private, no-store", "Vary": "Accept"}
TAG = r"^[A-Za-z0-9._-]{0,64}$"

SiteQuery = Annotated[
    str | None, Query(pattern=TAG, description="Only this one; empty: only what has none.")
]
LineQuery = Annotated[
    str | None, Query(pattern=TAG, description="Only this one; empty: only what has none.")
]


def _apart(given: Any) -> Any:
    """`hour,line` is `hour` and `line`, as the command has it."""
    if not isinstance(given, list):
        return given
    return [one.strip() for words in given for one in str(words).split(",")]


TIME = {"type": "string", "anyOf": [{"format": "date"}, {"format": "date-time"}]}
Time = Annotated[AwareDatetime, BeforeValidator(read_time), WithJsonSchema(TIME)]
FromQuery = Annotated[
    Time | None,
    Query(
        alias="from",
        description="A day or a time, UTC where it names no zone; rounded down to an hour. By "
        "default a week before `to`.",
    ),
]
ToQuery = Annotated[
    Time | None,
    Query(alias="to", description="Likewise; not included, rounded up to an hour. Now by default."),
]
ByQuery = Annotated[
    list[By],
    BeforeValidator(_apart),
    Query(
        max_length=len(COLUMNS),
        description="What tells rows apart, one by one or by commas. Days and hours are UTC.",
    ),
]
FormatQuery = Annotated[
    Literal["json", "csv"] | None, Query(description="By default what Accept asks for, or JSON.")
]

_REFUSALS: Any = refusals(
    KeyRefused, TallyOff, SiteUncounted, ReportMalformed, ReportTooLarge, CompositionUnavailable
)
_GIVES: Any = {200: {"description": "The report", "content": {CSV: {"schema": {"type": "string"}}}}}

router = APIRouter(tags=["reports"])


@router.get(
    "/v1/composition",
    response_model=CompositionAnswer,
    responses=_GIVES | _REFUSALS,
    openapi_extra=KEYED,
)
async def composition(
    request: Request,
    site: SiteQuery = None,
    line: LineQuery = None,
    from_: FromQuery = None,
    to: ToQuery = None,
    by: ByQuery = list(DEFAULT_BY),  # noqa: B006 - FastAPI copies it
    format: FormatQuery = None,
) -> Response:
    """Photos, shares and estimated contamination by hour, site, line, camera and bin."""
    identify(request)
    held = serving(request)
    store = recorder_of(held).store
    question = ask(from_, to, by, site, line)
    sites = [rules.site.site for rules in held.rulebook.all]
    tell = as_csv if _wants_csv(request, format) else as_json

    def report() -> str:
        return tell(answer(store, question, held.settings.report_max_rows, sites))

    media_type = "application/json" if tell is as_json else f"{CSV}; charset=utf-8; header=present"
    return Response(await on_store(report), media_type=media_type, headers=PRIVATE)


def _wants_csv(request: Request, format: Literal["json", "csv"] | None) -> bool:
    if format is not None:
        return format == "csv"
    return CSV in request.headers.get("accept", "")
