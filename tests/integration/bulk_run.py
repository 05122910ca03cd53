"""A bulk run in a process of its own, to be stopped and killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.integration.server import ROOT, environment
from tests.photo_factory import noise

COMMAND = "from service.cli import main; main()"
# Kills itself at the Nth file operation below the working directory: a real SIGKILL, anywhere.
KILLED_AT = """
import os, signal, sys
left = int(os.environ["KILLED_AT"])
here = os.getcwd()
def count(event, arguments):
    global left
    if event in {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock"}:
        if event == "fcntl.flock" or os.environ["OUT"] in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
"""


def write_photos(folder: Path, count: int, distinct: int = 40, size: int = 80) -> list[str]:
    """A list of `count` photos in `folder`, of which a few are distinct and some bad."""
    folder.mkdir()
    for seed in range(distinct):
        data = noise(seed, size, size)
        (folder / f"{seed:03d}.jpg").write_bytes(data[:-200] if seed % 13 == 7 else data)
    names = [str(folder / f"{i % distinct:03d}.jpg") for i in range(count)]
    (folder.parent / "list.txt").write_text("\n".join(names))
    return names


def start(
    cwd: Path,
    models_dir: Path,
    *options: str,
    given: str = "list.txt",
    out: str = "r.parquet",
    killed_at: int | None = None,
    more: dict[str, str] | None = None,
    **popen: Any,
) -> subprocess.Popen[str]:
    """`superbin classify GIVEN --out OUT` with options, in `cwd`."""
    variables = environment(models_dir, threads=2) | {"PYTHONPATH": str(ROOT)} | (more or {})
    before = ""
    if killed_at is not None:
        before = KILLED_AT
        variables |= {"KILLED_AT": str(killed_at), "OUT": out}
    arguments = ["classify", given, "--out", out, *options]
    return subprocess.Popen(
        [sys.executable, "-c", before + COMMAND, *arguments],
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """Wait for its end and give what it wrote on stderr."""
    _, told = process.communicate(timeout=300)
    assert process.returncode == status, told
    return told


def rows(cwd: Path) -> list[dict[str, Any]]:
    """Of the merged file."""
    found: list[dict[str, Any]] = pq.read_table(cwd / "r.parquet").to_pylist()
    return found


def parts(cwd: Path, out: str = "r.parquet") -> int:
    """Parts that are there so far."""
    return len(list((cwd / f"{out}.parts").glob("*.parquet")))
