"""`/v1/review`: photos that were kept, for the people who look at them. The page is its client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from service.capture import Capture
from service.intake import identify_person, identify_reviewer
from service.keys import MOST_LETTERS, PERSON
from service.review.records import EXPORT_FOLDER, KeptPhoto
from service.review_bins import check_bin
from service.review_schemas import (
    ReviewFound,
    ReviewKind,
    ReviewLike,
    ReviewQueue,
    ReviewSaid,
    ReviewSimilar,
    ReviewTask,
    ReviewVerdicts,
)
from service.review_words import (
    MAX_BODY_BYTES,
    TakeBody,
    VerdictBody,
    Word,
    checked,
    read_words,
)
from service.reviewing import (
    capture_of,
    known_kinds,
    known_superclasses,
    no_refuse_choice,
    review_choices,
    review_found,
    review_progress,
    review_sites,
    review_task,
    spelt_kind,
    superclasses_of_kind,
    superclasses_of_kinds,
)
from service.routes.review_docs import (
    GIVES_CSV,
    GIVES_PHOTO,
    GIVES_QUEUE,
    GIVES_ZIP,
    OF_A_KIND,
    OF_A_PHOTO,
    OF_MINE,
    OF_MY_PHOTO,
    TAKES_VERDICT,
)
from service.serving import Serving, serving
from service.store_threads import on_store
from service.uploads import read_json

MOST_SAID = 1000
PRIVATE = {"Cache-Control": "private, no-store"}
ReviewerHeader = Annotated[
    str | None,
    Header(  # described here and checked by `who_looks`: the key comes first
        alias="X-Reviewer",
        description="Who looks; by default the only one whom the key is for, or its holder.",
        json_schema_extra={"pattern": f"^{PERSON}$", "maxLength": MOST_LETTERS},
    ),
]


async def who_looks(request: Request, named: ReviewerHeader = None) -> str:
    """The reviewer's name, once the key has let them in.

    Raises:
        ReviewOff, SuperbinError: where nothing is kept, and of `identify_person`.
    """
    capture_of(serving(request))
    return identify_person(request, named)


Reviewer = Annotated[str, Depends(who_looks)]
KindQuery = Annotated[Word, Query(description="As it was typed.")]
PathQuery = Annotated[
    str,
    Query(
        pattern=rf"^{EXPORT_FOLDER}/[0-9a-f]{{64}}\.jpg$",
        description="Of the photo in an export: the column `path` of its `labels.csv`.",
    ),
]
PhotoId = Annotated[int, Path(ge=1, le=2**53)]
Newest = Annotated[int, Query(ge=1, le=MOST_SAID, description="How many, at most.")]

MOST_KINDS = 500
MOST_SIMILAR = 6
THUMBNAIL_PX = 256
router = APIRouter(tags=["review"])


@router.post("/v1/review/queue", **GIVES_QUEUE)
async def queue(request: Request, reviewer: Reviewer) -> ReviewQueue:
    """The next photos for a reviewer, who alone has them for a while, and how far it has come."""
    held, capture = _let_in(request)
    body = read_words(TakeBody, await read_json(request, MAX_BODY_BYTES, held.settings))

    def take() -> ReviewQueue:
        photos = capture.store.take(reviewer, body.limit, skipped=body.skipped, after=body.after)
        return ReviewQueue(
            tasks=[review_task(photo) for photo in photos],
            choices=review_choices(held),
            no_refuse=no_refuse_choice(),
            sites=review_sites(
                held, (photo.site for photo in photos), request.headers.get("accept-language")
            ),
            kinds=known_kinds(held)[:MOST_KINDS],
            kind_superclasses=dict(islice(superclasses_of_kinds(held).items(), MOST_KINDS)),
            progress=review_progress(capture.store, reviewer, body.since),
        )

    return await on_store(take)


@router.get("/v1/review/photos", **OF_A_PHOTO)
async def look_up(request: Request, path: PathQuery) -> ReviewFound:
    """The photo of a line of an export, and who said what of it."""
    _, capture = _let_in(request)
    sha256 = PurePosixPath(path).stem
    photo, settled, votes = await on_store(capture.store.found, sha256)
    return review_found(photo, settled, votes)


@router.get("/v1/review/photos/{photo_id}", response_class=Response, **GIVES_PHOTO)
async def photo(request: Request, photo_id: PhotoId) -> Response:
    """A photo that is kept: upright, without metadata."""
    _, capture = _let_in(request)

    def load() -> bytes:
        return capture.store.photo(photo_id).load()

    return Response(await on_store(load), media_type="image/jpeg", headers=PRIVATE)


@router.get("/v1/review/photos/{photo_id}/thumbnail", response_class=Response, **GIVES_PHOTO)
async def thumbnail(request: Request, photo_id: PhotoId) -> Response:
    """The same, at most 256 pixels on a side."""
    _, capture = _let_in(request)
    from service.review.cleaning import thumbnail as make_thumbnail

    def load() -> bytes:
        return make_thumbnail(capture.store.photo(photo_id).load(), THUMBNAIL_PX)

    return Response(await on_store(load), media_type="image/jpeg", headers=PRIVATE)


@router.get("/v1/review/photos/{photo_id}/similar", **OF_A_PHOTO)
async def similar(request: Request, photo_id: PhotoId) -> ReviewSimilar:
    """Up to six reviewed photos that are most like a photo, and what people said of them."""
    _, capture = _let_in(request)
    found = await on_store(capture.store.similar, photo_id, MOST_SIMILAR)
    return ReviewSimilar(
        photos=[
            ReviewLike(
                id=one.photo_id,
                similarity=one.similarity,
                superclass=one.superclass,
                subclass=one.subclass,
            )
            for one in found
        ]
    )


@router.put("/v1/review/photos/{photo_id}/verdict", status_code=204, **TAKES_VERDICT)
async def verdict(request: Request, photo_id: PhotoId, reviewer: Reviewer) -> None:
    """What a reviewer says of a photo; the same again changes nothing, another replaces it."""
    held, capture = _let_in(request)
    body = read_words(VerdictBody, await read_json(request, MAX_BODY_BYTES, held.settings))
    said = checked(body, known_superclasses(held), known_kinds(held))

    def review() -> None:
        if said.bin is not None:
            site = capture.store.photo(photo_id).site
            check_bin(site, review_sites(held, [site], None).get(site or ""), said)
        capture.store.review(photo_id, reviewer, said)

    await on_store(review)


@router.delete("/v1/review/photos/{photo_id}/verdict", **OF_MY_PHOTO)
async def undo(request: Request, photo_id: PhotoId, reviewer: Reviewer) -> ReviewTask:
    """Take back what a reviewer said, or that they skipped it; the photo is theirs again."""
    _, capture = _let_in(request)

    def take_back() -> KeptPhoto:
        capture.store.undo(photo_id, reviewer)
        return capture.store.photo(photo_id)

    return review_task(await on_store(take_back))


@router.get("/v1/review/verdicts", **OF_MINE)
async def verdicts(request: Request, reviewer: Reviewer, limit: Newest = 30) -> ReviewVerdicts:
    """What a reviewer said last, the newest first: to look at, take back or replace."""
    held, capture = _let_in(request)
    found = await on_store(capture.store.said_by, reviewer, limit)
    sites = (photo.site for photo, _ in found)
    return ReviewVerdicts(
        verdicts=[
            ReviewSaid(
                task=review_task(photo),
                path=photo.export_path,
                superclass=vote.verdict.superclass,
                subclass=vote.verdict.subclass,
                bin=vote.verdict.bin,
                no_refuse=vote.verdict.no_refuse,
                at=vote.at,
            )
            for photo, vote in found
        ],
        sites=review_sites(held, sites, request.headers.get("accept-language")),
    )


@router.put("/v1/review/photos/{photo_id}/skip", status_code=204, **OF_MY_PHOTO)
async def skip(request: Request, photo_id: PhotoId, reviewer: Reviewer) -> None:
    """Leave a photo to others, and for later."""
    _, capture = _let_in(request)
    await on_store(capture.store.skip, photo_id, reviewer)


@router.get("/v1/review/kind", **OF_A_KIND)
async def kind(request: Request, kind: KindQuery) -> ReviewKind:
    """Whether a kind is known, and which ones are spelt almost so: a misspelt one is a new one."""
    held, capture = _let_in(request)
    known = known_kinds(held)
    found = await on_store(lambda: spelt_kind(kind, known, capture.store.kinds()))
    superclasses = sorted(superclasses_of_kind(held, found.kind))
    return found.model_copy(update={"superclasses": superclasses})


@router.get("/v1/review/export.csv", response_class=Response, **GIVES_CSV)
async def export_csv(request: Request) -> Response:
    """`labels.csv` of the reviewed photos, as training reads it, as many as the limit allows."""
    held, capture = _let_in(request)
    from service.review.export import csv_lines, newest

    lines = csv_lines(newest(capture.store, held.settings.review_export_photos))
    return _attached(lines, "text/csv", "labels.csv")


@router.get("/v1/review/export.zip", response_class=Response, **GIVES_ZIP)
async def export_zip(request: Request) -> Response:
    """The same with the photos, and those of no refuse: unpacked, a folder that training reads."""
    held, capture = _let_in(request)
    from service.review.export import newest, zip_chunks

    most = held.settings.review_export_photos
    chunks = zip_chunks(newest(capture.store, most), capture.store.no_refuse(most))
    return _attached(chunks, "application/zip", "reviewed.zip")


def _attached(chunks: Iterator[str] | Iterator[bytes], media_type: str, name: str) -> Response:
    headers = PRIVATE | {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(chunks, media_type=media_type, headers=headers)


def _let_in(request: Request) -> tuple[Serving, Capture]:
    """Whoever has a reviewer's or an admin's key may see what is kept.

    Raises:
        ReviewOff, ReviewerOff, ReviewerOnly, KeyRefused: where nothing is kept, there is no such
            key, or another one came.
    """
    held = serving(request)
    capture = capture_of(held)
    identify_reviewer(request)
    return held, capture
