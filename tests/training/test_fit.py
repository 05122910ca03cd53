"""The training loop on tiny photos: it learns, and it says what it did."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from tests.training_runs import (
    ConfigMaker,
    DatasetMaker,
    assert_identical,
    run,
)
from training import checkpoint
from training.data.photos import read_photos
from training.data.store import open_store
from training.errors import ConfigError, DataError, RunError

RESNET = {"name": "resnet18", "stem": "cifar"}


@pytest.mark.parametrize(
    ("method", "train"),
    [
        ("sclre", {"ema": 0.0, "epochs": 10}),
        ("sclre", {"ema": 0.5, "epochs": 6, "precision": "bf16"}),
        ("cross_entropy", {"ema": 0.5, "epochs": 4, "optimiser": "sgd"}),
    ],
    ids=["sclre", "sclre-bf16-average", "cross-entropy-sgd"],
)
def test_it_learns_colours_and_answers_by_its_bank(
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    method: str,
    train: dict[str, Any],
) -> None:
    config = tiny_config(method=method, backbone=RESNET, train=train)
    photos = read_photos(make_dataset())
    got = run(config, photos, tmp_path / "run")
    history = got["history"]
    assert [line["step"] for line in history] == [3 * (i + 1) for i in range(train["epochs"])]
    assert max(line["val_accuracy"] for line in history) > 0.6  # chance is a third
    assert all(math.isfinite(value) for line in history for value in line.values())
    model, state = checkpoint.load_model(tmp_path / "run")
    assert not model.training
    assert state["superclasses"] == ["amber", "cobalt", "moss"]
    scores = [(line["val_accuracy"] + line["val_balanced"]) / 2 for line in history]
    assert state["val_score"] == max(scores)
    assert len(state["bank"]) == (6 if method == "sclre" else 0)
    if method == "sclre":
        trained = {photo.path: photo for photo in photos.split("train")}
        assert {item["superclass"] for item in state["bank"]} == set(state["superclasses"])
        for item in state["bank"]:
            assert item == trained[item["path"]].label()


def test_the_chosen_bank_belongs_to_the_chosen_weights(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    config = tiny_config(train={"epochs": 1})
    photos = read_photos(make_dataset())
    run(config, photos, tmp_path / "run")
    model, state = checkpoint.load_model(tmp_path / "run")
    store = open_store(photos.root, photos.split("train"), config.data.served())
    rows = [[p.path for p in store.photos].index(item["path"]) for item in state["bank"]]
    head: Any = model.head
    with torch.no_grad():
        features = model.features(torch.from_numpy(np.array(store.pixels[rows])))
        keys, values = head.attention.remember(head.projection(features))
    torch.testing.assert_close(head.bank_keys, keys, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.bank_values, values, rtol=1e-4, atol=1e-5)


def test_a_seed_gives_the_same_run_and_another_seed_another(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    config = tiny_config(train={"epochs": 1})
    one, same = (run(config, photos, tmp_path / name) for name in ("one", "same"))
    assert_identical(one, same)
    other = run(config.model_copy(update={"seed": 1}), photos, tmp_path / "other")
    assert other["history"] != one["history"]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, by inductor
def test_a_compiled_backbone_learns_the_same_and_its_run_is_like_any_other(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    backbone = {"name": "resnet18", "stem": "imagenet"}
    train = {"epochs": 1, "optimiser": "sgd", "lr": 0.05, "ema": 0.5}
    graphs_before = counters["stats"]["unique_graphs"]
    plain, compiled = (
        run(
            tiny_config(backbone=backbone, train={**train, "compile": compile}),
            photos,
            tmp_path / f"compile-{compile}",
        )
        for compile in (False, True)
    )
    assert counters["stats"]["unique_graphs"] > graphs_before
    for name in ("loss", "gradient_norm"):
        told = [line[name] for line in compiled["history"]]
        assert told == pytest.approx([line[name] for line in plain["history"]], rel=1e-3)
    mine, its = plain["model"]["weights"], compiled["model"]["weights"]
    assert list(its) == list(mine)
    for name in its:
        torch.testing.assert_close(its[name], mine[name], atol=2e-3, rtol=2e-2, msg=name)


def test_without_a_compiler_compiling_is_refused(
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    photos = read_photos(make_dataset())
    with pytest.raises(ConfigError, match=re.escape("expected a C++ compiler (no-such-compiler")):
        run(tiny_config(train={"compile": True}), photos, tmp_path / "run")


def test_bad_and_missing_photos_do_not_stop_it_and_are_listed(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    root = make_dataset()
    (root / "images/moss/train-00.png").write_bytes(b"not a photo")
    (root / "images/amber/val-01.png").write_bytes(b"")
    (root / "images/cobalt/train-03.png").unlink()
    (root / "images/cobalt/test-01.png").write_bytes(b"BM")
    got = run(tiny_config(train={"epochs": 1}), read_photos(root), tmp_path / "run")
    bad = json.loads((tmp_path / "run" / checkpoint.BAD_PHOTOS).read_text())
    assert set(bad) == {
        "images/moss/train-00.png",
        "images/amber/val-01.png",
        "images/cobalt/train-03.png",
        "images/cobalt/test-01.png",
    }
    assert "got 0 bytes" in bad["images/amber/val-01.png"]
    assert bad["images/cobalt/train-03.png"] == "missing"
    assert not set(bad) & {item["path"] for item in got["model"]["bank"]}


def test_photos_that_are_learned_and_measured_are_told(
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_dataset()
    for split in ("val", "test"):
        photo = (root / "images/moss/train-00.png").read_bytes()
        (root / f"images/moss/{split}-01.png").write_bytes(photo)
    run(tiny_config(train={"epochs": 1}), read_photos(root), tmp_path / "run")
    told = capsys.readouterr().out
    assert "warning: 2 photos of val or test are byte for byte photos that" in told
    assert "images/moss/val-01.png of val is images/moss/train-00.png of train, " in told


def test_a_superclass_without_one_good_photo_stops_it_before_the_first_step(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    root = make_dataset()
    for file in root.glob("images/moss/val-*.png"):
        file.write_bytes(b"not a photo")
    with pytest.raises(DataError, match="no photo of moss in the val split can be decoded"):
        run(tiny_config(), read_photos(root), tmp_path / "run")
    assert len(json.loads((tmp_path / "run" / checkpoint.BAD_PHOTOS).read_text())) == 3


def test_a_loss_that_is_no_number_stops_it_with_advice(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    wild = {"optimiser": "sgd", "lr": 1e30, "head_lr": 1e30, "warm_up": 0.0, "clip_norm": 1e30}
    with pytest.raises(RunError, match=r"the loss became .* lower train\.lr"):
        run(tiny_config(train=wild), read_photos(make_dataset()), tmp_path / "run")
