"""What temperature and threshold are fitted on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_matching import write_bundle, write_photos
from tests.training_runs import run
from training import checkpoint
from training.calibrate import calibrate_run
from training.config import Config
from training.data.photos import read_photos
from training.errors import DataError, RunError

Told = pytest.CaptureFixture[str]


def test_copies_of_what_the_bank_has_do_not_calibrate(
    make_dataset: Callable[..., Path],
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    capsys: Told,
) -> None:
    """By matching such a photo is answered by itself: right, and sure of it."""
    root, trained = make_dataset(), tmp_path / "run"
    config = tiny_config(
        method="matching",
        backbone={"frozen_groups": 18},
        matching={"width": 20},
        bank={"selection": "all"},
        train={"epochs": 0.1},
    )
    run(config, read_photos(root), trained)
    calibrate_run(trained, root, 0.2, None, "cpu")
    alone = json.loads((trained / "calibration.json").read_text())
    with (root / "labels.csv").open("a") as labels:
        for superclass in ("amber", "moss"):
            copy = f"images/{superclass}/copy.png"
            shutil.copy(root / f"images/{superclass}/train-00.png", root / copy)
            labels.write(f"{copy},drawn,,{superclass},val\n")
    capsys.readouterr()
    calibrate_run(trained, root, 0.2, None, "cpu")
    assert json.loads((trained / "calibration.json").read_text()) == alone
    assert alone["photos"] == 9
    told = "calibration on val: 2 of 11 photos are left out, since the bank has them"
    assert told in capsys.readouterr().out


def test_what_sclres_bank_has_by_name_does_not_calibrate(
    make_dataset: Callable[..., Path],
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    capsys: Told,
) -> None:
    root, trained = make_dataset(), tmp_path / "run"
    run(tiny_config(train={"epochs": 0.3}), read_photos(root), trained)
    _, state = checkpoint.load_model(trained)
    lines = (root / "labels.csv").read_text().splitlines()
    known = {item["path"] for item in state["bank"]}
    parts = [
        line.replace(",train", ",val") if line.split(",")[0] in known else line for line in lines
    ]
    (root / "labels.csv").write_text("\n".join(parts) + "\n")
    calibrate_run(trained, root, 0.2, None, "cpu")
    assert json.loads((trained / "calibration.json").read_text())["photos"] == 9
    assert "6 of 15 photos are left out" in capsys.readouterr().out
    (root / "labels.csv").write_text("\n".join(p for p in parts if "/val-" not in p) + "\n")
    with pytest.raises(DataError, match="calibration on val: expected photos that the bank does n"):
        calibrate_run(trained, root, 0.2, None, "cpu")


def test_a_bundle_is_no_run_and_stays_as_it_is(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "models")
    with pytest.raises(RunError):
        calibrate_run(bundle, write_photos(tmp_path / "data"), 0.2, None, "cpu")
    assert not (bundle / "calibration.json").exists()
