"""Metrics of several workers as one: where they keep them, and what their processes cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import Metric, ProcessCollector
from prometheus_client.multiprocess import mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # by which prometheus-client knows that there are workers


class Processes:
    """What `ProcessCollector` tells, summed over the workers that live."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Start time and limits are those of the oldest and the tightest."""
        found: dict[str, list[Metric]] = defaultdict(list)
        for file in self._folder.glob("gauge_livesum_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                found[metric.name].append(metric)
        for name, metrics in found.items():
            values = [metric.samples[0].value for metric in metrics]
            least = name in {"process_start_time_seconds", "process_max_fds"}
            merged = Metric(name, metrics[0].documentation, metrics[0].type)
            merged.add_sample(metrics[0].samples[0].name, {}, min(values) if least else sum(values))
            yield merged


def forget_worker(pid: int, folder: Path) -> None:
    """A worker has ended: its gauges are no more, its counts stay."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
