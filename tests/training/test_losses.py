"""SCLRE's losses against the formulas written out, and against pytorch-metric-learning."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.losses import contrastive_adjustment, target_adjustment

Mean = Literal["pairs", "batch"]


def sphere(n: int, d: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    return F.normalize(torch.randn(n, d, dtype=dtype), dim=1)


def naive_contrastive(v: Tensor, labels: Tensor, temperature: float, mean: Mean) -> float:
    """Pair by pair, as the formula reads."""
    total, pairs, n = 0.0, 0, len(v)
    for i in range(n):
        against = sum(
            math.exp(float(v[i] @ v[k]) / temperature) for k in range(n) if labels[k] != labels[i]
        )
        for j in range(n):
            if j != i and labels[j] == labels[i]:
                own = math.exp(float(v[i] @ v[j]) / temperature)
                total -= math.log(own / (own + against))
                pairs += 1
    return total / (2 * n if mean == "batch" else max(pairs, 1))


def naive_target(v: Tensor, labels: Tensor, anchors: Tensor, temperature: float) -> float:
    total = 0.0
    for i in range(len(v)):
        scores = [math.exp(float(v[i] @ t) / temperature) for t in anchors]
        total -= math.log(scores[int(labels[i])] / sum(scores))
    return total / len(v)


@settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    temperature=st.sampled_from([0.1, 0.5, 2.0]),
    mean=st.sampled_from(["pairs", "batch"]),
)
def test_contrastive_adjustment_is_the_formula(
    labels: list[int], temperature: float, mean: Mean
) -> None:
    torch.manual_seed(0)
    v, y = sphere(len(labels)), torch.tensor(labels)
    got = contrastive_adjustment(v, y, temperature, mean)
    assert float(got) == pytest.approx(naive_contrastive(v, y, temperature, mean), abs=1e-9)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2, 2, 0]])
def test_contrastive_adjustment_is_nt_xent_over_labels(labels: list[int]) -> None:
    """Its positives do not compete with each other either, and it takes the mean over pairs."""
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    v, y = sphere(len(labels)), torch.tensor(labels)
    got = float(contrastive_adjustment(v, y, 0.5))
    assert got == pytest.approx(float(NTXentLoss(temperature=0.5)(v, y)), abs=1e-6)
    assert got != pytest.approx(float(SupConLoss(temperature=0.5)(v, y)), abs=1e-2)


def test_the_two_means_differ_by_pairs_over_twice_the_batch() -> None:
    v, y = sphere(6), torch.tensor([0, 0, 0, 1, 1, 2])
    pairs, n = 3 * 2 + 2 * 1, 6
    ratio = contrastive_adjustment(v, y, 0.5, "batch") / contrastive_adjustment(v, y, 0.5)
    assert float(ratio) == pytest.approx(pairs / (2 * n))


@pytest.mark.parametrize("mean", ["pairs", "batch"])
@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3], [1, 1, 1], [0], [2, 2, 0]], ids=["none", "all", "one", "two"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_finite_without_positives_or_negatives(
    labels: list[int], mean: Mean, dtype: torch.dtype
) -> None:
    v = sphere(len(labels), dtype=dtype).requires_grad_()
    loss = contrastive_adjustment(v, torch.tensor(labels), 0.5, mean)
    loss.backward()
    assert v.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(v.grad).all()
    if len(set(labels)) in (1, len(labels)):  # nothing to pull, or nothing to pull away from
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-7)
        assert (v.grad == 0).all()


def test_a_cold_temperature_does_not_overflow() -> None:
    v = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = contrastive_adjustment(v, torch.tensor([0, 0, 1, 1]), 1e-3)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2000.0, rel=1e-4)
    assert v.grad is not None
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("mean", ["pairs", "batch"])
def test_gradients_are_those_of_finite_differences(mean: Mean) -> None:
    y, t = torch.tensor([0, 1, 0, 2, 1, 3]), sphere(4)
    v = sphere(6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: contrastive_adjustment(x, y, 0.5, mean), v)
    assert torch.autograd.gradcheck(lambda x: target_adjustment(x, y, t, 0.5), v)


def test_pulling_a_superclass_together_lowers_the_loss() -> None:
    y = torch.tensor([0, 0, 1, 1])
    apart = F.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, 0.2], [-0.2, -1.0]]), dim=1)
    together = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    assert contrastive_adjustment(together, y, 0.5) < contrastive_adjustment(apart, y, 0.5)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(8)), mean=st.sampled_from(["pairs", "batch"]))
def test_the_order_of_a_batch_does_not_change_the_losses(order: list[int], mean: Mean) -> None:
    torch.manual_seed(0)
    v, y, t = sphere(8), torch.tensor([0, 1, 2, 0, 1, 1, 2, 0]), sphere(3)
    for loss in (
        lambda a, b: contrastive_adjustment(a, b, 0.5, mean),
        lambda a, b: target_adjustment(a, b, t, 0.5),
    ):
        torch.testing.assert_close(loss(v, y), loss(v[order], y[order]))


@settings(deadline=None, max_examples=20)
@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_target_adjustment_is_the_formula(labels: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    v, y, t = sphere(len(labels)), torch.tensor(labels), sphere(3)
    got = float(target_adjustment(v, y, t, 0.5))
    assert got == pytest.approx(naive_target(v, y, t, 0.5), abs=1e-9)
