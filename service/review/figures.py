"""How much is in the review store, what went, how far reviewers have come and agree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """How much there is.

    Attributes:
        queue: photos that wait for a person.
        reviewed: settled, with a superclass, as no refuse or as of no use.
        no_use: of those, of no use.
        no_refuse: of those, no refuse.
        unsettled: several people saw them and disagree, whether or not one more is asked.
        halfway: one person reviewed them, and a second one is asked.
        disputed: clients' feedback says otherwise than a reviewer, settled or not.
        feedback: verdicts by clients on photos that were not kept.
    """

    photos: int
    nbytes: int
    queue: int
    reviewed: int
    no_use: int
    no_refuse: int
    held_out: int
    unsettled: int
    halfway: int
    disputed: int
    feedback: int


@dataclass(frozen=True)
class Pruned:
    """How many photos went by age.

    Attributes:
        doubt: why none may; None where they may.
    """

    unreviewed: int = 0
    reviewed: int = 0
    doubt: str | None = None

    @property
    def photos(self) -> int:
        """All that went."""
        return self.unreviewed + self.reviewed


@dataclass(frozen=True)
class Progress:
    """One reviewer's: what is left for them, what they did, and what of it since a moment."""

    left: int
    skipped: int
    done: int
    today: int


@dataclass(frozen=True)
class PairAgreement:
    """Two reviewers on the photos that both reviewed.

    Attributes:
        kappa: Cohen's; None where chance alone would agree always.
    """

    reviewers: tuple[str, str]
    photos: int
    agreed: int
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """All pairs of reviewers; `kappa` is the pairs' mean, weighted by their photos."""

    photos: int
    agreed: int
    kappa: float | None
    pairs: tuple[PairAgreement, ...]
