"""What speaks against a photo: a `Doubt` for each limit that it does not keep.

A model names a bin for anything: a dark photo, an empty belt, somebody's cat. What is doubted here
is left to a person whatever the model says. Limits come from the bundle, or from the settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from service.bundle import Bundle, Manifest
from service.classifier import Answers
from service.familiarity import Familiarity, read_familiarity
from service.preprocess import Pixels
from service.quality import MEASURES, QualityLimits, unproven
from service.schemas import Doubt, DoubtReason

Limits = Mapping[DoubtReason, float]
MEASURED_AS: dict[DoubtReason, str] = {  # of `Quality`
    "too_dark": "light",
    "too_bright": "clipped",
    "blurred": "sharpness",
    "empty": "contrast",
}
IN_WORDS: dict[DoubtReason, str] = {
    "too_dark": "expected bright parts of a luminance of {limit:.0f} of 255 or more, got "
    "{measure:.0f}",
    "too_bright": "expected at most {limit:.1%} of the pixels overexposed, got {measure:.1%}",
    "blurred": "expected edges of {limit:.1f} grey levels or more in every direction, got "
    "{measure:.1f}",
    "empty": "expected a contrast of {limit:.1f} or more between the photo's parts, got "
    "{measure:.1f}",
    "unfamiliar": "expected a photo more like those that the model knows, a measure of {limit:.3f} "
    "or more, got {measure:.3f}",
}
DIGITS = 4
TOGETHER = 2  # photos whose rows stay in a processor's cache


@dataclass(frozen=True)
class Doubts:
    """The limits of one model. Thread-safe.

    Attributes:
        limits: by reason; what is not there is never doubted.
        familiarity: needed for `unfamiliar`, where the graph does not tell it.
    """

    limits: Limits
    familiarity: Familiarity | None = None

    def of(self, pixels: Pixels, answers: Answers) -> tuple[Doubt, ...]:
        """All about one photo [H, W, 3] and the answers to it, N = 1."""
        return (*self.of_pixels([pixels])[0], *self.of_answers(answers)[0])

    def of_pixels(self, photos: Sequence[Pixels]) -> list[tuple[Doubt, ...]]:
        """About each of N photos, uint8 [H, W, 3], as the model sees them."""
        if not photos or self._quality_limits is None:
            return [()] * len(photos)
        left: list[tuple[str, ...]] = []
        for first in range(0, len(photos), TOGETHER):
            left += unproven(photos[first : first + TOGETHER], self._quality_limits)
        return [
            self.of_quality({name: MEASURES[name](pixels) for name in names})
            for pixels, names in zip(photos, left, strict=True)
        ]

    @cached_property
    def _quality_limits(self) -> QualityLimits | None:
        """None where nothing is to be measured."""
        found = {
            name: self.limits[reason]
            for reason, name in MEASURED_AS.items()
            if reason in self.limits
        }
        return QualityLimits(**found) if found else None

    def of_quality(self, measured: Mapping[str, float]) -> tuple[Doubt, ...]:
        """About what was measured, by names of `service.quality.MEASURES`."""
        if not measured:
            return ()
        found = [
            self._doubt(reason, measured[name])
            for reason, name in MEASURED_AS.items()
            if name in measured and not self._kept(reason, measured[name])
        ]
        return tuple(found)

    def of_answers(self, answers: Answers) -> list[tuple[Doubt, ...]]:
        """About each of N photos by how near they are to what the model knows."""
        least, known, told = self.limits.get("unfamiliar"), self.familiarity, answers.familiarity
        if least is not None and known is not None:
            told = None if known.surely(answers.embedding, least) else known.of(answers.embedding)
        if least is None or told is None:
            return [()] * len(answers)
        return [
            () if value >= least else (self._doubt("unfamiliar", value),) for value in told.tolist()
        ]

    def _kept(self, reason: DoubtReason, value: float) -> bool:
        """Whether a limit that there is, is kept; a value that is no number keeps none."""
        limit = self.limits.get(reason)
        if limit is None:
            return True
        return value <= limit if reason == "too_bright" else value >= limit

    def _doubt(self, reason: DoubtReason, value: float) -> Doubt:
        limit = self.limits[reason]
        return Doubt(
            reason=reason,
            detail=IN_WORDS[reason].format(measure=value, limit=limit),
            measure=round(value, DIGITS),
            limit=round(limit, DIGITS),
        )


NONE = Doubts({})


def open_doubts(bundle: Bundle, wanted: Mapping[DoubtReason, float | None]) -> Doubts:
    """What a bundle doubts, of the reasons that are wanted; a limit given here counts first.

    Raises:
        BundleError: where the bundle's embeddings are not what its manifest says.
    """
    own = own_limits(bundle.manifest)
    limits = {
        reason: value
        for reason, given in wanted.items()
        if (value := own.get(reason) if given is None else given) is not None
    }
    return Doubts(limits, read_familiarity(bundle) if "unfamiliar" in limits else None)


def own_limits(manifest: Manifest) -> dict[DoubtReason, float]:
    """The limits that a bundle brings."""
    limits: dict[DoubtReason, float] = {}
    if quality := manifest.quality:
        limits |= {
            "too_dark": quality.least_light,
            "too_bright": quality.most_clipped,
            "blurred": quality.least_sharpness,
            "empty": quality.least_contrast,
        }
    if manifest.familiarity:
        limits["unfamiliar"] = manifest.familiarity.threshold
    return limits
