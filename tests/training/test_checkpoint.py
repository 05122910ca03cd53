"""Run folders: written whole or not at all, read without running anything from them."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer

from training import checkpoint
from training.config import Config
from training.data.photos import read_photos
from training.device import pick_device
from training.errors import ConfigError, RunError
from training.terminal import explained


def test_what_is_saved_comes_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    state = {"weights": {"a": torch.arange(3.0)}, "step": 3, "names": ["x", None]}
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    checkpoint.save(tmp_path / "checkpoint.pt", {**state, "step": 4})
    got = checkpoint.load(tmp_path / "checkpoint.pt")
    assert got["step"] == 4
    assert torch.equal(got["weights"]["a"], torch.arange(3.0))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_what_takes_the_place_of_the_one_before_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut there is one of the two, whole."""
    written: list[int] = []
    sync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (written.append(os.fstat(file).st_ino), sync(file))
    )
    checkpoint.save(tmp_path / "checkpoint.pt", {"step": 1})
    assert written == [(tmp_path / "checkpoint.pt").stat().st_ino]


def test_a_save_that_fails_keeps_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    checkpoint.save(file, {"step": 1})
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        checkpoint.save(file, {"step": 2, "no": lambda: None})
    assert checkpoint.load(file) == {"step": 1}


def test_missing_and_damaged_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="was the run ended before its first checkpoint"):
        checkpoint.load(tmp_path / "none.pt")
    checkpoint.save(tmp_path / "half.pt", {"weights": torch.zeros(1000)})
    whole = (tmp_path / "half.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="is damaged"):
        checkpoint.load(tmp_path / "half.pt")


class Payload:
    """Would write a file where it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"weights": Payload(tmp_path / "owned")}, tmp_path / "evil.pt")
    with pytest.raises(RunError, match="is damaged"):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_a_record_says_what_is_needed_to_do_the_run_again(
    tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(seed=7, train={"sizes": ((0.0, 16),)})
    checkpoint.write_record(tmp_path, config, "superbin train tiny", "cpu", {"photos": 3})
    record = checkpoint.read_record(tmp_path)
    assert record == json.loads((tmp_path / "record.json").read_text())
    assert checkpoint.read_config(tmp_path) == config
    assert record["seed"] == 7
    assert record["command"] == "superbin train tiny"
    assert record["packages"]["torch"] == torch.__version__.partition("+")[0] or record["packages"][
        "torch"
    ].startswith(torch.__version__.partition("+")[0])
    assert "cores of" in record["hardware"]


def test_a_folder_without_a_record_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected a run folder with a record\.json"):
        checkpoint.read_record(tmp_path)
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(RunError, match=r"expected a run folder with a record\.json"):
        checkpoint.read_record(tmp_path)


@pytest.mark.parametrize("name", [checkpoint.SUBCLASSES, "calibration.json"])
def test_a_run_that_begins_anew_keeps_nothing_of_another_model_and_one_that_goes_on_does(
    name: str, tmp_path: Path, make_dataset: Callable[..., Path], tiny_config: Callable[..., Config]
) -> None:
    photos, out = read_photos(make_dataset()), tmp_path / "run"
    out.mkdir()
    file = out / name
    for resume in (False, True):
        file.touch()
        checkpoint.open_folder(out, tiny_config(), "a test", "cpu", photos, resume=resume)
        assert file.exists() == resume


def test_a_run_that_is_not_there_is_told_from_one_that_has_not_finished(
    tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(backbone={"weights": str(tmp_path)})
    with pytest.raises(RunError, match=r"a finished run, got .*, where there is no run"):
        checkpoint.begin_model(config, 2)
    checkpoint.write_record(tmp_path, config, "superbin train tiny", "cpu", {"photos": 3})
    with pytest.raises(RunError, match="has not finished; go on with superbin train --resume"):
        checkpoint.begin_model(config, 2)


def test_a_device_that_is_not_there_is_an_error_and_no_fallback() -> None:
    assert pick_device("cpu") == "cpu"
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigError, match=f"'{missing}' was asked for"):
        pick_device(missing)
    for wrong in ("gpu", "cpu:0", "cuda:x", ""):
        with pytest.raises(ConfigError, match="expected a device of auto"):
            pick_device(wrong)


def test_what_does_not_fit_on_the_disk_leaves_what_was_there(small_disk: Path) -> None:
    file = small_disk / "checkpoint.pt"
    checkpoint.save(file, {"step": 1})
    left = small_disk / "checkpoint.999999.part"  # of a process that was killed
    left.touch()
    with pytest.raises(RunError, match="cannot be written; is the disk full"):
        checkpoint.save(file, {"weights": torch.rand(100_000)})
    assert checkpoint.load(file) == {"step": 1}
    assert list(small_disk.iterdir()) == [file]


def test_a_record_that_does_not_fit_on_the_disk_leaves_nothing_and_is_told_in_a_line(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), explained():
        checkpoint.write_json(small_disk / "report.json", "x" * 200_000)
    assert capsys.readouterr().err == (
        "error: expected room to write, got: No space left on device; free some, or name folders "
        "on another disk\n"
    )
    assert list(small_disk.iterdir()) == []
