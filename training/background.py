"""A bank of what is none of the superclasses: people, places, screens, an empty belt.

A model names a bin for anything that it is shown. How near a photo lies to its bank tells some of
what is foreign to it; that it lies nearer to pictures that are known to be foreign tells more
(outlier exposure: Hendrycks et al., ICLR 2019; here nothing is learned but what they look like).
They take no part in the answer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.familiarity import BACKGROUND_TEMPERATURE, BACKGROUND_WEIGHT, TEMPERATURE


class Background(nn.Module):
    """Keys of B pictures, [B, width], of unit length; B is 0 where nothing is known of others."""

    keys: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.empty(0, width))
        self.register_load_state_dict_pre_hook(_as_many_as_saved)  # type: ignore[no-untyped-call]


def familiarity(cosines: Tensor, others: Tensor, began: int) -> Tensor:
    """How much a photo is like what a model knows, as `service.familiarity` has it: [n].

    Args:
        cosines: float [n, M], to the bank's items.
        others: float [n, B], to the background's.
        began: pictures that the background had when it was made. Those that join add to it, and
            never take from what the others say.
    """
    if not began:
        return _density(cosines, TEMPERATURE)
    closeness = ((others - 1.0) / BACKGROUND_TEMPERATURE).exp().sum(dim=1) / began
    foreign = BACKGROUND_TEMPERATURE * closeness.log()
    return _density(cosines, BACKGROUND_TEMPERATURE) - BACKGROUND_WEIGHT * foreign


def _as_many_as_saved(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    assert isinstance(module, Background)
    # Checkpoints of before there was such a bank have none.
    saved = state.setdefault(f"{prefix}keys", module.keys[:0])
    module.keys = module.keys.new_empty(saved.shape)


def _density(cosines: Tensor, temperature: float) -> Tensor:
    """T log(mean(exp((cosine - 1) / T)))."""
    return temperature * ((cosines - 1.0) / temperature).exp().mean(dim=1).log()
