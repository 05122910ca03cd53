"""A sorting guide as part of a model: what each of its things should look like, by superclass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.errors import ConfigError

LOOKS_T = 0.03  # of 0.01 to 0.06 on refuse-tune, by two guides
EVEN = 0.1  # share of a superclass's mean, added: no bin is ruled out by words alone
NEVER = -1e9  # of a thing in another superclass
MOST = 127  # of a whole number in int8


@dataclass(frozen=True)
class Said:
    """What a guide says of n photos.

    Attributes:
        probabilities: float [n, K].
        things: float [n, G], each thing's share of the probability of its superclass.
    """

    probabilities: Tensor
    things: Tensor


class Guide(nn.Module):
    """Features of a backbone, or of several side by side, to what a guide's words say of them.

    Without things it waits for those of a checkpoint; `training.words.make_guide` makes one.
    """

    looks: Tensor
    scale: Tensor
    things: Tensor
    usual_likeness: Tensor
    usual: Tensor

    def __init__(
        self,
        looks: Tensor | None = None,
        superclass: Tensor | None = None,
        superclasses: int = 0,
        parts: int = 1,
        names: tuple[str, ...] = (),
    ) -> None:
        """Of G things.

        Args:
            looks: float32 [D, G]; for each network its part of D, of unit length.
            superclass: int64 [G].
            superclasses: K.
            parts: how many networks.
            names: of the things, which weights do not remember.
        """
        super().__init__()
        self._parts = parts
        self.names = names
        looks = torch.zeros(0, 0) if looks is None else looks
        superclass = torch.zeros(0) if superclass is None else superclass
        members = torch.arange(superclasses)[:, None] == superclass
        each = members.sum(dim=1, keepdim=True).clamp(min=1).log()
        self.register_buffer("looks", looks)
        self.register_buffer("scale", torch.ones(looks.shape[1]))
        self.register_buffer("things", torch.where(members, -each, NEVER))
        self.register_buffer("usual_likeness", torch.zeros(looks.shape[1]))
        self.register_buffer("usual", torch.ones(superclasses))
        hook = self.register_load_state_dict_pre_hook
        hook(_as_large_as_saved)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor) -> None:
        """Note what photos usually look like; each superclass counts alike.

        Args:
            features: float32 [n, D], of the photos that are known, as the backbone gives them.
            labels: int64 [n].
        """
        self.usual_likeness = _mean_of_each(self._likeness(features), labels)
        self.usual = _mean_of_each(self._each(features).logsumexp(dim=2).softmax(dim=1), labels)

    def forward(self, features: Tensor) -> Said:
        """What it says of features [n, D]; a superclass that is often named counts for less."""
        each = self._each(features)
        total = each.logsumexp(dim=2, keepdim=True)
        said = total[:, :, 0].softmax(dim=1) / self.usual + EVEN
        said = said / said.sum(dim=1, keepdim=True)
        shares = (each - total).exp()  # 0 but for a superclass's own things
        return Said(said, (said[:, :, None] * shares).sum(dim=1))

    def named(self, superclasses: tuple[str, ...]) -> list[dict[str, str]]:
        """Its things, in their order: name and superclass."""
        places = self.things.argmax(dim=0).tolist()
        return [
            {"name": name, "superclass": superclasses[place]}
            for name, place in zip(self.names, places, strict=True)
        ]

    @torch.no_grad()
    def to_whole_numbers(self) -> None:
        """Round looks to whole numbers of one byte and a scale for each thing, as a bundle has it.

        Cosines change by less than 0.001.

        Raises:
            ConfigError: for the looks of several networks.
        """
        if self._parts != 1:
            raise ConfigError(f"expected looks of one network, got those of {self._parts}")
        whole = (self.looks / self.looks.abs().amax(dim=0) * MOST).round()
        self.looks, self.scale = whole, 1.0 / whole.norm(dim=0)

    def _each(self, features: Tensor) -> Tensor:
        """How much more than usual a photo is like each thing, by superclass: log, [n, K, G]."""
        more = (self._likeness(features) - self.usual_likeness) / LOOKS_T
        return more[:, None, :] + self.things

    def _likeness(self, features: Tensor) -> Tensor:
        """Cosine to what each thing should look like, [n, G]; the mean of the networks."""
        parts = features.unflatten(1, (self._parts, -1))
        return F.normalize(parts, dim=2).flatten(1) @ self.looks * (self.scale / self._parts)


def with_words(log_weights: Tensor, temperature: float, words: Tensor, like: float) -> Tensor:
    """Matching that falls back on words where no bank item is like the photo.

    Args:
        log_weights: float [n, K], the log of the sum of exp((cosine - 1) / T) over the items of
            each superclass.
        temperature: T.
        words: float [n, K], probabilities.
        like: the cosine of a bank item that weighs as much as the words.

    Returns:
        Probabilities [n, K].
    """
    back = words.log() + (like - 1.0) / temperature
    return torch.logaddexp(log_weights, back).softmax(dim=1)


def _mean_of_each(values: Tensor, labels: Tensor) -> Tensor:
    """The mean over superclasses of their means: [n, m] to [m]."""
    return torch.stack([values[labels == k].mean(dim=0) for k in labels.unique()]).mean(dim=0)


def _as_large_as_saved(
    module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    for name, buffer in module.named_buffers(recurse=False):
        saved = state.get(prefix + name)
        if saved is not None:
            module.register_buffer(name, buffer.new_empty(saved.shape))
