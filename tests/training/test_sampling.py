"""Balanced batches as a pure function of seed and step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.sampling import BalancedSampler


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    batch=st.integers(2, 17),
    step=st.integers(0, 50),
    seed=st.integers(0, 9),
)
def test_every_batch_is_balanced_within_one(
    counts: list[int], batch: int, step: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = BalancedSampler(labels, batch, seed).batch(step)
    assert rows.shape == (batch,)
    seen = np.bincount(labels[rows], minlength=len(counts))
    assert seen.max() - seen.min() <= 1


def test_over_steps_no_superclass_falls_behind() -> None:
    labels = np.repeat(np.arange(3), [20, 5, 2])
    sampler = BalancedSampler(labels, 8, seed=0)
    seen = np.bincount(labels[np.concatenate([sampler.batch(step) for step in range(50)])])
    assert seen.max() - seen.min() <= 1


def test_each_photo_is_seen_once_in_a_pass_and_in_another_order_in_the_next() -> None:
    labels = np.repeat(np.arange(2), [6, 3])
    sampler = BalancedSampler(labels, 4, seed=1)
    rows = np.concatenate([sampler.batch(step) for step in range(9)])  # 18 of each superclass
    for k, members in ((0, range(6)), (1, range(6, 9))):
        passes = rows[labels[rows] == k].reshape(-1, len(members))
        assert all(sorted(one) == list(members) for one in passes.tolist())
        assert len({tuple(one) for one in passes.tolist()}) > 1


@settings(deadline=None, max_examples=20)
@given(steps=st.lists(st.integers(0, 40), min_size=1, max_size=10), seed=st.integers(0, 9))
def test_a_batch_depends_on_seed_and_step_alone(steps: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(3), [7, 4, 1])
    used = BalancedSampler(labels, 5, seed)
    for step in steps:  # in any order, with any history
        fresh = BalancedSampler(labels, 5, seed)
        np.testing.assert_array_equal(used.batch(step), fresh.batch(step))


@pytest.mark.parametrize("other", [1, 2])
def test_another_seed_gives_other_batches(other: int) -> None:
    labels = np.repeat(np.arange(2), 50)
    one, two = (BalancedSampler(labels, 16, seed).batch(0) for seed in (0, other))
    assert one.tolist() != two.tolist()
