"""A site's bins as a reviewer says them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from service.review_bins import KEYS, site_bins
from service.review_schemas import ReviewBin, ReviewSite
from service.sites import MANUAL, SHIPPED, Site, find_sites, read_site
from service.sorting import Sorter
from tests.tiny_site import TINY, tiny_site

KNOWN = ["recyclable", "residual", "organic", "hazardous"]
KINDS = {
    "recyclable": {"paper", "can", "hat"},
    "residual": {"nappy"},
    "organic": {"tea_bag"},
    "hazardous": {"battery", "lamp"},
}
OWN_KEYS = "gksuz"  # of the page


def asked(site: Site, known: list[str] = KNOWN) -> ReviewSite:
    return site_bins(site, "en", known, KINDS)


def said(bin: ReviewBin) -> list[tuple[str, str | None]]:
    return [(one.superclass, one.subclass) for one in bin.meanings]


def bins_of(changes: dict[str, Any]) -> dict[str, ReviewBin]:
    return {one.bin: one for one in asked(tiny_site(changes)).bins}


def test_a_bin_of_one_superclass_says_it_and_one_of_several_asks() -> None:
    bins = bins_of({})
    assert said(bins["mixed"]) == [("recyclable", None)]
    assert said(bins["rest"]) == [("residual", None), ("organic", None)]
    assert (bins["rest"].label, bins["rest"].colour) == ("Rubbish", "#424242")


def test_what_a_person_has_to_look_at_always_asks_what_it_is() -> None:
    manual = bins_of({})["manual"]
    assert said(manual) == [
        (one, None) for one in ["hazardous", "recyclable", "residual", "organic"]
    ]
    assert len({one.key for one in manual.meanings}) == 4


def test_kinds_that_have_a_bin_of_their_own_are_offered_there() -> None:
    bins = bins_of({"items": {"hat": "rest", "can": "mixed", "battery": "mixed"}})
    assert said(bins["mixed"]) == [
        ("recyclable", None),  # a can is one
        ("hazardous", "battery"),
        ("hazardous", None),
    ]
    assert [one.label for one in bins["mixed"].meanings][-1] == "other hazardous"
    assert ("recyclable", "hat") in said(bins["rest"])


def test_a_bin_that_kinds_alone_lead_to_offers_those_kinds() -> None:
    box = {"colour": "#123456", "name": {"en": "Box", "de": "Kiste"}, "text": TINY["name"]}
    bins = bins_of({"bins": TINY["bins"] | {"box": box}, "items": {"battery": "box"}})
    assert said(bins["box"]) == [("hazardous", "battery"), ("hazardous", None)]
    unknown = bins_of({"bins": TINY["bins"] | {"box": box}, "items": {"toner": "box"}})
    assert said(unknown["box"]) == [(one, "toner") for one in KNOWN]


def test_superclasses_without_a_bin_remain() -> None:
    found = asked(tiny_site(), [*KNOWN, "bulky"])
    assert [one.superclass for one in found.others] == ["bulky"]


def test_keys_stand_for_places_in_the_file_and_are_not_the_pages_own() -> None:
    before = {one.bin: one.key for one in asked(tiny_site()).bins}
    box = {"colour": "#123456", "name": {"en": "Box", "de": "Kiste"}, "text": TINY["name"]}
    after = bins_of({"bins": TINY["bins"] | {"box": box}, "items": {"battery": "box"}})
    assert before == {name: after[name].key for name in before}
    assert after["box"].key == "3"
    assert len(set(KEYS)) == len(KEYS)
    assert not set(KEYS) & {*OWN_KEYS, "0"}
    many = {f"bin-{n}": copy.deepcopy(box) for n in range(40)}
    keys = [one.key for one in asked(tiny_site({"bins": TINY["bins"] | many})).bins if one.key]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("file", find_sites(SHIPPED), ids=lambda file: file.stem)
def test_what_a_bin_of_a_shipped_site_says_leads_back_to_it(file: Any) -> None:
    site, _ = read_site(file)
    kinds = {superclass: {*site.items} for superclass in KNOWN}
    sorter = Sorter(site, KNOWN)
    for language in site.languages:
        found = site_bins(site, language, KNOWN, kinds)
        assert {one.bin for one in found.bins} >= set(site.bins)
        for one in found.bins:
            assert one.meanings
            for meaning in one.meanings:
                if one.bin != MANUAL and not meaning.label.startswith("other "):
                    assert sorter.place_of(meaning.superclass, meaning.subclass) == one.bin
