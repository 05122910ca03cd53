"""Several processes that train one model: how they find each other, and what they agree on.

`torchrun` starts the processes, on one machine or several, and tells each its number. The first one
(rank 0) writes the run folder and speaks; the others work for it. In a process of its own, which is
the usual case, everything here gives back what it was given.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Imported before the processes meet, and for that reason only: its functions take the group that is
# there as they are defined for the default of an argument, and one that they have taken is never
# closed (DistributedDataParallel imports it as well, but later).
import torch.distributed.nn.functional
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from service.errors import SuperbinError
from training.errors import ConfigError

T = TypeVar("T")

# The others wait while the first decodes photos, evaluates or chooses the bank. A process that dies
# is not waited for: torchrun then ends the rest.
PATIENCE = timedelta(days=1)


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this one among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """Its number among those on this machine; known before they have met."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def processes() -> Iterator[None]:
    """Meet the other processes that torchrun has started, where it has, and part in the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # What processes agree on is on the CPU: gloo beside NCCL, so that no GPU waits for it.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE
    )
    try:
        yield
    finally:
        # gloo's threads end with the last reference to the group, of which a DDP model in a cycle
        # holds one. A thread that outlives the interpreter aborts the process now and then.
        gc.collect()
        dist.destroy_process_group()


def own_device(name: str) -> str:
    """Of the device that was asked for, the one that this process is to use.

    Raises:
        ConfigError: where one GPU was named and several processes would share it.
    """
    if world() == 1 or name == "cpu":
        return name
    if name not in {"auto", "cuda"}:
        raise ConfigError(
            f"expected a device of auto, cpu or cuda for {world()} processes, each of which takes "
            f"the GPU of its number, got {name!r}"
        )
    return "cpu" if name == "auto" and not torch.cuda.is_available() else f"cuda:{local_rank()}"


def parallel(model: nn.Module, device: str) -> nn.Module:
    """`model`, called in torch's DistributedDataParallel where there are several processes.

    All begin with the first one's weights. Gradients are averaged; buffers are not copied at each
    step, because the bank is the first process's alone and BatchNorm has its own way
    (`training.batchnorm`).
    """
    if world() == 1:
        return model
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    return DistributedDataParallel(model, forward_sync_buffers=False)


def any_of(flag: bool) -> bool:
    """Whether it is so in any process."""
    if world() == 1:
        return flag
    shared = torch.tensor(int(flag))
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


def same(value: object) -> bool:
    """Whether all processes have an equal one."""
    if world() == 1:
        return True
    everyones: list[object] = [None] * world()
    dist.all_gather_object(everyones, value)
    return all(other == value for other in everyones)


def from_first(compute: Callable[[], T]) -> T:
    """What `compute` gives, or raises, in the first process: the others wait and get the same."""
    if world() == 1:
        return compute()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = compute()
        except (SuperbinError, KeyboardInterrupt) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


@contextmanager
def together() -> Iterator[None]:
    """What fails in one process fails in all, with the same error: none is left waiting.

    For work that each does by itself; whatever they do with each other goes outside.
    """
    if world() == 1:
        yield
        return
    mine: SuperbinError | None = None
    try:
        yield
    except SuperbinError as error:
        mine = error
    everyones: list[SuperbinError | None] = [None] * world()
    dist.all_gather_object(everyones, mine)
    for error_of_one in everyones:
        if error_of_one is not None:
            raise error_of_one


@contextmanager
def machine_by_machine() -> Iterator[None]:
    """One process of each machine goes first; the others find on disk what it has left there."""
    if world() > 1 and local_rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if world() > 1 and local_rank() == 0:
            dist.barrier()
