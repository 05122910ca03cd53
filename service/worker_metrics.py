"""Metrics of several workers as one: where they keep them, and what their processes cost."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from prometheus_client import Metric, ProcessCollector
from prometheus_client.multiprocess import mark_process_dead

from service.locks import remove_unused, used

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # by which prometheus-client knows that there are workers

PREFIX = "superbin-metrics-"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """An empty folder for the metrics' files, which workers find by the environment.

    What parents have left that were killed, and whose workers have ended, is removed.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        remove_unused(left)
    with ExitStack() as held:
        folder = _new(held)
        os.environ[FOLDER] = str(folder)
        try:
            yield folder
        finally:
            del os.environ[FOLDER]
            shutil.rmtree(folder, ignore_errors=True)


def _new(held: ExitStack) -> Path:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):  # another start took it for one that was left
            held.enter_context(used(folder))
            return folder


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
