"""Target generation: one unit anchor per superclass, as far apart as they can be.

SCLRE (CVPR 2023, supplement F) asks for K unit vectors t in d dimensions that minimise
1/K sum_i log sum_j exp(t_i . t_j / T). For d >= K - 1 the minimum is the regular simplex, which has
a closed form; the reference code's ten steps of an MLP end far from it (mean pairwise cosine +0.34
for K = 4, where the simplex has -0.333).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DESCENT_STEPS = 2000
REFERENCE_STEPS, REFERENCE_RATE = 10, 0.001


def anchors(superclasses: int, width: int, *, temperature: float = 0.5, seed: int = 0) -> Tensor:
    """float32 [superclasses, width] unit vectors, turned at random by the seed.

    Raises:
        ValueError: for fewer than two superclasses, or more of them than two on a line, where
            descent cannot move a point past another.
    """
    if superclasses < 2 or width < min(2, superclasses - 1):
        raise ValueError(
            f"expected K >= 2 and d >= 2 (1 where K = 2), got K = {superclasses}, d = {width}"
        )
    random = torch.Generator().manual_seed(seed)
    if width >= superclasses - 1:
        return _simplex(superclasses, width, random)
    return _descend(superclasses, width, temperature, random)


def reference_anchors(
    superclasses: int, width: int, *, temperature: float = 0.5, seed: int = 0
) -> Tensor:
    """As the reference code makes them, to compare with: far from as far apart as they can be.

    Ten steps of a small network on random input, which ends where all anchors still share most of
    a direction.

    Returns:
        float32 [superclasses, width] unit vectors.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        noise = torch.randn(superclasses, width)
        optimiser = torch.optim.SGD(network.parameters(), lr=REFERENCE_RATE)
        for _ in range(REFERENCE_STEPS):
            optimiser.zero_grad()
            anchor_energy(F.normalize(network(noise), dim=1), temperature).backward()
            optimiser.step()
        return F.normalize(network(noise), dim=1).detach()


def anchor_energy(points: Tensor, temperature: float) -> Tensor:
    """The objective: mean over i of log sum_j exp(t_i . t_j / T), for points [K, d]."""
    return torch.logsumexp(points @ points.T / temperature, dim=1).mean()


def _simplex(superclasses: int, width: int, random: torch.Generator) -> Tensor:
    """The corners of the identity matrix about their mean span K - 1 dimensions."""
    corners = torch.eye(superclasses, dtype=torch.float64) - 1.0 / superclasses
    corners *= math.sqrt(superclasses / (superclasses - 1))
    basis = torch.linalg.svd(corners).Vh[: superclasses - 1]  # [K - 1, K]
    flat = corners @ basis.T  # [K, K - 1], still a simplex
    turned = torch.randn(width, superclasses - 1, generator=random, dtype=torch.float64)
    rotation = torch.linalg.qr(turned).Q  # orthonormal columns
    return (flat @ rotation.T).to(torch.float32)


def _descend(superclasses: int, width: int, temperature: float, random: torch.Generator) -> Tensor:
    """Fewer dimensions than a simplex needs: gradient descent on the sphere."""
    points = torch.randn(superclasses, width, generator=random, dtype=torch.float64)
    points.requires_grad_()
    optimiser = torch.optim.Adam([points], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, DESCENT_STEPS)
    with torch.enable_grad():
        for _ in range(DESCENT_STEPS):
            optimiser.zero_grad()
            anchor_energy(F.normalize(points, dim=1), temperature).backward()
            optimiser.step()
            schedule.step()
    return F.normalize(points.detach(), dim=1).to(torch.float32)
