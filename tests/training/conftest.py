"""What the training tests share: one thread, a cache of their own, tiny photos, tiny records."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import Config
from training.records import parse_config

COLOURS = {"amber": (200, 140, 20), "cobalt": (30, 60, 190), "moss": (60, 150, 60)}
PX = 16
DatasetMaker = Callable[..., Path]
RecordMaker = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Decoded photos go to a temporary folder, and torch's global switches come back."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.use_deterministic_algorithms(deterministic)
    shutil.rmtree(cache)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB of its own."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("this user may not mount a disk")
    yield small
    subprocess.run(["umount", str(small)], check=True)


@pytest.fixture
def make_dataset(tmp_path: Path) -> DatasetMaker:
    """A maker of labelled folders: squares in the colour of their superclass, as PNG."""

    def make(name: str = "photos", *, train: int = 8, val: int = 3, test: int = 2) -> Path:
        root = tmp_path / name
        random = np.random.default_rng(0)
        lines = ["path,source,subclass,superclass,split"]
        for superclass, colour in COLOURS.items():
            for split, count in (("train", train), ("val", val), ("test", test)):
                for index in range(count):
                    path = f"images/{superclass}/{split}-{index:02}.png"
                    file = root / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    noise = random.normal(0.0, 15.0, (PX, PX, 3))
                    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(file)
                    lines.append(f"{path},drawn,{superclass}-{index % 2},{superclass},{split}")
        (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return root

    return make


@pytest.fixture
def tiny_record() -> RecordMaker:
    """A maker of records that train in a second or two; sections are merged over the defaults."""

    def make(**sections: Any) -> dict[str, Any]:
        record: dict[str, Any] = {
            "name": "tiny",
            "data": {"px": PX, "cache_px": PX},
            "backbone": {"name": "efficientnet_lite0", "pretrained": False},
            "sclre": {"hidden": 32, "width": 16, "heads": 4, "key_width": 16},
            "bank": {"size": 6},
            "augment": {"scale_min": 0.8, "rotation_degrees": 5.0, "erase": 0.1},
            "train": {"epochs": 2, "batch": 8, "head_lr": 0.02, "precision": "fp32", "ema": 0.0},
        }
        for key, value in sections.items():
            record[key] = {**record.get(key, {}), **value} if isinstance(value, dict) else value
        return record

    return make


@pytest.fixture
def tiny_config(tiny_record: RecordMaker) -> Callable[..., Config]:
    """`tiny_record`, validated."""
    return lambda **sections: parse_config(tiny_record(**sections))


@pytest.fixture
def random() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(1)
