"""How a bundle gets its place: whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from training.versions import in_place

BEGIN = """
import signal, sys
from pathlib import Path
from training.versions import in_place

with in_place(Path(sys.argv[1])) as part:
    (part / "model.onnx").touch()
    print("begun", flush=True)
    signal.pause()
"""


def begin(out: Path) -> subprocess.Popen[str]:
    """A process that has begun a bundle, and never ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate()
    return process.returncode


def begun(folder: Path) -> list[str]:
    """The versions below a folder that are being put together, or were."""
    return sorted(file.parent.name for file in folder.glob(".new-*/**/model.onnx"))


def test_a_process_that_is_asked_to_end_leaves_nothing_of_a_bundle(tmp_path: Path) -> None:
    out = tmp_path / "models" / "loop" / "1"
    process = begin(out)
    assert begun(out.parent) == ["1"]
    assert end(process, signal.SIGTERM) == 128 + signal.SIGTERM
    assert list(out.parent.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_version_and_what_is_begun_stays(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "models" / "loop"
    assert end(begin(folder / "1"), signal.SIGKILL) == -signal.SIGKILL
    assert begun(folder) == ["1"]
    alive = begin(folder / "2")
    try:
        somebodys = folder / ".new-models"
        somebodys.mkdir()
        with in_place(folder / "3") as part:
            assert begun(folder) == ["2"]
            (part / "model.onnx").touch()
    finally:
        end(alive, signal.SIGTERM)
    assert sorted(one.name for one in folder.iterdir()) == [somebodys.name, "3"]
