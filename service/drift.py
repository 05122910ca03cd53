"""Whether photos of one place still look to the model as those did that it was calibrated on.

Each combination of site, line and camera has a window of its own (`service.drift_window`), and an
alarm when its score reaches 1.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from service.appearance import Appearance
from service.classifier import Answers
from service.drift_reference import DriftReference
from service.drift_window import Window
from service.tags import UNTOLD, Tags

log = structlog.get_logger()

OTHER = Tags("other", "other", "other")
CHECK_EVERY = 10  # photos
IDLE_S = 24 * 3600.0  # without a photo for so long, tags make room for new ones
CALM = 0.8  # below it an alarm is over; between it and 1 it would begin and end by turns


@dataclass(frozen=True)
class PartScore:
    """What one of the reference's `parts` says: 1 is the alarm's threshold."""

    part: str
    score: float
    words: str


@dataclass(frozen=True)
class Reading:
    """How one combination of tags stands.

    Attributes:
        score: the largest of its parts; 0 before there are enough photos.
        photos: that were watched since the window began.
        last: when the last of them came.
        shifts: mean confidence less the usual one, by predicted superclass; only those that came.
    """

    tags: Tags
    score: float
    enough: bool
    photos: int
    since: datetime
    last: datetime
    parts: tuple[PartScore, ...]
    shifts: dict[str, float]


@dataclass
class DriftMonitor:
    """The windows of one model. For one event loop, but for `watches`."""

    model: str
    superclasses: tuple[str, ...]
    reference: DriftReference
    max_tags: int
    most_per_s: float = math.inf
    _windows: dict[Tags, Window] = field(default_factory=dict)
    _taking: threading.Lock = field(default_factory=threading.Lock)
    _none_idle_before: float = -math.inf  # seconds since the epoch

    def watches(self, tags: Tags) -> bool:
        """Whether to observe a photo with these tags: not more of them than are needed.

        From any thread.
        """
        window = self._windows.get(self._counted_as(tags))
        with self._taking:
            return window is None or window.takes(time.monotonic(), self.most_per_s)

    def observe(self, tags: Tags, answers: Answers, appearance: Appearance | None = None) -> None:
        """Take one photo's row (N = 1), whose numbers are finite.

        Args:
            appearance: [A], as `service.appearance` measures it, where the reference watches it.
        """
        window = self._windows.get(tags) or self._open(self._counted_as(tags))
        window.add(answers, appearance)
        if window.photos % CHECK_EVERY == 0:
            self._check(window)

    def readings(self) -> Iterator[Reading]:
        """How each combination of tags stands, those with the highest score first."""
        read = [self._read(window) for window in self._windows.values()]
        return iter(sorted(read, key=lambda one: -one.score))

    def _counted_as(self, tags: Tags) -> Tags:
        """Beyond the limit new tags share one window."""
        if tags in self._windows or tags in (UNTOLD, OTHER):
            return tags
        return tags if self._room() or self._idlest() else OTHER

    def _room(self) -> bool:
        known = len(self._windows) - (UNTOLD in self._windows) - (OTHER in self._windows)
        return known < self.max_tags

    def _idlest(self) -> Tags | None:
        """The tags that no photo has had for longest, if that is long enough."""
        now = time.time()
        if now < self._none_idle_before:  # so that not each photo of many tags looks at all of them
            return None
        watched = [one for one in [*self._windows.values()] if one.tags not in (UNTOLD, OTHER)]
        idlest = min(watched, key=lambda one: one.last)
        self._none_idle_before = idlest.last + IDLE_S
        return idlest.tags if now >= self._none_idle_before else None

    def _open(self, tags: Tags) -> Window:
        if tags not in self._windows:
            if tags == OTHER:
                log.warning("too many tags", expected=self.max_tags, counted_under="other")
            elif tags != UNTOLD and not self._room() and (idle := self._idlest()):
                del self._windows[idle]
            self._windows[tags] = Window(self.reference, tags)
        return self._windows[tags]

    def _check(self, window: Window) -> None:
        """Log that an alarm begins, or ends."""
        scores = window.scores()
        alarmed = bool(scores.max() >= (CALM if window.alarmed else 1.0))
        if alarmed != window.alarmed:
            window.alarmed = alarmed
            reading = self._read(window)
            tell = log.warning if alarmed else log.info
            tell(
                "drift" if alarmed else "drift is over",
                model=self.model,
                site=window.tags.site,
                line=window.tags.line,
                camera=window.tags.camera,
                score=round(reading.score, 2),
                moved=reading.parts[0].words,
            )

    def _read(self, window: Window) -> Reading:
        scores = window.scores()
        parts = [
            PartScore(part, float(score), told)
            for part, score, told in zip(self.reference.parts, scores, window.words(), strict=True)
        ]
        shifts = zip(self.superclasses, window.shifts().tolist(), strict=True)
        return Reading(
            tags=window.tags,
            score=float(scores.max()),
            enough=window.enough,
            photos=window.photos,
            since=window.since,
            last=datetime.fromtimestamp(window.last, UTC),
            parts=tuple(sorted(parts, key=lambda part: -part.score)),
            shifts={name: shift for name, shift in shifts if math.isfinite(shift)},
        )
