"""Limits of doubt: those of val and the bank's embeddings, put into a bundle whole."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from service.bundle import read_bundle, read_manifest, write_manifest
from service.classifier import Classifier
from service.doubts import open_doubts
from service.familiarity import read_items
from service.preprocess import decode
from service.quality import Quality
from service.settings import load_settings
from tests import tiny_matching
from tests.tiny_bundle import ITEMS, SUPERCLASSES, write_bundle
from training.card import doubts_section, put_section
from training.data.photos import read_photos
from training.doubt_reference import quality_limits, reached, with_doubts
from training.errors import ConfigError, DataError

VAL = 120


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Photos named as the tiny bundle's bank items, and some of val."""
    root = tmp_path / "data"
    root.mkdir()
    rows = [(f"item{i}", "train", i) for i in range(ITEMS)]
    rows += [(f"val{i}.png", "val", i) for i in range(VAL)]
    with (root / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "superclass", "split"])
        for place, (name, split, i) in enumerate(rows):
            pixels = np.random.default_rng(place).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
            image.save(root / name, "PNG")
            table.writerow([name, SUPERCLASSES[i % len(SUPERCLASSES)], split])
    return root


def photos_of(path: Path, data: Path, split: str) -> list[np.ndarray]:
    spec = read_manifest(path).preprocessing
    files = [data / photo.path for photo in read_photos(data).split(split)]
    return [decode(file.read_bytes(), spec) for file in files]


def told(path: Path, data: Path, share: float) -> None:
    manifest = with_doubts(path, read_manifest(path), read_photos(data), share)
    put_section(path, doubts_section(manifest))


def test_the_file_holds_the_banks_embeddings_in_order(data: Path, tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    with_doubts(path, read_manifest(path), read_photos(data))
    bundle = read_bundle(path)  # every hash
    limit = bundle.manifest.familiarity
    assert limit
    assert limit.file
    assert limit.file in bundle.manifest.files
    items = read_items(path / limit.file, bundle)
    classifier = Classifier(bundle)
    for place, item in enumerate(bundle.manifest.bank.items):
        pixels = decode((data / item.id).read_bytes(), bundle.manifest.preprocessing)
        alone = classifier.run(pixels[np.newaxis]).embedding[0]
        np.testing.assert_allclose(items[place], alone, atol=1e-3)


@pytest.mark.parametrize("share", [0.99, 0.8])
def test_the_wanted_share_of_val_is_accepted(data: Path, tmp_path: Path, share: float) -> None:
    path = write_bundle(tmp_path)
    with_doubts(path, read_manifest(path), read_photos(data), share)
    bundle = read_bundle(path)
    doubts = open_doubts(bundle, load_settings().doubt_limits)
    classifier = Classifier(bundle)
    found = [
        doubts.of(photo, classifier.run(photo[np.newaxis]))
        for photo in photos_of(path, data, "val")
    ]
    unfamiliar = sum(any(d.reason == "unfamiliar" for d in one) for one in found)
    assert unfamiliar == round(VAL * (1.0 - share) + 0.49)
    assert sum(any(d.reason != "unfamiliar" for d in one) for one in found) <= 4


def test_again_replaces_the_file_and_the_card_has_one_section(data: Path, tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    manifest = read_manifest(path)  # tests list the card, real bundles do not
    files = {name: record for name, record in manifest.files.items() if name != "CARD.md"}
    (path / "CARD.md").write_text("# Tiny\n\n## Figures\n\nSome.\n\n## Provenance\n\nNone.\n")
    write_manifest(path, manifest.model_copy(update={"files": files}))
    told(path, data, 0.99)
    first = read_manifest(path).familiarity
    (data / "item0").write_bytes((data / "val0.png").read_bytes())
    told(path, data, 0.9)
    second = read_manifest(path).familiarity
    assert first
    assert second
    assert first.file
    assert second.file
    assert first.file != second.file
    assert [file.name for file in path.glob("familiarity-*")] == [second.file]
    read_bundle(path)
    card = (path / "CARD.md").read_text()
    headings = [line for line in card.splitlines() if line.startswith("#")]
    assert headings == ["# Tiny", "## Figures", "## Doubts", "## Provenance"]
    assert second.file in card
    assert first.file not in card


def test_data_that_lack_a_photo_of_the_bank_are_refused(data: Path, tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    (data / "item3").unlink()
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="1 of 12 are missing, first item3"):
        with_doubts(path, read_manifest(path), read_photos(data))
    assert (path / "manifest.json").read_bytes() == before


def test_how_familiar_photos_are_is_told_by_those_that_the_bank_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_matching.write_bundle(tmp_path / "models")
    data = tiny_matching.write_photos(tmp_path / "data")
    fair = with_doubts(path, read_manifest(path), read_photos(data))
    assert "left out" not in capsys.readouterr().out
    tiny_matching.add_val(data, range(8))  # the bank's own
    again = with_doubts(path, read_manifest(path), read_photos(data))
    assert again.familiarity == fair.familiarity
    assert "familiarity from val: 48 of 66 photos are left out" in capsys.readouterr().out
    assert again.quality is not None
    assert again.quality.photos == 66  # which no bank can falsify


@pytest.mark.parametrize("share", [0.2, 1.0, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(data: Path, tmp_path: Path, share: float) -> None:
    path = write_bundle(tmp_path)
    manifest, photos = read_manifest(path), read_photos(data)
    with pytest.raises(ConfigError, match=r"expected a share of 0\.5 up to below 1"):
        with_doubts(path, manifest, photos, share)


def test_limits_lie_beyond_the_percentile_they_begin_at() -> None:
    measured = [Quality(100.0 + i, 0.1, 50.0 + i, 40.0 + i) for i in range(100)]
    limits = quality_limits(measured, 0.9)
    assert limits.least_light < np.quantile([m.light for m in measured], 0.1)
    assert limits.most_clipped > 0.1
    assert limits.least_sharpness < np.quantile([m.sharpness for m in measured], 0.1)
    assert limits.least_contrast < np.quantile([m.contrast for m in measured], 0.1)
    assert limits.photos == 100


@pytest.mark.parametrize("count", [5, 10, 30, 99])
def test_few_photos_doubt_hardly_any_of_their_like(count: int) -> None:
    """In 3 of 4 cases the limit leaves the share of all; percentiles of few leave less."""
    random = np.random.default_rng(count)
    values = random.normal(3.0, 2.0, (400, count))
    limits = np.array([reached(row, 0.99) for row in values])
    left = norm.sf(limits, 3.0, 2.0)
    assert 0.68 < (left >= 0.99).mean() < 0.85
    assert (limits <= np.quantile(values, 0.01, axis=1) + 1e-9).all()
    percentiles = norm.sf(np.quantile(values, 0.01, axis=1), 3.0, 2.0)
    assert (percentiles >= 0.99).mean() < (left >= 0.99).mean()


def test_enough_photos_have_a_percentile_and_one_says_nothing() -> None:
    values = np.random.default_rng(1).normal(size=100)
    assert reached(values, 0.9) == np.quantile(values, 0.1)
    assert reached([1.0], 0.99) == -np.inf
    one = quality_limits([Quality(100.0, 0.1, 50.0, 40.0)], 0.99)
    assert (one.least_light, one.least_sharpness, one.least_contrast) == (0.0, 0.0, 0.0)
    assert one.most_clipped == 1.0


def test_the_card_says_that_few_photos_were_there_to_tell_by(data: Path, tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    told(path, data, 0.99)
    assert "which 99.0% of the 120 photos of val reach" in (path / "CARD.md").read_text()
    rows = (data / "labels.csv").read_text().splitlines(keepends=True)
    (data / "labels.csv").write_text("".join(rows[: 1 + ITEMS + 20]))
    told(path, data, 0.99)
    few = "which 99.0% of photos like the 20 photos of val, which are few to tell by, should reach."
    assert few in (path / "CARD.md").read_text()
