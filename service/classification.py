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
from service.languages import pick_language
from service.preprocess import Pixels, decode
from service.results import Sorted, classification
from service.schemas import Classification
from service.sessions import open_sessions
from service.settings import Settings
from service.sites import SUFFIX, SiteError, find_sites
from service.sorting import read_rules


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


def classify_files(
    photos: Sequence[Path], settings: Settings, language: str | None = None
) -> Iterator[FileResult]:
    """Classify files in order; the model is loaded before this returns.

    Args:
        language: of the bins' names, where the settings name a site.

    Raises:
        BundleError, ProviderError, SiteError, SiteUnfit: where it cannot be.
    """
    by = sorted_by(settings, language)
    path = resolve_bundle(settings.models_dir, settings.models[0])
    sessions = open_sessions(settings, path)
    classifier = sessions.alone or sessions.first
    if by:
        by.rules.sorter(classifier.bundle.manifest.superclasses)
    return (_classify(classifier, photo, settings, by) for photo in photos)


def sorted_by(settings: Settings, language: str | None) -> Sorted | None:
    """The rules of the settings' site, if they name one.

    Raises:
        SiteError: where they cannot be used.
    """
    if settings.site is None:
        return None
    file = settings.sites_dir / f"{settings.site}{SUFFIX}"
    if not file.is_file():
        known = ", ".join(one.stem for one in find_sites(settings.sites_dir)) or "none"
        raise SiteError(f"expected a site of {known}, got {settings.site!r}")
    rules = read_rules(file)
    return Sorted(rules, pick_language(language, rules.site.languages))


def _classify(
    classifier: Classifier, photo: Path, settings: Settings, by: Sorted | None
) -> FileResult:
    try:
        pixels = _read(classifier, photo, settings)
        answers = classifier.run(pixels[np.newaxis])
        manifest = classifier.bundle.manifest
        return FileResult(str(photo), answer=classification(manifest, answers, photo.name, by))
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
