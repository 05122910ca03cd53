"""What the picture of superclasses against their richness says."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib import pyplot as plt

from training.richness import draw_richness


def line(method: str, superclass: str, subclasses: int, spread: float, share: float) -> Any:
    return {
        **{"method": method, "problem": "Real", "superclass": superclass},
        **{"subclasses": subclasses, "their spread": {"mean": spread}},
        "accuracy (bank)": {"mean": share},
    }


def labels(figure: Any) -> list[list[str]]:
    return [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]


def test_each_method_has_its_rank_correlation_by_both_measures() -> None:
    lines = [line("SCLRE", str(n), n, 1.0 / n, 0.1 * n) for n in range(1, 6)]
    lines += [line("cross-entropy", str(n), n, 0.1 * n, 0.9 - 0.1 * n) for n in range(1, 4)]
    figure = draw_richness(lines)
    assert labels(figure) == [
        ["SCLRE: rank correlation 1.00 of 5", "cross-entropy", "Real"],  # of three points none
        ["SCLRE: rank correlation -1.00 of 5", "cross-entropy", "Real"],
    ]
    marked = figure.axes[0].texts
    assert [text.get_text() for text in marked] == ["1", "2", "3", "4", "5"]
    plt.close(figure)


@pytest.mark.parametrize("missing", ["accuracy (bank)", "their spread"])
def test_what_was_not_measured_is_left_out(missing: str) -> None:
    empty = line("SCLRE", "a", 1, 0.5, 0.5) | {missing: None}
    assert draw_richness([]) is None
    assert draw_richness([empty, {"method": "SCLRE", "problem": "Real"}]) is None
    figure = draw_richness([empty, line("SCLRE", "b", 2, 0.5, 0.5)])
    assert len(figure.axes[0].texts) == 1
    plt.close(figure)
