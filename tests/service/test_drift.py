"""What the windows of drift say, against SciPy and against naive versions."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry
from scipy.spatial.distance import mahalanobis
from scipy.stats import chisquare

from service.appearance import NAMES, Appearance
from service.bundle import Bundle, read_manifest
from service.classifier import Answers
from service.drift import OTHER, DriftMonitor
from service.drift_metrics import DriftGauges
from service.drift_reference import DRIFT, DriftReference, read_reference, write_reference
from service.drift_window import Window, surprise
from service.errors import BundleError
from service.tags import UNTOLD, Tags
from tests.tiny_bundle import (
    SUPERCLASSES,
    WIDTH,
    forget_appearance,
    tiny_reference,
    write_bundle,
)

LINE = Tags("plant", "1", "left")


def answer(
    embedding: npt.ArrayLike, superclass: int = 0, confidence: float = 0.95, weight: float = 0.5
) -> Answers:
    """A lone photo's."""
    others = (1.0 - confidence) / (len(SUPERCLASSES) - 1)
    row = np.full((1, len(SUPERCLASSES)), others, np.float32)
    row[0, superclass] = confidence
    return Answers(
        probabilities=row,
        embedding=np.array(embedding, np.float32)[np.newaxis],
        references=np.zeros((1, 1), np.int64),
        reference_weights=np.array([[weight]], np.float32),
        self_weight=np.zeros(1, np.float32),
    )


def usual(random: np.random.Generator, superclass: int = 0) -> Answers:
    """As `tiny_reference` says that they are."""
    share = 1.0 - 10.0 ** (-3.5 + random.integers(4))  # the middle of a bin
    confidence = 1.0 - 10.0 ** (-3.5 + random.integers(4))
    embedding = random.normal(size=WIDTH) / WIDTH**0.5
    return answer(embedding, superclass, max(confidence, 0.26), max(share, 0.0))


def window_of(photos: list[Answers], reference: DriftReference | None = None) -> Window:
    window = Window(reference or tiny_reference(), LINE)
    for photo in photos:
        window.add(photo)
    return window


def with_arrays(reference: DriftReference, **arrays: npt.NDArray[np.float32]) -> DriftReference:
    return DriftReference(**(vars(reference) | arrays))


def weights(photos: int, window: int = 20) -> npt.NDArray[np.float64]:
    """Of each photo in the moving average, the last 1."""
    return (1.0 - 2.0 / (window + 1)) ** np.arange(photos)[::-1]


# --- Statistics


def test_the_embeddings_statistic_is_mahalanobis_distance_of_the_weighted_mean() -> None:
    random = np.random.default_rng(0)
    means = random.normal(size=(4, WIDTH)).astype(np.float32)
    whitening = random.normal(size=(WIDTH, WIDTH)).astype(np.float32)
    reference = with_arrays(tiny_reference(), means=means, whitening=whitening)
    rows = random.normal(size=(50, WIDTH)).astype(np.float32)
    predicted = random.integers(0, 4, 50)
    window = window_of([answer(*pair) for pair in zip(rows, predicted, strict=True)], reference)

    w = weights(50)
    mean = np.average(rows - means[predicted], axis=0, weights=w)
    distance = mahalanobis(mean, np.zeros(WIDTH), whitening @ whitening.T)
    photos = w.sum() ** 2 / (w**2).sum()
    assert window.weight == pytest.approx(photos)
    assert window.statistics()[0] == pytest.approx(photos * distance**2, rel=1e-5)


def test_the_histograms_statistics_are_chi_square_of_weighted_counts() -> None:
    random = np.random.default_rng(1)
    photos = [usual(random) for _ in range(60)]
    window = window_of(photos)
    edges = [-3.0, -2.0, -1.0]
    w = weights(60) * window.weight / weights(60).sum()
    confidences = [surprise(float(photo.probabilities[0, 0])) for photo in photos]
    likenesses = [surprise(float(photo.reference_weights[0, 0])) for photo in photos]
    for part, values in ((1, confidences), (2, likenesses)):
        counts = np.bincount(np.digitize(values, edges, right=True), weights=w, minlength=4)
        assert window.statistics()[part] == pytest.approx(chisquare(counts).statistic, rel=1e-6)


def test_long_runs_weigh_as_much_as_the_window() -> None:
    random = np.random.default_rng(2)
    assert window_of([usual(random) for _ in range(300)]).weight == pytest.approx(20.0, abs=0.01)


def test_another_mix_of_superclasses_is_no_drift() -> None:
    """The averages are of what is left when a superclass's own mean is taken away."""
    random = np.random.default_rng(3)
    means = (10.0 * random.normal(size=(4, WIDTH))).astype(np.float32)
    shares = np.zeros((2, 4, 4), np.float32)
    shares[:, :, 0] = [1.0, 1.0, 1.0, 0.0]
    shares[:, 3, 3] = 1.0  # one superclass is always unsure
    reference = with_arrays(tiny_reference(), means=means, shares=shares)
    sure = [answer(means[k], k, 0.99995, 0.99995) for k in (0, 1, 2)]
    unsure = answer(means[3], 3, 0.5, 0.5)
    window = window_of([*sure, unsure] * 20, reference)
    before = window.statistics()
    for _ in range(100):
        window.add(unsure)
    np.testing.assert_allclose([before, window.statistics()], 0.0, atol=1e-4)


def test_a_moved_embedding_and_a_fallen_confidence_are_each_told_by_their_part() -> None:
    random = np.random.default_rng(4)
    window = window_of([usual(random) for _ in range(100)])
    assert window.scores().max() < 1.0
    for _ in range(40):
        window.add(answer(np.eye(WIDTH)[0], confidence=0.4))
    embedding, confidence, _ = window.scores()
    assert embedding > 1.0
    assert confidence > 1.0
    assert window.shifts()[0] == pytest.approx(0.4 - 0.9, abs=0.02)
    assert np.isnan(window.shifts()[1:]).all()
    assert "mean confidence 0.4" in window.confidence_words()
    assert "usually 0.900" in window.confidence_words()


WATCHED = tiny_reference(statistics=NAMES)


def looking(**moved: float) -> Appearance:
    """Usual but for these statistics."""
    return np.array([moved.get(name, 0.0) for name in NAMES], np.float32)


def test_the_appearances_statistic_is_mahalanobis_distance_of_the_weighted_mean() -> None:
    random = np.random.default_rng(7)
    size = len(NAMES)
    means = random.normal(size=(4, size)).astype(np.float32)
    whitening = random.normal(size=(size, size)).astype(np.float32)
    reference = with_arrays(WATCHED, appearance_means=means, appearance_whitening=whitening)
    rows = random.normal(size=(50, size)).astype(np.float32)
    predicted = random.integers(0, 4, 50)
    window = Window(reference, LINE)
    for row, superclass in zip(rows, predicted, strict=True):
        window.add(answer(np.zeros(WIDTH), superclass), row)
    mean = np.average(rows - means[predicted], axis=0, weights=weights(50))
    distance = mahalanobis(mean, np.zeros(size), whitening @ whitening.T)
    assert window.statistics()[3] == pytest.approx(window.weight * distance**2, rel=1e-4)


def test_what_moved_most_in_the_photos_looks_is_named_with_its_direction() -> None:
    random = np.random.default_rng(8)
    told = {}
    for name, appearance in {
        "darker": looking(light=-2.0, contrast=-0.5),
        "warmer": looking(warmth=2.0),
        "both": looking(warmth=-2.0, greenness=1.9),
    }.items():
        watched = DriftMonitor("tiny", SUPERCLASSES, WATCHED, 3)
        for _ in range(100):
            watched.observe(LINE, usual(random), appearance)
        (reading,) = watched.readings()
        assert reading.score > 1.0
        assert reading.parts[0].part == "appearance"
        told[name] = reading.parts[0].words
    deviations = 2.0 * 20.0**0.5  # of the mean of as many photos as the window holds
    by = f"({deviations:.1f} standard deviations of their mean)"
    assert told["darker"] == f"photos are darker {by}"
    assert told["warmer"] == f"photos are warmer {by}"
    assert told["both"] == f"photos are colder {by} and are greener ({0.95 * deviations:.1f})"


def test_a_photo_without_its_appearance_is_refused_where_that_is_watched() -> None:
    with pytest.raises(ValueError, match="expected the photo's appearance, got none"):
        Window(WATCHED, LINE).add(answer(np.zeros(WIDTH)))


def test_there_is_no_score_before_there_are_photos_enough() -> None:
    window = window_of([answer(np.eye(WIDTH)[0], confidence=0.3)] * 7)
    assert not window.enough
    assert window.scores().max() == 0.0
    window.add(answer(np.eye(WIDTH)[0], confidence=0.3))  # two fifths of 20
    assert window.enough
    assert window.scores().max() > 1.0


def test_a_change_that_moves_the_embedding_is_named_where_it_is_known() -> None:
    reference = tiny_reference(words=("less light", "a turned camera"))
    turned = window_of([answer(np.eye(WIDTH)[1])] * 20, reference)
    assert "most like a turned camera (1.00)" in turned.likest()
    other = window_of([answer(np.eye(WIDTH)[5])] * 20, reference)
    assert "no way that has a name" in other.likest()


# --- Tags


def monitor(max_tags: int = 3) -> DriftMonitor:
    return DriftMonitor("tiny", SUPERCLASSES, tiny_reference(), max_tags)


def test_a_drifting_camera_is_seen_beside_one_that_is_not() -> None:
    random = np.random.default_rng(5)
    watched = monitor()
    for _ in range(50):
        watched.observe(Tags(camera="good"), usual(random))
        watched.observe(Tags(camera="bad"), answer(np.eye(WIDTH)[0]))
    bad, good = watched.readings()
    assert (bad.tags.camera, good.tags.camera) == ("bad", "good")
    assert bad.score >= 1.0 > good.score
    assert bad.photos == good.photos == 50
    assert bad.parts[0].part == "embedding"


def test_of_two_versions_of_a_model_the_metrics_tell_the_worse() -> None:
    random = np.random.default_rng(5)
    calm, moved = monitor(), monitor()
    for _ in range(50):
        calm.observe(Tags(camera="left"), usual(random))
        moved.observe(Tags(camera="left"), answer(np.eye(WIDTH)[0]))
    registry = CollectorRegistry()
    read = [("tiny", reading) for one in (moved, calm) for reading in one.readings()]
    DriftGauges(registry, shared=False).publish(read)
    labels = {"model": "tiny", "site": "", "line": "", "camera": "left"}
    assert registry.get_sample_value("superbin_drift_score", labels) == read[0][1].score
    assert registry.get_sample_value("superbin_drift_photos", labels) == 100


def test_a_window_fills_at_once_and_then_takes_so_many_photos_a_second() -> None:
    reference = tiny_reference()
    window = Window(reference, UNTOLD)
    length = int(reference.window)
    at_once = [window.takes(100.0, 50.0) for _ in range(3 * length)]
    assert sum(at_once) in (length, length + 1)
    assert at_once == sorted(at_once, reverse=True)
    each_10_ms = [window.takes(100.0 + ms / 1000, 50.0) for ms in range(10, 2010, 10)]
    assert sum(each_10_ms) == pytest.approx(100, abs=2)
    assert window.takes(1000.0, 50.0)


def test_each_camera_is_watched_as_often_as_if_it_were_alone() -> None:
    watched = DriftMonitor("tiny", SUPERCLASSES, tiny_reference(), 8, most_per_s=1e-6)
    length = int(tiny_reference().window)
    for tags in (Tags(camera="left"), Tags(camera="right")):
        watched.observe(tags, answer(np.zeros(WIDTH)))
        assert sum(watched.watches(tags) for _ in range(5 * length)) in (length, length + 1)
    assert all(monitor().watches(UNTOLD) for _ in range(5 * length))  # without a limit


def test_who_asks_whether_a_photo_is_watched_opens_no_window() -> None:
    watched = DriftMonitor("tiny", SUPERCLASSES, tiny_reference(), 1, most_per_s=1e-6)
    assert all(watched.watches(Tags(camera=str(i))) for i in range(5))
    assert list(watched.readings()) == []
    photo = answer(np.zeros(WIDTH))
    for camera in ("left", "right"):  # the second is one too many, and counted as other
        watched.observe(Tags(camera=camera), photo)
    at_once = [sum(watched.watches(tags) for _ in range(500)) for tags in (Tags(site="a"), OTHER)]
    assert 0 < at_once[0] < 500
    assert at_once[1] == 0  # of the same window


def test_tags_beyond_the_limit_share_one_window_and_known_ones_keep_theirs() -> None:
    watched = monitor(max_tags=3)
    photo = answer(np.zeros(WIDTH))
    watched.observe(UNTOLD, photo)
    for number in range(500):
        watched.observe(Tags(site=f"site-{number}"), photo)
    watched.observe(Tags(site="site-1"), photo)
    photos = {reading.tags: reading.photos for reading in watched.readings()}
    assert photos == {
        UNTOLD: 1,
        Tags(site="site-0"): 1,
        Tags(site="site-1"): 2,
        Tags(site="site-2"): 1,
        OTHER: 497,
    }


def test_tags_that_had_no_photo_for_a_day_make_room_for_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after somebody made up cameras until there was no room."""
    watched = monitor(max_tags=2)
    photo = answer(np.zeros(WIDTH))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    def observed(camera: str | None, *, hours: float) -> set[str | None]:
        nonlocal now
        now += hours * 3600
        assert watched.watches(Tags(camera=camera))
        watched.observe(Tags(camera=camera), photo)
        return {reading.tags.camera for reading in watched.readings()}

    watched.observe(UNTOLD, photo)
    assert observed("made-up", hours=0) == {None, "made-up"}
    assert observed("left", hours=12) == {None, "made-up", "left"}
    assert observed("right", hours=11) == {None, "made-up", "left", "other"}
    assert observed("right", hours=2) == {None, "left", "right", "other"}
    assert observed("right", hours=9) == {None, "left", "right", "other"}
    assert observed("third", hours=1) == {None, "left", "right", "other"}
    assert observed("third", hours=2) == {None, "right", "third", "other"}
    assert observed(None, hours=99) == {None, "right", "third", "other"}


def test_a_window_takes_no_more_memory_with_more_photos() -> None:
    random = np.random.default_rng(6)
    window = window_of([usual(random)])
    arrays = {name: value for name, value in vars(window).items() if hasattr(value, "nbytes")}
    small = sum(map(sys.getsizeof, arrays.values()))
    for _ in range(1000):
        window.add(usual(random))
    assert sum(sys.getsizeof(getattr(window, name)) for name in arrays) == small


# --- The file


def test_a_reference_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, drift=True)
    found = read_reference(Bundle(path, read_manifest(path)))
    assert found is not None
    for name, array in vars(WATCHED).items():
        np.testing.assert_array_equal(getattr(found, name), array)


def test_a_reference_of_before_there_was_appearance_watches_the_rest(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, drift=True)
    forget_appearance(path)
    found = read_reference(Bundle(path, read_manifest(path)))
    assert found is not None
    assert not found.watches_appearance
    for name, array in vars(tiny_reference()).items():
        np.testing.assert_array_equal(getattr(found, name), array)
    watched = DriftMonitor("tiny", SUPERCLASSES, found, 3)
    for _ in range(40):
        watched.observe(LINE, answer(np.eye(WIDTH)[0], confidence=0.4))
    (reading,) = watched.readings()
    assert {part.part for part in reading.parts} == {"embedding", "confidence", "likeness"}
    assert reading.score > 1.0


def test_a_bundle_without_a_reference_has_none(tmp_path: Path) -> None:
    path = write_bundle(tmp_path)
    assert read_reference(Bundle(path, read_manifest(path))) is None


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("means", np.zeros((3, WIDTH), np.float32)),
        ("whitening", np.eye(WIDTH)),  # float64
        ("thresholds", np.array([1.0, np.nan, 1.0], np.float32)),
        ("edges", np.zeros((2, 7), np.float32)),
        ("thresholds", np.ones(3, np.float32)),  # of four parts
        ("appearance_means", np.zeros((4, 0), np.float32)),
        ("appearance_whitening", np.full((len(NAMES), len(NAMES)), np.inf, np.float32)),
        ("appearance_scales", np.ones(len(NAMES))),  # float64
    ],
)
def test_a_reference_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, array: npt.NDArray[np.float32]
) -> None:
    path = write_bundle(tmp_path, drift=True)
    write_reference(path / DRIFT, with_arrays(WATCHED, **{name: array}))
    with pytest.raises(BundleError, match=f"expected {name} to be finite float32"):
        read_reference(Bundle(path, read_manifest(path)))


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("statistics", np.array(["light", "smell"]), "expected the statistics .*, got .*smell"),
        ("statistics", np.zeros(0, "U1"), "expected thresholds to be finite float32 .3., got"),
        ("appearance_scales", np.zeros(len(NAMES), np.float32), "appearance_scales above 0"),
        ("means", None, "expected the arrays of a drift reference, got no .*means"),
    ],
)
def test_statistics_that_are_others_or_not_there_are_refused(
    tmp_path: Path, name: str, array: npt.NDArray[np.float32] | None, told: str
) -> None:
    path = write_bundle(tmp_path, drift=True)
    arrays = vars(WATCHED) | ({} if array is None else {name: array})
    if array is None:
        del arrays[name]
    with (path / DRIFT).open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(BundleError, match=told):
        read_reference(Bundle(path, read_manifest(path)))


@pytest.mark.parametrize("data", [b"", b"PK not really", b"\x93NUMPY"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = write_bundle(tmp_path, drift=True)
    (path / DRIFT).write_bytes(data)
    with pytest.raises(BundleError, match="expected the arrays of a drift reference"):
        read_reference(Bundle(path, read_manifest(path)))


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, drift=True)
    hostile = vars(tiny_reference()) | {"words": np.array([{}], dtype=object)}
    with (path / DRIFT).open("wb") as file:
        np.savez(file, **hostile)
    with pytest.raises(BundleError, match="expected the arrays of a drift reference"):
        read_reference(Bundle(path, read_manifest(path)))


def test_a_manifest_lists_the_file_that_it_names(tmp_path: Path) -> None:
    path = write_bundle(tmp_path, drift=True)
    manifest = read_manifest(path)
    files = {name: record for name, record in manifest.files.items() if name != DRIFT}
    with pytest.raises(ValueError, match="expected a listed file as drift"):
        type(manifest).model_validate(manifest.model_dump() | {"files": files})
