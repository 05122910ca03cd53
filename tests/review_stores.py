"""Stores and photos for the tests of review."""

from __future__ import annotations

from typing import Any

from service.review.records import NewPhoto, Reference
from tests.photo_factory import noise


def new_photo(seed: int, **changes: Any) -> NewPhoto:
    """A photo of its own for each seed, that the model was not sure of."""
    values: dict[str, Any] = {
        "data": noise(seed),
        "request_id": f"request-{seed}",
        "position": 0,
        "reason": "uncertain",
        "model": "tiny/1",
        "superclass": "organic",
        "confidence": 0.4,
        "decision": "manual",
        "probabilities": {"organic": 0.4, "residual": 0.3, "recyclable": 0.2, "hazardous": 0.1},
        "references": (Reference("item2", "organic", "food", 0.3),),
        "embedding": b"\0\0\x80?",
        "site": "hall-2",
        "line": "1",
        "camera": "left",
    }
    return NewPhoto(**values | changes)
