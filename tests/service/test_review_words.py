"""What reviewers say, in the words that the models use."""

from __future__ import annotations

import pytest

from service.review_words import ReviewMalformed, SuperclassUnknown, VerdictBody, checked

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
