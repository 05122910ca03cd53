"""Photos added to a file by runs that are killed and stopped end as by one that is not."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from service.bulk.merged import metadata_of
from tests.integration import bulk_run
from tests.integration.bulk_run import finish, parts, write_photos
from tests.integration.ray_cluster import cluster_of_two
from tests.integration.server import until
from tests.photo_factory import noise

BEFORE, NEW, CHUNK = 30, 200, 20
OUTS = ["r.parquet", "r.csv"]


def start(cwd: Path, models_dir: Path, *options: str, **more: Any) -> subprocess.Popen[str]:
    given = {"given": "photos", **more}
    return bulk_run.start(cwd, models_dir, "--chunk", str(CHUNK), *options, **given)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Path:
    """A folder that has grown since a file of each kind was whole; and such files over all."""
    place = tmp_path_factory.mktemp("grown")
    write_photos(place / "photos", 0, distinct=BEFORE)
    (place / "before").mkdir()
    for out in OUTS:
        finish(start(place, models_dir, out=out))
    for path in place.glob("r.*"):
        path.rename(place / "before" / path.name)
    for number in range(NEW):  # before, between and after those that are there
        data = noise(100 + number, 80, 80)
        path = place / "photos" / f"{number % 60:03d}-{number}.jpg"
        path.write_bytes(data[:-200] if number % 13 == 7 else data)
    for out in OUTS:
        finish(start(place, models_dir, out=f"all{Path(out).suffix}"))
    return place


@pytest.fixture
def cwd(place: Path) -> Iterator[Path]:
    """`place` with the files as they were before it had grown, tidied up afterwards."""
    for path in (place / "before").iterdir():
        shutil.copy(path, place)
    yield place
    for path in [*place.glob("r.*.parts/*"), *place.glob("r.*")]:
        path.rmdir() if path.is_dir() else path.unlink()


def content(path: Path) -> Any:
    """A CSV's bytes; a Parquet file's rows."""
    return path.read_bytes() if path.suffix == ".csv" else pq.read_table(path).to_pylist()


def check_whole(cwd: Path, models_dir: Path, out: str) -> None:
    assert content(cwd / out) == content(cwd / f"all{Path(out).suffix}")
    told, over_all = metadata_of(cwd / out), metadata_of(cwd / f"all{Path(out).suffix}")
    assert json.loads(told["counts"]) == json.loads(over_all["counts"])
    assert told["photos"] == str(BEFORE + NEW)
    assert "whole already" in finish(start(cwd, models_dir, out=out))
    assert not (cwd / f"{out}.parts").exists()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("out", OUTS)
def test_kill_9_at_random_moments_leaves_a_file_as_it_was_or_with_all_that_is_new(
    cwd: Path, models_dir: Path, out: str, seed: int
) -> None:
    draw = random.Random(seed)
    before, over_all = content(cwd / out), content(cwd / f"all{Path(out).suffix}")
    status, killed = -signal.SIGKILL, 0
    while status:
        process = start(cwd, models_dir, "--add", out=out, killed_at=draw.randint(1, 60))
        process.communicate(timeout=120)
        status = process.returncode
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        assert content(cwd / out) in (before, over_all)
    assert killed >= 1
    check_whole(cwd, models_dir, out)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("out", OUTS)
def test_what_is_stopped_in_the_midst_of_adding_goes_on(
    cwd: Path, models_dir: Path, out: str, number: signal.Signals
) -> None:
    before = content(cwd / out)
    process = start(cwd, models_dir, "--add", out=out)
    until(lambda: parts(cwd, out) >= 1, "a part")
    process.send_signal(number)
    told = finish(process, 130 if number != signal.SIGKILL else -number)
    done = parts(cwd, out) * CHUNK
    assert number == signal.SIGKILL or f"{done} of {NEW} photos are done; the same" in told
    assert content(cwd / out) == before
    told = finish(start(cwd, models_dir, "--add", out=out))
    assert f"{NEW} photos added to the {BEFORE} that had rows" in told
    assert f"\n{NEW - done} photos in " in told
    check_whole(cwd, models_dir, out)


def test_two_processes_do_not_add_to_the_same_file(cwd: Path, models_dir: Path) -> None:
    first = start(cwd, models_dir, "--add")
    until(lambda: parts(cwd) >= 1, "a part")
    first.send_signal(signal.SIGSTOP)
    try:
        for options in ([], ["--add"], ["--restart"]):
            told = finish(start(cwd, models_dir, *options), 1)
            assert "another process is at work on r.parquet.parts" in told
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first)
    check_whole(cwd, models_dir, "r.parquet")


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")
def test_a_cluster_adds_as_one_machine_does(cwd: Path, models_dir: Path) -> None:
    with cluster_of_two() as cluster:
        finish(start(cwd, models_dir, "--add", "--ray", cluster.address))
    check_whole(cwd, models_dir, "r.parquet")
