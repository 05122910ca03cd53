"""A bundle is used whole and unaltered, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle import (
    MANIFEST,
    read_bundle,
    read_manifest,
    write_manifest,
)
from service.catalogue import list_models, open_bundle, with_default
from service.classifier import Classifier
from service.errors import BundleError
from service.models_folder import FolderWatch, find_bundles, resolve_bundle, version_key
from service.schemas import BrokenModel
from service.settings import Settings
from tests.tiny_bundle import write_bundle


def edit_manifest(path: Path, **changes: Any) -> None:
    file = path / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    manifest = read_manifest(path)
    write_manifest(path, manifest)
    assert read_bundle(path).manifest == manifest
    assert read_bundle(path).id == "tiny/1"
    assert not list(path.glob("*.part"))


def test_one_changed_bit_is_found(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    model = bytearray((path / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (path / "model.onnx").write_bytes(model)
    with pytest.raises(BundleError, match="expected SHA-256"):
        read_bundle(path)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    (path / "CARD.md").unlink()
    with pytest.raises(BundleError, match=r"CARD\.md is listed in manifest\.json and missing"):
        read_bundle(path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    (path / "CARD.md").unlink()
    (path / "CARD.md").symlink_to("/proc/self/mem")  # which root cannot read either, from its start
    with pytest.raises(BundleError, match=r"CARD\.md: cannot be read: Input/output error"):
        read_bundle(path)
    (one,) = list_models(Settings(models_dir=tmp_path))
    assert isinstance(one, BrokenModel)
    assert one.error == "CARD.md: cannot be read: Input/output error"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": "blue"}, "colour"),
        ({"schema_version": 2}, "schema_version"),
        ({"superclasses": ["one"]}, "superclasses"),
        ({"superclasses": ["recyclable", "recyclable"]}, "must differ"),
        ({"superclasses": ["recyclable", "other"]}, "not listed"),
        ({"name": "../etc"}, "name"),
        ({"version": "a/b"}, "version"),
        ({"variants": {"fp32": "../../etc/passwd"}}, "variant"),
        ({"variants": {"fp32": "model.onnx", "int8": "../x.onnx"}}, "plain name"),
        ({"variants": {"fp32": "model.onnx", "int8": "int8.onnx"}}, "without a SHA-256"),
        ({"default_variant": "int8"}, "default variant"),
        ({"files": {"../x": {"sha256": "0" * 64, "bytes": 1}}}, "plain name"),
        ({"files": {"model.onnx": {"sha256": "short", "bytes": 1}}}, "sha256"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_field(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    path = write_bundle(tmp_path)
    edit_manifest(path, **changes)
    with pytest.raises(BundleError, match=told):
        read_bundle(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    (path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="does not fit schema version 1"):
        read_bundle(path)


def test_the_newest_version_is_taken_and_any_can_be_named(tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        write_bundle(tmp_path, version=version)
    assert [path.name for path in find_bundles(tmp_path)] == ["2", "9", "10"]
    assert resolve_bundle(tmp_path, "tiny").name == "10"
    assert resolve_bundle(tmp_path, "tiny/2").name == "2"


def test_a_folder_of_models_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected a folder of bundles, got .*nope: there is no"):
        resolve_bundle(tmp_path / "nope", "refuse")


@pytest.mark.parametrize("reference", ["other", "tiny/3", "../models/tiny", "tiny/../tiny/1", "/"])
def test_a_bundle_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, reference: str
) -> None:
    write_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"which has: tiny/1"):
        resolve_bundle(tmp_path, reference)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_versions_are_ordered_as_numbers(parts: list[int]) -> None:
    version = ".".join(map(str, parts))
    higher = ".".join(map(str, [*parts[:-1], parts[-1] + 1]))
    assert version_key(version) < version_key(higher) < version_key("next")


def test_a_bundle_in_another_folder_than_its_own_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path).rename(tmp_path / "tiny" / "2")
    with pytest.raises(BundleError, match=r"expected the manifest of tiny/2, got that of tiny/1"):
        open_bundle(tmp_path / "tiny" / "2")


def test_all_bundles_are_listed_and_broken_ones_with_what_is_wrong(tmp_path: Path) -> None:
    first = write_bundle(tmp_path)
    second = write_bundle(tmp_path, version="2")
    (second / "CARD.md").write_text("altered")
    settings = Settings(models_dir=tmp_path)
    sound, broken = (one.model_dump() for one in list_models(settings, default=first))
    assert (sound["name"], sound["version"], sound["default"]) == ("tiny", "1", True)
    assert sound["bank_items"] == 12
    assert sound["guide_things"] == 0
    assert sound["provider"] is None  # nothing is loaded
    assert (broken["version"], broken["default"]) == ("2", False)
    for reference, marked in (("tiny", ["1"]), ("tiny/1", ["1"]), ("tiny/2", []), ("other", [])):
        found = with_default(list_models(settings), reference)
        assert [one.version for one in found if one.default] == marked
    assert broken["error"].startswith("CARD.md: expected SHA-256")


def test_a_bundle_whose_permissions_are_put_right_is_another(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    watch = FolderWatch(tmp_path)
    assert watch.look() == [path]
    assert watch.look() == []
    (path / "model.onnx").chmod(0o600)
    assert watch.look() == [path]


def test_of_a_version_that_was_replaced_what_answers_is_listed(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    running = Classifier(read_bundle(path))
    before = list_models(Settings(models_dir=tmp_path), loaded=[running])
    shutil.rmtree(path)
    write_bundle(tmp_path, seed=1, threshold=0.9)
    assert list_models(Settings(models_dir=tmp_path), loaded=[running]) == before
    assert list_models(Settings(models_dir=tmp_path)) != before
