"""Counts of answers in memory: bounded, and a few microseconds for each photo.

A key is an hour (UTC), a place (site, line, camera), and what was answered. A bin's expected wrong
things are the sum of 1 - probability of the chosen bin over what went into it: with calibrated
probabilities that many belong elsewhere, on average.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from service.schemas import Classification
from service.sites import MANUAL
from service.tags import Tags

HOUR_S = 3600
OTHER = "other"  # line and camera of what comes from more places than are counted
DOUBT, THRESHOLD = "doubt", "threshold"  # the reasons that there are without a site's rules

Place = tuple[str, str, str]  # site, line, camera; "" where it was not told


class Key(NamedTuple):
    """What is counted together.

    Attributes:
        hour: its beginning, in seconds since 1970, UTC.
        model: `name/version`.
        bin: of the site; without a site's rules the superclass; or `manual`.
        reason: the first one why a person has to look, else "".
    """

    hour: int
    site: str
    line: str
    camera: str
    model: str
    superclass: str
    bin: str
    reason: str


@dataclass(slots=True)
class Count:
    """Of one key."""

    photos: int = 0
    expected_wrong: float = 0.0
    alerts: int = 0


@dataclass(frozen=True)
class Batch:
    """Counts that are to be written together, once; `sequence` counts up."""

    sequence: int
    counts: dict[Key, Count]

    @property
    def photos(self) -> int:
        """In all of it."""
        return sum(one.photos for one in self.counts.values())


class Tally:
    """Counts of one process since they were last taken. `count` is for the event loop."""

    def __init__(
        self, max_places: int, max_keys: int, now: Callable[[], float] = time.time
    ) -> None:
        """Start from nothing.

        Args:
            max_places: that are told apart; lines and cameras of others become `other`.
            max_keys: that may wait to be written.
        """
        self._max_places, self._max_keys = max_places, max_keys
        self._now = now
        self._lock = threading.Lock()
        self._counts: dict[Key, Count] = {}
        self._places: set[Place] = set()
        self._pending: Batch | None = None
        self._dropped = 0
        self._sequence = 0

    def count(self, answer: Classification, tags: Tags, model: str) -> None:
        """Count an answer; where there are too many keys already it is dropped, and counted so."""
        key, wrong, alert = self._key(answer, tags, model)
        with self._lock:
            found = self._counts.get(key)
            if found is None:
                if self._size() >= self._max_keys:
                    self._dropped += 1
                    return
                found = self._counts[key] = Count()
            found.photos += 1
            found.expected_wrong += wrong
            found.alerts += alert

    def know(self, places: Iterable[Place]) -> None:
        """Tell these places apart, and those that are counted now; no longer any others."""
        with self._lock:
            waiting = {(key.site, key.line, key.camera) for key in self._counts}
            told = waiting.union(places)
            self._places = {one for one in told if any(one[1:]) and one[1:] != (OTHER, OTHER)}

    def take(self) -> Batch | None:
        """What is to be written: the same batch again until `wrote`; None where there is none."""
        with self._lock:
            if self._pending is None and self._counts:
                self._sequence += 1
                self._pending, self._counts = Batch(self._sequence, self._counts), {}
            return self._pending

    def wrote(self) -> None:
        """What was taken last is written."""
        with self._lock:
            self._pending = None

    @property
    def photos(self) -> int:
        """That are counted and not written."""
        with self._lock:
            waiting = sum(one.photos for one in self._counts.values())
            return waiting + (self._pending.photos if self._pending else 0)

    def take_dropped(self) -> int:
        """Photos that were dropped since this was asked last."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def _key(self, answer: Classification, tags: Tags, model: str) -> tuple[Key, float, bool]:
        sorting = answer.sorting
        if sorting is not None:
            choice, alert = sorting.bin, sorting.alert
            reason: str = sorting.reasons[0] if sorting.reasons else ""
            # Rounded shares of several superclasses may be a little more than 1 together.
            wrong = 0.0 if choice == MANUAL else max(0.0, 1.0 - sorting.probabilities[choice])
            site = sorting.site
        else:
            sure = answer.decision == "sort"
            choice = answer.superclass if sure else MANUAL
            reason = "" if sure else DOUBT if answer.doubts else THRESHOLD
            alert, wrong = False, 1.0 - answer.confidence if sure else 0.0
            site = tags.site or ""
        line, camera = self._told(site, tags)
        hour = int(self._now()) // HOUR_S * HOUR_S
        return (
            Key(hour, site, line, camera, model, answer.superclass, choice, reason),
            wrong,
            alert,
        )

    def _told(self, site: str, tags: Tags) -> tuple[str, str]:
        """Line and camera, as they are counted. A site is bounded by the site files already."""
        place = (site, tags.line or "", tags.camera or "")
        if place not in self._places and (place[1] or place[2]):
            if len(self._places) >= self._max_places:
                return OTHER, OTHER
            self._places.add(place)
        return place[1], place[2]

    def _size(self) -> int:
        return len(self._counts) + (len(self._pending.counts) if self._pending else 0)
