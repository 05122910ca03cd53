"""The sessions that one model runs in, by the devices that the settings name.

`cpu` means both ways to use several cores: a session of one thread, run on each core,
which answers most photos a second, and one session over all cores, which answers a photo
that is alone soonest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.bundle import Bundle
from service.catalogue import open_bundle
from service.classifier import Classifier
from service.cost import CostModel
from service.devices import CPU, on_gpu, session_devices
from service.doubts import Doubts, open_doubts
from service.errors import BundleError, SuperbinError
from service.self_test import check_answers
from service.settings import Settings

THREADS_A_GPU = 2  # one hands over what it has, and gathers more, while the other's batch runs
MOST_ON_ONE_CORE = 2  # photos; more gain nothing there, whatever a warm-up on a busy machine says


@dataclass(frozen=True)
class Sessions:
    """What runs a model.

    Attributes:
        workers: for each thread that runs batches the session it uses; several may share one.
        alone: for a photo that is alone, where another session is better for that.
        measured: (photos, seconds) of the batches of the warm-up.
        max_batch: the largest batch that every worker was warmed up for.
        decode_workers: threads that decode; 0 where the workers do it themselves.
        doubts: what speaks against a photo, whatever the model says.
    """

    workers: tuple[Classifier, ...]
    alone: Classifier | None
    measured: tuple[tuple[int, float], ...]
    max_batch: int
    decode_workers: int
    doubts: Doubts

    @property
    def first(self) -> Classifier:
        """Any of them, to ask what model it is."""
        return self.workers[0]

    @property
    def provider(self) -> str:
        """The execution providers that really run."""
        return ",".join(sorted({worker.provider for worker in self.workers}))


def open_sessions(settings: Settings, path: Path, *, alone: bool = True) -> Sessions:
    """Open a verified bundle's sessions, tried and warmed up.

    Args:
        settings: devices, threads and the largest batch.
        path: of the bundle.
        alone: whether a photo may come alone, and a session for that is worth its memory.

    Raises:
        BundleError, ProviderError: where one cannot run as asked, or answers otherwise than when
            it was exported.
    """
    bundle = open_bundle(path)
    doubts = open_doubts(bundle, settings.doubt_limits)
    variant = settings.variant_of(bundle)
    measured: list[tuple[int, float]] = []
    largest: list[int] = []

    def opened(device: str, threads: int) -> Classifier:
        classifier = Classifier(bundle, variant=variant, device=device, threads=threads)
        check_answers(classifier)
        return classifier

    def warmed(classifier: Classifier, most: int) -> Classifier:
        batches = warm_up(classifier, min(most, settings.max_batch))
        measured.extend(batches)
        largest.append(batches[-1][0])
        if on_gpu(classifier.device):
            classifier.keep_to([photos for photos, _ in batches], THREADS_A_GPU)
        return classifier

    devices = session_devices(settings.device)
    lone = None
    with _tried(bundle, variant, settings.device):
        if settings.device == CPU:
            devices *= settings.threads
            if alone and settings.threads > 1:
                lone = opened(CPU, settings.threads)
                lone.time_batch(1)
            workers = [warmed(opened(CPU, 1), MOST_ON_ONE_CORE)] * settings.threads
        else:
            threads = max(1, settings.threads // len(devices))
            workers = []
            for device in devices:
                session = warmed(opened(device, threads), settings.max_batch)
                workers += [session] * (THREADS_A_GPU if on_gpu(device) else 1)
    decode_workers = settings.decode_workers
    if decode_workers is None:
        every_core = set(devices) == {CPU} and len(devices) >= settings.threads
        decode_workers = 0 if every_core else settings.threads
    return Sessions(tuple(workers), lone, tuple(measured), min(largest), decode_workers, doubts)


@contextmanager
def _tried(bundle: Bundle, variant: str, device: str) -> Iterator[None]:
    """What loads and fails when it runs, as for want of memory, is a bad bundle like any other."""
    try:
        yield
    except SuperbinError:
        raise
    except Exception as error:  # ONNX Runtime's own share no narrower base
        raise BundleError(f"{bundle.id} ({variant}) cannot run on {device}: {error}") from error


def warm_up(classifier: Classifier, largest: int) -> list[tuple[int, float]]:
    """Run blank photos in batches that double for as long as that is worth it.

    On a CPU that is soon over: larger batches gain nothing there, and the memory that they take is
    never given back.

    Returns:
        (photos, seconds) of each batch once it was warm.
    """
    measured: list[tuple[int, float]] = []
    size = 1
    while True:
        measured.append((size, classifier.time_batch(size)))
        if size == largest or (size > 1 and CostModel(measured).worthwhile(largest) < size):
            return measured
        size = min(2 * size, largest)
