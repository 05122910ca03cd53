"""What is odd about the kinds of reviewed photos: new, near others, of another superclass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from service.kinds import KIND, is_kind, near_kinds
from training.data.photo import Photo

Known = Iterable[tuple[str, str | None]]  # superclass and kind of each thing that is known


def kind_warnings(
    reviewed: Sequence[Photo], known: Known, what: str, rules: Collection[str] = ()
) -> list[str]:
    """A warning for each kind that may be a slip, with how many photos are of it.

    Args:
        known: what the photos are to join.
        what: that is, in words, such as "the bank".
        rules: kinds that sites have rules for.
    """
    banked: dict[str, Counter[str]] = defaultdict(Counter)
    for superclass, kind in known:
        if kind:
            banked[kind][superclass] += 1
    photos = Counter((one.subclass, one.superclass) for one in reviewed if one.subclass)
    new = Counter(one.subclass for one in reviewed if one.subclass and one.subclass not in banked)
    for kind in set(new) & set(rules):
        del new[kind]
    told = list(_new(new, {*banked, *rules}, what, bool(rules)))
    for (kind, superclass), count in sorted(photos.items()):
        there = banked.get(kind, Counter())
        if there and superclass not in there:
            those = ", ".join(f"{one} ({n:,})" for one, n in there.most_common())
            which = f"{kind!r} as {superclass}, which {what} has as {those}"
            told.append(f"warning: {_photos(count)} of {which}")
    return told


def _new(new: Counter[str], known: set[str], what: str, sites: bool) -> Iterator[str]:
    whose = f"neither {what} nor a site knows" if sites else f"{what} does not know"
    for kind, count in sorted(new.items()):
        if not is_kind(kind):
            yield f"warning: {_photos(count)} of {kind!r}, which is no kind: expected {KIND}"
            continue
        near = near_kinds(kind, known)
        near += [f"{one} (new, too)" for one in near_kinds(kind, set(new) - {kind})]
        hint = (
            f"; close to it {'is' if len(near) == 1 else 'are'} {', '.join(near)}" if near else ""
        )
        yield f"warning: {_photos(count)} of a new kind, {kind!r}, which {whose}{hint}"


def _photos(count: int) -> str:
    return f"{count} reviewed {'photo' if count == 1 else 'photos'}"
