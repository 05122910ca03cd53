"""A site's bins as a reviewer says them, and what each can stand for: what training learns from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from service.review.records import Verdict
from service.review_schemas import ReviewBin, ReviewChoice, ReviewMeaning, ReviewSite
from service.review_words import BinUnfit
from service.sites import MANUAL, Site

KEYS = "123456789abcdefhijlmopqrtvwxy"  # the others are the page's own
NO_REFUSE_KEY = "n"
MANUAL_KEY = "9"
BIN_KEYS = KEYS.replace(MANUAL_KEY, "")
Kinds = Mapping[str, Collection[str]]


def key_at(place: int, keys: str = KEYS) -> str:
    """The key of a place in a list, from 0; none where there are no more."""
    return keys[place] if place < len(keys) else ""


def site_bins(site: Site, language: str, superclasses: Sequence[str], kinds: Kinds) -> ReviewSite:
    """A site's bins with their keys: by their place in the file, and 9 for a person's look.

    Args:
        language: one of the site's.
        superclasses: that are known, in order.
        kinds: by superclass.
    """
    keys = {name: key_at(place, BIN_KEYS) for place, name in enumerate(site.bins)}
    places = {**site.bins, MANUAL: site.manual}
    bins = []
    for name, place in places.items():
        meanings = meanings_of(name, site, superclasses, kinds)
        if name == MANUAL:
            if not meanings:
                continue
            meanings = _or_any_other(meanings, superclasses)
        bins.append(
            ReviewBin(
                bin=name,
                label=place.name[language],
                text=place.text[language],
                colour=place.colour,
                key=keys.get(name, MANUAL_KEY),
                meanings=meanings or _any(name, site, superclasses),
            )
        )
    homeless = [one for one in superclasses if one not in site.superclasses]
    return ReviewSite(
        site=site.site,
        version=site.version,
        language=language,
        name=site.name[language],
        bins=bins,
        others=[ReviewChoice(superclass=one, label=one, key="") for one in homeless],
    )


def check_bin(site: str | None, found: ReviewSite | None, said: Verdict) -> None:
    """See that a bin that was said is the site's, and that the superclass leads there.

    Args:
        site: the photo's.
        found: its bins; None where it has no rules.

    Raises:
        BinUnfit: with the bins and superclasses that go together.
    """
    if said.bin is None:
        return
    if found is None:
        where = f"the photo's site {site} has no rules" if site else "the photo is of no site"
        raise BinUnfit(f"bin: expected none, since {where}, got {said.bin!r}")
    leading = {one.bin: {m.superclass for m in one.meanings} for one in found.bins}
    if said.bin in leading and said.superclass in (None, *leading[said.bin]):
        return
    together = ", ".join(
        f"{name} ({' or '.join(sorted(those))})" for name, those in leading.items()
    )
    raise BinUnfit(
        f"bin: expected one of the site {found.site} that the superclass leads to, {together}, "
        f"got {said.bin!r} and {said.superclass!r}"
    )


def meanings_of(
    place: str, site: Site, superclasses: Sequence[str], kinds: Kinds
) -> list[ReviewMeaning]:
    """What leads to a bin: superclasses first, then kinds of those whose own bin is another."""
    own = [one for one in superclasses if site.superclasses.get(one) == place]
    items = sorted(item for item, target in site.items.items() if target == place)
    by_kind = [
        (superclass, item)
        for item in items
        for superclass in superclasses
        if superclass not in own and item in kinds.get(superclass, ())
    ]
    partly = [one for one in superclasses if one in {superclass for superclass, _ in by_kind}]
    found: list[tuple[str, str | None, str]] = [
        *((one, None, one) for one in own),
        *((superclass, item, item) for superclass, item in by_kind),
        *((one, None, f"other {one}") for one in partly),
    ]
    return _keyed(found)


def _any(place: str, site: Site, superclasses: Sequence[str]) -> list[ReviewMeaning]:
    """Of a bin that only kinds lead to that no model knows: any superclass, and the kind."""
    items = [item for item, target in site.items.items() if target == place]
    kind = items[0] if len(items) == 1 else None
    return _keyed([(one, kind, one) for one in superclasses])


def _or_any_other(
    meanings: list[ReviewMeaning], superclasses: Sequence[str]
) -> list[ReviewMeaning]:
    """Of what a person has to look at: whoever sends it there may not know what it is."""
    told = {one.superclass for one in meanings if one.subclass is None}
    others = [one for one in superclasses if one not in told]
    known = [(one.superclass, one.subclass, one.label) for one in meanings]
    return _keyed([*known, *((one, None, one) for one in others)])


def _keyed(found: Sequence[tuple[str, str | None, str]]) -> list[ReviewMeaning]:
    return [
        ReviewMeaning(superclass=superclass, subclass=subclass, label=label, key=key_at(place))
        for place, (superclass, subclass, label) in enumerate(found)
    ]
