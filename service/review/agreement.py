"""How far reviewers agree: Cohen's kappa (Educational and Psychological Measurement 20, 1960)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import combinations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import schema
from service.review.figures import Agreement, PairAgreement

_votes = schema.votes
Pairs = Sequence[tuple[Hashable, Hashable]]


def measure(connection: Connection) -> Agreement:
    """Of every two reviewers on the photos that both have reviewed; feedback does not count."""
    several = (
        sa.select(_votes.c.photo_id)
        .where(_votes.c.undone_at.is_(None), _votes.c.kind == "review")
        .group_by(_votes.c.photo_id)
        .having(sa.func.count() > 1)
    )
    found = connection.execute(
        sa.select(_votes.c.photo_id, _votes.c.reviewer, _votes.c.superclass, _votes.c.no_refuse)
        .where(
            _votes.c.photo_id.in_(several),
            _votes.c.undone_at.is_(None),
            _votes.c.kind == "review",
        )
        .order_by(_votes.c.photo_id, _votes.c.reviewer)
    )
    said = defaultdict(list)
    for photo_id, reviewer, superclass, no_refuse in found:
        said[photo_id].append((reviewer, (superclass, no_refuse)))
    pairs = defaultdict(list)
    for votes in said.values():
        for (one, says), (other, answers) in combinations(votes, 2):
            pairs[one, other].append((says, answers))
    return _together([_pair(who, both) for who, both in sorted(pairs.items())])


def _pair(who: tuple[str, str], both: Pairs) -> PairAgreement:
    agreed = sum(one == other for one, other in both)
    return PairAgreement(who, len(both), agreed, kappa(both))


def _together(pairs: list[PairAgreement]) -> Agreement:
    known = [(pair.kappa, pair.photos) for pair in pairs if pair.kappa is not None]
    weight = sum(n for _, n in known)
    mean = sum(value * n for value, n in known) / weight if weight else None
    disagreed = sum(pair.photos - pair.agreed for pair in pairs)
    asked = sum(pair.photos for pair in pairs)
    return Agreement(asked, asked - disagreed, mean, tuple(pairs))


def kappa(both: Pairs) -> float | None:
    """(observed - expected) / (1 - expected) agreement of two people on the same photos.

    None without photos, or where both always say one and the same word.
    """
    if not both:
        return None
    n = len(both)
    observed = sum(one == other for one, other in both) / n
    first, second = Counter(one for one, _ in both), Counter(other for _, other in both)
    expected = sum(first[word] * second[word] for word in first) / n**2
    return None if expected == 1.0 else (observed - expected) / (1.0 - expected)
