"""Begin a run in its folder, or go on with it: what `superbin train` and `reproduce` share."""

from __future__ import annotations

from pathlib import Path

from training import checkpoint
from training.config import Config, record_changes
from training.data.photos import PhotoSet
from training.errors import RunError
from training.fit import fit


def train_run(
    config: Config, photos: PhotoSet, out: Path, *, device: str, resume: bool, command: str
) -> None:
    """Train in a folder that is new, or, with `resume`, that holds this very run.

    Args:
        command: what was typed, for the run's record.

    Raises:
        RunError: where the folder holds a run and `resume` is off, or another run than this one.
        Interrupted: as `fit`.
    """
    out.mkdir(parents=True, exist_ok=True)
    if resume:
        started = checkpoint.read_config(out)  # with the defaults of keys that are new
        now = config.model_dump(mode="json")
        if changed := record_changes(started.model_dump(mode="json"), now):
            raise RunError(
                f"{out} was started with another record: {'; '.join(changed)}; go on with that "
                "one, or name another folder"
            )
        if checkpoint.read_record(out)["dataset"] != photos.summary():
            raise RunError(f"{photos.root} has changed since {out} was started; start a new run")
    elif (out / checkpoint.CHECKPOINT).exists() or (out / checkpoint.MODEL).exists():
        raise RunError(f"{out} already holds a run; add --resume, or name another folder")
    else:
        checkpoint.write_record(out, config, command, device, photos.summary())
    fit(config, photos, out, device=device, resume=resume)
