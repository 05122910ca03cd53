"""A bundle's own photos with the answers that it had when it was exported."""

from __future__ import annotations

import numpy as np

from service.classifier import Classifier
from service.errors import BundleError, PhotoError
from service.preprocess import decode

TOLERANCE = 0.05  # of a probability: int8 kernels differ from one processor to the next


def check_answers(classifier: Classifier) -> None:
    """Answer each photo of the bundle's self-test again.

    Raises:
        BundleError: where one is answered otherwise than it was.
    """
    bundle = classifier.bundle
    for case in bundle.manifest.self_test:
        try:
            photo = decode((bundle.path / case.file).read_bytes(), bundle.manifest.preprocessing)
        except (OSError, PhotoError) as error:
            raise BundleError(f"{bundle.id}: self-test photo {case.file}: {error}") from error
        found = classifier.run(photo[np.newaxis]).probabilities[0]
        # `not <=` and no `>`: an answer that is no number is wrong too.
        if not np.abs(found - np.array(case.probabilities)).max() <= TOLERANCE:
            raise BundleError(
                f"{bundle.id}: self-test photo {case.file} on {classifier.device}: expected the "
                f"probabilities {np.round(case.probabilities, 3).tolist()}, got "
                f"{np.round(found.astype(float), 3).tolist()}"
            )
