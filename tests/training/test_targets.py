"""Anchors: exactly a simplex where there is room, and near the best known where there is not."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.targets import anchor_energy, anchors


def naive_energy(points: Tensor, temperature: float) -> float:
    total = 0.0
    for one in points:
        total += math.log(sum(math.exp(float(one @ other) / temperature) for other in points))
    return total / len(points)


@pytest.mark.parametrize("superclasses", [2, 3, 4, 7, 20])
@pytest.mark.parametrize("spare", [0, 1, 109])
def test_with_room_for_a_simplex_every_cosine_is_the_same(superclasses: int, spare: int) -> None:
    width = superclasses - 1 + spare
    points = anchors(superclasses, width, seed=3)
    assert points.shape == (superclasses, width)
    assert points.dtype == torch.float32
    expected = torch.full((superclasses, superclasses), -1.0 / (superclasses - 1))
    expected.fill_diagonal_(1.0)
    torch.testing.assert_close(points @ points.T, expected, rtol=0.0, atol=1e-6)


def test_a_seed_gives_the_same_anchors_and_another_one_turns_them() -> None:
    for superclasses, width in ((4, 8), (4, 2)):
        torch.testing.assert_close(
            anchors(superclasses, width, seed=5),
            anchors(superclasses, width, seed=5),
            rtol=0,
            atol=0,
        )
        other = anchors(superclasses, width, seed=6)
        assert (anchors(superclasses, width, seed=5) - other).abs().max() > 0.01


def test_making_anchors_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    anchors(4, 8)
    anchors(4, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_the_energy_is_the_formula() -> None:
    points = F.normalize(torch.randn(5, 3), dim=1)
    assert float(anchor_energy(points, 0.5)) == pytest.approx(naive_energy(points, 0.5), abs=1e-5)


def regular_polygon(corners: int) -> Tensor:
    angles = torch.arange(corners) * (2 * math.pi / corners)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def octahedron() -> Tensor:
    return torch.cat([torch.eye(3), -torch.eye(3)])


def icosahedron() -> Tensor:
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0.0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    turned = [corner[i:] + corner[:i] for corner in corners for i in range(3)]
    return F.normalize(torch.tensor(turned), dim=1)


@pytest.mark.parametrize(
    "best", [regular_polygon(4), regular_polygon(7), octahedron(), icosahedron()]
)
def test_without_room_the_energy_is_within_a_thousandth_of_the_best_known(best: Tensor) -> None:
    superclasses, width = best.shape
    points = anchors(superclasses, width, seed=1)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(superclasses))
    energy = float(anchor_energy(points, 0.5))
    assert energy < float(anchor_energy(best, 0.5)) + 1e-3
    random = F.normalize(torch.randn(100, superclasses, width), dim=-1)
    assert energy < min(float(anchor_energy(drawn, 0.5)) for drawn in random)


@pytest.mark.parametrize(("superclasses", "width"), [(4, 3), (4, 8), (7, 6)])
def test_no_random_start_of_gradient_descent_ends_below_the_simplex(
    superclasses: int, width: int
) -> None:
    starts = torch.randn(50, superclasses, width, requires_grad=True)
    optimiser = torch.optim.Adam([starts], lr=0.05)
    for _ in range(300):
        points = F.normalize(starts, dim=-1)
        energies = torch.logsumexp(points @ points.mT / 0.5, dim=-1).mean(dim=-1)
        optimiser.zero_grad()
        energies.sum().backward()
        optimiser.step()
    simplex = float(anchor_energy(anchors(superclasses, width), 0.5))
    assert simplex < float(energies.detach().min()) + 1e-5


@pytest.mark.parametrize(("superclasses", "width"), [(1, 8), (0, 8), (4, 0), (3, 1)])
def test_too_few_superclasses_or_dimensions_are_refused(superclasses: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"K = {superclasses}, d = {width}"):
        anchors(superclasses, width)
