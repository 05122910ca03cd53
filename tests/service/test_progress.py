"""Progress on a terminal."""

from __future__ import annotations

import pytest

from service.progress import _bar


def test_a_bar_shows_a_label_as_it_is_whatever_its_letters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _bar("runs/[/x] on val", 2, 0) as show:
        show(2, lambda: "[/y]")
    shown = capsys.readouterr().err
    assert "runs/[/x] on val" in shown
    assert "[/y]" in shown
