"""The line that a batch's duration follows, and the rate at which the backlog drains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cost import FORGET, Backlog, CostModel


def test_a_line_is_found_and_a_change_is_followed() -> None:
    cost = CostModel()
    assert cost.seconds(8) == 0.0
    for n in (1, 4, 2, 8):
        cost.observe(n, 0.005 * n + 0.002)
    assert cost.line == pytest.approx((0.005, 0.002))
    for _ in range(300):
        for n in (1, 4, 2, 8):
            cost.observe(n, 0.010 * n + 0.001)
    assert cost.line == pytest.approx((0.010, 0.001), rel=1e-3)


def test_batches_of_one_size_alone_give_a_cost_per_photo() -> None:
    cost = CostModel()
    for seconds in (0.01, 0.03):
        cost.observe(4, seconds)
    assert cost.line == pytest.approx((0.005, 0.0), rel=0.02)


@given(st.lists(st.tuples(st.integers(1, 32), st.floats(1e-4, 10.0)), min_size=1, max_size=40))
def test_it_is_the_weighted_least_squares_and_never_negative(
    batches: list[tuple[int, float]],
) -> None:
    cost = CostModel()
    for photos, seconds in batches:
        cost.observe(photos, seconds)
    a, b = cost.line
    assert a >= 0.0
    assert b >= 0.0
    n, t = np.array(batches, dtype=float).T
    weights = np.sqrt(FORGET ** np.arange(len(n))[::-1])
    if a > 1e-9 and b > 1e-9:
        columns = np.stack([n, np.ones_like(n)], axis=1)
        expected, *_ = np.linalg.lstsq(columns * weights[:, None], t * weights, rcond=None)
        np.testing.assert_allclose((a, b), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "photos"),
    [
        (0.008, 0.0, 1),  # a CPU
        (0.008, -0.002, 1),  # a CPU whose caches large batches spill from
        (0.001, 0.0004, 8),
        (0.0001, 0.002, 16),  # a GPU
        (0.0, 0.002, 16),
    ],
)
def test_a_batch_is_worth_it_until_its_fixed_cost_is_spread(
    a: float, b: float, photos: int
) -> None:
    cost = CostModel([(n, a * n + b) for n in (1, 2, 4, 8, 16)])
    assert cost.worthwhile(16) == photos


def test_what_was_measured_before_keeps_other_sizes_in_sight() -> None:
    cost = CostModel([(1, 0.0021), (16, 0.0036)])
    for _ in range(500):
        cost.observe(1, 0.0021)
    assert cost.line == pytest.approx((0.0001, 0.002), rel=0.01)
    assert CostModel().worthwhile(16) == 16  # before anything is known


def test_the_rate_is_that_of_the_times_when_photos_waited() -> None:
    backlog = Backlog()
    assert backlog.rate is None
    assert backlog.wait_s == 0.0
    backlog.enter(10, 0.0)
    for second in range(1, 6):
        backlog.answered(1, float(second))
    assert backlog.rate == pytest.approx(1.0)
    assert backlog.wait_s == pytest.approx(5.0)
    backlog.gone(4)
    backlog.answered(1, 6.0)
    assert backlog.photos == 0
    backlog.enter(1, 999.9)
    backlog.answered(1, 1000.0)  # idle in between, which says nothing, nor does one that is alone
    assert backlog.rate == pytest.approx(1.0)


def test_photos_that_are_answered_together_took_as_long_as_the_first() -> None:
    """Two at a time, by two threads, from time to time."""
    backlog = Backlog()
    for second in range(100):
        backlog.enter(2, float(second))
        backlog.answered(1, second + 0.1)
        backlog.answered(1, second + 0.1001)
    assert backlog.rate == pytest.approx(20.0, rel=0.01)


def test_a_photo_that_comes_now_also_waits_for_the_rest_of_its_turn() -> None:
    backlog = Backlog()
    backlog.enter(1000, -1.0)
    for second in range(500):
        backlog.answered(1, float(second), turn_s=4.0)
    assert backlog.wait_s == pytest.approx(500.0 + 4.0, rel=1e-3)


def test_a_client_that_leaves_an_empty_backlog_makes_it_no_slower() -> None:
    backlog = Backlog()
    backlog.enter(3, -1.0)
    for second in range(2):
        backlog.answered(1, float(second))
    backlog.gone(1)
    backlog.enter(2, 999.0)
    for second in range(1000, 1002):  # idle in between
        backlog.answered(1, float(second))
    assert backlog.rate == pytest.approx(1.0)


def test_the_rate_follows_a_change_within_seconds() -> None:
    backlog = Backlog()
    backlog.enter(10_000, -1.0)
    for step in range(100):
        backlog.answered(1, float(step))
    for step in range(300):
        backlog.answered(10, 100.0 + step / 10)
    assert backlog.rate == pytest.approx(100.0, rel=0.2)
