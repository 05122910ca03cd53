"""Methods: what is learned on top of a backbone's features, behind one small protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Context = Literal["bank", "batch", "lone"]
"""What a photo may look at when it is answered.

bank: the frozen context bank and itself; what is served. batch: whichever photos are beside it;
the paper's protocol. lone: nothing but itself; what a plain export would serve.
"""


@dataclass(frozen=True)
class Answer:
    """What a method says of n photos over K superclasses.

    Attributes:
        logits: float32 [n, K], uncalibrated.
        embedding: float32 [n, E], unit length.
        bank_weights: float32 [n, M], attention given to each bank item; None without a bank.
        self_weight: float32 [n], attention given to itself; None without a bank.
        familiarity: float32 [n], by `service.familiarity`; None where keys are no embeddings.
        things: float32 [n, G], what of that each thing of a guide counts for; None without one.
    """

    logits: Tensor
    embedding: Tensor
    bank_weights: Tensor | None = None
    self_weight: Tensor | None = None
    familiarity: Tensor | None = None
    things: Tensor | None = None


class Method(Protocol):
    """A head over pooled features; also a `torch.nn.Module`."""

    has_bank: bool
    views: int  # how often a photo comes in a training batch, each time augmented anew

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars by name, from features [n, D] and labels int64 [n]; `loss` is minimised.

        With several views, n is a multiple of them: all photos once, then all of them again.
        """

    def answer(self, features: Tensor, context: Context) -> Answer:
        """Answer for features [n, D]; with the context `batch`, these n are the batch."""

    def represent(self, features: Tensor) -> Tensor:
        """What a bank is chosen by: [n, d]."""

    def fill_bank(self, features: Tensor, labels: Tensor) -> None:
        """Make the photos with these features [M, D] the bank; nothing where there is none.

        Args:
            labels: int64 [M], their superclasses.
        """

    def resize_bank(self, size: int) -> None:
        """Make room for a bank of `size` items that is about to be loaded."""


class BankMethod(Method, Protocol):
    """A method that answers by a bank, and so can be served."""

    bank_keys: Tensor
    bank_values: Tensor

    def answer_from(self, features: Tensor, bank_keys: Tensor, bank_values: Tensor) -> Answer:
        """Answer for features [n, D] by a bank of M items; by its own, that of context `bank`."""
