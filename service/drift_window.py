"""How far the photos of one place have moved from those that the model was calibrated on.

A window has exponentially moving averages of what the model says: its
embedding, and histograms of its confidence and of the weight of its nearest reference, and of how
the photos look whatever is on them (`service.appearance`), each less what is usual for the
superclass that the model predicts. Their squared length in the reference's whitened
space is Hotelling's statistic (MEWMA: Lowry et al., Technometrics 1992), which for a histogram is
chi-square. Directions in which the mix of kinds moves the averages count less. Memory is constant.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from service.appearance import STATISTICS, Appearance
from service.classifier import Answers
from service.drift_reference import DriftReference
from service.tags import Tags

LEAST_SHARE = 0.4  # of the window; before so many photos there is no score
SUREST = 1e-4  # below 1; what is nearer differs from one processor to the next
NAMED = 0.3  # least cosine with a signature for it to be named
NEAR = 0.1  # and what the second may be below the first
AS_WELL = 0.7  # of what the statistic that moved most did, for a second one to be named

Doubles = npt.NDArray[np.float64]


def surprise(share: float) -> float:
    """How far a share stays below 1, in powers of ten: 0.9 gives -1, 0.99 gives -2."""
    return math.log10(max(1.0 - share, SUREST))


class Window:
    """The moving averages of one combination of tags."""

    def __init__(self, reference: DriftReference, tags: Tags) -> None:
        superclasses, width = reference.means.shape
        bins = reference.shares.shape[2]
        self.tags = tags
        self.photos = 0
        self.since = datetime.now(UTC)
        self.last = time.time()  # when the last photo came
        self.alarmed = False
        self._reference = reference
        self._means = list(reference.means)  # views; lists are looked up sooner
        self._appearance_means = list(reference.appearance_means)
        self._edges: list[list[float]] = reference.edges.tolist()
        self._keep = 1.0 - 2.0 / (float(reference.window) + 1.0)
        sizes = [width, bins, bins, superclasses, superclasses, len(reference.statistics)]
        self._sums = np.zeros(sum(sizes))
        parts = np.split(self._sums, np.cumsum(sizes[:-1]))  # views
        self._embedding, self._confidence, self._likeness, self._seen, self._confident = parts[:5]
        self._appearance = parts[5]
        self._watches_appearance = reference.watches_appearance
        self._next_at = -math.inf  # seconds, when the next photo is due
        self._mass = 0.0  # of all weights, which are 1 for the photo that came last
        self._squares = 0.0  # of them squared

    def takes(self, now: float, per_s: float) -> bool:
        """Whether to watch one more photo, of which more than `per_s` a second say nothing new.

        As many as the window is long are taken at once, so that a new one is soon full.
        """
        next_at = max(self._next_at, now - float(self._reference.window) / per_s)
        if next_at > now:
            return False
        self._next_at = next_at + 1.0 / per_s
        return True

    def add(self, answers: Answers, appearance: Appearance | None = None) -> None:
        """Take one photo's row (N = 1), and its appearance [A] where that is watched."""
        keep = self._keep
        row: list[float] = answers.probabilities[0].tolist()
        confidence = max(row)
        superclass = row.index(confidence)
        weight = float(answers.reference_weights[0, 0])
        self._sums *= keep
        self._mass = self._mass * keep + 1.0
        self._squares = self._squares * keep * keep + 1.0
        self._embedding += answers.embedding[0]
        self._embedding -= self._means[superclass]
        self._confidence[bisect_left(self._edges[0], surprise(confidence))] += 1.0
        self._likeness[bisect_left(self._edges[1], surprise(weight))] += 1.0
        self._seen[superclass] += 1.0
        self._confident[superclass] += confidence
        if self._watches_appearance:
            if appearance is None:
                raise ValueError("expected the photo's appearance, got none")
            self._appearance += appearance
            self._appearance -= self._appearance_means[superclass]
        self.photos += 1
        self.last = time.time()

    @property
    def weight(self) -> float:
        """As many photos in a plain mean would be as steady."""
        return self._mass**2 / self._squares if self.photos else 0.0

    @property
    def enough(self) -> bool:
        """Whether there are photos enough for a score."""
        return self.photos >= LEAST_SHARE * float(self._reference.window)

    def statistics(self) -> Doubles:
        """Hotelling's statistic of each part: [P]."""
        reference = self._reference
        mix = self._seen / self._mass
        moved = [self._moved_embedding()]
        for one, sums in enumerate((self._confidence, self._likeness)):
            usual = mix @ reference.shares[one]
            moved.append((sums / self._mass - usual) @ reference.bin_whitening[one])
        if reference.watches_appearance:
            moved.append((self._appearance / self._mass) @ reference.appearance_whitening)
        return np.array([self.weight * float(part @ part) for part in moved])

    def _moved_embedding(self) -> Doubles:
        moved: Doubles = (self._embedding / self._mass) @ self._reference.whitening
        return moved

    def scores(self) -> Doubles:
        """Statistics over their thresholds: [P]; 0 before there are photos enough."""
        if not self.enough:
            return np.zeros(len(self._reference.parts))
        scores: Doubles = self.statistics() / self._reference.thresholds
        return scores

    def shifts(self) -> Doubles:
        """Mean confidence less the usual one, by predicted superclass: [K]; NaN where none came."""
        with np.errstate(invalid="ignore"):
            shifts: Doubles = self._confident / self._seen - self._reference.confidences
        return shifts

    def likest(self) -> str:
        """Which change moves the embedding this way, in words, or that none does."""
        moved = self._moved_embedding()
        signatures = self._reference.signatures
        length = float(np.linalg.norm(moved))
        if not len(signatures) or not length:
            return "photos look otherwise to the model"
        cosines = signatures @ moved / length
        best = float(cosines.max())
        if best < NAMED:
            return "photos look otherwise to the model, in no way that has a name"
        near = [row for row in np.argsort(-cosines)[:2] if cosines[row] > best - NEAR]
        named = " or ".join(f"{self._reference.words[row]} ({cosines[row]:.2f})" for row in near)
        return f"photos look otherwise to the model, most like {named}"

    def confidence_words(self) -> str:
        """What the model's confidence does."""
        usual = float(self._seen @ self._reference.confidences / self._mass)
        found = float(self._confident.sum() / self._mass)
        return f"mean confidence {found:.3f}, usually {usual:.3f} for these superclasses"

    def likeness_words(self) -> str:
        """What the weight of the nearest reference does."""
        bins = np.arange(len(self._likeness))
        usual = self._seen / self._mass @ self._reference.shares[1] @ bins
        # Upwards in bins is less weight.
        less = self._likeness @ bins / self._mass > usual
        return f"the nearest reference gets {'less' if less else 'more'} weight than usual"

    def appearance_words(self) -> str:
        """Which way the statistics that moved most did, in deviations of a window's mean."""
        scales = self._reference.appearance_scales
        moved = self._appearance / self._mass / scales * math.sqrt(self.weight)
        first, second = np.argsort(-np.abs(moved))[:2]
        words = [
            one.more if by > 0 else one.less for one, by in zip(STATISTICS, moved, strict=True)
        ]
        by = np.abs(moved)
        told = f"photos {words[first]} ({by[first]:.1f} standard deviations of their mean)"
        if by[second] < AS_WELL * by[first]:
            return told
        return f"{told} and {words[second]} ({by[second]:.1f})"

    def words(self) -> tuple[str, ...]:
        """What each part does: [P]."""
        told = (self.likest(), self.confidence_words(), self.likeness_words())
        return (*told, self.appearance_words()) if self._reference.watches_appearance else told
