"""The sorting decision: from a photo's probabilities to the bin of least expected cost.

What is known of a photo is how probable each superclass is, and which items of the context bank it
was compared with. Both together say how probable each of a site's bins is; the bin is chosen whose
mistakes are expected to cost least, or a person, where that costs less still (Chow, "On optimum
recognition error and reject tradeoff", IEEE Transactions on Information Theory, 1970).

The references name few items and agree too often: taken as they are, most mistakes between items of
one superclass come as a surprise. So their weights are tempered, and some of the probability goes
to items that none of them names (`service.fitted.ItemSpread`, fitted on val).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from service.bundle import BankItem
from service.fitted import ItemSpread
from service.sites import MANUAL, Site, SiteError, missing_superclasses

Floats = npt.NDArray[np.float64]

# Why a person has to look: something hazardous may be there; the photo is no ground to decide on;
# the rules say so; a person costs less than the mistakes to be expected; no bin is probable enough.
Reason = Literal["hazard", "doubt", "rule", "expected_cost", "threshold"]


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


class _InSite(NamedTuple):
    """What a site makes of an item of the bank; superclass and place are indices."""

    superclass: int
    place: int
    hazardous: bool
    weight: float


class Sorter:
    """A site's rules for a model: its superclasses and the items of its bank.

    Attributes:
        choices: C of them: the site's bins, and `manual`.
        cost_matrix: float64 [C, C]: what a thing costs that belongs to the row, in the column.
    """

    def __init__(
        self,
        site: Site,
        superclasses: Sequence[str],
        items: Sequence[BankItem] = (),
        spread: ItemSpread | None = None,
    ) -> None:
        """Put them together.

        Args:
            items: of the model's bank, which references are indices into.
            spread: without it an item is as probable as the references have it.

        Raises:
            SiteError: where the site does not say where a superclass belongs.
        """
        if missing := missing_superclasses(site, superclasses):
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
        self._items = self._in_site(items)
        self._tempering = 1.0 / spread.temperature if spread else 1.0
        self._named_share = 1.0 - spread.unnamed if spread else 1.0
        self._unnamed = self._unnamed_places(spread is not None)
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
        self, of_superclasses: Sequence[float], cited: Iterable[tuple[int, float]]
    ) -> tuple[Floats, float]:
        """How probable each choice is [C], and that the thing is hazardous.

        A superclass's probability goes to its items' bins as its references in the bank are
        weighted, less the share of those that are not named; all of it goes to the latter where no
        reference is of the superclass. A reference of no kind, such as a correction that names
        none, says nothing of that.

        Args:
            of_superclasses: calibrated, in the model's order, K of them.
            cited: the references of the answer, as places in the bank, with their weights.
        """
        found: list[tuple[_InSite, float]] = []
        totals = [0.0] * len(self.superclasses)
        for index, weight in cited:
            item = self._items[index]
            if item is not None:
                counted = item.weight * weight**self._tempering
                totals[item.superclass] += counted
                found.append((item, counted))
        unnamed = [
            probability * (1.0 - self._named_share) if total else probability
            for probability, total in zip(of_superclasses, totals, strict=True)
        ]
        places: Floats = np.asarray(unnamed) @ self._unnamed  # [C + 1], the last is hazard
        for item, counted in found:
            share = counted / totals[item.superclass] if totals[item.superclass] else 0.0
            probability = of_superclasses[item.superclass] * self._named_share * share
            places[item.place] += probability
            if item.hazardous:
                places[-1] += probability
        return places[:-1], float(places[-1])

    def choose(
        self,
        of_superclasses: Sequence[float],
        cited: Iterable[tuple[int, float]],
        *,
        doubted: bool = False,
    ) -> Choice:
        """Decide about one photo.

        Args:
            of_superclasses, cited: as for `probabilities`.
            doubted: whether the photo itself is no ground to decide on.
        """
        probable, hazard = self.probabilities(of_superclasses, cited)
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

    def _in_site(self, items: Sequence[BankItem]) -> list[_InSite | None]:
        """None for an item of no kind."""
        hazards = self.site.hazards
        known: dict[tuple[str, str | None, float], _InSite | None] = {}
        for item in items:
            key = item.superclass, item.subclass, item.weight
            if key not in known and item.subclass is not None:
                superclass = self.superclasses.index(item.superclass)
                known[key] = _InSite(
                    superclass,
                    self._item.get(item.subclass, self._default[superclass]),
                    item.superclass in hazards.superclasses or item.subclass in hazards.items,
                    item.weight,
                )
        return [known.get((item.superclass, item.subclass, item.weight)) for item in items]

    def _unnamed_places(self, as_in_the_bank: bool) -> Floats:
        """[K, C + 1]: where what no reference names of a superclass goes, and its hazard.

        That is where the bank's items go, or to the superclass's own bin.
        """
        places = np.zeros((len(self.superclasses), len(self.choices) + 1))
        for item in filter(None, self._items) if as_in_the_bank else ():
            places[item.superclass, item.place] += item.weight
            places[item.superclass, -1] += item.weight * item.hazardous
        for row, name in enumerate(self.superclasses):
            if total := places[row, :-1].sum():
                places[row] /= total
            else:
                places[row, self._default[row]] = 1.0
                places[row, -1] = name in self.site.hazards.superclasses
        return places

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
