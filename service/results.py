"""One row of the graph's output, in the words of the API."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.bundle import Manifest
from service.classifier import Answers
from service.errors import SuperbinError
from service.schemas import Classification, Decision, Doubt, Embedding, Reference, Sorting, Thing
from service.site_rules import Rules
from service.sites import MANUAL

DIGITS = 6  # what float32 holds; more would be noise


class InferenceError(SuperbinError):
    """The model could not answer for a sound photo: a fault of ours."""

    reason = "inference"


@dataclass(frozen=True)
class Sorted:
    """How answers are to be sorted: by which rules, and told in which language."""

    rules: Rules
    language: str


def classification(
    manifest: Manifest,
    answers: Answers,
    filename: str | None,
    by: Sorted | None = None,
    doubts: Sequence[Doubt] = (),
) -> Classification:
    """Say what a lone row of answers means.

    Args:
        manifest: of the bundle that answered.
        answers: of exactly one photo, N = 1.
        filename: echoed.
        by: a site's rules, whose decision then holds.
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
    references = _references(manifest, answers)
    decision: Decision = "manual" if doubts else _decision(manifest, confidence)
    sorting = None
    if by:
        sorting = _sorting(by, manifest, probabilities, answers, doubted=bool(doubts))
    if sorting:
        decision = "manual" if sorting.bin == MANUAL else "sort"
    return Classification.made(
        filename=filename,
        superclass=superclass,
        confidence=confidence,
        probabilities=probabilities,
        decision=decision,
        doubts=list(doubts),
        sorting=sorting,
        references=references,
        self_weight=_round(answers.self_weight[0]),
        guide=_things(manifest, answers),
        review=None,
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


def _sorting(
    by: Sorted,
    manifest: Manifest,
    probabilities: dict[str, float],
    answers: Answers,
    *,
    doubted: bool,
) -> Sorting:
    site = by.rules.site
    made = by.rules.sorter(manifest).choose(
        list(probabilities.values()), _cited(answers), doubted=doubted
    )
    place = site.place(made.choice)
    return Sorting.made(
        site=site.site,
        version=site.version,
        digest=by.rules.digest,
        bin=made.choice,
        colour=place.colour,
        language=by.language,
        name=place.name[by.language],
        text=place.text[by.language],
        best=made.best,
        probability=round(made.probabilities[made.best], DIGITS),
        probabilities={name: round(value, DIGITS) for name, value in made.probabilities.items()},
        expected_cost=round(made.expected_cost, DIGITS),
        reasons=list(made.reasons),
        alert=made.alert,
        hazard=round(made.hazard, DIGITS),
        covering=None if made.covering is None else list(made.covering),
    )


def _decision(manifest: Manifest, confidence: float) -> Decision:
    return "sort" if confidence >= manifest.calibration.confidence_threshold else "manual"


def _cited(answers: Answers) -> Iterator[tuple[int, float]]:
    """Places in the bank and weights of a lone row's references."""
    return zip(answers.references[0].tolist(), answers.reference_weights[0].tolist(), strict=True)


def _references(manifest: Manifest, answers: Answers) -> list[Reference]:
    items = manifest.bank.items
    references = []
    for index, weight in _cited(answers):
        item = items[index]
        references.append(
            Reference.made(
                id=item.id,
                superclass=item.superclass,
                subclass=item.subclass,
                source=item.source,
                weight=round(weight, DIGITS),
            )
        )
    return references


def _things(manifest: Manifest, answers: Answers) -> list[Thing]:
    if answers.things is None or answers.thing_weights is None:
        return []
    found = zip(answers.things[0].tolist(), answers.thing_weights[0].tolist(), strict=True)
    return [
        Thing.made(
            name=manifest.guide[place].name,
            superclass=manifest.guide[place].superclass,
            weight=round(weight, DIGITS),
        )
        for place, weight in found
    ]


def _round(value: np.float32) -> float:
    return round(float(value), DIGITS)
