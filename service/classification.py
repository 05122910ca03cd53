"""Files to answers without a server, through the same code that serves."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.bundle import Manifest
from service.classifier import Answers, Classifier
from service.doubts import NONE, Doubts
from service.errors import PhotoError, PhotoTooLarge, SuperbinError
from service.models_folder import resolve_bundle
from service.preprocess import PhotoLimits, Pixels, decode
from service.results import Sorted, classification
from service.schemas import Classification, Doubt
from service.sessions import open_sessions
from service.settings import Settings
from service.site_rules import read_rules
from service.sites import SUFFIX, SiteError, find_sites


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


@dataclass(frozen=True)
class Answering:
    """All that a file's answer follows from, beside its pixels and the graph.

    What a caller may ask of an answer belongs here: it then reaches a photo named on the command
    line, one of a million in a folder, and one on another machine.
    """

    manifest: Manifest
    limits: PhotoLimits
    by: Sorted | None = None
    doubts: Doubts = NONE

    def read(self, photo: Path) -> Pixels:
        """A file as the model sees it.

        Raises:
            PhotoError: where it cannot be read or decoded.
        """
        try:
            about = photo.stat()
            if not stat.S_ISREG(about.st_mode):  # a pipe would be waited for
                raise PhotoError("expected a file, and this is no regular one")
            size = about.st_size
            if size > self.limits.max_bytes:
                raise PhotoTooLarge(
                    f"expected at most {self.limits.max_bytes:,} bytes a photo, got {size:,}"
                )
            data = photo.read_bytes()
        except OSError as error:
            raise PhotoError(f"expected a file that can be read: {error.strerror}") from error
        return decode(data, self.manifest.preprocessing, self.limits)

    def tell(self, answers: Answers, name: str, doubts: Sequence[Doubt]) -> Classification:
        """What a lone row of answers means.

        Args:
            answers: of one photo, N = 1.
            name: of the photo.
            doubts: about its pixels, as `Doubts.of_pixels` has them.

        Raises:
            InferenceError: where the graph gave something that is no number.
        """
        (of_answer,) = self.doubts.of_answers(answers)
        return classification(self.manifest, answers, name, self.by, (*doubts, *of_answer))


def classify_files(
    photos: Sequence[Path], settings: Settings, language: str | None = None
) -> Iterator[FileResult]:
    """Classify files in order; the model is loaded before this returns.

    Args:
        photos: the files.
        settings: model, devices, limits and site.
        language: of the bins' names, where the settings name a site.

    Raises:
        BundleError, ProviderError, SiteError, SiteUnfit: where it cannot be.
    """
    by = sorted_by(settings, language)
    path = resolve_bundle(settings.models_dir, settings.models[0])
    sessions = open_sessions(settings, path)
    classifier = sessions.alone or sessions.first
    answering = answering_for(classifier.bundle.manifest, settings, by, sessions.doubts)
    return (_classify(classifier, photo, answering) for photo in photos)


def answering_for(
    manifest: Manifest, settings: Settings, by: Sorted | None, doubts: Doubts = NONE
) -> Answering:
    """How files are answered by this model.

    Raises:
        SiteUnfit: where the site's rules do not fit it.
    """
    if by:
        by.rules.sorter(manifest)
    return Answering(manifest, settings.photo_limits, by, doubts)


def sorted_by(settings: Settings, language: str | None) -> Sorted | None:
    """The rules of the settings' site, if they name one.

    Args:
        language: of the bins' names; the site's first where it is None.

    Raises:
        SiteError: where they cannot be used, or have no such language.
    """
    if settings.site is None:
        if language is not None:
            raise SiteError(
                f"expected a site (--site, SUPERBIN_SITE), whose bins have names in {language!r}"
            )
        return None
    file = settings.sites_dir / f"{settings.site}{SUFFIX}"
    if not file.is_file():
        known = ", ".join(one.stem for one in find_sites(settings.sites_dir)) or "none"
        raise SiteError(f"expected a site of {known}, got {settings.site!r}")
    rules = read_rules(file)
    offered = rules.site.languages
    if language is not None and language not in offered:
        known = ", ".join(offered)
        raise SiteError(f"expected a language of {rules.site.site}: {known}, got {language!r}")
    return Sorted(rules, language or offered[0])


def _classify(classifier: Classifier, photo: Path, answering: Answering) -> FileResult:
    try:
        pixels = answering.read(photo)
        (doubts,) = answering.doubts.of_pixels([pixels])
        answers = classifier.run(pixels[np.newaxis])
        return FileResult(str(photo), answer=answering.tell(answers, photo.name, doubts))
    except SuperbinError as error:
        return FileResult(str(photo), error=str(error))
