"""What reviewers say, in the words that the models use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.review.records import Verdict
from service.review_words import (
    FeedbackBody,
    ReviewMalformed,
    SuperclassUnknown,
    VerdictBody,
    checked,
    read_words,
)

KNOWN = ["hazardous", "recyclable"]
KINDS = ["fluorescent_lamp", "can"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Fluorescent lamp", "fluorescent_lamp"),
        ("fluorescent-LAMP", "fluorescent_lamp"),
        ("fluorescent_lamp", "fluorescent_lamp"),
        ("Glow stick", "Glow stick"),
        (None, None),
    ],
)
def test_a_kind_that_the_model_knows_is_spelt_as_it_spells_it(
    said: str | None, kind: str | None
) -> None:
    body = VerdictBody(superclass="hazardous", subclass=said)
    assert checked(body, KNOWN, KINDS).subclass == kind


def test_a_superclass_that_there_is_not_is_refused() -> None:
    with pytest.raises(SuperclassUnknown, match="expected one of hazardous, recyclable, got 'bin'"):
        checked(VerdictBody(superclass="bin"), KNOWN, KINDS)


def test_a_kind_that_the_bank_has_is_taken_however_it_is_spelt() -> None:
    body = VerdictBody(superclass="hazardous", subclass="Paint/Varnish")
    assert checked(body, KNOWN, ["paint/varnish"]).subclass == "paint/varnish"
    with pytest.raises(ReviewMalformed, match="subclass: expected letters, digits, spaces"):
        checked(body, KNOWN, KINDS)


def test_no_refuse_is_a_word_of_its_own_and_may_be_called_something() -> None:
    said = Verdict(None, item="a cat", no_refuse=True)
    bodies = (
        VerdictBody(superclass=None, item="a cat", no_refuse=True),
        FeedbackBody(request_id="r", item="a cat", no_refuse=True),
    )
    assert [checked(body, KNOWN, KINDS) for body in bodies] == [said, said]
    assert checked(VerdictBody(superclass=None), KNOWN, KINDS) == Verdict(None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"superclass": "hazardous"}, "superclass: expected none beside no_refuse, got 'hazardou"),
        ({"superclass": None, "subclass": "can"}, "subclass: expected none beside no_refuse, got"),
        ({"superclass": None, "bin": "manual"}, "bin: expected none beside no_refuse, got 'manua"),
        ({"superclass": None, "no_refuse": 1}, "no_refuse: expected a valid boolean, got 1"),
        ({"superclass": None, "no_refuse": "true"}, 'no_refuse: expected a valid boolean, got "t'),
        ({}, "superclass: expected a string or null, got nothing"),
    ],
)
def test_no_refuse_goes_with_no_bin(words: dict[str, Any], told: str) -> None:
    data = json.dumps({"no_refuse": True} | words).encode()
    with pytest.raises(ReviewMalformed, match=f"^{told}"):
        checked(read_words(VerdictBody, data), KNOWN, KINDS)


def test_feedback_names_a_superclass_or_says_that_there_is_none() -> None:
    with pytest.raises(ReviewMalformed, match="one of hazardous, recyclable, or no_refuse, got no"):
        checked(FeedbackBody(request_id="r", item="a cat"), KNOWN, KINDS)
