"""Which photos become the bank: balanced, real, without repetition, the same each time."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.bank import choose_bank

RULES = ("random", "centroids", "herding")


def drawn(labels: npt.NDArray[np.int64], d: int = 4, seed: int = 0) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (random.normal(size=(len(labels), d)) + labels[:, None]).astype(np.float32)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=12)
@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    size=st.integers(2, 24),
    seed=st.integers(0, 5),
)
def test_a_bank_is_balanced_and_holds_no_photo_twice(
    rule: str, counts: list[int], size: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = choose_bank(drawn(labels), labels, size, rule, seed)
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == len(rows) <= size
    share, left = divmod(size, len(counts))
    for k, count in enumerate(counts):
        assert (labels[rows] == k).sum() == min(share + (k < left), count)


@pytest.mark.parametrize("rule", RULES)
def test_a_superclass_with_too_few_photos_gives_all_of_them(rule: str) -> None:
    labels = np.array([0] * 20 + [1] * 2)
    rows = choose_bank(drawn(labels), labels, 10, rule)
    assert set(rows[labels[rows] == 1].tolist()) == {20, 21}
    assert (labels[rows] == 0).sum() == 5


@pytest.mark.parametrize("rule", RULES)
def test_the_same_photos_are_chosen_each_time(rule: str) -> None:
    labels = np.repeat(np.arange(3), 15)
    z = drawn(labels)
    first = choose_bank(z, labels, 9, rule, seed=4)
    np.testing.assert_array_equal(first, choose_bank(z, labels, 9, rule, seed=4))


def test_another_seed_draws_another_random_bank() -> None:
    labels = np.repeat(np.arange(2), 50)
    one, other = (choose_bank(drawn(labels), labels, 20, "random", seed=s) for s in (0, 1))
    assert set(one.tolist()) != set(other.tolist())


def test_herding_takes_at_each_turn_the_photo_that_brings_the_mean_nearest() -> None:
    labels = np.zeros(12, dtype=np.int64)
    labels[6:] = 1
    z = drawn(labels)
    rows = choose_bank(z, labels, 8, "herding")
    for k in (0, 1):
        members = np.flatnonzero(labels == k)
        chosen: list[int] = []
        for _ in range(4):
            rest = [i for i in members if i not in chosen]
            distance = [
                np.linalg.norm(z[members].mean(axis=0) - z[[*chosen, i]].mean(axis=0)) for i in rest
            ]
            chosen.append(int(rest[int(np.argmin(distance))]))
        assert rows[labels[rows] == k].tolist() == chosen


def test_a_herded_bank_has_nearly_the_mean_of_all() -> None:
    labels = np.repeat(np.arange(2), 60)
    z = drawn(labels)
    herded, random = (choose_bank(z, labels, 16, rule) for rule in ("herding", "random"))
    for k in (0, 1):
        mean = z[labels == k].mean(axis=0)
        gaps = [np.linalg.norm(z[r[labels[r] == k]].mean(axis=0) - mean) for r in (herded, random)]
        assert gaps[0] < 0.2 * gaps[1]


def test_centroids_take_one_real_photo_from_each_cluster() -> None:
    random = np.random.default_rng(0)
    centres = np.array(list(itertools.product((-9.0, 9.0), repeat=2)))
    z = np.repeat(centres, 10, axis=0) + random.normal(size=(40, 2))
    labels = np.zeros(80, dtype=np.int64)
    labels[40:] = 1
    z = np.concatenate([z, z[::-1]]).astype(np.float32)
    rows = choose_bank(z, labels, 8, "centroids")
    for k in (0, 1):
        picked = z[rows[labels[rows] == k]]
        assert len({tuple(np.sign(p)) for p in picked}) == 4
        for p in picked:  # the photo nearest to the mean of its cluster
            cluster = z[(labels == k) & (np.sign(z) == np.sign(p)).all(axis=1)]
            nearest = cluster[np.linalg.norm(cluster - cluster.mean(axis=0), axis=1).argmin()]
            np.testing.assert_array_equal(p, nearest)
