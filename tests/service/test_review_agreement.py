"""Cohen's kappa against scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from service.review.agreement import kappa
from service.review.opening import open_store
from service.review.records import Rules, Verdict
from tests.review_stores import new_photo

WORDS = st.sampled_from(["organic", "residual", "recyclable"])


@given(st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=60))
def test_kappa_is_that_of_scikit_learn(both: list[tuple[str, str]]) -> None:
    if len({word for pair in both for word in pair}) == 1:
        assert kappa(both) is None
    else:
        wanted = cohen_kappa_score(*zip(*both, strict=True))
        assert kappa(both) == pytest.approx(wanted, abs=1e-12)


def test_nobody_agrees_on_nothing() -> None:
    assert kappa([]) is None


def test_each_pair_of_reviewers_counts_by_its_photos(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = ("organic", "residual", None)
    url, photos = f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")
    said: dict[tuple[str, str], list[tuple[str | None, str | None]]] = {}
    with open_store(url, photos, Rules(double_share=1.0)) as store:
        for seed in range(30):
            photo = store.add(new_photo(seed)).id
            pair = ("anna", "bert") if seed < 20 else ("anna", "carl")
            one, other = (words[i] for i in random.integers(0, 3, 2))
            store.review(photo, pair[1], Verdict(other))
            store.review(photo, pair[0], Verdict(one))
            said.setdefault(pair, []).append((one, other))
            store.feedback(f"request-{seed}", 0, "client:kiosk", Verdict("hazardous"))
        found = store.agreement()
    assert [pair.reviewers for pair in found.pairs] == sorted(said)
    for pair in found.pairs:
        answers = [
            [str(word) for word in column] for column in zip(*said[pair.reviewers], strict=True)
        ]
        assert pair.kappa == pytest.approx(cohen_kappa_score(*answers))
    kappas = [(pair.kappa or 0) * pair.photos for pair in found.pairs]
    assert found.photos == 30
    assert found.kappa == pytest.approx(sum(kappas) / 30)
