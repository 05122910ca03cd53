"""The bank's curve: its picture, and splits that it cannot be measured on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training_runs import run
from training.bank_curve import SELECTIONS, _draw, measure_bank_curve
from training.config import Config
from training.data.photos import read_photos
from training.errors import DataError
from training.outcome import measure


def test_sizes_of_banks_stand_as_numbers_below_the_curves() -> None:
    figures = {"accuracy": 0.5, "balanced_accuracy": 0.5}
    spreads = {f"{name}_spread": 0.1 for name in figures}
    rows = [
        {"selection": rule, "size": size, **figures, **spreads}
        for rule in SELECTIONS
        for size in (4, 8, 16)
    ]
    figure = _draw(rows, "val")
    figure.canvas.draw()
    for axes in figure.axes:
        assert {"4", "8", "16"} <= {label.get_text() for label in axes.get_xticklabels()}


def test_photos_of_other_superclasses_are_refused(
    make_dataset: Callable[..., Path], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    data, trained = make_dataset(), tmp_path / "run"
    run(tiny_config(train={"epochs": 0.3}), read_photos(data), trained)
    labels = data / "labels.csv"
    labels.write_text(labels.read_text().replace(",moss,", ",wood,"))
    told = r"knows the superclasses .*'moss'\], and .* has .*'wood'\]; name photos of the same ones"
    with pytest.raises(DataError, match=told):
        measure_bank_curve(trained, data, "val", tmp_path, None, "cpu")
    assert not (tmp_path / "bank-curve.json").exists()


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_a_split_without_photos_that_decode_is_refused_by_its_name(
    make_dataset: Callable[..., Path], tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    data, trained = make_dataset(), tmp_path / "run"
    run(tiny_config(train={"epochs": 0.3}), read_photos(data), trained)
    with pytest.raises(DataError, match="no photo in the split 'tset', but 24 in train, 9 in val"):
        measure_bank_curve(trained, data, "tset", tmp_path, None, "cpu")
    for file in data.rglob("test-*.png"):
        file.write_bytes(b"no photo")
    told = (
        r"in the split 'test' that can be decoded, got 6 that cannot; first: images/amber/test-00"
    )
    with pytest.raises(DataError, match=told):
        measure_bank_curve(trained, data, "test", tmp_path, None, "cpu")
    with pytest.raises(DataError, match=told):
        measure(trained, data, "test", None, "cpu")
    measure_bank_curve(trained, data, "val", tmp_path, None, "cpu")
    assert (tmp_path / "bank-curve.png").is_file()
