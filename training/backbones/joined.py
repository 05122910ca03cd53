"""Several networks as one backbone: each sees the photo, and their features stand side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.backbones.efficientnet_lite import EfficientNetLite

JOINED = {
    "efficientnet_lite012": ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
}


class Joined(nn.Module):
    """Normalised images [n, 3, H, W] to the pooled features of all parts, in order: [n, D]."""

    def __init__(self, name: str, drop_path: float = 0.0) -> None:
        super().__init__()
        self.parts = nn.ModuleList(EfficientNetLite(part, drop_path) for part in JOINED[name])
        self.width = sum(part.width for part in self._lites())

    def load_pretrained(self) -> None:
        """Load the ImageNet weights of each.

        Raises:
            ConfigError: where a package of theirs is not installed; with the command that does.
        """
        for part in self._lites():
            part.load_pretrained()

    def groups(self) -> list[nn.Module]:
        """The networks, for freezing the first few."""
        return list(self.parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=1)

    def _lites(self) -> list[EfficientNetLite]:
        return [part for part in self.parts if isinstance(part, EfficientNetLite)]
