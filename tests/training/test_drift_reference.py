"""The drift reference: the numbers in it, and that it tells a changed camera from an unchanged."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import gumbel_r

from service.appearance import NAMES, Appearance, measure_appearance
from service.bundle import MODEL, read_bundle, sha256_of, write_manifest
from service.classifier import Answers, Classifier
from service.drift import CHECK_EVERY, DriftMonitor, Reading
from service.drift_reference import read_reference
from service.drift_window import Window
from service.preprocess import EXIF_ORIENTATION, Preprocessing, decode
from service.tags import UNTOLD, Tags
from tests import tiny_matching
from tests.photo_factory import noise
from tests.tiny_bundle import SUPERCLASSES, write_bundle
from training import drift_reference as module
from training.camera_changes import CHANGES, CameraChange, Random, encoded, jittered
from training.data.photos import Photo, PhotoSet, read_photos
from training.drift_reference import (
    calibrate,
    describe,
    highest_statistic,
    make_reference,
    mix_covariance,
    upper_quantile,
    with_drift_reference,
)
from training.errors import ConfigError, DataError
from training.looks import Looks, look, looks_of
from training.reference import add_references

PHOTOS = 120


def random_looks(seed: int = 0, photos: int = 200, takes: int = 3) -> Looks:
    random = np.random.default_rng(seed)
    each = random.normal(size=(1, photos, 6)) + 0.1 * random.normal(size=(takes, photos, 6))
    return Looks(
        embedding=each,
        superclass=random.integers(0, 4, (takes, photos)),
        confidence=random.uniform(0.3, 1.0, (takes, photos)),
        likeness=random.uniform(0.0, 1.0, (takes, photos)),
        appearance=random.normal(size=(takes, photos, len(NAMES))),
    )


def answer_of(usual: Looks, row: int) -> Answers:
    """What the model said of a photo in its first take."""
    probabilities = np.zeros((1, 4), np.float32)
    probabilities[0, usual.superclass[0, row]] = usual.confidence[0, row]
    return Answers(
        probabilities=probabilities,
        embedding=usual.embedding[:1, row].astype(np.float32),
        references=np.zeros((1, 1), np.int64),
        reference_weights=usual.likeness[:1, row, np.newaxis].astype(np.float32),
        self_weight=np.zeros(1, np.float32),
    )


def one_kind(photos: int) -> np.ndarray:
    return np.array([""] * photos)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """All of them val: blotches in the tones of two kinds."""
    root = tmp_path_factory.mktemp("photos")
    listed = []
    for number in range(PHOTOS):
        (root / f"{number}.jpg").write_bytes(noise(number))
        kind = ("can", "peel")[number % 2]
        superclass = ("recyclable", "organic")[number % 2]
        listed.append(Photo(f"{number}.jpg", superclass, kind, "here", "val"))
    return PhotoSet(root, tuple(listed), SUPERCLASSES)


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, photos: PhotoSet) -> Path:
    """A tiny bundle to which a reference was added."""
    path = write_bundle(tmp_path_factory.mktemp("models"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RUNS", 10)
        patch.setattr(module, "RUN_PHOTOS", 4000)
        with_drift_reference(path, read_bundle(path).manifest, photos)
    return path


def monitor_of(path: Path) -> DriftMonitor:
    reference = read_reference(read_bundle(path))
    assert reference is not None
    return DriftMonitor("tiny", SUPERCLASSES, reference, 8)


def answers_of(
    path: Path, photos: PhotoSet, change: CameraChange | None
) -> list[tuple[Answers, Appearance]]:
    """Of each photo, jittered, and changed strongly."""
    bundle = read_bundle(path)
    classifier = Classifier(bundle, threads=1)
    random = np.random.default_rng(5)
    found = []
    for photo in photos.split("val"):
        with Image.open(photos.root / photo.path) as image:
            data = jittered(image.convert("RGB"), random)
        if change:
            with Image.open(io.BytesIO(data)) as image:
                data = encoded(change.apply(image, change.strengths[-1], random), 90)
        pixels = decode(data, bundle.manifest.preprocessing)
        found.append((classifier.run(pixels[np.newaxis]), measure_appearance(pixels)))
    return found


# --- The numbers


def test_calibration_sees_what_the_service_will_see() -> None:
    """The highest statistic of a run, by filters there and photo by photo here."""
    usual = random_looks()
    reference = describe(usual, one_kind(200), 4)
    order = np.random.default_rng(1).integers(0, 200, 400)
    window, highest = Window(reference, UNTOLD), np.zeros(4)
    for count, row in enumerate(order, 1):
        window.add(answer_of(usual, row), usual.appearance[0, row].astype(np.float32))
        if window.enough and count % CHECK_EVERY == 0:
            highest = np.maximum(highest, window.statistics())
    parts = module._whitened(reference, usual)
    expected = [highest_statistic(part[0, order]) for part in parts]
    np.testing.assert_allclose(highest, expected, rtol=1e-3)


def test_deviations_are_white_where_there_is_one_kind() -> None:
    usual = random_looks()
    embedding, *bins, appearance = module._whitened(describe(usual, one_kind(200), 4), usual)
    for part in (embedding, appearance):
        flat = part.reshape(-1, part.shape[-1])
        np.testing.assert_allclose(flat.T @ flat / len(flat), np.eye(flat.shape[1]), atol=1e-4)
    for part in bins:  # of 8 bins 7 are free
        flat = part.reshape(-1, 8)
        variances = np.linalg.eigvalsh(flat.T @ flat / len(flat))
        np.testing.assert_allclose(variances, [0.0] + [1.0] * 7, atol=1e-3)


def test_the_mixs_covariance_is_that_of_dirichlet_draws() -> None:
    random = np.random.default_rng(2)
    kinds = np.array(["a"] * 50 + ["b"] * 30 + ["c"] * 20)
    deviations = random.normal(size=(2, 100, 3))
    found = mix_covariance(deviations, kinds)
    means = np.stack([deviations[:, kinds == kind].mean(axis=(0, 1)) for kind in "abc"])
    alpha = module.MIX_CONCENTRATION * np.array([0.5, 0.3, 0.2])
    drawn = random.dirichlet(alpha, 200_000) @ means
    np.testing.assert_allclose(found, np.cov(drawn.T), rtol=0.05, atol=1e-5)


def test_another_mix_of_kinds_moves_the_statistic_less_where_kinds_are_known() -> None:
    random = np.random.default_rng(3)
    usual = random_looks(3)
    kinds = np.array(["a", "b"])[random.integers(0, 2, 200)]
    shift = 3.0 * (kinds == "b")[:, np.newaxis]
    usual = replace(
        usual,
        embedding=usual.embedding + shift * np.eye(6)[0],
        appearance=usual.appearance + shift * np.eye(len(NAMES))[0],
    )
    only_b = np.flatnonzero(kinds == "b")[random.integers(0, (kinds == "b").sum(), 500)]
    for part, factor in ((0, 5.0), (3, 2.5)):  # the second has more directions that are free
        statistics = [
            highest_statistic(module._whitened(describe(usual, told, 4), usual)[part][0, only_b])
            for told in (one_kind(200), kinds)
        ]
        assert statistics[0] > factor * statistics[1]


def test_the_upper_quantile_is_gumbels() -> None:
    maxima = gumbel_r.rvs(loc=50.0, scale=4.0, size=20_000, random_state=4)
    expected = gumbel_r.ppf(0.999, loc=50.0, scale=4.0)
    assert upper_quantile(maxima, 0.001) == pytest.approx(expected, rel=0.02)


def test_thresholds_are_above_what_calm_runs_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS", 10)
    monkeypatch.setattr(module, "RUN_PHOTOS", 3000)
    usual = random_looks()
    reference = describe(usual, one_kind(200), 4)
    reference = calibrate(reference, usual, np.random.default_rng(0))
    random = np.random.default_rng(9)
    drawn = random.integers(0, 3, 3000), random.integers(0, 200, 3000)
    reached = [highest_statistic(part[drawn]) for part in module._whitened(reference, usual)]
    assert (np.array(reached) < reference.thresholds).all()


@pytest.mark.parametrize("sure", ["confidence", "likeness"])
def test_a_part_that_never_moves_raises_no_alarm_and_spoils_no_other(
    sure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS", 20)
    monkeypatch.setattr(module, "RUN_PHOTOS", 2000)
    usual = random_looks()
    usual = replace(usual, **{sure: np.ones_like(usual.confidence)})
    reference = calibrate(describe(usual, one_kind(200), 4), usual, np.random.default_rng(1))
    assert np.isfinite(reference.thresholds).all()
    assert (reference.thresholds > 0.0).all()
    window = Window(reference, UNTOLD)
    for row in range(200):
        window.add(answer_of(usual, row), usual.appearance[0, row])
    assert window.scores()[("embedding", "confidence", "likeness").index(sure)] == 0.0


def test_a_photo_is_turned_as_the_service_turns_it(bundle_path: Path, tmp_path: Path) -> None:
    """Phones store it lying on its side, and say so."""
    upright = Image.new("RGB", (40, 20), (250, 10, 10))
    upright.paste((10, 10, 250), (20, 0, 40, 20))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    seen: list[Image.Image] = []

    def take(image: Image.Image, random: Random) -> bytes:
        seen.append(image)
        return encoded(image, 90)

    classifier = Classifier(read_bundle(bundle_path))
    photos = (Photo("phone.png", "recyclable"),)
    look(classifier, tmp_path, photos, [take], "looks", np.random.default_rng(0))
    assert seen[0].tobytes() == upright.tobytes()


def test_takes_of_a_photo_stay_together() -> None:
    def answer(value: float) -> Answers:
        probabilities = np.array([[0.25, 0.75]], np.float32)
        weights = np.full((1, 5), value, np.float32)
        embedding = np.full((1, 2), value, np.float32)
        return Answers(probabilities, embedding, np.zeros((1, 5), np.int64), weights, weights[:, 0])

    values = (0.0, 0.1, 1.0, 1.1, 2.0, 2.1)
    appearances = [np.full(3, value, np.float32) for value in values]
    looks = looks_of([answer(value) for value in values], appearances, takes=2)
    assert looks.appearance[..., 0].round(1).tolist() == [[0.0, 1.0, 2.0], [0.1, 1.1, 2.1]]
    assert looks.likeness.round(1).tolist() == [[0.0, 1.0, 2.0], [0.1, 1.1, 2.1]]
    assert looks.embedding.shape == (2, 3, 2)
    assert (looks.superclass == 1).all()


# --- The whole


def test_the_bundle_gains_a_file_and_its_graph_stays(bundle_path: Path, tmp_path: Path) -> None:
    before = write_bundle(tmp_path)
    assert sha256_of(bundle_path / MODEL) == sha256_of(before / MODEL)
    manifest = read_bundle(bundle_path).manifest
    assert manifest.drift in manifest.files
    assert (bundle_path / str(manifest.drift)).stat().st_size < 50_000


def test_the_same_photos_are_no_drift_and_a_changed_camera_is(
    bundle_path: Path, photos: PhotoSet
) -> None:
    usual, (green,) = (
        answers_of(bundle_path, photos, None),
        [c for c in CHANGES if c.name == "green"],
    )
    changed = answers_of(bundle_path, photos, green)
    monitor = monitor_of(bundle_path)
    random = np.random.default_rng(6)
    for row in random.integers(0, PHOTOS, 1500):
        monitor.observe(UNTOLD, *usual[row])
        (reading,) = monitor.readings()
        assert reading.score < 1.0
    for row in random.integers(0, PHOTOS, 300):
        monitor.observe(UNTOLD, *changed[row])
    (reading,) = monitor.readings()
    words = {part.part: part.words for part in reading.parts if part.score > 1.0}
    assert green.words in words["embedding"]
    assert "are greener" in words["appearance"]


SPEC = Preprocessing(height=256, width=256)
TEXTURED = 120
MILD = ("warm", "cold", "green", "dark", "bright", "haze", "jpeg", "resolution", "blur")


@pytest.fixture(scope="module")
def textured() -> list[Image.Image]:
    """Parts of real photos."""
    random = np.random.default_rng(3)
    found = []
    for file in sorted((Path(__file__).parents[1] / "photos").glob("*.jpg")):
        with Image.open(file) as image:
            whole = image.convert("RGB")
        side = min(whole.size) * 3 // 4
        for _ in range(TEXTURED // 6):
            left, top = (int(random.integers(0, free - side + 1)) for free in whole.size)
            found.append(whole.crop((left, top, left + side, top + side)))
    return found


@pytest.fixture(scope="module")
def minded(textured: list[Image.Image]) -> tuple[DriftMonitor, Looks]:
    """A monitor for those photos by a model that says the same of them whatever the light."""
    random = np.random.default_rng(4)
    takes = [
        np.stack([measure_appearance(decode(jittered(one, random), SPEC)) for one in textured])
        for _ in range(3)
    ]
    usual = replace(random_looks(photos=TEXTURED), appearance=np.stack(takes).astype(np.float64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RUNS", 10)
        patch.setattr(module, "RUN_PHOTOS", 4000)
        reference = calibrate(describe(usual, one_kind(TEXTURED), 4), usual, random)
    return DriftMonitor("tiny", SUPERCLASSES, reference, len(CHANGES)), usual


@pytest.mark.parametrize("name", MILD)
def test_mild_changes_that_the_model_does_not_mind_are_flagged_within_500_photos(
    name: str, textured: list[Image.Image], minded: tuple[DriftMonitor, Looks]
) -> None:
    (change,) = [change for change in CHANGES if change.name == name]
    monitor, usual = minded
    random = np.random.default_rng(5)
    tags = Tags(camera=name)
    changed = []
    for image in textured:
        with Image.open(io.BytesIO(jittered(image, random))) as photo:
            data = encoded(change.apply(photo.convert("RGB"), change.strengths[0], random), 90)
        changed.append(measure_appearance(decode(data, SPEC)))

    def read_after(photos: int, appearances: Sequence[Appearance]) -> Reading:
        for row in random.integers(0, TEXTURED, photos):
            monitor.observe(tags, answer_of(usual, row), appearances[row])
        (reading,) = [one for one in monitor.readings() if one.tags == tags]
        return reading

    assert read_after(500, usual.appearance[0].astype(np.float32)).score < 1.0
    reading = read_after(500, changed)
    assert reading.score > 1.0
    assert reading.parts[0].part == "appearance"


def labelled(root: Path, superclasses: tuple[str, ...], photos: int) -> Path:
    """A folder of photos that are all val, but for one of each superclass in train."""
    root.mkdir()
    lines = ["path,superclass,split"]
    for number in range(photos):
        (root / f"{number}.jpg").write_bytes(noise(number))
        split = "train" if number < len(superclasses) else "val"
        lines.append(f"{number}.jpg,{superclasses[number % len(superclasses)]},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def test_the_command_adds_a_reference_and_makes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS", 5)
    monkeypatch.setattr(module, "RUN_PHOTOS", 500)
    path = write_bundle(tmp_path / "models", superclasses=tuple(sorted(SUPERCLASSES)))
    data = labelled(tmp_path / "photos", SUPERCLASSES, 110)
    for _ in range(2):
        add_references(path, data, None, only=["drift"])
        reference = read_reference(read_bundle(path))
        assert reference is not None
        assert reference.photos == 106
        assert [file.name for file in path.glob("*drift*")] == [read_bundle(path).manifest.drift]
    before = sorted((file.name, file.read_bytes()) for file in path.iterdir())
    out = path.parent / "next"
    add_references(path, data, None, only=["drift"], out=out)
    assert sorted((file.name, file.read_bytes()) for file in path.iterdir()) == before
    assert read_bundle(out).id == f"{path.parent.name}/next"
    assert read_reference(read_bundle(out)) is not None
    with pytest.raises(ConfigError, match="versions are never overwritten"):
        add_references(path, data, None, only=["drift"], out=out)


def test_the_card_of_another_version_has_its_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS", 5)
    monkeypatch.setattr(module, "RUN_PHOTOS", 500)
    path = write_bundle(tmp_path / "models", superclasses=tuple(sorted(SUPERCLASSES)))
    manifest = read_bundle(path).manifest  # tests list the card, real bundles do not
    files = {name: record for name, record in manifest.files.items() if name != "CARD.md"}
    write_manifest(path, manifest.model_copy(update={"files": files}))
    (path / "CARD.md").write_text(f"# {read_bundle(path).id}\n\nAnything.\n")
    data = labelled(tmp_path / "photos", SUPERCLASSES, 110)
    out = path.parent / "next"
    add_references(path, data, None, only=["drift"], out=out)
    assert (out / "CARD.md").read_text() == f"# {read_bundle(out).id}\n\nAnything.\n"


def test_photos_of_other_superclasses_are_refused(tmp_path: Path) -> None:
    data = labelled(tmp_path / "photos", ("wood", "stone"), 10)
    with pytest.raises(DataError, match="the model knows the superclasses"):
        add_references(write_bundle(tmp_path / "models"), data, None)


def test_too_few_photos_are_refused(photos: PhotoSet, tmp_path: Path) -> None:
    few = PhotoSet(photos.root, photos.photos[:20], SUPERCLASSES)
    with pytest.raises(DataError, match="expected at least 100 photos of val"):
        make_reference(read_bundle(write_bundle(tmp_path)), few)


def test_photos_that_the_bank_has_are_not_what_is_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "RUNS", 5)
    monkeypatch.setattr(module, "RUN_PHOTOS", 500)
    bundle = read_bundle(tiny_matching.write_bundle(tmp_path / "models"))
    data = tiny_matching.write_photos(tmp_path / "data", splits={"val": 17}, first=100)
    fair = make_reference(bundle, read_photos(data, to_learn=False))
    assert "left out" not in capsys.readouterr().out
    tiny_matching.add_val(data, range(8))  # the bank's own
    again = make_reference(bundle, read_photos(data, to_learn=False))
    assert again.photos == 102
    np.testing.assert_array_equal(again.thresholds, fair.thresholds)
    assert "drift reference from val: 48 of 150 photos are left out" in capsys.readouterr().out


# --- Photos


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_stronger_changes_change_photos_more(change: CameraChange) -> None:
    with Image.open(Path(__file__).parents[1] / "photos" / "glass.jpg") as image:
        whole = image.convert("RGB")
    before = np.asarray(whole, np.float64)
    moved = []
    for strength in change.strengths:
        changed = change.apply(whole, strength, np.random.default_rng(0))
        assert changed.mode == "RGB"
        after = np.asarray(changed.resize(whole.size), np.float64)
        moved.append(float(np.abs(after - before).mean()))
    assert moved[-1] > moved[0] > 0.5


def test_jitter_is_slight_and_never_the_same() -> None:
    with Image.open(Path(__file__).parents[1] / "photos" / "glass.jpg") as image:
        whole = image.convert("RGB")
    random = np.random.default_rng(0)
    takes = [jittered(whole, random) for _ in range(5)]
    assert len(set(takes)) == 5
    for take in takes:
        with Image.open(io.BytesIO(take)) as image:
            assert all(
                0.93 < new / old <= 1.0 for new, old in zip(image.size, whole.size, strict=True)
            )
            light = np.asarray(image).mean() / np.asarray(whole).mean()
        assert 0.9 < light < 1.1
