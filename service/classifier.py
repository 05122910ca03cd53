"""An ONNX Runtime session over a bundle: uint8 pixels to calibrated answers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from service import bundle as contract
from service.bank import read_bank
from service.bundle import Bundle
from service.devices import CPU, keep_on, open_session, session_devices
from service.errors import BundleError
from service.preprocess import Pixels
from service.staging import Staging

log = structlog.get_logger()

Floats = npt.NDArray[np.float32]
TIMED_RUNS = 3  # of which the fastest counts: what others do on the machine only adds


@dataclass(frozen=True)
class Answers:
    """What the graph says of N photos over K superclasses and its R strongest references.

    Attributes:
        probabilities: float32 [N, K], calibrated, in the manifest's order.
        embedding: float32 [N, E], unit length.
        references: int64 [N, R], indices into the manifest's bank items, strongest first.
        reference_weights: float32 [N, R], attention averaged over heads.
        self_weight: float32 [N], attention that the photo gave to itself, or to the guide.
        things: int64 [N, T], indices into the manifest's guide, strongest first; None without one.
        thing_weights: float32 [N, T], what of the self-weight they count for.
        familiarity: float32 [N], as `service.familiarity` has it; None where the graph does not
            tell.
    """

    probabilities: Floats
    embedding: Floats
    references: npt.NDArray[np.int64]
    reference_weights: Floats
    self_weight: Floats
    things: npt.NDArray[np.int64] | None = None
    thing_weights: Floats | None = None
    familiarity: Floats | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, rows: slice) -> Answers:
        return Answers(**{k: v[rows] for k, v in vars(self).items() if v is not None})


class Classifier:
    """A session on one device. `run` is thread-safe, as ONNX Runtime's sessions are."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        device: str = CPU,
        threads: int | None = None,
    ) -> None:
        """Load the bundle's graph.

        Args:
            bundle: a verified bundle.
            variant: which of its graphs, by default the bundle's own default.
            device: `cpu`, `cuda:I` or `tensorrt:I`.
            threads: of the CPU, for one batch; by default the cores this process may use.

        Raises:
            ProviderError: where the device that was asked for is not the one that would run.
            BundleError: where the graph does not load, has other inputs and outputs, or does not
                fit the bundle's bank.
        """
        self.bundle = bundle
        self.variant = variant or bundle.manifest.default_variant
        (self.device,) = session_devices(device)
        threads = threads or len(os.sched_getaffinity(0))
        self._session = open_session(bundle.model_path(variant), self.device, threads)
        self._outputs = self._check_signature()
        bank = read_bank(bundle)
        self._check_bank({name: array.shape for name, array in bank.items()})
        # Put where the session runs once and for all: a run then costs what it costs without.
        self._bank = {name: keep_on(self.device, array) for name, array in bank.items()}
        self._staging: dict[int, list[Staging]] = {}  # by size what is free of it; empty: any size

    @property
    def provider(self) -> str:
        """The execution provider that really runs."""
        return str(self._session.get_providers()[0])

    def run(self, images: Pixels) -> Answers:
        """Classify N photos; an answer never depends on the others.

        Args:
            images: uint8 [N, H, W, 3] as `service.preprocess.decode` gives them.
        """
        photos = len(images)
        size = next((size for size in self._staging if size >= photos), photos)
        try:
            staging = self._staging.get(size, []).pop()
        except IndexError:
            outputs = self._run_plainly(images, size)
        else:
            try:
                outputs = staging.run(images)
            finally:
                self._staging[size].append(staging)
        answers = Answers(**dict(zip(self._outputs, outputs, strict=True)))
        return answers[:photos] if size > photos else answers

    def _run_plainly(self, images: Pixels, size: int) -> list[npt.NDArray[Any]]:
        if missing := size - len(images):
            blank = np.zeros((missing, *images.shape[1:]), dtype=images.dtype)
            images = np.concatenate([images, blank])
        feeds = {contract.INPUT_IMAGES: images, **self._bank}
        outputs: list[npt.NDArray[Any]] = self._session.run(self._outputs, feeds)
        return outputs

    def keep_to(self, sizes: Sequence[int], at_once: int = 1) -> None:
        """From now on batches are of these sizes, by way of memory that a GPU copies by itself.

        On a GPU a batch of a size that was never run before can take a second: cuDNN looks for the
        best way to convolve it, and TensorRT builds an engine. Smaller ones are filled up, and one
        that is larger than all of these runs as it is. Where there is no such memory, which is
        logged, they run without.

        Args:
            sizes: that were run before.
            at_once: batches that run at the same time, each in memory of its own.
        """
        spec = self.bundle.manifest.preprocessing
        self._staging = {size: [] for size in sorted(sizes)}
        try:
            for size, free in self._staging.items():
                shape = (size, spec.height, spec.width, 3)
                for _ in range(at_once):
                    free.append(
                        Staging(self._session, self.device, self._outputs, self._bank, shape)
                    )
        except Exception as error:  # ONNX Runtime's own share no narrower base
            log.warning("no pinned memory", device=self.device, error=str(error))
            self._staging = {size: [] for size in self._staging}

    def time_batch(self, photos: int) -> float:
        """Seconds for a batch of blank photos once it is warm, the least of a few.

        The first real batch of that size then does not pay for lazy allocation.
        """
        spec = self.bundle.manifest.preprocessing
        blank = np.zeros((photos, spec.height, spec.width, 3), dtype=np.uint8)
        self.run(blank)
        seconds = []
        for _ in range(TIMED_RUNS):
            started = time.perf_counter()
            self.run(blank)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    def _check_signature(self) -> list[str]:
        """Names of the outputs to ask for, which are those of `Answers`."""
        manifest = self.bundle.manifest
        spec = manifest.preprocessing
        images = self._session.get_inputs()[0]
        expected = [spec.height, spec.width, 3]
        if images.name != contract.INPUT_IMAGES or images.shape[1:] != expected:
            raise BundleError(
                f"{self.bundle.id}: expected input {contract.INPUT_IMAGES} [N, "
                f"{spec.height}, {spec.width}, 3], got {images.name} {images.shape}"
            )
        names = {output.name for output in self._session.get_outputs()}
        wanted = [*contract.OUTPUTS, *(contract.GUIDE_OUTPUTS if manifest.guide else ())]
        told = manifest.familiarity is not None and manifest.familiarity.file is None
        if told or contract.OUTPUT_FAMILIARITY in names:
            wanted.append(contract.OUTPUT_FAMILIARITY)
        if missing := set(wanted) - names:
            raise BundleError(f"{self.bundle.id}: the graph lacks the outputs {sorted(missing)}")
        return wanted

    def _check_bank(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Each of the bank's arrays is an input of the graph, as wide as that."""
        taken = {one.name: one.shape for one in self._session.get_overridable_initializers()}
        for name, shape in shapes.items():
            if name not in taken:
                raise BundleError(f"{self.bundle.id}: the graph lacks the input {name}")
            if list(taken[name][1:]) != list(shape[1:]):
                raise BundleError(
                    f"{self.bundle.id}: expected {name} [M, {taken[name][-1]}], got {list(shape)}"
                )
