"""Runs over many files that are killed, stopped and starved end as one that is not."""

from __future__ import annotations

import copy
import csv
import os
import random
import resource
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.extras import how_to_install
from tests.integration.bulk_run import finish, parts, rows, start, write_photos
from tests.integration.ray_cluster import cluster_of_two, workers_at_work
from tests.integration.server import until

PHOTOS = 600
CHUNK = ("--chunk", "40")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a list of photos."""
    place = tmp_path_factory.mktemp("bulk")
    write_photos(place / "photos", PHOTOS)
    return place


@pytest.fixture(scope="module")
def uninterrupted(place: Path, models_dir: Path) -> list[dict[str, Any]]:
    """The rows of a run that nothing befell."""
    finish(start(place, models_dir, *CHUNK))
    found = rows(place)
    (place / "r.parquet").unlink()
    assert len(found) == PHOTOS
    return found


@pytest.fixture
def cwd(place: Path, uninterrupted: Any) -> Iterator[Path]:
    """`place`, tidied up afterwards."""
    yield place
    for path in [*place.glob("r.*.parts/*"), *place.glob("r.*")]:
        path.rmdir() if path.is_dir() else path.unlink()


def test_answers_are_those_of_the_service(
    client: httpx.Client, cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    for row in copy.deepcopy(uninterrupted[:40]):
        photo = Path(row["path"]).read_bytes()
        served = client.post("/v1/classify", files={"file": photo}).json()
        if row["error"] is not None:
            assert served["detail"] == row["error"]
            continue
        (answer,) = served["results"]
        for superclass, value in answer.pop("probabilities").items():
            assert row[f"probability_{superclass}"] == pytest.approx(value, abs=1e-6)
        for item, expected in zip(row["references"], answer.pop("references"), strict=True):
            assert item.pop("weight") == pytest.approx(expected.pop("weight"), abs=1e-6)
            assert item == expected
        assert answer.pop("filename")
        for name in ("doubts", "guide"):
            assert row[name] == answer.pop(name)
        assert {name: row[name] for name in answer} == pytest.approx(answer, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_at_random_moments_loses_nothing(
    cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]], seed: int
) -> None:
    """Each process is killed at a file operation drawn at random, until one gets to its end."""
    draw = random.Random(seed)
    killed = 0
    while True:
        process = start(cwd, models_dir, *CHUNK, killed_at=draw.randint(1, 40))
        process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        killed += 1
    assert killed >= 1
    assert rows(cwd) == uninterrupted
    assert not (cwd / "r.parquet.parts").exists()


def test_kill_9_at_random_moments_leaves_a_csv_whole_or_as_it_was(
    cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    draw = random.Random(3)
    status, killed = -signal.SIGKILL, 0
    while status:
        process = start(cwd, models_dir, *CHUNK, out="r.csv", killed_at=draw.randint(1, 40))
        process.communicate(timeout=120)
        status = process.returncode
        killed += status == -signal.SIGKILL
        if (cwd / "r.csv").exists():
            with (cwd / "r.csv").open(encoding="utf-8-sig", newline="") as file:
                found = [(row["path"], row["superclass"] or None) for row in csv.DictReader(file)]
            assert found == [(row["path"], row["superclass"]) for row in uninterrupted]
    assert killed >= 1
    assert status == 0
    assert "whole already" in finish(start(cwd, models_dir, *CHUNK, out="r.csv"))
    assert not (cwd / "r.csv.parts").exists()


def test_kill_9_from_outside_in_the_midst_of_work_loses_nothing(
    cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    for expected in (1, 5, 9):
        process = start(cwd, models_dir, *CHUNK)
        until(lambda least=expected: parts(cwd) >= least, "a few parts")
        process.kill()
        finish(process, -signal.SIGKILL)
    assert 9 <= parts(cwd) <= PHOTOS / 40
    finish(start(cwd, models_dir, *CHUNK))
    assert rows(cwd) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_what_was_begun_and_says_how_to_go_on(
    cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]], number: signal.Signals
) -> None:
    process = start(cwd, models_dir, *CHUNK)
    until(lambda: parts(cwd) >= 1, "a part")
    process.send_signal(number)
    told = finish(process, 130)
    assert f"{40 * parts(cwd)} of {PHOTOS} photos are done; the same command" in told
    assert not list((cwd / "r.parquet.parts").glob("*.tmp"))
    finish(start(cwd, models_dir, *CHUNK))
    assert rows(cwd) == uninterrupted


def test_a_disk_that_is_full_costs_no_part_that_is_there(
    cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    """A limit on the size of a file, set in mid-run, stands for the disk."""
    process = start(cwd, models_dir, *CHUNK)
    until(lambda: parts(cwd) >= 1, "a part")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    told = finish(process, 1)
    assert "cannot write r.parquet.parts/" in told
    assert "the same command goes on" in told
    assert parts(cwd) >= 1
    assert not list((cwd / "r.parquet.parts").glob("*.tmp"))
    assert not (cwd / "r.parquet").exists()
    finish(start(cwd, models_dir, *CHUNK))
    assert rows(cwd) == uninterrupted


def test_two_processes_do_not_write_the_same_file(cwd: Path, models_dir: Path) -> None:
    first = start(cwd, models_dir, *CHUNK)
    until(lambda: parts(cwd) >= 1, "a part")
    first.send_signal(signal.SIGSTOP)
    try:
        told = finish(start(cwd, models_dir, *CHUNK), 1)
    finally:
        first.send_signal(signal.SIGCONT)
    assert "another process is at work on r.parquet.parts" in told
    finish(first)


with_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")


@with_ray
def test_a_cluster_of_two_gives_the_same_though_a_worker_dies(
    cwd: Path, models_dir: Path, uninterrupted: list[dict[str, Any]]
) -> None:
    with cluster_of_two() as cluster:
        process = start(cwd, models_dir, *CHUNK, "--ray", cluster.address)
        until(lambda: parts(cwd) >= 1, "a part")
        process.kill()  # the one that writes
        finish(process, -signal.SIGKILL)
        process = start(cwd, models_dir, *CHUNK, "--ray", cluster.address)
        until(lambda: workers_at_work(cluster), "a worker to be at work")
        os.kill(workers_at_work(cluster)[0], signal.SIGKILL)
        finish(process)
        assert rows(cwd) == uninterrupted


@with_ray
def test_a_cluster_that_is_not_there_is_told_in_a_line(cwd: Path, models_dir: Path) -> None:
    told = finish(start(cwd, models_dir, "--ray", "127.0.0.1:1"), 1)
    assert "expected a Ray cluster at '127.0.0.1:1'" in told
    assert not (cwd / "r.parquet.parts").exists()


def test_without_an_extra_the_command_says_which_to_install(cwd: Path, models_dir: Path) -> None:
    for module, extras in (("pyarrow", ["bulk"]), ("ray", ["bulk", "ray"])):
        hidden = cwd / "hidden" / module
        hidden.mkdir(parents=True, exist_ok=True)
        (hidden / f"{module}.py").write_text("raise ImportError(name=__name__)")
        path = f"{hidden}{os.pathsep}{Path.cwd()}"
        process = start(cwd, models_dir, "--ray", "local", more={"PYTHONPATH": path})
        told = finish(process, 1)
        assert how_to_install(*extras) in told
        assert "Traceback" not in told
        assert not (cwd / "r.parquet.parts").exists()


def test_a_log_gets_few_lines(cwd: Path, models_dir: Path) -> None:
    told = finish(start(cwd, models_dir, *CHUNK)).splitlines()
    assert told[0].startswith(f"photos: {PHOTOS}/{PHOTOS}, ")
    assert told[0].endswith(" a second, 45 bad")
    assert told[1] == f"r.parquet: {PHOTOS} photos, 45 bad"
