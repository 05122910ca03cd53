"""The backbone's BatchNorm where a batch is spread over several processes.

By default each process normalises by its own share, and running statistics are averaged after every
step. `train.sync_batchnorm` normalises by the whole batch instead, as one process would, at the
price of one exchange a layer; torch's SyncBatchNorm, which does the same, has no CPU version.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training.distributed import world
from training.whole_batch import gather


class WholeBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the shares of all processes, which have to be of one size.

    In evaluation mode, and in one process, it is BatchNorm2d to the bit.
    """

    def forward(self, input: Tensor) -> Tensor:
        """float [n, c, H, W] to the same; statistics are taken in float32 at least."""
        if not self.training or world() == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        means, variances = gather(torch.stack([mean, variance])[None]).unbind(dim=1)
        # Shares of one size: variance of the whole = mean variance + variance of the means.
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        self._remember(mean, variance, world() * x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt()
        per_channel = (-1, 1, 1)
        y = (x - mean.view(per_channel)) * scale.view(per_channel) + self.bias.view(per_channel)
        return y.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        running_mean, running_var = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
        momentum = cast(float, self.momentum)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)  # unbiased, as torch has it
        cast(Tensor, self.num_batches_tracked).add_(1)


def synchronise(module: nn.Module) -> None:
    """Make every BatchNorm2d inside `module` one over the whole batch, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            synced = WholeBatchNorm2d(child.num_features, child.eps, child.momentum)
            synced.load_state_dict(child.state_dict())
            module.add_module(name, synced)
        else:
            synchronise(child)


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Give every process the mean of all processes' running statistics, in one exchange."""
    if world() == 1:
        return
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    local = [m for m in norms if not isinstance(m, WholeBatchNorm2d)]
    buffers = [cast(Tensor, b) for m in local for b in (m.running_mean, m.running_var)]
    if buffers:
        together = torch.cat(buffers)
        dist.all_reduce(together)
        parts = (together / world()).split([len(b) for b in buffers])
        torch._foreach_copy_(buffers, list(parts))
