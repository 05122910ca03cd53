"""The photos that a bundle takes along, to be tried with wherever it is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from service.bundle import Bundle, Manifest, SelfTest, record_of, write_manifest
from service.classifier import Classifier
from service.errors import PhotoError
from service.preprocess import Preprocessing, decode
from training import checkpoint
from training.bank import choose_bank
from training.data.photo import NOT_UTF_8, legible
from training.data.photos import EXTENSIONS, PhotoSet, label_indices
from training.data.store import open_store
from training.errors import ConfigError

SELF_TEST_PHOTOS = 8


def own_photos(folder: Path, spec: Preprocessing) -> list[Path]:
    """The photos of a folder that are to be a bundle's self-test.

    Raises:
        ConfigError: where there is no such folder, no photo in it, or one that does not decode or
            whose name is not UTF-8.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a folder of photos for the self-test, got {folder}")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in EXTENSIONS and f.is_file())
    if not files:
        raise ConfigError(f"expected photos for the self-test in {folder}, got none")
    for file in files:
        if legible(file.name) != file.name:
            raise ConfigError(f"self-test photo {legible(str(file))}: {NOT_UTF_8}")
        try:
            decode(file.read_bytes(), spec)
        except PhotoError as error:
            raise ConfigError(f"self-test photo {file}: {error}") from error
    return files


def self_test_photos(part: Path, folder: Path | None, data: PhotoSet, run: Path) -> list[str]:
    """Put the self-test's photos into the bundle; returns their names.

    Raises:
        ConfigError: as `own_photos`.
    """
    spec = checkpoint.read_config(run).data.served()
    if folder is None:
        store = open_store(data.root, data.split("val"), spec)
        labels = label_indices(store.photos, data)
        nowhere = labels[:, None].astype(np.float32)
        rows = choose_bank(nowhere, labels, min(SELF_TEST_PHOTOS, len(labels)), "random")
        for place, row in enumerate(rows):  # as the model sees them: PNG loses nothing
            Image.fromarray(store.pixels[row]).save(part / f"self-test-{place}.png")
    else:
        for file in own_photos(folder, spec):
            shutil.copyfile(file, part / f"self-test-{file.name}")
    return sorted(file.name for file in part.glob("self-test-*"))


def with_self_test(part: Path, manifest: Manifest, photos: list[str]) -> Manifest:
    """The manifest with what each variant answers to the bundle's own photos; written."""
    bundle, default = Bundle(part, manifest), manifest.default_variant
    classifiers = {name: Classifier(bundle, variant=name) for name in sorted(manifest.variants)}
    cases = []
    for name in photos:
        pixels = decode((part / name).read_bytes(), manifest.preprocessing)[np.newaxis]
        found = {
            variant: tuple(map(float, classifier.run(pixels).probabilities[0]))
            for variant, classifier in classifiers.items()
        }
        own = found.pop(default)
        cases.append(SelfTest(file=name, probabilities=own, others=found))
    files = manifest.files | {name: record_of(part / name) for name in photos}
    complete = manifest.model_copy(update={"self_test": tuple(cases), "files": files})
    write_manifest(part, complete)
    return complete
