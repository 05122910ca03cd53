"""The training loop on tiny photos: it learns, it stops and goes on, and it says what it did."""

from __future__ import annotations

import itertools
import json
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from training import checkpoint
from training.config import Config, parse_config
from training.data.photos import PhotoSet, read_photos
from training.data.store import open_store
from training.errors import DataError, RunError
from training.fit import Interrupted, fit
from training.model import SuperclassModel, build_model
from training.optimise import build_optimiser, image_size, learning_rate_factor

ConfigMaker = Callable[..., Config]
DatasetMaker = Callable[..., Path]
RESNET = {"name": "resnet18", "stem": "cifar"}


def run(config: Config, photos: PhotoSet, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train as the command does, and give what the run folder holds."""
    if not resume:
        out.mkdir()
        checkpoint.write_record(out, config, "a test", "cpu", photos.summary())
    fit(config, photos, out, device="cpu", resume=resume)
    history = [json.loads(line) for line in (out / checkpoint.HISTORY).read_text().splitlines()]
    return {
        "checkpoint": checkpoint.load(out / checkpoint.CHECKPOINT),
        "model": checkpoint.load(out / checkpoint.MODEL),
        "history": history,
    }


@contextmanager
def signal_in_step(step: int, number: signal.Signals) -> Iterator[None]:
    """Raise a signal while the backbone is busy with training step `step`, counted from one."""
    passes = 0

    def count(module: nn.Module, inputs: object) -> None:
        nonlocal passes
        if module.training and hasattr(module, "groups") and callable(module.groups):
            passes += 1
            if passes == step:
                signal.raise_signal(number)

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        yield
    finally:
        hook.remove()


def assert_identical(one: Any, other: Any, place: str = "") -> None:
    """Bit by bit, through every dictionary and list."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_identical(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_identical(a, b, f"{place}[{index}]")
    else:
        assert one == other, place


@pytest.mark.parametrize(
    ("method", "train"),
    [
        ("sclre", {"ema": 0.0, "epochs": 4}),
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
            assert item == vars(trained[item["path"]])


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


@pytest.mark.parametrize(
    ("sections", "number"),
    [
        ({"method": "cross_entropy", "train": {"optimiser": "sgd"}}, signal.SIGTERM),
        (
            {
                "backbone": {"drop_path": 0.2, "frozen_groups": 2},
                "train": {"ema": 0.9, "precision": "bf16", "sizes": ((0.0, 16), (0.5, 24))},
            },
            signal.SIGINT,
        ),
    ],
    ids=["cross-entropy-sgd", "sclre-average-bf16-stochastic-depth-sizes"],
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


def test_a_seed_gives_the_same_run_and_another_seed_another(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    config = tiny_config(train={"epochs": 1})
    one, same = (run(config, photos, tmp_path / name) for name in ("one", "same"))
    assert_identical(one, same)
    other = run(config.model_copy(update={"seed": 1}), photos, tmp_path / "other")
    assert other["history"] != one["history"]


def test_bad_and_missing_photos_do_not_stop_it_and_are_listed(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    root = make_dataset()
    (root / "images/moss/train-00.png").write_bytes(b"not a photo")
    (root / "images/amber/val-01.png").write_bytes(b"")
    (root / "images/cobalt/train-03.png").unlink()
    got = run(tiny_config(train={"epochs": 1}), read_photos(root), tmp_path / "run")
    bad = json.loads((tmp_path / "run" / checkpoint.BAD_PHOTOS).read_text())
    assert set(bad) == {
        "images/moss/train-00.png",
        "images/amber/val-01.png",
        "images/cobalt/train-03.png",
    }
    assert "got 0 bytes" in bad["images/amber/val-01.png"]
    assert bad["images/cobalt/train-03.png"] == "missing"
    assert not set(bad) & {item["path"] for item in got["model"]["bank"]}


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


def test_resuming_a_finished_run_changes_nothing(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    config = tiny_config(train={"epochs": 1, "ema": 0.5})
    first = run(config, photos, tmp_path / "run")
    assert_identical(run(config, photos, tmp_path / "run", resume=True), first)


def test_the_average_is_kept_and_served_only_where_it_is_wanted(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    photos = read_photos(make_dataset())
    plain = run(tiny_config(train={"epochs": 1}), photos, tmp_path / "plain")
    assert plain["checkpoint"]["average"] is None
    name = "backbone._conv_stem.weight"
    best = plain["checkpoint"]["progress"]["best"][name]
    assert torch.equal(plain["model"]["weights"][name], best)
    assert torch.equal(best, plain["checkpoint"]["model"][name])

    averaged = run(tiny_config(train={"epochs": 1, "ema": 0.9}), photos, tmp_path / "averaged")
    state = averaged["checkpoint"]
    assert torch.equal(state["model"][name], plain["checkpoint"]["model"][name])
    assert not torch.equal(state["average"][name], state["model"][name])
    assert torch.equal(averaged["model"]["weights"][name], state["average"][name])


def test_the_average_is_that_of_the_formula(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    """a = d a + (1 - d) w after each step, d = min(ema, (1 + step) / (10 + step))."""
    photos = read_photos(make_dataset())
    config = tiny_config(train={"epochs": 1, "ema": 0.15})
    snapshots: list[dict[str, Tensor]] = []

    def note(optimiser: object, args: object, kwargs: object) -> None:
        params = [p for g in optimiser.param_groups for p in g["params"]]  # type: ignore[attr-defined]
        snapshots.append({str(i): p.detach().clone() for i, p in enumerate(params)})

    before = register_optimizer_step_pre_hook(note)
    after = register_optimizer_step_post_hook(note)
    try:
        got = run(config, photos, tmp_path / "run")
    finally:
        before.remove()
        after.remove()
    first, *_ = snapshots
    expected = dict(first)
    for step, weights in enumerate(snapshots[1::2]):
        decay = min(0.15, (1 + step) / (10 + step))
        expected = {k: decay * expected[k] + (1 - decay) * weights[k] for k in weights}
    model = build_model(config, 3)
    model.method.resize_bank(6)
    model.load_state_dict(got["checkpoint"]["average"])
    params = [p for g in build_optimiser(model, config).param_groups for p in g["params"]]
    for i, p in enumerate(params):
        torch.testing.assert_close(p.detach(), expected[str(i)], rtol=1e-4, atol=1e-6)


def test_norms_and_biases_do_not_decay_and_the_head_has_its_own_rate(
    tiny_config: ConfigMaker,
) -> None:
    config = tiny_config(
        backbone={"frozen_groups": 1}, train={"lr": 0.1, "head_lr": 0.2, "weight_decay": 0.3}
    )
    model: SuperclassModel = build_model(config, 3)
    groups = build_optimiser(model, config).param_groups
    listed = [p for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {p for p in model.parameters() if p.requires_grad}
    head = set(model.head.parameters())
    for group in groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.3 if p.ndim > 1 else 0.0)
            assert group["peak_lr"] == (0.2 if p in head else 0.1)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10] == 1.0
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))
    assert 0.0 < factors[-1] < 1e-3
    assert factors[55] == pytest.approx(0.5)
    assert [learning_rate_factor(s, 1, w) for s, w in ((0, 0.0), (0, 0.05))] == [1.0, 1.0]


def test_the_size_of_photos_follows_the_shares_of_training() -> None:
    record = {"name": "x", "data": {"px": 64}, "train": {"sizes": [[0.0, 32], [0.5, 48]]}}
    config = parse_config(record)
    assert [image_size(config, s) for s in (0.0, 0.49, 0.5, 0.99)] == [32, 32, 48, 48]
    assert image_size(parse_config({"name": "x", "data": {"px": 64}}), 0.3) == 64
