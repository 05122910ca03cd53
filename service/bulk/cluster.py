"""Chunks to tables on the machines of a Ray cluster, a core or a GPU for each chunk.

Rows come back to the process that was started, which alone writes: what a worker needs is this
package, the models folder and the photos under the same paths.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from service.bulk.local import Seen, Station
from service.bulk.plan import Plan, model_of, told_site
from service.catalogue import open_bundle
from service.devices import CPU, session_devices
from service.errors import BulkError, SuperbinError
from service.extras import how_to_install
from service.results import Sorted
from service.settings import Settings

LOCAL = "local"  # a cluster of this machine's cores, for as long as the command runs
RETRIES = 3  # of a chunk whose worker died
CONNECT_S = 10.0
AHEAD = 1.25  # chunks at hand for each that runs, so that no worker waits


@dataclass(frozen=True)
class Job:
    """What a worker must know to answer; the same for every chunk."""

    bundle: Path
    model: str  # Model, as JSON
    settings: str  # Settings, as JSON
    folder: Path  # what relative paths are relative to
    site: str | None = None  # tells `by` from others
    by: Sorted | None = field(default=None, compare=False)


class Cluster:
    """A connection to Ray."""

    def __init__(self, ray: Any, job: Job) -> None:
        """Over an initialised `ray`."""
        on_cpu = Settings.model_validate_json(job.settings).device == CPU
        self._ray, self._job = ray, ray.put(job)
        self._kind = "CPU" if on_cpu else "GPU"
        options = {"num_cpus": 1} if on_cpu else {"num_gpus": 1}
        self._task = ray.remote(max_retries=RETRIES, **options)(answer_chunk)

    def tables(
        self, plan: Plan, folder: Path, chunks: Sequence[int], stop: Sequence[int], seen: Seen
    ) -> Generator[tuple[int, pa.Table], None, None]:
        """Each chunk and its rows, as they are done.

        Raises:
            BulkError: where a chunk's worker died again and again.
            SuperbinError: where the model is not the same, or not there, on a machine.
        """
        to_do = iter(chunks)
        running: dict[Any, int] = {}
        while True:
            while not stop and len(running) < self._room():
                if (chunk := next(to_do, None)) is None:
                    break
                running[self._task.remote(self._job, plan.paths(folder, chunk))] = chunk
            if not running:
                return
            (done,), _ = self._ray.wait(list(running), num_returns=1)
            chunk = running.pop(done)
            rows = self._rows(done, plan, chunk)
            seen(len(rows), len(rows) - rows["error"].null_count)
            yield chunk, rows

    def _room(self) -> int:
        return max(2, int(AHEAD * self._ray.cluster_resources().get(self._kind, 1)))

    def _rows(self, done: Any, plan: Plan, chunk: int) -> pa.Table:
        errors = self._ray.exceptions
        try:
            return self._ray.get(done)
        except errors.RayTaskError as error:
            if isinstance(error.cause, SuperbinError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            first = chunk * plan.chunk
            raise BulkError(
                f"the workers of chunk {chunk} (photos {first:,} to {first + plan.size(chunk):,} "
                f"of the run) died {RETRIES + 1} times: {error}"
            ) from error


def answer_chunk(job: Job, photos: list[str]) -> pa.Table:
    """What a worker does."""
    station = _station(job)
    (rows,) = station.tables(iter([photos]), [len(photos)], job.folder, lambda n, bad: None)
    return rows


@lru_cache(maxsize=1)
def _station(job: Job) -> Station:
    """Opened once in each worker's process.

    Raises:
        BundleError, ProviderError: where the model cannot run there.
        BulkError: where it is not the one that the run was begun with.
    """
    settings = Settings.model_validate_json(job.settings)
    bundle = open_bundle(job.bundle)
    found = model_of(bundle, settings.variant_of(bundle))
    if found.model_dump_json() != job.model:
        raise BulkError(f"{job.bundle} on {os.uname().nodename} is another model than here")
    return Station(job.bundle, settings, job.by)


def find_ray(address: str) -> Any:
    """Ray itself, once somebody listens at an address.

    Raises:
        BulkError: where it is not installed, or nobody listens there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers unless told
    try:
        import ray
    except ImportError as error:
        raise BulkError(
            f"--ray needs Ray, which is not installed: {how_to_install('bulk', 'ray')}"
        ) from error
    _check_listening(address)
    return ray


@contextmanager
def connected(
    address: str, bundle: Path, plan: Plan, settings: Settings, by: Sorted | None = None
) -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine.

    Args:
        address: of a cluster (`host:6379`, `ray://host:10001`, `auto`), or `local`.
        bundle: the model's folder.
        plan: of the run.
        settings: of this process; on CPUs a worker has one core of them.
        by: a site's rules; workers need not have its file.

    Raises:
        BulkError: where Ray is not installed, or there is no cluster.
    """
    ray = find_ray(address)
    own: dict[str, Any] = {}
    if address == LOCAL:
        # Ray's workers would give way to all other processes: here they are the work.
        os.environ.setdefault("RAY_worker_niceness", "0")
        own = {"num_cpus": settings.threads, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BulkError(f"expected a Ray cluster at {address!r}: {error}") from error
    told = _for_a_worker(settings).model_dump_json()
    model, site = plan.model.model_dump_json(), told_site(by)
    job = Job(bundle.resolve(), model, told, Path.cwd(), site, by)
    try:
        yield Cluster(ray, job)
    finally:
        ray.shutdown()


def _for_a_worker(settings: Settings) -> Settings:
    """One core, or the one GPU that Ray lets a worker see."""
    kind = session_devices(settings.device)[0].partition(":")[0]
    alone = {"threads": 1, "decode_workers": None} if kind == CPU else {}
    return settings.model_copy(update={"device": kind, **alone})


def _check_listening(address: str) -> None:
    """Ray itself would try for minutes.

    Raises:
        BulkError: where nobody listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # a word of Ray's own
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise BulkError(f"expected a Ray cluster at {address!r}: {error}") from error
