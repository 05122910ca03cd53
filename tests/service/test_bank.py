"""A bank in a file of its own stands in place of the graph's, or the bundle is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import bundle as contract
from service.bank import BANK, read_bank, write_bank
from service.bundle import read_bundle, read_manifest, record_of, write_manifest
from service.classifier import Classifier
from service.errors import BundleError
from service.preprocess import Pixels, decode
from service.self_test import check_answers
from service.sessions import open_sessions
from service.settings import Settings
from tests.tiny_bundle import write_bundle as write_tiny
from tests.tiny_matching import SPEC, photo_of, write_bundle
from training.served_bank import graph_bank


def photos() -> Pixels:
    return np.stack([decode(photo_of(kind, 50), SPEC) for kind in ("can", "peel", "battery")])


def give_bank(path: Path, write: Any) -> None:
    """Put a bank file into the bundle, whose manifest then lists it."""
    write(path / BANK)
    manifest = read_manifest(path)
    bank = manifest.bank.model_copy(update={"file": BANK})
    files = manifest.files | {BANK: record_of(path / BANK)}
    write_manifest(path, manifest.model_copy(update={"bank": bank, "files": files}))


def own_bank(path: Path) -> tuple[Any, Any]:
    found = graph_bank(read_bundle(path))
    return found[contract.INPUT_BANK_KEYS], found[contract.INPUT_BANK_VALUES]


def test_without_a_file_the_graphs_bank_answers(tmp_path: Path) -> None:
    assert read_bank(read_bundle(write_bundle(tmp_path))) == {}


def test_the_graphs_own_bank_in_a_file_changes_no_bit(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    before = Classifier(read_bundle(path), threads=1).run(photos())
    keys, values = own_bank(path)
    give_bank(path, lambda file: write_bank(file, keys, values))
    for variant in ("int8", "fp32"):
        classifier = Classifier(read_bundle(path), variant=variant, threads=1)
        after = classifier.run(photos())
        for name, array in vars(before).items():
            np.testing.assert_array_equal(getattr(after, name), array)
        check_answers(classifier)


def test_another_bank_gives_other_answers_in_every_session(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    keys, values = own_bank(path)
    turned = np.roll(values, 1, axis=1)  # every item is called another superclass
    manifest = read_manifest(path)
    write_manifest(path, manifest.model_copy(update={"self_test": ()}))
    before = Classifier(read_bundle(path), threads=1).run(photos()).probabilities
    give_bank(path, lambda file: write_bank(file, keys, turned))
    sessions = open_sessions(Settings(models_dir=tmp_path, threads=2), path)
    assert sessions.alone is not None
    for classifier in (*sessions.workers, sessions.alone):
        found = classifier.run(photos()).probabilities
        np.testing.assert_allclose(found, np.roll(before, 1, axis=1), atol=1e-6)
        alone = [classifier.run(photos()[i : i + 1]).probabilities for i in range(3)]
        np.testing.assert_allclose(np.concatenate(alone), found, atol=1e-6)


def test_float16_is_read_too(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    keys, values = (array.astype(np.float16) for array in own_bank(path))
    give_bank(path, lambda file: write_bank(file, keys, values))
    found = read_bank(read_bundle(path))
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    check_answers(Classifier(read_bundle(path), threads=1))


def _stored(keys: Any, values: Any, **more: Any) -> Any:
    return lambda file: np.savez(file, keys=keys, values=values, **more)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda k, v: _stored(k[:-1], v), r"expected keys as float32 or float16 \[48, width\]"),
        (lambda k, v: _stored(k, v[:, 0]), "expected values as float32"),
        (lambda k, v: _stored(k.astype(np.float64), v), "got float64"),
        (lambda k, v: _stored(k * np.nan, v), "expected finite keys"),
        (lambda k, v: _stored(k[:, :-1], v), r"expected bank_keys \[M, 32\], got \[48, 31\]"),
        (lambda k, v: _stored(k, v[:, :-1]), r"expected bank_values \[M, 4\]"),
        (lambda k, v: _stored(k.astype(object), v), "is no bank"),  # would be unpickled
        (lambda k, v: lambda file: np.savez(file, keys=k), "expected keys, values and at most"),
        (lambda k, v: _stored(k, v, background=k[0]), r"expected background as float32"),
        (
            lambda k, v: _stored(k, v, background=k[:0]),
            r"\[1, width\], got .*\[0, 32\]",
        ),
        (lambda k, v: _stored(k, v, background=k), "the graph lacks the input background_keys"),
        (lambda k, v: _stored(k, v, more=k), "got .*more"),
        (lambda k, v: lambda file: file.write_bytes(b"no zip"), "is no bank"),
    ],
)
def test_a_bank_that_does_not_fit_is_refused(tmp_path: Path, spoil: Any, told: str) -> None:
    path = write_bundle(tmp_path)
    give_bank(path, spoil(*own_bank(path)))
    with pytest.raises(BundleError, match=told):
        Classifier(read_bundle(path), threads=1)


def test_a_bank_that_was_altered_or_is_not_listed_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    keys, values = own_bank(path)
    give_bank(path, lambda file: write_bank(file, keys, values))
    write_bank(path / BANK, keys + np.float32(0.01), values)
    with pytest.raises(BundleError, match="expected SHA-256"):
        read_bundle(path)
    manifest = read_manifest(path)
    files = {name: record for name, record in manifest.files.items() if name != BANK}
    write_manifest(path, manifest.model_copy(update={"files": files}))
    with pytest.raises(BundleError, match=r"bank without a SHA-256 under files: 'bank\.npz'"):
        read_bundle(path)


def test_a_graph_whose_bank_cannot_be_given_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path)
    keys, values = own_bank(path)
    give_bank(path, lambda file: write_bank(file, keys[:, :3], values))
    with pytest.raises(BundleError, match=r"expected bank_keys \[M, 8\], got \[12, 3\]"):
        Classifier(read_bundle(path), threads=1)
