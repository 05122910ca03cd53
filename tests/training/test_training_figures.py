"""Figures of merit against scikit-learn, torchmetrics and plain loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import balanced_accuracy_score

from training.calibrate import count_wrong, worst_error_rate
from training.metrics import (
    balanced_accuracy,
    confidences,
    credible_interval,
    expected_calibration_error,
    reliability,
)


def answers(
    n: int, superclasses: int = 3, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(superclasses), n)
    return probabilities, random.integers(0, superclasses, n)


@settings(deadline=None, max_examples=30)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_balanced_accuracy_is_the_mean_recall(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = np.array(pairs).T
    expected = balanced_accuracy_score(labels, predicted)
    assert balanced_accuracy(predicted, labels, 4) == pytest.approx(expected)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("bins", "superclasses"), [(15, 3), (8, 12)])
def test_calibration_error_is_torchmetrics(bins: int, superclasses: int) -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities, labels = answers(500, superclasses)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), superclasses, n_bins=bins
    )
    got = expected_calibration_error(probabilities, labels, bins)
    assert got == pytest.approx(float(expected), abs=1e-6)


def test_certain_and_right_has_no_calibration_error_and_certain_and_wrong_has_all() -> None:
    certain = np.eye(3)[[0, 1, 2, 0]]
    assert expected_calibration_error(certain, np.array([0, 1, 2, 0])) == 0.0
    assert expected_calibration_error(certain, np.array([1, 2, 0, 1])) == 1.0


def test_too_little_and_too_much_confidence_in_neighbouring_bins_do_not_cancel() -> None:
    probabilities = np.full((2, 20), 0.9 / 19)
    probabilities[0, 3] = 0.1  # and right
    probabilities[1] = 0.8 / 19
    probabilities[1, 4] = 0.2  # and wrong
    error = expected_calibration_error(probabilities, np.array([3, 5]), bins=8)
    assert error == pytest.approx((0.9 + 0.2) / 2)


def test_the_bins_of_a_reliability_table_add_up() -> None:
    probabilities, labels = answers(300)
    confidence, correct = confidences(probabilities, labels)
    table = reliability(probabilities, labels)
    assert sum(row["photos"] for row in table) == 300
    for name, values in (("confidence", confidence), ("accuracy", correct)):
        mean = sum(row[name] * row["photos"] for row in table) / 300
        assert mean == pytest.approx(float(values.mean()))
    gap = sum(abs(r["confidence"] - r["accuracy"]) * r["photos"] for r in table) / 300
    assert expected_calibration_error(probabilities, labels) == pytest.approx(gap)


@pytest.mark.parametrize("figure", ["accuracy", "balanced_accuracy"])
def test_the_credible_interval_is_that_of_the_normal_approximation(figure: str) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [600, 200])
    right = random.random(800) < np.where(labels == 0, 0.9, 0.7)
    predicted = np.where(right, labels, 1 - labels)
    recalls = np.array([right[labels == k].mean() for k in (0, 1)])
    sizes = np.array([600.0, 200.0])
    weights = sizes / sizes.sum() if figure == "accuracy" else np.array([0.5, 0.5])
    middle = weights @ recalls
    spread = np.sqrt((weights**2) @ (recalls * (1 - recalls) / sizes))
    low, high = credible_interval(predicted, labels, 2, figure)
    assert low == pytest.approx(middle - 1.96 * spread, abs=0.005)
    assert high == pytest.approx(middle + 1.96 * spread, abs=0.005)
    assert (low, high) == credible_interval(predicted, labels, 2, figure)


@pytest.mark.parametrize("figure", ["accuracy", "balanced_accuracy"])
def test_a_few_photos_without_an_error_still_leave_doubt(figure: str) -> None:
    labels = np.array([0, 1, 1])
    low, high = credible_interval(labels, labels, 2, figure)
    assert low < 0.75
    assert high == 1.0
    few, many = (
        credible_interval(np.tile(labels, n), np.tile(labels, n), 2, figure)[0] for n in (1, 99)
    )
    assert few < 0.8 < 0.98 < many


@pytest.mark.parametrize(("wrong", "photos"), [(0, 5), (0, 300), (3, 100), (40, 50)])
def test_the_worst_error_rate_is_the_one_that_would_hardly_give_so_few(
    wrong: int, photos: int
) -> None:
    """At it, so few errors or fewer come in one of twenty samples."""
    assert binom.cdf(wrong, photos, worst_error_rate(wrong, photos)) == pytest.approx(0.05)


def test_where_all_are_wrong_nothing_better_can_be_said() -> None:
    assert worst_error_rate(5, 5) == worst_error_rate(0, 0) == 1.0


def test_wrong_answers_are_counted_from_the_threshold_on() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 1])
    assert [count_wrong(probabilities, labels, at) for at in (0.5, 0.7, 0.8, 0.85)] == [3, 2, 1, 0]
