"""The sorting decision against a naive version of its definition, and its properties."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle import BankItem, read_manifest
from service.fitted import ItemSpread
from service.site_rules import Rules
from service.sites import MANUAL, SiteError
from service.sorting import Sorter
from tests.tiny_site import tiny_site

SUPERCLASSES = ("recyclable", "residual", "organic", "hazardous")


@dataclass(frozen=True)
class Seen:
    superclass: str
    subclass: str | None
    weight: float
    counts_as: float = 1.0


def sorter(
    changes: dict[str, object] | None = None,
    bank: Sequence[Seen] = (),
    spread: ItemSpread | None = None,
) -> Sorter:
    items = [
        BankItem(id=str(n), superclass=s.superclass, subclass=s.subclass, weight=s.counts_as)
        for n, s in enumerate(bank)
    ]
    return Sorter(tiny_site(changes), SUPERCLASSES, items, spread)


def cited(seen: Sequence[Seen]) -> list[tuple[int, float]]:
    return [(index, one.weight) for index, one in enumerate(seen)]


def spread_of(temperature: float, unnamed: float) -> ItemSpread:
    return ItemSpread(temperature=temperature, unnamed=unnamed, split="val", photos=100)


FREE = {"hazards.superclasses": [], "superclasses.hazardous": "rest", "bins.mixed.threshold": 0.0}


def test_a_sure_photo_goes_into_its_bin() -> None:
    made = sorter().choose([0.99, 0.01, 0.0, 0.0], [])
    assert (made.choice, made.best, made.reasons) == ("mixed", "mixed", ())
    assert made.probabilities == pytest.approx({"mixed": 0.99, "rest": 0.01, MANUAL: 0.0})
    assert made.expected_cost == pytest.approx(0.01)
    assert not made.alert


def test_the_cheaper_mistake_wins_over_the_more_probable_bin() -> None:
    costly = FREE | {"costs.of": {"rest": {"mixed": 3.0}}, "costs.manual": 1.0}
    assert sorter(costly).choose([0.6, 0.4, 0.0, 0.0], []).choice == "rest"
    assert sorter(FREE | {"costs.manual": 1.0}).choose([0.6, 0.4, 0.0, 0.0], []).choice == "mixed"


def test_a_person_looks_where_that_is_cheaper() -> None:
    made = sorter(FREE).choose([0.65, 0.35, 0.0, 0.0], [])
    assert (made.choice, made.reasons) == (MANUAL, ("expected_cost",))
    assert made.expected_cost == pytest.approx(0.3)
    assert sorter(FREE).choose([0.75, 0.25, 0.0, 0.0], []).choice == "mixed"


def test_a_little_hazard_is_enough_for_an_alert() -> None:
    made = sorter().choose([0.95, 0.0, 0.0, 0.05], [])
    assert made.choice == MANUAL
    assert made.reasons[0] == "hazard"
    assert made.alert
    assert made.hazard == pytest.approx(0.05)
    assert not sorter().choose([0.96, 0.0, 0.0, 0.04], []).alert


def test_a_threshold_of_zero_is_no_alert_about_nothing() -> None:
    made = sorter({"hazards.threshold": 0.0}).choose([1.0, 0.0, 0.0, 0.0], [])
    assert not made.alert


def test_a_bin_takes_only_what_is_probable_enough() -> None:
    cheap = FREE | {"bins.mixed.threshold": 0.9, "costs.manual": 1.0}
    assert sorter(cheap).choose([0.85, 0.15, 0.0, 0.0], []).reasons == ("threshold",)
    assert sorter(cheap).choose([0.9, 0.1, 0.0, 0.0], []).choice == "mixed"


def test_a_doubted_photo_is_for_a_person_however_sure() -> None:
    made = sorter().choose([1.0, 0.0, 0.0, 0.0], [], doubted=True)
    assert (made.choice, made.best, made.reasons) == (MANUAL, "mixed", ("doubt",))


def test_what_the_rules_send_to_a_person_says_so() -> None:
    made = sorter({"hazards.superclasses": []}).choose([0.0, 0.0, 0.0, 1.0], [])
    assert made.choice == MANUAL
    assert "rule" in made.reasons
    assert not made.alert


def test_items_of_the_bank_lead_to_bins_of_their_own() -> None:
    rules = FREE | {"items": {"newspaper": "rest"}, "superclasses.recyclable": "mixed"}
    seen = [Seen("recyclable", "newspaper", 0.6), Seen("recyclable", "can", 0.2)]
    probable, _ = sorter(rules, seen).probabilities([0.8, 0.0, 0.2, 0.0], cited(seen))
    assert probable.tolist() == pytest.approx([0.2, 0.6 + 0.2, 0.0])


def test_an_item_can_be_hazardous_in_a_harmless_superclass() -> None:
    rules = {"hazards.items": ["lighter"]}
    seen = [Seen("residual", "lighter", 0.1), Seen("residual", "broom", 0.9)]
    made = sorter(rules, seen).choose([0.0, 1.0, 0.0, 0.0], cited(seen))
    assert made.alert
    assert made.hazard == pytest.approx(0.1)


def test_references_of_other_superclasses_and_of_no_kind_change_nothing() -> None:
    seen = [Seen("organic", "newspaper", 0.9), Seen("recyclable", None, 0.1)]
    rules = FREE | {"items": {"newspaper": "mixed"}}
    probable, _ = sorter(rules, seen).probabilities([1.0, 0.0, 0.0, 0.0], cited(seen))
    assert probable.tolist() == pytest.approx([1.0, 0.0, 0.0])


def test_a_reference_of_no_kind_does_not_undo_what_others_say() -> None:
    seen = [Seen("recyclable", None, 0.99), Seen("recyclable", "newspaper", 0.01)]
    rules = FREE | {"items": {"newspaper": "rest"}}
    probable, _ = sorter(rules, seen).probabilities([1.0, 0.0, 0.0, 0.0], cited(seen))
    assert probable.tolist() == pytest.approx([0.0, 1.0, 0.0])


def test_tempered_references_are_less_sure_of_items() -> None:
    rules = FREE | {"items": {"newspaper": "rest"}}
    seen = [Seen("recyclable", "newspaper", 0.9), Seen("recyclable", "can", 0.1)]
    tempered = sorter(rules, seen, spread_of(2.0, 0.0))
    probable, _ = tempered.probabilities([0.9, 0.0, 0.1, 0.0], cited(seen))
    assert probable.tolist() == pytest.approx([0.9 * 0.25, 0.9 * 0.75 + 0.1, 0.0])  # 3 to 1


def test_what_no_reference_names_is_as_frequent_as_in_the_bank() -> None:
    rules = FREE | {"items": {"newspaper": "rest"}, "hazards.items": ["lighter"]}
    seen = [Seen("recyclable", "can", 0.9)]
    others = [
        Seen("recyclable", "newspaper", 0.0),
        Seen("recyclable", "lighter", 0.0),
        Seen("recyclable", None, 0.0),
        Seen("organic", "newspaper", 0.0),
    ]
    wary = sorter(rules, [*seen, *others], spread_of(1.0, 0.3))
    probable, hazard = wary.probabilities([1.0, 0.0, 0.0, 0.0], cited(seen))
    assert probable.tolist() == pytest.approx([0.9, 0.1, 0.0])  # a third each of 0.3
    assert hazard == pytest.approx(0.1)
    probable, hazard = wary.probabilities([1.0, 0.0, 0.0, 0.0], [])
    assert probable.tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])
    assert hazard == pytest.approx(1 / 3)
    probable, hazard = wary.probabilities([0.0, 1.0, 0.0, 0.0], [])  # of no item in the bank
    assert probable.tolist() == pytest.approx([0.0, 1.0, 0.0])
    assert hazard == 0.0


def test_a_correction_counts_as_many_items() -> None:
    rules = FREE | {"items": {"newspaper": "rest"}}
    seen = [Seen("recyclable", "newspaper", 0.2, 8.0), Seen("recyclable", "can", 0.4)]
    heavy = sorter(rules, seen, spread_of(1.0, 0.5))
    probable, _ = heavy.probabilities([1.0, 0.0, 0.0, 0.0], cited(seen))
    assert probable.tolist() == pytest.approx([0.5 * 0.2 + 0.5 / 9, 0.5 * 0.8 + 0.5 * 8 / 9, 0.0])


def test_a_sorter_is_made_once_for_a_manifest_and_goes_after_it_or_with_its_rules() -> None:
    path = Path("models/refuse/1")
    rules = Rules(tiny_site(), "digest")
    first, second = read_manifest(path), read_manifest(path)
    assert rules.sorter(first) is rules.sorter(first)
    assert rules.sorter(first) is not rules.sorter(second)
    assert len(rules.sorters) == 2
    del first
    gc.collect()
    third = read_manifest(path)
    made = weakref.ref(rules.sorter(third))
    assert len(rules.sorters) == 2
    del rules
    gc.collect()
    assert made() is None  # though its model is there still


def test_sets_that_cover_hold_every_bin_that_is_probable_enough() -> None:
    rules = FREE | {"coverage": {"level": 0.9, "least": 0.3, "split": "val", "photos": 100}}
    assert sorter(rules).choose([0.7, 0.3, 0.0, 0.0], []).covering == ("mixed", "rest")
    assert sorter(rules).choose([0.8, 0.2, 0.0, 0.0], []).covering == ("mixed",)
    assert sorter(FREE).choose([0.8, 0.2, 0.0, 0.0], []).covering is None


def test_where_known_things_belong_and_what_mistakes_cost() -> None:
    known = sorter({"items": {"newspaper": "rest"}})
    assert known.place_of("recyclable", "newspaper") == "rest"
    assert known.place_of("recyclable", "can") == "mixed"
    assert known.place_of("recyclable", None) == "mixed"
    with pytest.raises(SiteError, match="no bin for 'explosive' or 'tnt'"):
        known.place_of("explosive", "tnt")
    true = ["mixed", "mixed", MANUAL, MANUAL, "rest"]
    sent = ["mixed", "rest", "mixed", MANUAL, MANUAL]
    assert known.costs(true, sent).tolist() == [0.0, 1.0, 20.0, 0.3, 0.3]


def test_a_model_whose_superclasses_have_no_bin_is_refused() -> None:
    with pytest.raises(SiteError, match=r"where \['glass'\] of the model belong"):
        Sorter(tiny_site(), ("recyclable", "glass"))


shares = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).filter(lambda row: sum(row) > 0.1)
kinds = st.sampled_from(["newspaper", "can", "lighter", None])
references = st.lists(
    st.builds(Seen, st.sampled_from(SUPERCLASSES), kinds, st.floats(0.0, 1.0)), max_size=5
)
RICH = {
    "items": {"newspaper": "rest", "lighter": MANUAL},
    "hazards.items": ["lighter"],
    "costs.of": {"rest": {"mixed": 2.5}, "mixed": {"rest": 0.5}, MANUAL: {"rest": 7.0}},
}


@given(shares, references, st.booleans())
def test_the_choice_is_that_of_the_definition(
    row: list[float], seen: list[Seen], doubted: bool
) -> None:
    """Every joint event (superclass, reference of it) one by one, in plain Python."""
    probabilities = [value / sum(row) for value in row]
    rules = sorter(RICH, seen)
    site = rules.site
    belongs = {"mixed": 0.0, "rest": 0.0, MANUAL: 0.0}
    hazard = 0.0
    for name, probability in zip(SUPERCLASSES, probabilities, strict=True):
        own = [one for one in seen if one.superclass == name and one.subclass and one.weight > 0.0]
        events = [(one.subclass, one.weight / sum(o.weight for o in own)) for one in own]
        for kind, share in events or [(None, 1.0)]:
            belongs[site.items.get(kind or "", site.superclasses[name])] += probability * share
            if name == "hazardous" or kind == "lighter":
                hazard += probability * share
    expected = {
        place: sum(
            p * (0.0 if true == place else site.costs.of.get(true, {}).get(place, 1.0))
            for true, p in belongs.items()
        )
        for place in ("mixed", "rest")
    }
    made = rules.choose(probabilities, cited(seen), doubted=doubted)
    assert made.probabilities == pytest.approx(belongs, abs=1e-9)
    assert made.hazard == pytest.approx(hazard, abs=1e-9)
    assert expected[made.best] == pytest.approx(min(expected.values()), abs=1e-9)
    if made.choice == MANUAL:
        assert made.reasons
        assert made.expected_cost == pytest.approx(0.3)
    else:
        assert not doubted
        assert made.choice == made.best
        assert hazard < 0.05 + 1e-9
        assert made.expected_cost == pytest.approx(expected[made.best], abs=1e-9)
        assert made.expected_cost <= 0.3 + 1e-9


spreads = st.none() | st.builds(spread_of, st.floats(0.05, 20.0), st.floats(0.0, 1.0))


@given(shares, references, spreads)
def test_probabilities_of_the_choices_sum_to_one(
    row: list[float], seen: list[Seen], spread: ItemSpread | None
) -> None:
    probabilities = [value / sum(row) for value in row]
    probable, hazard = sorter(RICH, seen, spread).probabilities(probabilities, cited(seen))
    assert np.isclose(probable.sum(), 1.0)
    assert probable.min() >= 0.0
    assert 0.0 <= hazard <= 1.0 + 1e-9
