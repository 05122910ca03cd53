"""What pairs of answers to the same photos say of two models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from training.paired import LEAST, jeffreys, pair


def test_fewer_photos_than_are_expected_would_tell_nothing_even_if_all_were_won() -> None:
    assert pair(np.zeros(LEAST, dtype=bool), np.ones(LEAST, dtype=bool)).p < 0.05
    assert pair(np.zeros(LEAST - 1, dtype=bool), np.ones(LEAST - 1, dtype=bool)).p > 0.05


def test_pairs_are_counted_and_tested() -> None:
    old = np.array([True] * 30 + [False] * 6)
    new = np.array([True] * 28 + [False] * 2 + [True] * 5 + [False])
    found = pair(old, new)
    assert (found.lost, found.gained) == (2, 5)
    assert found.difference == pytest.approx(3 / 36)
    assert found.p == pytest.approx(binomtest(2, 7).pvalue)
    assert found.interval[0] < 0.0 < found.difference < found.interval[1]
    assert not found.worse_by_more_than(0.01)
    assert pair(new, old).worse_by_more_than(0.01)
    assert pair(new, old).difference == pytest.approx(-found.difference)


def test_few_photos_show_little_even_where_both_are_always_right() -> None:
    few, many = np.ones(36, dtype=bool), np.ones(2000, dtype=bool)
    assert pair(few, few).difference == 0.0
    assert not pair(few, few).surely_within(0.01)
    assert pair(many, many).surely_within(0.01)
    assert pair(few, few).old_interval[0] < 0.95
    assert jeffreys(36, 36)[1] == 1.0


def test_one_photo_of_few_is_more_than_the_margin() -> None:
    old = np.ones(36, dtype=bool)
    new = old.copy()
    new[0] = False
    assert pair(old, new).worse_by_more_than(0.01)
    assert not pair(old, new).worse_by_more_than(1 / 36)
    assert pair(old, new).p == 1.0  # and yet that is no evidence
