"""Training on a device that is not the CPU: nothing is left behind, nothing is mixed up."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_device_jobs import measured, resumed, trained, waited
from tests.training_fake_device import prepare
from tests.training_runs import ConfigMaker, DatasetMaker, assert_identical

BRIEF = {"backbone": {"name": "resnet18", "stem": "cifar"}, "train": {"epochs": 1}}
RECORDS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"method": "cross_entropy"},
    "supcon": {"method": "supcon"},
    "simclr": {"method": "simclr"},
    "moco": {"method": "moco", "contrastive": {"hidden": 16, "width": 8, "queue": 20}},
    "sclre": {"method": "sclre", "train": {"epochs": 1, "ema": 0.9}},
    "sclre-reference": {
        "sclre": {"sharpness": None, "anchors": "reference", "contrastive_mean": "batch"}
    },
    "sclre-plain": {"sclre": {"attention": False}},
    "matching": {"method": "matching", "bank": {"selection": "all"}},
    "lite": {"backbone": {}, "train": {"epochs": 1, "optimiser": "sgd", "lr": 1e-3}},
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def on_fake_gpu() -> Iterator[Ask]:
    """What a job of `tests.training_device_jobs` gives, in a process that has such a device."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=prepare) as process:
        yield lambda job, *arguments, **named: process.submit(job, *arguments, **named).result()


@pytest.mark.parametrize("record", RECORDS)
def test_a_run_on_a_gpu_ends_like_one_on_the_cpu(
    on_fake_gpu: Ask,
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    record: str,
) -> None:
    config = tiny_config(**{**BRIEF, **RECORDS[record]})
    found = on_fake_gpu(trained, config, make_dataset(), tmp_path)
    assert_close(found["gpu"]["model"]["weights"], found["cpu"]["model"]["weights"])


@pytest.mark.parametrize("record", RECORDS)
def test_no_step_waits_for_the_gpu(
    on_fake_gpu: Ask,
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    record: str,
) -> None:
    """The next is prepared while it works: what it finds is read now and then only."""
    config = tiny_config(**{**BRIEF, **RECORDS[record]})
    first, *others = on_fake_gpu(waited, config, make_dataset(), tmp_path / "run", 3)
    assert others == [[], []], first


def test_george_clusters_features_of_the_gpu(
    on_fake_gpu: Ask, make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    data = make_dataset()
    plain = tiny_config(method="cross_entropy", **BRIEF)
    on_fake_gpu(trained, plain, data, tmp_path / "first")
    stage = {"first_stage": str(tmp_path / "first" / "gpu"), "most_clusters": 3}
    config = tiny_config(method="george", george=stage, **BRIEF)
    found = on_fake_gpu(trained, config, data, tmp_path)
    assert_close(found["gpu"]["model"]["weights"], found["cpu"]["model"]["weights"])


def test_a_run_that_was_stopped_goes_on_bit_for_bit_on_a_gpu(
    on_fake_gpu: Ask, make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    config = tiny_config(
        backbone={"drop_path": 0.2, "frozen_groups": 2},
        train={"ema": 0.9, "precision": "bf16", "sizes": ((0.0, 16), (0.5, 24))},
    )
    found = on_fake_gpu(resumed, config, make_dataset(), tmp_path, 4)
    assert_identical(found["whole"], found["stopped"])


@pytest.mark.parametrize("record", ["sclre", "matching"])
def test_what_comes_after_training_finds_the_same_on_a_gpu(
    on_fake_gpu: Ask,
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    record: str,
) -> None:
    config = tiny_config(**{**BRIEF, **RECORDS[record]})
    data = make_dataset()
    on_fake_gpu(trained, config, data, tmp_path)
    found = on_fake_gpu(measured, tmp_path / "gpu", data, tmp_path)
    assert found["gpu"]["report"].pop("hardware") == "a GPU that is none"
    assert found["cpu"]["report"].pop("hardware") != "a GPU that is none"
    assert_close(found["gpu"].pop("features"), found["cpu"].pop("features"))
    assert_alike(found["gpu"], found["cpu"])
    assert found["exported"] == {"cpu"}


def assert_close(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def assert_alike(one: Any, other: Any) -> None:
    """Equal, but for the last digits of numbers."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, list):
        for mine, theirs in zip(one, other, strict=True):
            assert_alike(mine, theirs)
    else:
        assert one == (pytest.approx(other, abs=1e-3) if isinstance(one, float) else other)
