"""Names that clients give are shown to people: nothing in them may act."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import request_id_of
from service.uploads import MAX_FILENAME, clean_filename


@pytest.mark.parametrize(
    ("given_name", "clean"),
    [
        ("bottle.jpg", "bottle.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\can (1).png", "can (1).png"),
        ("Flasche grün.jpg", "Flasche grün.jpg"),
        ("a\r\nSet-Cookie: x", "a__Set-Cookie_ x"),
        ("<img src=x>.jpg", "_img src=x_.jpg"),
        ("\x1b[31mred", "__31mred"),
        ("", None),
        (None, None),
        ("folder/", None),
    ],
)
def test_filenames_are_cut_to_what_is_harmless(given_name: str | None, clean: str | None) -> None:
    assert clean_filename(given_name) == clean


@given(st.text(max_size=300))
def test_any_filename_is_short_printable_and_stays_what_it_became(name: str) -> None:
    clean = clean_filename(name)
    if clean is not None:
        assert 0 < len(clean) <= MAX_FILENAME
        assert clean.isprintable()
        assert clean_filename(clean) == clean.strip()


def test_sane_request_ids_are_kept_and_others_replaced() -> None:
    assert request_id_of("abc-123") == "abc-123"
    for bad in (None, "", "a b", "a\n", "x" * 129, "<script>"):
        found = request_id_of(bad)
        assert found != bad
        assert len(found) == 32
