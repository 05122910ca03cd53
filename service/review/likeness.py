"""Which reviewed photos are most like another one, by the embeddings that are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service.review import paging, schema
from service.review.records import SimilarPhoto

MOST_COMPARED = 2_000  # the newest: what a reviewer waits for has a bound
_photos = schema.photos


def most_similar(connection: Connection, photo: Row[Any], most: int) -> list[SimilarPhoto]:
    """Photos that are settled and most like a photo, at most `most`, nearest first.

    Those of no use say nothing of it.

    Only embeddings of the same model can be compared; a photo without one is like none.
    """
    if not photo.embedding:
        return []
    found = list(
        connection.execute(
            sa.select(_photos.c.id, _photos.c.label, _photos.c.label_subclass, _photos.c.embedding)
            .where(
                paging.usable() | paging.no_refuse(),
                _photos.c.model == photo.model,
                _photos.c.id != photo.id,
                sa.func.length(_photos.c.embedding) == len(photo.embedding),
            )
            .order_by(_photos.c.id.desc())
            .limit(MOST_COMPARED)
        )
    )
    if not found:
        return []
    rows = np.frombuffer(b"".join(one.embedding for one in found), "<f4").reshape(len(found), -1)
    similarity = rows @ np.frombuffer(photo.embedding, "<f4")
    nearest = np.argsort(-similarity, kind="stable")[:most]
    return [
        SimilarPhoto(found[i].id, float(similarity[i]), found[i].label, found[i].label_subclass)
        for i in nearest
    ]
