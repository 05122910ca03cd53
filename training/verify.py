"""What a bundle must prove before it is written."""

from __future__ import annotations

import numpy as np

from service.bundle import Bundle
from service.classifier import Classifier
from service.preprocess import Pixels
from training.errors import ExportError
from training.outcome import Outcome

LARGEST_DIFFERENCE = 1e-3  # in any probability, fp32 ONNX against PyTorch
BATCH_TOLERANCE = 1e-5  # in any probability, a photo alone against the same in a batch


def check_against_model(onnx: Outcome, reference: Outcome) -> float:
    """The largest difference in any probability between the graph and the model.

    Raises:
        ExportError: where it is above `LARGEST_DIFFERENCE`.
    """
    difference = float(np.abs(onnx.probabilities() - reference.probabilities()).max())
    print(f"ONNX against PyTorch on {onnx.split}: largest difference {difference:.2e}")
    if not difference <= LARGEST_DIFFERENCE:  # NaN is refused too
        raise ExportError(
            f"the ONNX file's probabilities differ from PyTorch's by up to {difference:.2e} on "
            f"{onnx.split}; at most {LARGEST_DIFFERENCE:.0e} is allowed, so no bundle was written"
        )
    return difference


def check_invariance(bundle: Bundle, variant: str, sample: Pixels) -> float:
    """The largest difference between a photo's answer alone and in batches of other sizes.

    Raises:
        ExportError: where it is above `BATCH_TOLERANCE`.
    """
    classifier = Classifier(bundle, variant=variant)
    photos = np.ascontiguousarray(sample)
    alone = np.concatenate(
        [classifier.run(photos[i : i + 1]).probabilities for i in range(len(photos))]
    )
    random = np.random.default_rng(0)
    worst = 0.0
    for size in range(1, len(photos) + 1):
        order = random.permutation(len(photos))[:size]
        answers = classifier.run(photos[order])
        worst = max(worst, float(np.abs(answers.probabilities - alone[order]).max()))
    print(f"{variant}: single against batched, largest difference {worst:.2e}")
    if not worst <= BATCH_TOLERANCE:
        raise ExportError(
            f"{variant}: a photo's probabilities change by up to {worst:.2e} with its batch; at "
            f"most {BATCH_TOLERANCE:.0e} is allowed, so no bundle was written"
        )
    return worst
