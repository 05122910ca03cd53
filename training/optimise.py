"""How weights change from step to step: groups, learning rate, size of photos, averaging."""

from __future__ import annotations

import math

import torch
from torch import nn

from training.config import Config
from training.model import SuperclassModel


def learning_rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Linear warm-up to 1, then a cosine to 0."""
    rise = round(steps * warm_up)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def image_size(config: Config, share: float) -> int:
    """Side of the training photos once this share of training is done."""
    px = config.data.px
    for start, size in config.train.sizes:
        if share >= start:
            px = size
    return px


def build_optimiser(model: SuperclassModel, config: Config) -> torch.optim.Optimizer:
    """Four groups: backbone and head, with decay and (norms and biases) without."""
    spec = config.train
    groups = []
    for module, lr in ((model.backbone, spec.lr), (model.head, spec.head_lr)):
        trained = [p for p in module.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        for params, decay in ((matrices, spec.weight_decay), (vectors, 0.0)):
            if params:
                groups.append({"params": params, "weight_decay": decay, "lr": lr, "peak_lr": lr})
    if spec.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=spec.momentum, nesterov=spec.momentum > 0)
    return torch.optim.AdamW(groups)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of weights and BatchNorm statistics; shorter at the start."""
    decay = min(decay, (1 + step) / (10 + step))
    mine, theirs = average.state_dict(), model.state_dict()
    names = [name for name in mine if not name.startswith("head.bank_")]  # not of training
    floats = [name for name in names if mine[name].is_floating_point()]
    torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1.0 - decay)
    for name in set(names) - set(floats):
        mine[name].copy_(theirs[name])
