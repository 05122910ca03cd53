"""What a process with the fake GPU is to do, by the code that would run on a real one.

The jobs live in a module of their own because a spawned process imports them by name.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from tests.training_fake_device import NAME, fake_gpu, waits
from tests.training_runs import run_of, signal_in_step
from training import checkpoint, export
from training.bank_curve import measure_bank_curve
from training.calibrate import calibrate_run
from training.config import Config
from training.data.photos import read_photos
from training.device import pick_device
from training.evaluate import evaluate_target
from training.fit import fit, train_step
from training.interruption import Interrupted
from training.model import SuperclassModel
from training.run import Run
from training.unseen import features_of

Found = dict[str, Any]


def trained(config: Config, data: Path, out: Path) -> dict[str, Found]:
    """Runs of a record on the CPU and on the GPU, in folders of these names."""
    on_cpu = _train(config, data, out / "cpu", "cpu")
    return {"cpu": on_cpu, "gpu": _on_gpu(_train, config, data, out / "gpu")}


def resumed(config: Config, data: Path, out: Path, stop_at: int) -> dict[str, Found]:
    """Runs on the GPU that were never stopped, and stopped by SIGTERM at a step."""
    whole = _on_gpu(_train, config, data, out / "whole")
    with contextlib.suppress(Interrupted), signal_in_step(stop_at, signal.SIGTERM):
        _on_gpu(_train, config, data, out / "stopped")
    step = checkpoint.load(out / "stopped" / checkpoint.CHECKPOINT)["progress"]["step"]
    assert step == stop_at
    return {"whole": whole, "stopped": _on_gpu(_train, config, data, out / "stopped")}


def waited(config: Config, data: Path, out: Path, steps: int) -> list[list[str]]:
    """For what the CPU waits in each of the first steps on the GPU."""
    return _on_gpu(_steps, config, data, out, steps)


def measured(run: Path, data: Path, out: Path) -> Found:
    """What the commands after training find by each device, and how they leave a model."""
    return {
        "cpu": _measure(run, data, out / "cpu", "cpu"),
        "gpu": _on_gpu(_measure, run, data, out / "gpu"),
        "exported": _on_gpu(_export, run, data, out / "models" / "tiny" / "1"),
    }


def _on_gpu(job: Callable[..., Any], *arguments: Any) -> Any:
    with fake_gpu() as device, _only_on_it():
        return job(*arguments, pick_device(device))


def _train(config: Config, data: Path, out: Path, device: str) -> Found:
    photos, begun = read_photos(data), out.exists()
    if not begun:
        out.mkdir(parents=True)
        checkpoint.write_record(out, config, "a test", device, photos.summary())
    fit(config, photos, out, device=device, resume=begun)
    return run_of(out)


def _steps(config: Config, data: Path, out: Path, steps: int, device: str) -> list[list[str]]:
    out.mkdir(parents=True)
    run = Run(config, read_photos(data), out, device)
    found = []
    for _ in range(steps):
        waits.clear()
        train_step(run)
        run.progress.step += 1
        found.append(list(waits))
    return found


def _measure(run: Path, data: Path, out: Path, device: str) -> Found:
    calibrate_run(run, data, 0.1, None, device)
    evaluate_target(run, data, "test", out, None, device)
    measure_bank_curve(run, data, "val", out, None, device)
    config = checkpoint.read_config(run)
    features, _ = features_of(config, read_photos(data), out, pick_device(device))
    return {
        "features": np.asarray(features),
        "calibration": json.loads((run / "calibration.json").read_text()),
        "report": json.loads((out / "report.json").read_text()),
        "curve": json.loads((out / "bank-curve.json").read_text())["rows"],
    }


def _export(run: Path, data: Path, out: Path, device: str) -> set[str]:
    """The devices that the model is on where its graph is about to be written."""
    found: set[str] = set()

    def note(part: Path, out: Path, model: SuperclassModel, *_: object) -> None:
        found.update(value.device.type for value in model.state_dict().values())

    with mock.patch.object(export, "_fill", note):
        export.export_run(run, data, out, None, None, None, device)
    return found


@contextmanager
def _only_on_it() -> Iterator[None]:
    """A backbone that is asked anything on the CPU is an error."""

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not hasattr(module, "groups") or not callable(module.groups):
            return
        on = {x.device.type for x in inputs if isinstance(x, Tensor)}
        assert on <= {NAME}, f"{type(module).__name__} was asked on {on}"

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
