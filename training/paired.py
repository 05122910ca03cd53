"""Two models on the same photos: what the pairs of answers say of their difference.

Most photos are answered alike by both; only those on which one is right and the other wrong tell
them apart. So the difference is known better than either figure alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binomtest

from training.outcome import Array

DRAWS = 20_000
LEVEL = (2.5, 97.5)
# Photos of which all may differ one way, and McNemar's exact test is only then under 5%
LEAST = 6
MARGIN = 0.01  # of recall: a loss that is let pass, unless another is asked for


@dataclass(frozen=True)
class Paired:
    """Recall of two models on the n photos of one superclass.

    Attributes:
        old, new: recall; old_interval, new_interval: 95%, Jeffreys'.
        lost, gained: photos that only the old, or only the new model is right about.
        interval: 95% of new less old, over pairs.
        p: of McNemar's exact test that both are equally often right alone.
    """

    photos: int
    old: float
    new: float
    old_interval: tuple[float, float]
    new_interval: tuple[float, float]
    lost: int
    gained: int
    interval: tuple[float, float]
    p: float

    @property
    def difference(self) -> float:
        """New less old."""
        return (self.gained - self.lost) / self.photos

    def worse_by_more_than(self, margin: float) -> bool:
        """By what was counted."""
        return is_worse(self.difference, margin)

    def surely_within(self, margin: float) -> bool:
        """Whether the interval leaves no loss above the margin: what few photos cannot show."""
        return self.interval[0] >= -margin


def is_worse(difference: float, margin: float = MARGIN) -> bool:
    """Whether more than the margin was lost, but for rounding."""
    return difference < -margin - 1e-12


def pair(old_right: Array, new_right: Array) -> Paired:
    """Compare two models.

    Args:
        old_right, new_right: bool [n], n at least 1, of the same photos in the same order.
    """
    n = len(old_right)
    lost, gained = int((old_right & ~new_right).sum()), int((~old_right & new_right).sum())
    return Paired(
        photos=n,
        old=float(old_right.mean()),
        new=float(new_right.mean()),
        old_interval=jeffreys(int(old_right.sum()), n),
        new_interval=jeffreys(int(new_right.sum()), n),
        lost=lost,
        gained=gained,
        interval=_difference(lost, gained, n),
        p=float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0,
    )


def jeffreys(right: int, photos: int) -> tuple[float, float]:
    """95% interval of a share; it reaches the end where all or none were right."""
    low, high = beta.ppf((0.025, 0.975), right + 0.5, photos - right + 0.5)
    return (0.0 if right == 0 else float(low), 1.0 if right == photos else float(high))


def _difference(lost: int, gained: int, photos: int) -> tuple[float, float]:
    """From the posterior of the shares of lost, gained and level pairs, under Jeffreys' prior."""
    random = np.random.default_rng(0)
    level = photos - lost - gained
    shares = random.dirichlet((lost + 0.5, gained + 0.5, level + 0.5), size=DRAWS)
    low, high = np.percentile(shares[:, 1] - shares[:, 0], LEVEL)
    found = (gained - lost) / photos
    return min(float(low), found), max(float(high), found)
