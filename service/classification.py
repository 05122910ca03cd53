"""Files to answers without a server, through the same code that serves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.bundle import resolve_bundle
from service.classifier import Classifier
from service.errors import PhotoError, PhotoTooLarge, SuperbinError
from service.preprocess import Pixels, decode
from service.results import classification
from service.schemas import Classification
from service.sessions import Sessions, open_sessions
from service.settings import Settings


@dataclass(frozen=True)
class FileResult:
    """What came of one file: an answer or an error."""

    photo: str
    answer: Classification | None = None
    error: str | None = None

    def as_json(self) -> str:
        """One line."""
        if self.answer is None:
            return json.dumps({"photo": self.photo, "error": self.error})
        return json.dumps({"photo": self.photo, **self.answer.model_dump(exclude={"filename"})})


def classify_files(photos: Sequence[Path], settings: Settings) -> Iterator[FileResult]:
    """Classify files in order; the model is loaded before this returns.

    Raises:
        BundleError, ProviderError: where it cannot be.
    """
    path = resolve_bundle(settings.models_dir, settings.models[0])
    sessions = open_sessions(settings, path)
    return (_classify(sessions, photo, settings) for photo in photos)


def _classify(sessions: Sessions, photo: Path, settings: Settings) -> FileResult:
    classifier = sessions.alone or sessions.first
    try:
        pixels = _read(classifier, photo, settings)
        answers = classifier.run(pixels[np.newaxis])
        manifest = classifier.bundle.manifest
        doubts = sessions.doubts.of(pixels, answers.embedding)
        return FileResult(str(photo), answer=classification(manifest, answers, photo.name, doubts))
    except SuperbinError as error:
        return FileResult(str(photo), error=str(error))


def _read(classifier: Classifier, photo: Path, settings: Settings) -> Pixels:
    limits = settings.photo_limits
    try:
        size = photo.stat().st_size
        if size > limits.max_bytes:
            raise PhotoTooLarge(
                f"expected at most {limits.max_bytes:,} bytes a photo, got {size:,}"
            )
        data = photo.read_bytes()
    except OSError as error:
        raise PhotoError(f"expected a file that can be read: {error.strerror}") from error
    return decode(data, classifier.bundle.manifest.preprocessing, limits)
