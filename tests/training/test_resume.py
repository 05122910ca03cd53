"""Runs that are stopped and go on end like those that were not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_runs import (
    ConfigMaker,
    DatasetMaker,
    assert_identical,
    run,
    signal_in_step,
)
from training import checkpoint
from training.data.photos import read_photos
from training.errors import RunError
from training.fit import Interrupted, fit


@pytest.mark.parametrize(
    ("sections", "number"),
    [
        (
            {
                "method": "cross_entropy",
                "cross_entropy": {"dropout": 0.5, "mixup": 0.4},
                "train": {"optimiser": "sgd"},
            },
            signal.SIGTERM,
        ),
        (
            {
                "backbone": {"drop_path": 0.2, "frozen_groups": 2},
                "train": {"ema": 0.9, "precision": "bf16", "sizes": ((0.0, 16), (0.5, 24))},
            },
            signal.SIGINT,
        ),
    ],
    ids=["cross-entropy-dropout-mixup-sgd", "sclre-average-bf16-stochastic-depth-sizes"],
)
@pytest.mark.parametrize("step", [2, 3, 6], ids=["mid-epoch", "at-an-epoch's-end", "at-the-end"])
def test_a_run_that_was_stopped_and_resumed_ends_bit_for_bit_like_one_that_was_not(
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    sections: dict[str, Any],
    number: signal.Signals,
    step: int,
) -> None:
    config = tiny_config(**sections)
    photos = read_photos(make_dataset())
    whole = run(config, photos, tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with (
        signal_in_step(step, number),
        pytest.raises(Interrupted, match=f"stopped at step {step} of 6"),
    ):
        run(config, photos, tmp_path / "stopped")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert checkpoint.load(tmp_path / "stopped" / checkpoint.CHECKPOINT)["progress"]["step"] == step
    with pytest.raises(RunError, match="the run has not finished"):
        checkpoint.load_model(tmp_path / "stopped")
    torch.manual_seed(12345)  # nothing may hang on what the process did before
    resumed = run(config, photos, tmp_path / "stopped", resume=True)
    assert_identical(resumed, whole)


def test_a_run_with_words_goes_on_with_the_same_words_or_not_at_all(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    words = tmp_path / "words.toml"
    lines = [f'{name} = ["{name} bottle", "{name} lamp"]' for name in photos.superclasses]
    words.write_text("\n".join(["[superclasses]", *lines]))
    config = tiny_config(
        method="matching",
        matching={"words": str(words)},
        backbone={"pretrained": True},
        bank={"selection": "all"},
    )
    whole = run(config, photos, tmp_path / "whole")
    assert len(whole["model"]["things"]) == 2 * len(lines)
    with signal_in_step(3, signal.SIGINT), pytest.raises(Interrupted):
        run(config, photos, tmp_path / "stopped")
    before = words.read_text()
    words.write_text(before.replace("lamp", "battery", 1))
    with pytest.raises(RunError, match=r"words\.toml have changed since"):
        run(config, photos, tmp_path / "stopped", resume=True)
    words.write_text(before)
    assert_identical(run(config, photos, tmp_path / "stopped", resume=True), whole)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_weights_of_the_best_epoch_are_kept_and_not_those_of_the_last(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path, ema: float
) -> None:
    config, photos = tiny_config(train={"ema": ema}), read_photos(make_dataset())
    out = tmp_path / "run"
    with signal_in_step(3, signal.SIGINT), pytest.raises(Interrupted):
        run(config, photos, out)
    state = checkpoint.load(out / checkpoint.CHECKPOINT)
    state["progress"]["best_score"] = 1.5  # so that the first epoch stays the best
    checkpoint.save(out / checkpoint.CHECKPOINT, state)
    got = run(config, photos, out, resume=True)
    best, last = state["progress"]["best"], got["checkpoint"]["average" if ema else "model"]
    for name, weight in got["model"]["weights"].items():
        if not name.startswith("head.bank_"):
            assert torch.equal(weight, best[name]), name
    assert not torch.equal(best["backbone._conv_stem.weight"], last["backbone._conv_stem.weight"])


def test_a_second_signal_ends_the_run_at_once(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    with (
        signal_in_step(2, signal.SIGINT),
        signal_in_step(2, signal.SIGINT),
        pytest.raises(KeyboardInterrupt),
    ):
        run(tiny_config(), photos, tmp_path / "run")


def test_a_run_that_ended_before_its_first_checkpoint_can_be_resumed_and_none_is_overwritten(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    config = tiny_config(train={"epochs": 0.3})
    out = tmp_path / "run"
    out.mkdir()
    fit(config, photos, out, device="cpu", resume=True)
    before = (out / checkpoint.CHECKPOINT).read_bytes()
    with pytest.raises(RunError, match="already holds a run; add --resume"):
        fit(config, photos, out, device="cpu")
    assert (out / checkpoint.CHECKPOINT).read_bytes() == before


def test_a_run_does_not_go_on_with_other_photos(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    root = make_dataset()
    out = tmp_path / "run"
    with signal_in_step(2, signal.SIGTERM), pytest.raises(Interrupted):
        run(tiny_config(), read_photos(root), out)
    photo = root / "images/moss/train-00.png"
    before = photo.read_bytes()
    photo.write_bytes((root / "images/amber/train-00.png").read_bytes() + b"longer")
    with pytest.raises(RunError, match=r"photos in .*photos have changed since .*run was started"):
        run(tiny_config(), read_photos(root), out, resume=True)
    photo.write_bytes(before)  # of another age
    run(tiny_config(), read_photos(root), out, resume=True)


def test_resuming_a_finished_run_changes_nothing(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    config = tiny_config(train={"epochs": 1, "ema": 0.5})
    first = run(config, photos, tmp_path / "run")
    assert_identical(run(config, photos, tmp_path / "run", resume=True), first)
