"""The optimiser's groups, the schedule, the sizes and the weights' average."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from tests.training_runs import (
    ConfigMaker,
    DatasetMaker,
    run,
)
from training.data.photos import read_photos
from training.model import SuperclassModel, build_model
from training.optimise import build_optimiser, image_size, learning_rate_factor
from training.records import parse_config


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
