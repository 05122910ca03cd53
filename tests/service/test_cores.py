"""The cores of a container: groups of both versions, one in another, and files that are odd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.cores import available_cores

CORES = 8


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(CORES)))


def told(root: Path, files: dict[str, str]) -> int:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(text))
    return available_cores(root)


@pytest.mark.parametrize(
    ("text", "cores"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 1", CORES), ("9900000 100000", CORES)],
)
def test_cores_follow_a_containers_quota(tmp_path: Path, text: str, cores: int) -> None:
    assert told(tmp_path, {"sys/fs/cgroup/cpu.max": text}) == cores


@pytest.mark.parametrize(
    ("own", "around", "outmost", "cores"),
    [
        ("300000 100000", "max 100000", "max 100000", 3),
        ("max 100000", "200000 100000", "max 100000", 2),
        ("300000 100000", "200000 100000", "500000 100000", 2),
        ("300000 100000", "400000 100000", "500000 100000", 3),
        ("max 100000", "max 100000", "500000 100000", 5),
    ],
)
def test_of_groups_in_each_other_the_smallest_quota_holds(
    tmp_path: Path, own: str, around: str, outmost: str, cores: int
) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": own,
        "sys/fs/cgroup/a/cpu.max": around,
        "sys/fs/cgroup/cpu.max": outmost,
        "sys/fs/cgroup/a/other/cpu.max": "100000 100000",
    }
    assert told(tmp_path, files) == cores


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("group", ["", "a/", "a/b/"])
def test_quotas_of_version_1_hold_too(tmp_path: Path, mount: str, group: str) -> None:
    folder = f"sys/fs/cgroup/{mount}"
    files = {
        "proc/self/cgroup": "5:memory:/other\n4:cpu,cpuacct:/a/b\n0::/\n",
        f"{folder}/cpu.cfs_quota_us": "-1\n",
        f"{folder}/cpu.cfs_period_us": "100000\n",
        f"{folder}/{group}cpu.cfs_quota_us": "250000\n",
        f"{folder}/{group}cpu.cfs_period_us": "100000\n",
    }
    assert told(tmp_path, files) == 3


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/a/b\n"},
        {"proc/self/cgroup": "0\n\n:::\n0::\n0::/\udcff\0\n4:cpu:/../..\n"},
        {"proc/self/cgroup": "0::/../x\n", "sys/fs/x/cpu.max": "100000 100000"},
        {"sys/fs/cgroup/cpu.max/file": ""},
        {"sys/fs/cgroup/cpu.max": ""},
        {"sys/fs/cgroup/cpu.max": "\udcff 100000"},
        {"sys/fs/cgroup/cpu.max": "100000 0"},
        {"sys/fs/cgroup/cpu.max": "100000 -100000"},
        {"sys/fs/cgroup/cpu.max": "-1 100000"},
        {"sys/fs/cgroup/cpu.max": f"{'9' * 4000} 1"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000"},
    ],
)
def test_what_is_missing_or_odd_limits_nothing(tmp_path: Path, files: dict[str, str]) -> None:
    assert told(tmp_path, files) == CORES


def test_those_of_this_machine_are_found() -> None:
    assert 1 <= available_cores() <= CORES
