"""Two processes over gloo compute what one does with the whole batch, gradients included."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training_processes import (
    agreements,
    batch_of,
    built,
    draws,
    gathered,
    gradients_of_share,
    in_processes,
    norms,
    several,
    step_of,
)
from tests.training_runs import ConfigMaker, DatasetMaker, run
from training import checkpoint
from training.augment import augment
from training.config import AugmentConfig, Config, parse_config
from training.data.photos import read_photos
from training.outcome import measure

RESNET = {"name": "resnet18", "stem": "cifar", "pretrained": False}
LITE = {"name": "efficientnet_lite0", "pretrained": True}
HEADS: dict[str, dict[str, Any]] = {
    "sclre": {},
    "sclre-batch-mean": {"sclre": {"contrastive_mean": "batch"}},
    "cross_entropy": {},
    "supcon": {},
    "simclr": {},
    "moco": {"contrastive": {"hidden": 16, "width": 8, "queue": 30, "momentum": 0.5}},
    "george": {"george": {"most_clusters": 2, "step_size": 0.5}},
}
NAIVE = ("sclre", "supcon", "simclr", "george")  # whose loss is no mean over photos
SYNCED = "sclre-synced"
ROWS = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
PHOTOS = torch.randint(0, 256, (6, 20, 20, 3), dtype=torch.uint8)
IMAGES = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(3)) * 2 + 5


def record_of(name: str) -> Config:
    """A record of the method in `HEADS` with a small head."""
    sections = {"train": {"precision": "fp32", "sync_batchnorm": name == SYNCED}}
    small = {"hidden": 32, "width": 16, "heads": 4, "key_width": 16}
    given = HEADS.get(name, {})
    method = name.partition("-")[0]
    sclre = {**small, **given.get("sclre", {})}
    rest = {key: value for key, value in given.items() if key != "sclre"}
    backbone = RESNET if name in {"sclre", SYNCED} else LITE
    record = {"name": "tiny", "method": method, "backbone": backbone, "bank": {"size": 6}}
    return parse_config({**record, **sections, "sclre": sclre, **rest})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found for every job below."""
    jobs: dict[str, tuple[Any, ...]] = {
        name: (gradients_of_share, record_of(name), name != SYNCED, False)
        for name in (*HEADS, SYNCED)
    }
    for name in NAIVE:
        jobs[f"naive-{name}"] = (gradients_of_share, record_of(name), True, True)
    jobs["rows"], jobs["views"] = (gathered, ROWS, WEIGHTS, 1), (gathered, ROWS, WEIGHTS, 2)
    jobs |= {"draws": (draws, PHOTOS), "norms": (norms, IMAGES, IMAGES.flip(0))}
    jobs["agreements"] = (agreements,)
    return in_processes(several, jobs, folder=tmp_path_factory.mktemp("two") / "processes")


def alone(name: str) -> dict[str, Any]:
    """The step of one process with the whole batch."""
    config = record_of(name)
    model = built(config, frozen_norms=name != SYNCED)
    losses = model.losses(*batch_of(config))
    losses["loss"].backward()
    return step_of(model, losses)


def furthest(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference of a tensor, over the largest number in it."""
    assert got.keys() == expected.keys()
    shares = [
        float((got[k] - e).abs().max() / e.abs().max().clamp(min=1e-6))
        for k, e in expected.items()
        if e.is_floating_point() and e.numel()
    ]
    return max(shares)


@pytest.mark.parametrize("name", [*HEADS, SYNCED])
def test_losses_gradients_and_buffers_are_those_of_one_process_with_the_whole_batch(
    found: list[dict[str, Any]], name: str
) -> None:
    expected = alone(name)
    assert len(expected["gradients"]) > 60
    for got in found:
        for what, values in expected.items():
            difference = furthest(got[name][what], values)
            print("MEASURED", name, what, difference)
            assert difference < 1e-9, what
    for what in ("losses", "gradients", "buffers"):  # and both processes have the same to the bit
        one, other = (process[name][what] for process in found)
        for key, value in one.items():
            assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("name", NAIVE)
def test_the_mean_of_losses_over_shares_would_be_something_else(
    found: list[dict[str, Any]], name: str
) -> None:
    naive, expected = found[0][f"naive-{name}"]["gradients"], alone(name)["gradients"]
    assert furthest(naive, expected) > 0.05


@pytest.mark.parametrize(("name", "views"), [("rows", 1), ("views", 2)])
def test_gathered_rows_have_the_whole_batchs_order_and_gradients_come_back_summed(
    found: list[dict[str, Any]], name: str, views: int
) -> None:
    rows = ROWS.clone().requires_grad_()
    (rows @ rows.T * WEIGHTS).sum().backward()
    assert rows.grad is not None
    parts = rows.grad.unflatten(0, (views, -1)).chunk(2, dim=1)
    for process, part in zip(found, parts, strict=True):
        whole, gradient = process[name]
        assert torch.equal(whole, ROWS)
        torch.testing.assert_close(gradient, 2 * part.flatten(0, 1))  # the sum over two processes


def test_a_photo_is_changed_as_in_one_process_and_no_two_have_the_same_draws(
    found: list[dict[str, Any]],
) -> None:
    random = torch.Generator().manual_seed(3)
    for view in range(2):
        whole = augment(PHOTOS, 16, AugmentConfig(), random)
        parts = [process["draws"]["photos"][view] for process in found]
        torch.testing.assert_close(torch.cat(parts), whole)
    torch.manual_seed(9)
    assert torch.equal(torch.cat([p["draws"]["numbers"] for p in found]), torch.rand(6))
    rows = [set(process["draws"]["rows"].tolist()) for process in found]
    assert not rows[0] & rows[1]


def test_a_synchronised_batchnorm_is_that_of_the_whole_batch(found: list[dict[str, Any]]) -> None:
    x = IMAGES.clone().requires_grad_()
    norm = nn.BatchNorm2d(4).train()
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(2))
    y = norm(x)
    (F.softplus(y) * IMAGES.flip(0)).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
    got = [process["norms"] for process in found]
    for one in got:
        torch.testing.assert_close(one["y"], y.detach(), rtol=1e-5, atol=1e-5)
        for name, buffer in norm.named_buffers():
            torch.testing.assert_close(one[name], buffer)
    gradient = torch.cat([one["gradient"] for one in got])
    torch.testing.assert_close(gradient, 2 * x.grad, rtol=1e-4, atol=1e-5)
    scale = (got[0]["scale"] + got[1]["scale"]) / 2
    torch.testing.assert_close(scale, norm.weight.grad, rtol=1e-4, atol=1e-5)


def test_statistics_of_local_batchnorms_are_averaged(found: list[dict[str, Any]]) -> None:
    parts = [nn.BatchNorm2d(4).train() for _ in range(2)]
    for norm, images in zip(parts, IMAGES.chunk(2), strict=True):
        norm(images)
    for process in found:
        for name in ("mean", "var"):
            mean = sum(getattr(norm, f"running_{name}") for norm in parts) / 2
            torch.testing.assert_close(process["norms"][f"local_{name}"], mean)


def test_processes_agree_and_fail_together(found: list[dict[str, Any]]) -> None:
    for process in found:
        got = process["agreements"]
        assert got["any"] == [True, True, False]
        assert got["first"] == "of 0"
        assert got["failed"] == "failed in 0"
        assert got["together"] == "only here"
        assert got["indivisible"].startswith("ConfigError: train.batch: expected a multiple of 2")
        assert "expected a device of auto, cpu or cuda for 2 processes" in got["device"]


SUPERBIN = str(Path(sys.executable).with_name("superbin"))
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
FOLLOWS = {  # what keeps a run near another one whose sums were taken in another order
    "backbone": {"name": "efficientnet_lite0", "pretrained": True, "drop_path": 0.2},
    "train": {"optimiser": "sgd", "sync_batchnorm": True, "ema": 0.5, "epochs": 3},
}


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """`superbin train` in two processes."""
    return subprocess.Popen(
        [*TORCHRUN, "--no-python", SUPERBIN, "train", *arguments, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )
