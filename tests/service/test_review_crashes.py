"""What the store has accepted outlives a kill -9 at any moment, and nothing half done stays."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from service.review.opening import open_store
from service.review.records import Rules
from tests.postgres import find_pg_ctl, postgres

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.review_crashes"]


def kill_at_lines(folder: Path, url: str, step: int) -> str:
    done = subprocess.run(
        [*COMMAND, "lines", folder / "store", url, str(step)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kill_at_any_line_loses_nothing(tmp_path: Path) -> None:
    """At every 37th line of a store's life; `lines` with a step of 1 takes minutes."""
    told = kill_at_lines(tmp_path, f"sqlite:///{tmp_path}/store/review.db", 37)
    assert int(told.split()[1]) > 25


def test_a_kill_at_any_line_loses_nothing_in_postgresql(tmp_path: Path) -> None:
    pg_ctl = find_pg_ctl()
    if pg_ctl is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with postgres(pg_ctl) as server:
        told = kill_at_lines(tmp_path, server.url, 151)
    assert int(told.split()[1]) > 6


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_a_random_moment_loses_nothing(tmp_path: Path, seed: int) -> None:
    url = f"sqlite:///{tmp_path}/review.db"
    worker = subprocess.Popen([*COMMAND, "busy", tmp_path, url], cwd=ROOT, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    told = [worker.stdout.readline() for _ in range(random.Random(seed).randint(1, 25))]
    worker.kill()  # while it goes on with whatever comes next
    told += worker.stdout.readlines()
    worker.stdout.close()
    worker.wait()
    words = [json.loads(line) for line in told if line.endswith(b"\n")]
    with open_store(url, str(tmp_path / "photos"), Rules(double_share=0.0)) as store:
        photos = {one.id: one for one in store.photos()}
        assert {word["kept"] for word in words if "kept" in word} <= set(photos)
        assert {word["reviewed"] for word in words if "reviewed" in word} <= {
            one.photo.id for one in store.reviewed()
        }
        assert all(len(one.load()) == one.nbytes for one in photos.values())
        assert {one.sha256 for one in photos.values()} == set(store._files.listed())
