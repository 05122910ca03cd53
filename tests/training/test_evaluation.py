"""Metrics, calibration and reports against libraries and hand-made cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from tests.tiny_matching import photo_of, write_bundle, write_photos
from training.calibrate import fit_temperature, fit_threshold, least_confidence
from training.data.photos import Photo
from training.evaluate import decisions, evaluate_target, print_report, summarise
from training.figures import confusion_matrix, draw_report
from training.metrics import balanced_accuracy, credible_interval, expected_calibration_error
from training.outcome import Outcome, softmax

NAMES = ("blue", "green", "red")


def made_up(photos: int = 200, seed: int = 0, sharpness: float = 2.0) -> Outcome:
    """Answers that are right about four times in five."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, photos)
    logits = random.normal(size=(photos, 3)) + sharpness * np.eye(3)[labels]
    embedding = random.normal(size=(photos, 8)).astype(np.float32)
    places = tuple(
        Photo(f"{i}.jpg", NAMES[k], f"kind{i % 4}", f"source{i % 2}") for i, k in enumerate(labels)
    )
    return Outcome(
        target="made up",
        split="test",
        superclasses=NAMES,
        photos=places,
        labels=labels,
        logits=logits,
        embedding=embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
        calibration={"temperature": 1.5, "confidence_threshold": 0.7},
        method="sclre",
    )


@pytest.mark.parametrize("gap", [0.2, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("photos", [10, 40, 700])
def test_photos_that_are_all_right_make_a_model_no_surer_than_one_more_error_would(
    gap: float, photos: int
) -> None:
    labels = np.arange(photos) % 3
    logits = gap * np.eye(3)[labels]
    probabilities = softmax(logits / fit_temperature(logits, labels))
    assert probabilities.max(axis=1) == pytest.approx((photos + 1) / (photos + 2), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_that_of_torchmetrics(seed: int) -> None:
    outcome = made_up(seed=seed)
    probabilities = outcome.probabilities(1.0)
    ours = expected_calibration_error(probabilities, outcome.labels)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(outcome.labels), 3, n_bins=15, norm="l1"
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_figures_are_those_of_scikit_learn() -> None:
    outcome = made_up()
    report = summarise(outcome)
    truth, answer = outcome.labels, outcome.predicted
    assert report["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, answer))
    recalls = recall_score(truth, answer, average=None)
    precisions = precision_score(truth, answer, average=None)
    for k, name in enumerate(NAMES):
        assert report["superclasses"][name]["recall"] == pytest.approx(recalls[k])
        assert report["superclasses"][name]["precision"] == pytest.approx(precisions[k])
    assert confusion_matrix(outcome).sum() == len(truth)
    assert np.diag(confusion_matrix(outcome)).sum() == (truth == answer).sum()


def test_groups_hold_every_photo_once() -> None:
    report = summarise(made_up())
    for key in ("sources", "subclasses"):
        assert sum(row["photos"] for row in report[key].values()) == report["photos"]


def test_a_superclass_without_photos_has_no_recall_and_is_not_counted() -> None:
    outcome = made_up()
    outcome.labels[:] = np.where(outcome.labels == 2, 1, outcome.labels)
    report = summarise(outcome)
    assert report["superclasses"]["red"]["recall"] is None
    assert report["balanced_accuracy"] == pytest.approx(
        balanced_accuracy(outcome.predicted, outcome.labels, 2)
    )


def test_the_interval_holds_the_figure_and_narrows_with_photos() -> None:
    few, many = made_up(60), made_up(6000)
    for name in ("accuracy", "balanced_accuracy"):
        widths = []
        for outcome in (few, many):
            low, high = credible_interval(outcome.predicted, outcome.labels, 3, name)
            assert low <= summarise(outcome)[name] <= high
            widths.append(high - low)
        assert widths[1] < widths[0] / 5


def test_temperature_is_recovered_from_logits_that_were_sharpened() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 3)) * 2
    cumulative = softmax(logits).cumsum(axis=1)
    labels = (random.random((20_000, 1)) > cumulative).sum(axis=1).clip(max=2)
    assert fit_temperature(logits * 3.0, labels) == pytest.approx(3.0, rel=0.05)


@given(
    seed=st.integers(0, 1000),
    photos=st.integers(1, 60),
    rate=st.floats(0.0, 0.5),
    ties=st.booleans(),
    least=st.sampled_from([0.0, 0.5]),
)
def test_the_threshold_keeps_to_the_error_rate_and_is_the_lowest(
    seed: int, photos: int, rate: float, ties: bool, least: float
) -> None:
    outcome = made_up(photos, seed, sharpness=1.0)
    probabilities = outcome.probabilities(1.0)
    if ties:
        probabilities = np.round(probabilities, 1)
    threshold, share = fit_threshold(probabilities, outcome.labels, rate, least)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == outcome.labels

    def risk(level: float) -> float:
        passed = confidence >= level
        return float((~correct[passed]).sum() / passed.sum())

    levels = np.unique(confidence)
    allowed = [level for level in levels if level >= least and risk(level) <= rate]
    if not allowed:
        assert (threshold, share) == (1.0, 0.0)
        return
    assert threshold == min(allowed)
    assert share == pytest.approx((confidence >= threshold).mean())


def test_what_is_more_likely_wrong_than_right_is_sorted_only_where_that_is_asked_for() -> None:
    assert least_confidence(0.01) == 0.5
    assert least_confidence(0.8) == pytest.approx(0.2)


def test_decisions_count_what_passes_the_threshold() -> None:
    outcome = made_up()
    passed = outcome.probabilities().max(axis=1) >= 0.7
    found = decisions(outcome)
    assert found["sorted_share"] == pytest.approx(passed.mean())
    wrong = (outcome.predicted != outcome.labels)[passed].mean()
    assert found["error_rate_of_sorted"] == pytest.approx(wrong)


def test_every_picture_is_drawn(tmp_path: Path) -> None:
    draw_report(made_up(40), tmp_path)
    drawn = sorted(file.stem for file in tmp_path.glob("*.png"))
    expected = ["confusion", "embedding", "embedding-umap", "reliability", "risk-coverage"]
    expected += ["subclasses", "subclasses-umap", "superclasses"]
    assert drawn == expected
    for name in drawn:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5  # not blank
    draw_report(made_up(2), tmp_path)  # too few to be laid out: no picture of others stays
    assert {file.stem for file in tmp_path.glob("*.png")} == {
        n for n in drawn if not n.startswith(("embedding", "subclasses"))
    }


@pytest.mark.parametrize(
    ("split", "told"), [("test", "has 2 of the 6 photos"), ("train", "no figure here is of new")]
)
def test_it_is_told_what_the_bank_has_of_the_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, told: str
) -> None:
    """Test has the first two photos of train under other names, and four new ones."""
    bundle = write_bundle(tmp_path / "models")
    data = write_photos(tmp_path / "data", ["paint", "peel", "can", "mug"], {"train": 8, "test": 1})
    with (data / "labels.csv").open("a", encoding="utf-8") as labels:
        for kind, superclass in (("can", "recyclable"), ("peel", "organic")):
            (data / "photos" / f"again-{kind}.png").write_bytes(photo_of(kind, 0))
            labels.write(f"photos/again-{kind}.png,drawn,{kind},{superclass},test\n")
    evaluate_target(bundle, data, split, tmp_path / "report", None, "cpu")
    assert told in " ".join(capsys.readouterr().out.split())
    known = json.loads((tmp_path / "report" / "report.json").read_text())["photos_in_bank"]
    assert known["photos"] == {"test": 2, "train": 32}[split]
    assert ("accuracy_without" in known) == (split == "test")


def test_names_are_shown_as_they_are_whatever_their_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = made_up(40)
    names = ("food [/ garden]", r"Pfand $\foo$", "[red]:car:")
    photos = tuple(
        replace(photo, superclass=names[k], subclass=rf"{photo.subclass} $\foo$")
        for photo, k in zip(outcome.photos, outcome.labels, strict=True)
    )
    named = replace(outcome, target="runs/[/x]", superclasses=names, photos=photos)
    print_report(summarise(named))
    shown = capsys.readouterr().out
    for name in ("runs/[/x]", *names):
        assert name in shown
    assert draw_report(named, tmp_path) is not None


def test_a_superclass_is_as_rich_as_its_subclasses_are_many_and_far_apart() -> None:
    outcome = made_up(60)
    report = summarise(outcome)["superclasses"]
    for k, name in enumerate(outcome.superclasses):
        groups: dict[str, list[np.ndarray]] = {}
        for photo, label, v in zip(outcome.photos, outcome.labels, outcome.embedding, strict=True):
            if label == k and photo.subclass is not None:
                groups.setdefault(photo.subclass, []).append(v)
        centres = [np.mean(group, axis=0) for group in groups.values()]
        centres = [centre / np.linalg.norm(centre) for centre in centres]
        apart = [1 - a @ b for i, a in enumerate(centres) for b in centres[:i]]
        assert report[name]["subclasses"] == len(groups)
        if apart:
            assert report[name]["subclass_spread"] == pytest.approx(np.mean(apart), abs=1e-6)
        else:
            assert report[name]["subclass_spread"] is None
