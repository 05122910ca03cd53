"""The bank's curve: its picture."""

from __future__ import annotations

from training.bank_curve import SELECTIONS, _draw


def test_sizes_of_banks_stand_as_numbers_below_the_curves() -> None:
    figures = {"accuracy": 0.5, "balanced_accuracy": 0.5}
    spreads = {f"{name}_spread": 0.1 for name in figures}
    rows = [
        {"selection": rule, "size": size, **figures, **spreads}
        for rule in SELECTIONS
        for size in (4, 8, 16)
    ]
    figure = _draw(rows, "val")
    figure.canvas.draw()
    for axes in figure.axes:
        assert {"4", "8", "16"} <= {label.get_text() for label in axes.get_xticklabels()}
