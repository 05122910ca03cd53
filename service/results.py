"""One row of the graph's output, in the words of the API."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from service.bundle import Manifest
from service.classifier import Answers
from service.errors import SuperbinError
from service.schemas import Classification, Decision, Doubt, Embedding, Reference

DIGITS = 6  # what float32 holds; more would be noise


class InferenceError(SuperbinError):
    """The model could not answer for a sound photo: a fault of ours."""

    reason = "inference"


def classification(
    manifest: Manifest, answers: Answers, filename: str | None, doubts: Sequence[Doubt] = ()
) -> Classification:
    """Say what a lone row of answers means.

    Args:
        manifest: of the bundle that answered.
        answers: of exactly one photo, N = 1.
        filename: echoed.
        doubts: of `service.doubts`; with any a person has to look.

    Raises:
        InferenceError: where the graph gave something that is no number.
    """
    row: list[float] = answers.probabilities[0].tolist()
    if not math.isfinite(sum(row)):
        raise InferenceError("expected finite probabilities, and the model gave others")
    probabilities = {
        superclass: round(value, DIGITS)
        for superclass, value in zip(manifest.superclasses, row, strict=True)
    }
    superclass = manifest.superclasses[row.index(max(row))]
    # Decided on the figure that the client sees, so that both always agree.
    confidence = probabilities[superclass]
    return Classification.model_construct(  # not validated again: all of it is ours
        filename=filename,
        superclass=superclass,
        confidence=confidence,
        probabilities=probabilities,
        decision="manual" if doubts else _decision(manifest, confidence),
        doubts=list(doubts),
        references=_references(manifest, answers),
        self_weight=_round(answers.self_weight[0]),
    )


def embedding(answers: Answers, filename: str | None) -> Embedding:
    """A lone row's embedding.

    Raises:
        InferenceError: where the graph gave something that is no number.
    """
    values = answers.embedding[0]
    if not np.isfinite(values).all():
        raise InferenceError("expected a finite embedding, and the model gave another")
    return Embedding(filename=filename, embedding=[_round(value) for value in values])


def _decision(manifest: Manifest, confidence: float) -> Decision:
    return "sort" if confidence >= manifest.calibration.confidence_threshold else "manual"


def _references(manifest: Manifest, answers: Answers) -> list[Reference]:
    weighted = zip(
        answers.references[0].tolist(), answers.reference_weights[0].tolist(), strict=True
    )
    items = manifest.bank.items
    references = []
    for index, weight in weighted:
        item = items[index]
        references.append(
            Reference.model_construct(
                id=item.id,
                superclass=item.superclass,
                subclass=item.subclass,
                source=item.source,
                weight=round(weight, DIGITS),
            )
        )
    return references


def _round(value: np.float32) -> float:
    return round(float(value), DIGITS)
