"""Progress on a terminal."""

from __future__ import annotations

import re

import pytest

from service import progress
from service.progress import _bar, pace, track


def test_a_bar_shows_a_label_as_it_is_whatever_its_letters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _bar("runs/[/x] on val", 2, 0) as show:
        show(2, lambda: "[/y]")
    shown = capsys.readouterr().err
    assert "runs/[/x] on val" in shown
    assert "[/y]" in shown


@pytest.mark.parametrize(
    ("count", "seconds", "told"),
    [
        (300, 2.0, "150.0 a second"),
        (0, 5.0, "0.0 a second"),
        (2, 5.0, "2.5 s each"),
        (2, 90.0, "45 s each"),
        (1, 150.0, "2 min each"),
        (1, 9000.0, "2.5 h each"),
    ],
)
def test_what_is_slow_is_told_by_what_each_takes(count: int, seconds: float, told: str) -> None:
    assert pace(count, seconds) == told


def test_lines_of_a_log_say_how_long_is_left_but_for_the_last(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    with track("training", 4, 1) as advance:
        advance(1)
        advance(2)
    first, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"training: 2/4, .* a second, \S+ s left", first)
    assert re.fullmatch(r"training: 4/4, .* a second", last)
