"""Two processes over gloo inside a test, and what they are to do there.

The jobs live in a module of their own because a spawned process imports them by name.
"""

from __future__ import annotations

import gc
import hashlib
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from service.errors import SuperbinError
from tests.training_runs import signal_in_step
from training import checkpoint, distributed
from training.augment import augment
from training.batchnorm import WholeBatchNorm2d, average_statistics
from training.config import AugmentConfig, Config
from training.data.photos import read_photos
from training.data.sampling import BalancedSampler
from training.errors import DataError, RunError
from training.fit import fit
from training.interruption import Interrupted
from training.model import SuperclassModel, build_model
from training.whole_batch import gather, gather_views, share, uniform

PROCESSES = 2
Job = Callable[..., Any]


def in_processes(job: Job, *arguments: Any, folder: Path) -> list[Any]:
    """What `job(*arguments)` gives in each of two processes."""
    folder.mkdir()
    torch.multiprocessing.spawn(_work, (folder, job, arguments), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(PROCESSES)]


def _work(rank: int, folder: Path, job: Job, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(rank)
    store = (folder / "store").as_uri()
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES)
    torch.save(job(*arguments), folder / f"{rank}.pt")
    dist.barrier()
    gc.collect()  # see training.distributed
    dist.destroy_process_group()


def several(jobs: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Jobs one after the other, since to start processes takes longer than most jobs."""
    return {name: job(*arguments) for name, (job, *arguments) in jobs.items()}


def batch_of(config: Config, size: int = 12) -> tuple[Tensor, Tensor]:
    """uint8 [views * n, 16, 16, 3] and labels int64 [views * n] of three superclasses."""
    random = torch.Generator().manual_seed(5)
    views = 2 if config.method in {"supcon", "simclr", "moco"} else 1
    pixels = torch.randint(0, 256, (views * size, 16, 16, 3), dtype=torch.uint8, generator=random)
    groups = 3 * config.george.most_clusters if config.method == "george" else 3
    labels = torch.randint(0, groups, (size,), generator=random)
    return pixels, labels.repeat(views)


class _InDoubles(SuperclassModel):
    """Sums in another order differ by 1e-16 here, and what differs by more is another sum."""

    def _features(self, backbone: nn.Module, pixels: Tensor) -> Tensor:
        return backbone(self.normalise(pixels))


def built(config: Config, *, frozen_norms: bool) -> SuperclassModel:
    """The same model in every process, in float64."""
    torch.manual_seed(0)
    model = build_model(config, 3).double().train()
    model.__class__ = _InDoubles
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(not frozen_norms)
            if config.backbone.name == "resnet18":
                nn.init.constant_(module.weight, 0.7)  # zero shuts a residual branch
    return model


def gradients_of_share(config: Config, frozen_norms: bool, naive: bool) -> dict[str, Any]:
    """One step of this process's share; `naive` takes the loss of the share alone."""
    model = built(config, frozen_norms=frozen_norms)
    pixels, labels = batch_of(config)
    views = model.method.views
    mine = share(len(labels) // views)
    part = pixels.unflatten(0, (views, -1))[:, mine].flatten(0, 1)
    if naive:
        labels_of_part = labels.unflatten(0, (views, -1))[:, mine].flatten(0, 1)
        losses = model.method.losses(model.features(part), labels_of_part)
        losses["loss"].backward()
        for weight in model.parameters():
            if weight.grad is not None:
                dist.all_reduce(weight.grad.div_(distributed.world()))
    else:
        wrapped = distributed.parallel(model, "cpu")  # whose hooks live as long as it does
        losses = wrapped(part, labels)
        losses["loss"].backward()
    return step_of(model, losses)


def step_of(model: SuperclassModel, losses: dict[str, Tensor]) -> dict[str, Any]:
    """What a step has left: losses, gradients and buffers by name."""
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    values = {name: loss.detach() for name, loss in losses.items()}
    found = {"losses": values, "gradients": grads, "buffers": dict(model.named_buffers())}
    digest = hashlib.sha256()
    for tensor in (t for part in found.values() for t in part.values()):
        digest.update(tensor.contiguous().numpy().tobytes())
    # One process's numbers are enough to keep where the other's are the same.
    kept = found if distributed.rank() == 0 else {}
    return {**kept, "digest": digest.hexdigest()}


def gathered(rows: Tensor, weights: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """The whole of `rows`, and the gradient of this process's by a function of all of them."""
    mine = rows.unflatten(0, (views, -1))[:, share(len(rows) // views)].flatten(0, 1)
    mine.requires_grad_()
    whole = gather_views(mine, views)
    (whole @ whole.T * weights).sum().backward()
    assert mine.grad is not None
    return whole.detach(), mine.grad


def draws(pixels: Tensor) -> dict[str, Any]:
    """Augmented photos and random numbers of this process."""
    random = torch.Generator().manual_seed(3)
    photos = [augment(pixels[share(len(pixels))], 16, AugmentConfig(), random) for _ in range(2)]
    torch.manual_seed(9)
    rows = BalancedSampler(torch.arange(30).numpy() % 3, 6, seed=0).batch(4)
    return {"photos": photos, "numbers": uniform(3), "rows": rows[share(6)]}


def norms(x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """A synchronised BatchNorm forwards and backwards, and statistics of a local one averaged."""
    mine = x[share(len(x))].clone().requires_grad_()
    norm = WholeBatchNorm2d(x.shape[1]).train()
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(2))
    y = gather(norm(mine))
    (F.softplus(y) * weights).sum().backward()
    assert mine.grad is not None
    local = nn.Sequential(nn.BatchNorm2d(x.shape[1])).train()
    local(x[share(len(x))])
    average_statistics(local)
    found = {"y": y.detach(), "gradient": mine.grad, "local_mean": local[0].running_mean}
    found |= {"local_var": local[0].running_var, "scale": norm.weight.grad}  # type: ignore[dict-item]
    return found | {name: buffer.clone() for name, buffer in norm.named_buffers()}  # type: ignore[operator]


def agreements() -> dict[str, Any]:
    """What one process decides and the other has to follow."""
    rank, found = distributed.rank(), {}
    found["any"] = [distributed.any_of(rank == r) for r in (0, 1, 2)]
    found["same"] = [distributed.same("a"), distributed.same(rank)]
    found["first"] = distributed.from_first(lambda: f"of {rank}")

    def fail() -> None:
        raise RunError(f"failed in {rank}")

    try:
        distributed.from_first(fail)
    except RunError as error:
        found["failed"] = str(error)
    try:
        with distributed.together():
            if rank == 1:
                raise DataError("only here")
    except DataError as error:
        found["together"] = str(error)
    try:
        share(7)
    except Exception as error:
        found["indivisible"] = f"{type(error).__name__}: {error}"
    try:
        distributed.own_device("cuda:1")
    except Exception as error:
        found["device"] = str(error)
    return found


def ended(config: Config, data: Path, out: Path, stop_at: int | None = None) -> str:
    """How a run ends here; at step `stop_at` the second process, and it alone, gets SIGTERM."""
    stopped = stop_at is not None and distributed.rank() == 1
    if distributed.rank() == 0 and not out.exists():
        out.mkdir()
        checkpoint.write_record(out, config, "a test", "cpu", {})
    with signal_in_step(stop_at or 0, signal.SIGTERM) if stopped else nullcontext():
        try:
            fit(config, read_photos(data), out, device="cpu")
        except (SuperbinError, Interrupted) as error:
            return f"{type(error).__name__}: {error}"
    return "finished"
