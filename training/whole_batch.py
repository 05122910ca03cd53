"""One batch over several processes: each has its share of the photos, losses see them all.

Attention, contrastive terms and the head's BatchNorm are functions of a whole batch, so a mean of
losses over shares would be another loss. Here every process computes the features of its share,
gathers everyone's, and computes the one loss of the whole batch.

Why gradients are those of one process: the backward of `gather` is its adjoint, so what a process
finds for its own copy of the weights is the gradient of the *sum* of the losses that all processes
compute. They all compute the same loss, so over the copies this adds up to `world` times its
gradient, for the backbone as for the head, and DistributedDataParallel divides by `world`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from training.distributed import rank, world
from training.errors import ConfigError


def share(batch: int) -> slice:
    """Which rows of a batch are this process's.

    Raises:
        ConfigError: where the processes do not divide it.
    """
    if batch % world():
        raise ConfigError(
            f"train.batch: expected a multiple of {world()}, because it is the batch of "
            f"{world()} processes together, got {batch}"
        )
    size = batch // world()
    return slice(rank() * size, (rank() + 1) * size)


def uniform(
    n: int, random: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """float32 [n] in 0..1: this process's part of what one process draws for the whole batch."""
    whole = torch.rand(n * world(), generator=random, device=device)
    return whole[rank() * n : (rank() + 1) * n]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        whole = mine.new_empty(world() * len(mine), *mine.shape[1:])
        dist.all_gather_single(whole, mine.contiguous())
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        mine = whole.new_empty(len(whole) // world(), *whole.shape[1:])
        dist.reduce_scatter_single(mine, whole)  # the sum over processes
        return mine


def gather(mine: Tensor) -> Tensor:
    """[n, ...] of each process to [world * n, ...] in all of them, in the order of their ranks.

    Differentiable: a row's gradient is the sum of what all processes find for it.
    """
    if world() == 1:
        return mine
    whole: Tensor = _Gather.apply(mine)  # type: ignore[no-untyped-call]
    return whole


def gather_views(mine: Tensor, views: int) -> Tensor:
    """[views * n, D] to [views * world * n, D], as one process with all photos would have them.

    That is all photos once, then all of them again, whereas `gather` puts process after process.
    """
    if world() == 1:
        return mine
    by_process = gather(mine).unflatten(0, (world(), views, -1))
    return by_process.transpose(0, 1).flatten(0, 2)
