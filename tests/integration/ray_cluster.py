"""A real Ray cluster of two machines that are processes here, each with one core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.server import ROOT

# It prints its address, and ends with its standard input.
SCRIPT = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass(frozen=True)
class RayCluster:
    """Where it listens, and the process that began it."""

    address: str
    pid: int


@contextmanager
def cluster_of_two() -> Iterator[RayCluster]:
    """Start it, and end it with all of its processes."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | quiet,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = (line.split() for line in process.stdout)
        address = next(words[1] for words in said if words[:1] == ["address"])
        yield RayCluster(address, process.pid)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def workers_at_work(cluster: RayCluster) -> list[int]:
    """Processes below the cluster's that answer a chunk just now."""
    found = []
    for pid in _below(cluster.pid):
        title = Path(f"/proc/{pid}/cmdline")
        try:
            if title.read_bytes().startswith(b"ray::answer_chunk"):
                found.append(pid)
        except OSError:  # it has ended
            continue
    return found


def _below(pid: int) -> Iterator[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, listed):
        yield child
        yield from _below(child)
