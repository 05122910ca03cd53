"""A bundle's own photos with the answers that it had when it was exported."""

from __future__ import annotations

import numpy as np

from service.classifier import Classifier
from service.errors import BundleError, PhotoError
from service.preprocess import decode

TOLERANCE = 0.05  # of a probability: int8 kernels differ from one processor to the next
FROM_ANOTHER = 0.25  # of one that another variant gave: what int8 rounds away can be as much


def check_answers(classifier: Classifier) -> None:
    """Answer each photo of the bundle's self-test again.

    Raises:
        BundleError: where one is answered otherwise than it was.
    """
    bundle, variant = classifier.bundle, classifier.variant
    for case in bundle.manifest.self_test:
        try:
            photo = decode((bundle.path / case.file).read_bytes(), bundle.manifest.preprocessing)
        except (OSError, PhotoError) as error:
            raise BundleError(f"{bundle.id}: self-test photo {case.file}: {error}") from error
        found = classifier.run(photo[np.newaxis]).probabilities[0]
        known = variant == bundle.manifest.default_variant or variant in case.others
        expected = case.others.get(variant, case.probabilities)
        # `not <=` and no `>`: an answer that is no number is wrong too.
        if not np.abs(found - expected).max() <= (TOLERANCE if known else FROM_ANOTHER):
            raise BundleError(
                f"{bundle.id}: self-test photo {case.file} on {classifier.device} ({variant}): "
                f"expected the probabilities {np.round(expected, 3).tolist()}, got "
                f"{np.round(found.astype(float), 3).tolist()}"
            )
