"""`superbin classify --out` in this process, with the settings of a test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from service import cli
from tests.photo_factory import noise
from tests.tiny_bundle import ITEMS, WIDTH, add_limits, write_bundle

SITE = ["--site", "german-household", "--language", "de"]
OUTS = ["r.parquet", "r.csv"]

runner = CliRunner()


def set_up(monkeypatch: pytest.MonkeyPatch, models_dir: Path, cwd: Path) -> None:
    """Settings of the tiny model, and a working directory."""
    monkeypatch.setenv("SUPERBIN_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("SUPERBIN_MODEL", "tiny")
    monkeypatch.setenv("SUPERBIN_THREADS", "2")
    monkeypatch.chdir(cwd)


def write_photos(folder: Path, seeds: Iterable[int]) -> Path:
    """`0.jpg`, `1.jpg`, ...: a photo of each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"{number}.jpg").write_bytes(noise(seed))
    return folder


def set_up_to_add(monkeypatch: pytest.MonkeyPatch, cwd: Path) -> Path:
    """A model that doubts, and seven photos in two folders, one of them bad."""
    set_up(monkeypatch, write_doubting(cwd / "models"), cwd)
    folder = write_photos(cwd / "photos", range(4))
    write_photos(folder / "monday", [11, 12])
    (folder / "bad.jpg").write_bytes(noise(1)[:-300])
    return folder


def grow(folder: Path) -> int:
    """Photos before, between and after those that are there, one of them bad: how many."""
    for name, seed in (("00.jpg", 20), ("2b.jpg", 21), ("z.jpg", 22), ("monday/0b.jpg", 23)):
        (folder / name).write_bytes(noise(seed))
    write_photos(folder / "tuesday", range(30, 33))
    (folder / "a-bad.jpg").write_bytes(noise(1)[:-300])
    (folder / "notes.txt").write_text("no photo")
    return 8


def write_doubting(models_dir: Path) -> Path:
    """The tiny model with limits of doubt, threshold 0."""
    rows = np.random.default_rng(0).normal(size=(ITEMS, WIDTH)).astype(np.float32)
    path = write_bundle(models_dir, threshold=0.0)
    add_limits(path, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return models_dir


def classify(
    *arguments: str | Path,
    out: str | Path = "r.parquet",
    status: int = 0,
    stdin: bytes | None = None,
) -> Result:
    """Run the command into a file."""
    given = ["classify", *map(str, arguments), "--out", str(out)]
    result = runner.invoke(cli.app, given, input=stdin)
    assert result.exit_code == status, result.output
    return result


def rows(path: str | Path = "r.parquet") -> list[dict[str, Any]]:
    """Of a Parquet file."""
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def begin(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path, **options: Any) -> None:
    """A run that stops after its first part, as on a full disk."""
    from service.bulk import run
    from service.errors import BulkError

    write = run.write_part

    def once(folder: Path, *rest: Any) -> None:
        if list(folder.glob("chunk-*")):
            raise BulkError("cannot write")
        write(folder, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(run, "write_part", once)
        classify(*arguments, status=1, **options)
