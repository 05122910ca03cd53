"""What speaks against a photo is told with its measure and limit, by bundle and by settings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.bundle import MANIFEST, Bundle, read_bundle, read_manifest, record_of
from service.catalogue import open_bundle
from service.classification import classify_files
from service.classifier import Answers, Classifier
from service.doubt_settings import read_doubts
from service.doubts import NONE, Doubts, open_doubts
from service.errors import BundleError
from service.familiarity import Familiarity, read_items
from service.fitted import FamiliarityLimit
from service.preprocess import decode
from service.quality import Quality
from service.schemas import DoubtReason
from service.settings import SettingsError, load_settings
from tests.integration.server import ROOT
from tests.tiny_bundle import ITEMS, WIDTH, add_limits, write_bundle
from tests.tiny_graph import SIZE

GOOD = Quality(light=200.0, clipped=0.1, sharpness=80.0, contrast=60.0)
ALL = load_settings().doubt_limits


def unit(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answers(embedding: np.ndarray) -> Answers:
    """Of photos with these embeddings [N, E], of which nothing else is known."""
    nothing = np.zeros((len(embedding), 1), np.float32)
    return Answers(nothing, embedding, nothing.astype(np.int64), nothing, nothing[:, 0])


@pytest.fixture
def limited(tmp_path: Path) -> Path:
    path = write_bundle(tmp_path)
    add_limits(path, unit(ITEMS))
    return path


@pytest.mark.parametrize("temperature", [0.001, 0.12, 5.0])
def test_familiarity_is_the_density_of_its_definition(temperature: float) -> None:
    items, photos = unit(40), unit(7, seed=1)
    found = Familiarity(items, temperature).of(photos)
    cosines = photos.astype(float) @ items.T.astype(float)
    scaled = (cosines - 1.0) / temperature
    most = scaled.max(axis=1, keepdims=True)
    naive = temperature * (most[:, 0] + np.log(np.exp(scaled - most).mean(axis=1)))
    np.testing.assert_allclose(found, naive, atol=1e-4)
    assert found.dtype == np.float32


def test_familiarity_of_a_photo_does_not_depend_on_the_others() -> None:
    familiarity, photos = Familiarity(unit(40), 0.12), unit(9, seed=2)
    alone = np.concatenate([familiarity.of(photos[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(familiarity.of(photos), alone, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.001, 0.12, 5.0])
def test_what_groups_of_items_prove_is_so(temperature: float) -> None:
    items = unit(400)
    familiarity = Familiarity(items, temperature)
    photos = np.concatenate([unit(50, seed=1), items[:50], -items[:50]])
    proved = 0
    for photo in photos[:, np.newaxis]:
        found = float(familiarity.of(photo)[0])
        for below in (-0.01, 0.0001, 0.01, 0.3):
            surely = familiarity.surely(photo, found - below)
            proved += surely
            assert not surely or below >= 0.0
    assert proved > 0 or temperature < 0.1
    near, far = items[:1], -items.mean(axis=0, keepdims=True)
    assert not familiarity.surely(np.concatenate([near, far]), float(familiarity.of(far)[0]) + 0.01)
    assert not familiarity.surely(np.full((1, WIDTH), np.nan, np.float32), -2.0)


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (Quality(59.0, 0.1, 80.0, 60.0), "too_dark"),
        (Quality(200.0, 0.91, 80.0, 60.0), "too_bright"),
        (Quality(200.0, 0.1, 4.0, 60.0), "blurred"),
        (Quality(200.0, 0.1, 80.0, 9.0), "empty"),
    ],
)
def test_each_limit_is_told_where_it_is_not_kept(
    limited: Path, measured: Quality, reason: str
) -> None:
    doubts = open_doubts(read_bundle(limited), ALL)
    assert doubts.of_quality(vars(GOOD)) == ()
    (doubt,) = doubts.of_quality(vars(measured))
    assert doubt.reason == reason
    assert doubt.detail.startswith("expected ")
    assert doubt.measure != doubt.limit


def test_a_photo_on_the_limit_is_good(limited: Path) -> None:
    doubts = open_doubts(read_bundle(limited), ALL)
    assert doubts.of_quality(vars(Quality(60.0, 0.9, 5.0, 10.0))) == ()


def test_what_lies_far_from_the_bank_is_unfamiliar_and_what_lies_in_it_is_not() -> None:
    items = unit(ITEMS)
    doubts = Doubts({"unfamiliar": -0.5}, Familiarity(items, 0.1))
    near, far = doubts.of_answers(answers(np.stack([items[0], -items.mean(axis=0)])))
    assert near == ()
    assert [doubt.reason for doubt in far] == ["unfamiliar"]
    (no_number,) = doubts.of_answers(answers(np.full((1, WIDTH), np.nan, np.float32)))
    assert no_number


def test_a_graph_may_tell_how_familiar_a_photo_is(models_dir: Path) -> None:
    doubts = Doubts({"unfamiliar": -0.5})
    told = replace(answers(unit(3)), familiarity=np.array([-0.4, -0.6, np.nan], np.float32))
    near, far, no_number = doubts.of_answers(told)
    assert near == ()
    assert [(doubt.reason, doubt.measure) for doubt in far] == [("unfamiliar", -0.6)]
    assert no_number
    assert doubts.of_answers(answers(unit(3))) == [(), (), ()]  # nothing is known
    assert Doubts({}).of_answers(told) == [(), (), ()]
    path = models_dir / "tiny" / "1"
    manifest = read_manifest(path)
    fitted = {"accepted_share": 0.99, "split": "none", "photos": 1}
    limit = FamiliarityLimit(
        statistic="log_mean_exp_cosine", temperature=0.1, threshold=-0.5, **fitted
    )
    bundle = Bundle(path, manifest.model_copy(update={"familiarity": limit}))
    assert open_doubts(bundle, ALL).familiarity is None
    with pytest.raises(BundleError, match=r"lacks the outputs \['familiarity'\]"):
        Classifier(bundle)


def test_an_older_bundle_doubts_nothing(models_dir: Path) -> None:
    doubts = open_doubts(open_bundle(models_dir / "tiny" / "1"), ALL)
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    assert doubts.of(black, answers(unit(1))) == ()
    assert NONE.of(black, answers(unit(1))) == ()


def test_settings_switch_reasons_off_and_override_limits(limited: Path) -> None:
    bundle = read_bundle(limited)
    assert open_doubts(bundle, read_doubts("none")).limits == {}
    some = open_doubts(bundle, read_doubts("too_dark=20, blurred"))
    assert some.limits == {"too_dark": 20.0, "blurred": 5.0}
    assert some.familiarity is None


@pytest.mark.parametrize(
    "value", ["dark", "too_dark=low", "too_dark=nan", "too_dark,,", "none,empty"]
)
def test_a_setting_that_names_no_reason_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SUPERBIN_DOUBTS", value)
    with pytest.raises(SettingsError, match="SUPERBIN_DOUBTS: expected none, or some of too_dark"):
        load_settings()


def test_a_reason_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERBIN_DOUBTS", "too_dark,empty,too_dark=40")
    with pytest.raises(SettingsError, match="expected each reason once, got too_dark twice"):
        load_settings()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("blurred=-5", "0 to 510 for blurred, got 'blurred=-5'"),
        ("empty,too_bright=93", "0 to 1 for too_bright, got"),
        ("unfamiliar=2.5", "-2 to 2 for unfamiliar, got"),
    ],
)
def test_a_limit_that_no_photo_could_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, told: str
) -> None:
    monkeypatch.setenv("SUPERBIN_DOUBTS", value)
    with pytest.raises(SettingsError, match=f"SUPERBIN_DOUBTS: expected a limit of {told}"):
        load_settings()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((ITEMS - 1, WIDTH), np.float16),
        np.zeros((ITEMS, WIDTH), np.float32),
        np.full((ITEMS, WIDTH), np.nan, np.float16),
        np.array([None] * ITEMS),
    ],
    ids=["too few", "another type", "no numbers", "objects"],
)
def test_a_file_that_is_no_bank_is_refused(limited: Path, array: np.ndarray) -> None:
    np.save(limited / "known.npy", array, allow_pickle=True)
    manifest = json.loads((limited / MANIFEST).read_text())
    manifest["files"]["known.npy"] = record_of(limited / "known.npy").model_dump()
    (limited / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"known\.npy: expected"):
        open_doubts(read_bundle(limited), ALL)


def test_an_altered_file_and_one_without_a_hash_are_refused(limited: Path) -> None:
    manifest = json.loads((limited / MANIFEST).read_text())
    np.save(limited / "known.npy", unit(ITEMS, seed=5).astype(np.float16))
    with pytest.raises(BundleError, match="expected SHA-256"):
        read_bundle(limited)
    del manifest["files"]["known.npy"]
    (limited / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="familiarity without a SHA-256"):
        read_bundle(limited)


def test_files_are_doubted_without_a_server_too(limited: Path, tmp_path: Path) -> None:
    photo = ROOT / "tests" / "photos" / "metal.jpg"
    settings = load_settings(models_dir=tmp_path, model="tiny", doubts="too_dark=255")
    (result,) = classify_files([photo], settings)
    assert result.answer is not None
    assert result.answer.decision == "manual"
    assert [doubt.reason for doubt in result.answer.doubts] == ["too_dark"]


@pytest.mark.parametrize("version", ["1", "2", "4"])
def test_the_bundled_models_doubt_none_of_the_photos_that_come_with_them(version: str) -> None:
    bundle = open_bundle(ROOT / "models" / "refuse" / version)
    assert bundle.manifest.quality
    assert bundle.manifest.familiarity
    known: set[DoubtReason] = set(open_doubts(bundle, ALL).limits)
    assert known == set(ALL)
    settings = load_settings(models_dir=ROOT / "models", model=f"refuse/{version}")
    photos = [
        *(ROOT / "tests" / "photos").glob("*.jpg"),
        *(bundle.path / case.file for case in bundle.manifest.self_test),
    ]
    for result in classify_files(photos, settings):
        assert result.answer is not None
        assert result.answer.doubts == [], result.photo


def test_the_bundled_embeddings_are_those_of_the_graph() -> None:
    bundle = open_bundle(ROOT / "models" / "refuse" / "2")
    limit = bundle.manifest.familiarity
    assert limit
    assert limit.file
    items = read_items(bundle.path / limit.file, bundle)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1.0, atol=2e-3)
    # tests/photos/metal.jpg is in the bank, under this name.
    (place,) = [
        i
        for i, item in enumerate(bundle.manifest.bank.items)
        if item.id == "images/trashnet/metal/0010.jpg"
    ]
    photo = (ROOT / "tests" / "photos" / "metal.jpg").read_bytes()
    pixels = decode(photo, bundle.manifest.preprocessing)
    embedding = Classifier(bundle).run(pixels[np.newaxis]).embedding[0]
    assert embedding @ items[place] > 0.99
    assert int((items @ embedding).argmax()) == place
