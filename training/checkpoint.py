"""A run folder and what is kept in it.

record.json      the resolved configuration, commit, seed, environment, dataset
checkpoint.pt    everything needed to go on
model.pt         the chosen weights with their context bank
history.jsonl    one line an epoch; history.png, drawn from it
bad_photos.json  photos that were missing, had no superclass or usable name, or did not decode
subclasses.npy   GEORGE's: the cluster of each train photo
lock             held by the process that trains

Other commands add calibration.json, evaluation-SPLIT/ and bank-curve.json, .png.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from training.config import Config
from training.data.photos import PhotoSet
from training.distributed import world
from training.errors import RunError
from training.model import SuperclassModel, build_model
from training.records import parse_config, record_changes

RECORD, CHECKPOINT, MODEL = "record.json", "checkpoint.pt", "model.pt"
HISTORY, PICTURE, BAD_PHOTOS = "history.jsonl", "history.png", "bad_photos.json"
SUBCLASSES, CALIBRATION = "subclasses.npy", "calibration.json"
PACKAGES = ("torch", "numpy", "pillow", "scikit-learn", "onnx", "onnxruntime", "onnxruntime-gpu")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values whole or not at all, a power cut in the middle included.

    Raises:
        RunError: where there is no room for them.
    """
    for left in path.parent.glob(f"{path.stem}.*.part"):  # of a process that was killed
        left.unlink(missing_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        torch.save(state, part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (RuntimeError, OSError) as error:  # RuntimeError: what a full disk is to torch
        raise RunError(f"{path} cannot be written; is the disk full? {error}") from error
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read what `save` wrote; executes nothing from the file.

    Raises:
        RunError: where the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(
            f"expected {path}; was the run ended before its first checkpoint?"
        ) from error
    except Exception as error:  # zip, pickle and EOF errors share no narrower base
        raise RunError(f"{path} is damaged: {error}") from error
    return state


def open_folder(
    run: Path, config: Config, command: str, device: str, photos: PhotoSet, *, resume: bool
) -> None:
    """Begin the folder of a run, or see that the one to be resumed is of this record and photos.

    Raises:
        RunError: where it is not, or a run that is to be begun is there already.
    """
    run.mkdir(parents=True, exist_ok=True)
    if resume:
        before, started = read_record(run), read_config(run)  # with defaults of keys that are new
        now = config.model_dump(mode="json")
        if changed := record_changes(started.model_dump(mode="json"), now):
            raise RunError(
                f"{run} was started with another record: {'; '.join(changed)}; go on with that "
                "one, or name another folder"
            )
        if before["dataset"] != photos.summary():
            raise RunError(f"{photos.root} has changed since {run} was started; start a new run")
    elif (run / CHECKPOINT).exists() or (run / MODEL).exists():
        raise RunError(f"{run} already holds a run{_way_on(run, config)}")
    else:
        for left in (SUBCLASSES, CALIBRATION):  # of an attempt without a checkpoint, or taken away
            (run / left).unlink(missing_ok=True)
        write_record(run, config, command, device, photos.summary())


def _way_on(run: Path, config: Config) -> str:
    """What to do where a folder holds a run already."""
    started = read_config(run).model_dump(mode="json")
    if record_changes(started, config.model_dump(mode="json")):
        return ", of another record; name another folder"
    return "; add --resume, or name another folder"


def write_record(run: Path, config: Config, command: str, device: str, dataset: Any) -> None:
    """Note what is needed to do the run again."""
    record = {
        "config": config.model_dump(mode="json"),
        "command": command,
        "seed": config.seed,
        "git_commit": git_commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(device),
        "processes": world(),
        "python": sys.version.split()[0],
        "packages": package_versions(),
        "dataset": dataset,
    }
    write_json(run / RECORD, record)


def read_record(run: Path) -> dict[str, Any]:
    """What `write_record` wrote.

    Raises:
        RunError: where the folder holds no run.
    """
    try:
        record: dict[str, Any] = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"expected a run folder with a {RECORD}, got {run}: {error}") from error
    return record


def read_config(run: Path) -> Config:
    """The resolved configuration of a run."""
    return parse_config(read_record(run)["config"])


def load_model(run: Path) -> tuple[SuperclassModel, dict[str, Any]]:
    """The chosen model of a finished run, in eval mode, and what was saved beside its weights.

    Raises:
        RunError: where there is no run, or it has not finished.
    """
    if not (run / RECORD).is_file():
        raise RunError(f"expected the folder of a finished run, got {run}, where there is no run")
    if not (run / MODEL).is_file():
        raise RunError(
            f"{run} has no {MODEL}: the run has not finished; go on with superbin train --resume"
        )
    state = load(run / MODEL)
    model = build_model(read_config(run), len(state["superclasses"]), pretrained=False)
    model.method.resize_bank(len(state["bank"]))
    model.load_state_dict(state["weights"])
    return model.eval(), state


def begin_model(config: Config, superclasses: int) -> SuperclassModel:
    """The model of a record as training begins, with the backbone that another run has learned.

    Raises:
        RunError: where that run has not finished, or has another backbone.
    """
    model = build_model(config, superclasses)
    if config.backbone.weights is None:
        return model
    run = Path(config.backbone.weights)
    learned, _ = load_model(run)
    theirs = read_config(run).backbone
    if (theirs.name, theirs.stem) != (config.backbone.name, config.backbone.stem):
        raise RunError(
            f"backbone.weights: expected a run with {config.backbone.name} and its "
            f"{config.backbone.stem} stem, got {run}, which has {theirs.name} and {theirs.stem}"
        )
    model.backbone.load_state_dict(learned.backbone.state_dict())
    if model.slow is not None:
        model.follow_backbone()
    return model


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def git_commit() -> str | None:
    """The commit of this source tree, `+` where it has changes; None outside a repository."""
    here = Path(__file__).parent
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(["git", *c], cwd=here, capture_output=True, text=True, check=True).stdout
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+" if changes.strip() else "")


def hardware(device: str) -> str:
    """The device in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
