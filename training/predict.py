"""A model over many photos: features once, then answers in each context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from service.preprocess import Pixels
from training.methods import Answer, Context, Method
from training.model import SuperclassModel
from training.progress import track

BATCH_PROTOCOL = 64  # the paper's test batches


@contextmanager
def evaluating(model: SuperclassModel) -> Iterator[None]:
    """Eval mode without gradients, and back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def extract_features(
    model: SuperclassModel, pixels: Pixels, device: str, *, batch: int = 64, label: str = ""
) -> Tensor:
    """float32 [n, D] on the device, for uint8 pixels [n, H, W, 3], in eval mode.

    In full precision whatever training has, because that is what is served.
    """
    parts = []
    with (
        evaluating(model),
        model.full_precision(),
        track(label or "features", len(pixels)) as advance,
    ):
        for start in range(0, len(pixels), batch):
            chunk = np.array(pixels[start : start + batch])  # a writable copy: torch wants one
            parts.append(model.features(torch.from_numpy(chunk).to(device)))
            advance(len(chunk))
    return torch.cat(parts)


def answer_all(
    model: SuperclassModel, features: Tensor, context: Context, *, seed: int = 0
) -> Answer:
    """Answers for features [n, D], in order.

    With the context `batch` the photos are shuffled by the seed and answered in batches of 64, as
    the paper does, which makes the answers depend on the seed.
    """
    method = model.method
    with evaluating(model):
        if context != "batch":
            return method.answer(features, context)
        return _in_shuffled_batches(method, features, seed)


def _in_shuffled_batches(method: Method, features: Tensor, seed: int) -> Answer:
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    answers = [method.answer(features[rows], "batch") for rows in order.split(BATCH_PROTOCOL)]
    back = order.argsort()
    return Answer(
        torch.cat([answer.logits for answer in answers])[back],
        torch.cat([answer.embedding for answer in answers])[back],
    )
