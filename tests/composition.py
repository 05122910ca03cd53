"""Answers to count, and a process that counts as fast as it can until it is stopped."""

from __future__ import annotations

import sys
from typing import Any

from service.composition.store import CompositionStore
from service.composition.tally import Tally
from service.schemas import Classification, Sorting
from service.tags import Tags

MODEL = "tiny/1"
HALL = Tags("tiny", "1", "left")


def sorting(choice: str = "mixed", **changes: Any) -> Sorting:
    """By the rules of `tests.tiny_site`."""
    values: dict[str, Any] = {
        "site": "tiny",
        "bin": choice,
        "probabilities": {"mixed": 0.9, "rest": 0.08, "manual": 0.02},
        "reasons": [],
        "alert": False,
    }
    return Sorting.model_construct(**values | changes)


def answered(by: Sorting | None = None, **changes: Any) -> Classification:
    """An answer with what is counted of it."""
    values: dict[str, Any] = {
        "superclass": "recyclable",
        "confidence": 0.75,
        "decision": "sort",
        "sorting": by,
    }
    return Classification.model_construct(**values | changes)


def main(url: str, writer: str, batches: str) -> None:
    """Add so many batches of 3 photos, at one and the same hour."""
    store = CompositionStore(url)
    tally = Tally(max_places=8, max_keys=100, now=lambda: 1_700_000_000.0)
    for _ in range(int(batches)):
        for line in "123":
            tally.count(answered(sorting()), Tags("tiny", line, None), MODEL)
        batch = tally.take()
        assert batch is not None
        assert store.add(writer, batch)
        tally.wrote()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
