"""Alignment, uniformity and similarity of attention, pair by pair, and what a run keeps of them."""

from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training_runs import ConfigMaker, DatasetMaker, run
from training import checkpoint
from training.data.photos import read_photos
from training.geometry import geometry, mean_cosine, uniformity
from training.history import draw_history
from training.methods import Answer


def naive_mean_cosine(v: Tensor, labels: list[int], *, same: bool) -> float:
    found = [
        float(v[i] @ v[j])
        for i, j in permutations(range(len(v)), 2)
        if (labels[i] == labels[j]) == same
    ]
    return sum(found) / len(found) if found else math.nan


@settings(deadline=None, max_examples=30)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=9), same=st.booleans())
def test_mean_cosine_is_that_of_all_pairs(labels: list[int], same: bool) -> None:
    torch.manual_seed(0)
    v = F.normalize(torch.randn(len(labels), 5), dim=1)
    got = mean_cosine(v, torch.tensor(labels), same=same)
    assert got == pytest.approx(naive_mean_cosine(v, labels, same=same), abs=1e-6, nan_ok=True)


def test_uniformity_is_the_formula_and_lower_for_what_is_spread_out() -> None:
    v = F.normalize(torch.randn(20, 5), dim=1)
    pairs = [math.exp(-2 * float((a - b).square().sum())) for a, b in permutations(v, 2)]
    assert uniformity(v) == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-6)
    assert uniformity(v) < uniformity(F.normalize(v + 2.0, dim=1)) < 0
    assert math.isnan(uniformity(v[:1]))
    many = F.normalize(torch.randn(5000, 5), dim=1)
    assert uniformity(many) == pytest.approx(uniformity(many[::5]), abs=0.05)


def test_alignment_is_the_mean_squared_distance_of_positive_pairs() -> None:
    v, labels = F.normalize(torch.randn(9, 5), dim=1), [0, 0, 0, 1, 1, 1, 1, 2, 2]
    found = [
        float((v[i] - v[j]).square().sum())
        for i, j in permutations(range(9), 2)
        if labels[i] == labels[j]
    ]
    got = geometry(Answer(torch.zeros(9, 3), v), torch.tensor(labels))
    assert got["alignment"] == pytest.approx(sum(found) / len(found), abs=1e-6)
    assert set(got) == {"alignment", "uniformity"}


def test_attention_that_is_the_same_within_and_another_between() -> None:
    weights = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    answer = Answer(torch.zeros(4, 2), F.normalize(torch.randn(4, 3), dim=1), weights)
    got = geometry(answer, torch.tensor([0, 0, 1, 1]))
    assert got["attention_similarity"] == pytest.approx(1.0)
    assert got["attention_similarity_apart"] == pytest.approx(0.0)


@pytest.mark.parametrize("method", ["sclre", "cross_entropy"])
def test_a_run_logs_them_every_epoch_and_draws_them(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path, method: str
) -> None:
    lines = run(tiny_config(method=method), read_photos(make_dataset()), tmp_path / "run")[
        "history"
    ]
    for line in lines:
        assert -1e-6 <= line["alignment"] <= 4
        assert -16 <= line["uniformity"] <= 1e-6
        assert ("attention_similarity" in line) == (method == "sclre")
    assert (tmp_path / "run" / checkpoint.PICTURE).stat().st_size > 10_000
    panels = [axes.get_title() for axes in draw_history(lines).axes]
    assert ("similarity of attention" in panels) == (method == "sclre")
    assert panels[1] == "val"
