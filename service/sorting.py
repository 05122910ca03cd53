"""The sorting decision: from a photo's probabilities to the bin of least expected cost.

What is known of a photo is how probable each superclass is, and which items of the context bank it
was compared with. Both together say how probable each of a site's bins is; the bin is chosen whose
mistakes are expected to cost least, or a person, where that costs less still (Chow, "On optimum
recognition error and reject tradeoff", IEEE Transactions on Information Theory, 1970).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.errors import SuperbinError
from service.sites import MANUAL, Site, SiteError, read_site

Floats = npt.NDArray[np.float64]

DIGEST_LETTERS = 12
# Why a person has to look: something hazardous may be there; the photo is no ground to decide on;
# the rules say so; a person costs less than the mistakes to be expected; no bin is probable enough.
Reason = Literal["hazard", "doubt", "rule", "expected_cost", "threshold"]


class SiteUnfit(SuperbinError):
    """A site's rules do not say where all of a model's superclasses belong."""

    reason = "site_unfit"


class Weighted(Protocol):
    """An item of the bank that a photo was compared with, and how much that counted."""

    @property
    def superclass(self) -> str: ...
    @property
    def subclass(self) -> str | None: ...
    @property
    def weight(self) -> float: ...


@dataclass(frozen=True)
class Choice:
    """What to do with a photo's thing.

    Attributes:
        choice: a bin, or `manual`.
        best: the bin of least expected cost, whether it was chosen or not.
        probabilities: of each choice of the site that something may belong to.
        expected_cost: of `choice`.
        reasons: why a person has to look, empty where nobody has to.
        alert: whether something hazardous may be there.
        hazard: the probability of that.
        covering: bins of which one is right with the site's guaranteed probability, if it has one.
    """

    choice: str
    best: str
    probabilities: dict[str, float]
    expected_cost: float
    reasons: tuple[Reason, ...]
    alert: bool
    hazard: float
    covering: tuple[str, ...] | None


class Sorter:
    """A site's rules for a model's superclasses.

    Attributes:
        choices: C of them: the site's bins, and `manual`.
        cost_matrix: float64 [C, C]: what a thing costs that belongs to the row, in the column.
    """

    def __init__(self, site: Site, superclasses: Sequence[str]) -> None:
        """Put them together.

        Raises:
            SiteError: where the site does not say where a superclass belongs.
        """
        missing = [name for name in superclasses if name not in site.superclasses]
        if missing:
            raise SiteError(
                f"{site.site}: expected under superclasses: where {missing} of the model belong, "
                f"got {sorted(site.superclasses)}"
            )
        self.site = site
        self.superclasses = tuple(superclasses)
        self.bins = tuple(site.bins)
        self.choices = (*self.bins, MANUAL)
        self._place = {choice: index for index, choice in enumerate(self.choices)}
        self._default = [self._place[site.superclasses[name]] for name in superclasses]
        self._item = {name: self._place[target] for name, target in site.items.items()}
        self._hazardous = [name in site.hazards.superclasses for name in superclasses]
        self.cost_matrix = self._cost_matrix()
        self._thresholds = [one.threshold for one in site.bins.values()]

    def place_of(self, superclass: str, subclass: str | None) -> str:
        """Where a thing belongs that is known.

        Raises:
            SiteError: where the site knows neither.
        """
        target = self.site.items.get(subclass or "") or self.site.superclasses.get(superclass)
        if target is None:
            raise SiteError(f"{self.site.site}: no bin for {superclass!r} or {subclass!r}")
        return target

    def costs(self, true: Sequence[str], chosen: Sequence[str]) -> Floats:
        """What each of n things costs that belongs into `true` and was sent to `chosen`."""
        rows = [self._place[name] for name in true]
        return self.cost_matrix[rows, [self._place[name] for name in chosen]]

    def probabilities(
        self, of_superclasses: Sequence[float], references: Sequence[Weighted]
    ) -> tuple[Floats, float]:
        """How probable each choice is [C], and that the thing is hazardous.

        A superclass's probability goes to its items' bins as its references in the bank are
        weighted; to its own bin where none of them is of the superclass. A reference of no kind,
        such as a correction that names none, says nothing of that.
        """
        found = np.zeros(len(self.choices))
        hazard = 0.0
        for index, name in enumerate(self.superclasses):
            probability = of_superclasses[index]
            own = [one for one in references if one.superclass == name and one.subclass]
            total = sum(one.weight for one in own)
            hazardous = 0.0
            if total > 0.0:
                for one in own:
                    share = probability * (one.weight / total)
                    subclass = one.subclass or ""
                    found[self._item.get(subclass, self._default[index])] += share
                    hazardous += share * (subclass in self.site.hazards.items)
            else:
                found[self._default[index]] += probability
            hazard += probability if self._hazardous[index] else hazardous
        return found, hazard

    def choose(
        self,
        of_superclasses: Sequence[float],
        references: Sequence[Weighted],
        *,
        doubted: bool = False,
    ) -> Choice:
        """Decide about one photo.

        Args:
            of_superclasses: calibrated, in the model's order, K of them.
            references: of the answer, with the weight that each got.
            doubted: whether the photo itself is no ground to decide on.
        """
        probable, hazard = self.probabilities(of_superclasses, references)
        expected = probable @ self.cost_matrix
        best = int(expected[:-1].argmin())
        reasons: list[Reason] = []
        if hazard > 0.0 and hazard >= self.site.hazards.threshold:
            reasons.append("hazard")
        alert = bool(reasons)
        if doubted:
            reasons.append("doubt")
        if int(probable.argmax()) == self._place[MANUAL]:
            reasons.append("rule")
        if expected[best] > expected[-1]:
            reasons.append("expected_cost")
        if probable[best] < self._thresholds[best]:
            reasons.append("threshold")
        chosen = self._place[MANUAL] if reasons else best
        return Choice(
            choice=self.choices[chosen],
            best=self.bins[best],
            probabilities={name: float(p) for name, p in zip(self.choices, probable, strict=True)},
            expected_cost=float(expected[chosen]),
            reasons=tuple(reasons),
            alert=alert,
            hazard=float(hazard),
            covering=self._covering(probable),
        )

    def _covering(self, probable: Floats) -> tuple[str, ...] | None:
        if self.site.coverage is None:
            return None
        least = self.site.coverage.least
        return tuple(n for n, p in zip(self.choices, probable, strict=True) if p >= least)

    def _cost_matrix(self) -> Floats:
        """[C, C]: of what belongs to the row in the column; a person makes no mistakes."""
        costs = self.site.costs
        matrix = np.full((len(self.choices), len(self.choices)), costs.wrong)
        np.fill_diagonal(matrix, 0.0)
        for true, row in costs.of.items():
            for chosen, cost in row.items():
                matrix[self._place[true], self._place[chosen]] = cost
        matrix[:, -1] = costs.manual
        return matrix


@dataclass(eq=False)
class Rules:
    """One site's rules as they are in force, and a sorter for each model that was asked with them.

    Attributes:
        digest: of the file, so that an answer tells rules apart that have the same version.
    """

    site: Site
    digest: str
    sorters: dict[tuple[str, ...], Sorter] = field(default_factory=dict)

    def sorter(self, superclasses: Sequence[str]) -> Sorter:
        """For a model of these superclasses.

        Raises:
            SiteUnfit: where some of them have no bin.
        """
        known = tuple(superclasses)
        if known not in self.sorters:
            try:
                self.sorters[known] = Sorter(self.site, known)
            except SiteError as error:
                raise SiteUnfit(str(error)) from error
        return self.sorters[known]


def read_rules(file: Path) -> Rules:
    """A site file's rules.

    Raises:
        SiteError: where it cannot be used.
    """
    site, data = read_site(file)
    return Rules(site, hashlib.sha256(data).hexdigest()[:DIGEST_LETTERS])
