"""How a bundle gets its place: whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

BEGIN = """
import signal, sys
from pathlib import Path
from training.versions import in_place

with in_place(Path(sys.argv[1])) as part:
    (part / "model.onnx").touch()
    print("begun", flush=True)
    signal.pause()
"""


def test_a_process_that_is_asked_to_end_leaves_nothing_of_a_bundle(tmp_path: Path) -> None:
    out = tmp_path / "models" / "loop" / "1"
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert [file.name for file in out.parent.glob(".new-*/1/*")] == ["model.onnx"]
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert list(out.parent.iterdir()) == []
