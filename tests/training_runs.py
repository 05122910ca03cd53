"""Training runs inside a test: started, stopped by a signal, compared."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import checkpoint
from training.config import Config
from training.data.photos import PhotoSet
from training.fit import fit
from training.reproduce import reproduce
from training.tables import Budget

ConfigMaker = Callable[..., Config]
DatasetMaker = Callable[..., Path]


def run(config: Config, photos: PhotoSet, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train as the command does, and give what the run folder holds."""
    if not resume:
        out.mkdir()
        checkpoint.write_record(out, config, "a test", "cpu", photos.summary())
    fit(config, photos, out, device="cpu", resume=resume)
    return run_of(out)


def run_of(out: Path) -> dict[str, Any]:
    """What a run folder holds."""
    history = [json.loads(line) for line in (out / checkpoint.HISTORY).read_text().splitlines()]
    return {
        "checkpoint": checkpoint.load(out / checkpoint.CHECKPOINT),
        "model": checkpoint.load(out / checkpoint.MODEL),
        "history": history,
    }


SMALL = (
    *("backbone.name=resnet18", "data.px=16", "data.cache_px=16", "train.batch=16"),
    *("sclre.hidden=32", "sclre.width=16", "sclre.heads=4", "sclre.key_width=16", "bank.size=16"),
)


def fill_column(column: str, data: Path, out: Path) -> list[dict[str, Any]]:
    """The lines of the table `datasets` for one data set, by a tiny network and one step."""
    reproduce(
        "datasets",
        data,
        out,
        overrides=list(SMALL),
        budget=Budget(share=1e-4, seeds=1, only=(column,)),
        device="cpu",
        command="a test",
    )
    found = json.loads((out / "datasets.json").read_text())["lines"]
    assert all(line["accuracy (bank)"] is None for line in found if line["problem"] != column)
    return [line for line in found if line["problem"] == column]


def toml(record: dict[str, Any]) -> str:
    """A record of plain values and one level of tables."""
    plain = [f"{k} = {json.dumps(v)}" for k, v in record.items() if not isinstance(v, dict)]
    for name, table in record.items():
        if isinstance(table, dict):
            plain += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    return "\n".join(plain) + "\n"


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
