"""Rows of the store's tables as records, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service.review import schema
from service.review.cleaning import CleanPhoto
from service.review.records import (
    KeptPhoto,
    Kind,
    NewPhoto,
    PhotoGone,
    Reason,
    Reference,
    ReviewedPhoto,
    Rules,
    Verdict,
    Vote,
)

Load = Callable[[str], bytes]
HALF = 8  # bytes of the hash for each of the two draws


def drawn(sha256: str, share: float, *, half: int) -> bool:
    """Whether a share of all photos has this one in it; the same answer for the same bytes."""
    part = bytes.fromhex(sha256)[half * HALF : (half + 1) * HALF]
    return int.from_bytes(part) < share * 2.0 ** (8 * HALF)


def find_photo(connection: Connection, photo_id: int) -> Row[Any]:
    """A photo's row.

    Raises:
        PhotoGone: where there is none.
    """
    row = connection.execute(sa.select(schema.photos).where(schema.photos.c.id == photo_id)).first()
    if row is None:
        raise PhotoGone(f"expected a photo that is kept, got {photo_id}, which is none, or is gone")
    return row


def photo_values(photo: NewPhoto, clean: CleanPhoto, rules: Rules, now: float) -> dict[str, Any]:
    """The row of a photo that is new here."""
    wanted = 2 if drawn(clean.sha256, rules.double_share, half=1) else 1
    return {
        "sha256": clean.sha256,
        "nbytes": len(clean.data),
        "width": clean.width,
        "height": clean.height,
        "kept_at": now,
        "request_id": photo.request_id,
        "position": photo.position,
        "reason": photo.reason,
        "model": photo.model,
        "superclass": photo.superclass,
        "confidence": photo.confidence,
        "decision": photo.decision,
        "probabilities": dict(photo.probabilities),
        "bank_references": [vars(one) for one in photo.references],
        "embedding": photo.embedding,
        "site": photo.site,
        "line": photo.line,
        "camera": photo.camera,
        "held_out": drawn(clean.sha256, rules.held_out_share, half=0),
        "base_wanted": wanted,
        "wanted": wanted,
        "votes": 0,
        "settled": False,
    }


def kept_photo(row: Row[Any], load: Load) -> KeptPhoto:
    """A row of `photos`."""
    reason: Reason = row.reason
    return KeptPhoto(
        id=row.id,
        sha256=row.sha256,
        nbytes=row.nbytes,
        width=row.width,
        height=row.height,
        request_id=row.request_id,
        position=row.position,
        reason=reason,
        model=row.model,
        superclass=row.superclass,
        confidence=row.confidence,
        decision=row.decision,
        probabilities=dict(row.probabilities),
        references=tuple(Reference(**one) for one in row.bank_references),
        embedding=row.embedding,
        site=row.site,
        line=row.line,
        camera=row.camera,
        kept_at=moment(row.kept_at),
        held_out=row.held_out,
        load=partial(load, row.sha256),
    )


def reviewed_photo(row: Row[Any], votes: tuple[Vote, ...], load: Load) -> ReviewedPhoto:
    """A row of `photos` that is settled."""
    return ReviewedPhoto(
        photo=kept_photo(row, load),
        superclass=row.label,
        subclass=row.label_subclass,
        item=row.label_item,
        votes=votes,
        reviewed_at=moment(row.reviewed_at),
    )


def vote(row: Row[Any]) -> Vote:
    """A row of `votes`."""
    kind: Kind = row.kind
    said = Verdict(row.superclass, row.subclass, row.item, row.bin, row.no_refuse)
    return Vote(row.reviewer, said, kind, moment(row.at))


def moment(seconds: float) -> datetime:
    """In UTC."""
    return datetime.fromtimestamp(seconds, UTC)
