"""Two processes over gloo compute what one does with the whole batch, gradients included."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.locks import LOCK
from tests.training_processes import (
    agreements,
    batch_of,
    built,
    draws,
    ended,
    gathered,
    gradients_of_share,
    in_processes,
    norms,
    several,
    step_of,
)
from tests.training_runs import ConfigMaker, DatasetMaker, run, run_of, toml
from training import checkpoint
from training.augment import augment
from training.config import AugmentConfig, Config
from training.data.photos import read_photos
from training.outcome import measure
from training.records import parse_config

RESNET = {"name": "resnet18", "stem": "cifar", "pretrained": False}
LITE = {"name": "efficientnet_lite0", "pretrained": True}
SYNCED, MIXED = "sclre-synced", "cross_entropy-mixed"
HEADS: dict[str, dict[str, Any]] = {
    "sclre": {},
    "cross_entropy": {},
    MIXED: {"cross_entropy": {"dropout": 0.5, "mixup": 1.0}},
    "supcon": {},
    "moco": {"contrastive": {"hidden": 16, "width": 8, "queue": 30, "momentum": 0.5}},
    "george": {"george": {"most_clusters": 2, "step_size": 0.5}},
}
NAIVE = ("sclre", "supcon", "george")  # whose loss is no mean over photos
ROWS = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
IMAGES = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(3)) * 2 + 5
PHOTOS = (torch.rand(6, 20, 20, 3, generator=torch.Generator().manual_seed(4)) * 256).byte()

RecordMaker = Callable[..., dict[str, Any]]


def record_of(name: str) -> Config:
    """A record of the method in `HEADS` with a small head."""
    record = {
        "name": "tiny",
        "method": name.partition("-")[0],
        "backbone": RESNET if name == "cross_entropy" else LITE,
        "sclre": {"hidden": 32, "width": 16, "heads": 4, "key_width": 16},
        "bank": {"size": 6},
        "train": {"precision": "fp32", "sync_batchnorm": name == SYNCED},
    }
    return parse_config({**record, **HEADS.get(name, {})})


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
    for what in ("losses", "gradients", "buffers"):
        difference = furthest(found[0][name][what], expected[what])
        assert difference < 1e-9, what
    assert found[0][name]["digest"] == found[1][name]["digest"]  # the same to the bit


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
        assert got["same"] == [True, False]
        assert got["first"] == "of 0"
        assert got["failed"] == "failed in 0"
        assert got["together"] == "only here"
        assert got["indivisible"].startswith("ConfigError: train.batch: expected a multiple of 2")
        assert "expected a device of auto, cpu or cuda for 2 processes" in got["device"]


def test_two_processes_follow_the_run_of_one_which_can_finish_what_they_began(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    train = {"optimiser": "sgd", "lr": 3e-3, "sync_batchnorm": True}
    backbone = {"name": "resnet18", "pretrained": False, "frozen_groups": 2}
    config, data = tiny_config(backbone=backbone, train=train), make_dataset()
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    jobs = {"whole": (ended, config, data, whole), "begun": (ended, config, data, begun, 2)}
    found = in_processes(several, jobs, folder=tmp_path / "processes")
    assert found == [{"whole": "finished", "begun": "Interrupted: stopped at step 2 of 6"}] * 2
    expected = run(config, read_photos(data), tmp_path / "one")
    for got in (run_of(whole), run(config, read_photos(data), begun, resume=True)):
        for line, other in zip(got["history"], expected["history"], strict=True):
            assert line["step"] == other["step"]
            assert line["loss"] == pytest.approx(other["loss"], rel=1e-5)
        for name, weight in expected["checkpoint"]["model"].items():
            if not name.startswith("head.bank_"):  # whose rows another loss in the 7th digit moves
                mine = got["checkpoint"]["model"][name]
                torch.testing.assert_close(mine, weight, rtol=1e-3, atol=1e-5, msg=name)


def test_what_ends_one_process_ends_all(
    make_dataset: DatasetMaker, tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    data, damaged = make_dataset(), make_dataset("damaged", val=1)
    (damaged / "images/moss/val-00.png").write_bytes(b"not a photo")
    wild = {"optimiser": "sgd", "lr": 1e30, "head_lr": 1e30, "warm_up": 0.0, "clip_norm": 1e30}
    jobs = {
        "odd": (ended, tiny_config(train={"batch": 7}), data, tmp_path / "odd"),
        "damaged": (ended, tiny_config(), damaged, tmp_path / "bad"),
        "wild": (ended, tiny_config(train=wild), data, tmp_path / "wild"),
        "short": (ended, tiny_config(train={"epochs": 0.3}), data, tmp_path / "short"),
        "again": (ended, tiny_config(train={"epochs": 0.3}), data, tmp_path / "short"),
    }
    found = in_processes(several, jobs, folder=tmp_path / "processes")
    assert found[0] == found[1]
    ends = found[0]
    assert ends["odd"].startswith("ConfigError: train.batch: expected a multiple of 2, because")
    assert ends["damaged"] == "DataError: no photo of moss in the val split can be decoded"
    assert re.fullmatch(r"RunError: the loss became .* lower train\.lr", ends["wild"])
    assert ends["short"] == "finished"
    assert "already holds a run; add --resume" in ends["again"]


SUPERBIN = str(Path(sys.executable).with_name("superbin"))
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """`superbin train` in two processes."""
    return subprocess.Popen(
        [*TORCHRUN, "--no-python", SUPERBIN, "train", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )


def test_torchrun_ends_with_one_run_folder_whose_model_evaluates(
    make_dataset: DatasetMaker, tiny_record: RecordMaker, tmp_path: Path
) -> None:
    data, out, record = make_dataset(), tmp_path / "run", tmp_path / "tiny.toml"
    record.write_text(toml(tiny_record(backbone={"pretrained": True}, train={"epochs": 1})))
    process = start([str(record), "--data", str(data), "--out", str(out), "--device", "cpu"])
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert [line.split(":")[0] for line in output.splitlines()] == ["step 3", "warning", "done"]
    names = {checkpoint.RECORD, checkpoint.CHECKPOINT, checkpoint.MODEL, checkpoint.HISTORY}
    names |= {checkpoint.PICTURE, checkpoint.BAD_PHOTOS, LOCK}
    assert {file.name for file in out.iterdir()} == names
    assert checkpoint.read_record(out)["processes"] == 2
    assert measure(out, data, "test", None, "cpu").logits.shape == (6, 3)


AFTERWARDS = """
import os
import sys
from pathlib import Path

from service.cli import main

try:
    main(["train", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code
names = sorted((task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir())
line = " ".join(["threads:", *[name for name in names if "gloo" in name]])
os.write(1, (line + os.linesep).encode())  # at once: the other process writes there too
"""


def test_no_thread_of_the_process_group_outlives_training(
    make_dataset: DatasetMaker, tiny_record: RecordMaker, tmp_path: Path
) -> None:
    """One that did would abort the process, now and then, as the interpreter goes away."""
    record, script = tmp_path / "tiny.toml", tmp_path / "afterwards.py"
    record.write_text(toml(tiny_record(backbone={"pretrained": True}, train={"epochs": 1})))
    script.write_text(AFTERWARDS)
    arguments = [record, "--data", make_dataset(), "--out", tmp_path / "run", "--device", "cpu"]
    done = subprocess.run(
        [*TORCHRUN, str(script), *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "threads:" in line] == ["threads:"] * 2


def test_torchrun_hands_sigterm_on_and_what_is_saved_can_be_finished(
    make_dataset: DatasetMaker, tiny_record: RecordMaker, tmp_path: Path
) -> None:
    data, out, record = make_dataset(), tmp_path / "run", tmp_path / "tiny.toml"
    sections = tiny_record(backbone={"pretrained": True}, train={"epochs": 5})
    record.write_text(toml(sections))
    arguments = [str(record), "--data", str(data), "--out", str(out), "--device", "cpu"]
    process = start(arguments)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("step 3: val accuracy")  # of 15
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert len(re.findall(r"stopped at step \d+ of 15, all of it saved\. To go on:", errors)) == 1
    assert f"  superbin train {' '.join(arguments)} --resume\n" in errors
    assert not (out / checkpoint.MODEL).exists()
    history = run(parse_config(sections), read_photos(data), out, resume=True)["history"]
    assert [line["step"] for line in history] == list(range(3, 16, 3))
