"""Estimated against true contamination of every bin: what the report says, on labelled photos.

    python -m tests.benchmarks.contamination DIR              # by the shipped sites, refuse/2
    python -m tests.benchmarks.contamination DIR --split val

`DIR` is a folder of labelled photos. A bin's estimated contamination is the mean of 1 - probability
of the chosen bin, as `service.composition` adds it up; the true one is the share of photos in it
whose label belongs elsewhere, with a 95% interval (Clopper and Pearson).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import beta

from service.site_rules import read_rules
from service.sites import SHIPPED, find_sites
from training.data.photos import read_photos
from training.policy import Evidence, gather, own_thresholds


@dataclass(frozen=True)
class Contamination:
    """Of one bin: photos in it, how many are expected to be wrong there, and how many are."""

    site: str
    bin: str
    photos: int
    expected: float
    wrong: int

    def row(self) -> str:
        """In Markdown."""
        share = "" if not self.photos else f"{self.expected / self.photos:.1%}"
        true = "" if not self.photos else f"{self.wrong / self.photos:.1%}"
        low, high = interval(self.wrong, self.photos)
        return (
            f"| {self.site} | {self.bin} | {self.photos} | {share} ({self.expected:.1f}) | "
            f"{true} ({self.wrong}) | {low:.1%} to {high:.1%} |"
        )


def interval(wrong: int, photos: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's, of a share."""
    tail = (1.0 - level) / 2.0
    low = float(beta.ppf(tail, wrong, photos - wrong + 1)) if wrong else 0.0
    high = float(beta.ppf(1.0 - tail, wrong + 1, photos - wrong)) if wrong < photos else 1.0
    return low, high


def contaminations(evidence: Evidence) -> Iterator[Contamination]:
    """Of each bin of a site, and of all of them together."""
    choices = evidence.choices(own_thresholds(evidence))
    sorter = evidence.sorter
    total = Contamination(sorter.site.site, "all bins", 0, 0.0, 0)
    for place, name in enumerate(sorter.bins):
        mine = choices == place
        one = Contamination(
            site=sorter.site.site,
            bin=name,
            photos=int(mine.sum()),
            expected=float((1.0 - evidence.probabilities[mine, place]).sum()),
            wrong=int((evidence.true[mine] != place).sum()),
        )
        total = Contamination(
            total.site,
            total.bin,
            total.photos + one.photos,
            total.expected + one.expected,
            total.wrong + one.wrong,
        )
        yield one
    yield total


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("models/refuse/2"))
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    photos = read_photos(given.data)
    print("| site | bin | photos | estimated (photos) | true (photos) | 95% interval |")
    print("|---|---|---|---|---|---|")
    for file in find_sites(SHIPPED):
        evidence = gather(given.bundle, read_rules(file), photos, given.split)
        for one in contaminations(evidence):
            print(one.row(), flush=True)


if __name__ == "__main__":
    main()
