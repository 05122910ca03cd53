"""An ONNX Runtime session over a bundle: uint8 pixels to calibrated answers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

# Wheels of ONNX Runtime 1.32 report usage to their maker unless told not to. A service that gets
# people's photos does not talk to anyone by itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from service import bundle as contract
from service.bundle import Bundle
from service.errors import BundleError, ProviderError
from service.preprocess import Pixels

Floats = npt.NDArray[np.float32]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Answers:
    """What the graph says of N photos over K superclasses and its R strongest references.

    Attributes:
        probabilities: float32 [N, K], calibrated, in the manifest's order.
        embedding: float32 [N, E], unit length.
        references: int64 [N, R], indices into the manifest's bank items, strongest first.
        reference_weights: float32 [N, R], attention averaged over heads.
        self_weight: float32 [N], attention that the photo gave to itself.
    """

    probabilities: Floats
    embedding: Floats
    references: npt.NDArray[np.int64]
    reference_weights: Floats
    self_weight: Floats

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, rows: slice) -> Answers:
        return Answers(*(array[rows] for array in vars(self).values()))


class Classifier:
    """A session on one device. `run` is thread-safe, as ONNX Runtime's sessions are."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        variant: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        """Load the bundle's graph.

        Args:
            bundle: a verified bundle.
            variant: which of its graphs, by default the bundle's own default.
            device: `cpu`, `cuda` or `cuda:N`.
            threads: intra-op threads; by default the cores this process may use.

        Raises:
            ProviderError: where the device that was asked for is not the one that would run.
            BundleError: where the graph does not load or has other inputs and outputs.
        """
        self.bundle = bundle
        self.device = device
        self.variant = variant or bundle.manifest.default_variant
        self._session = open_session(bundle.model_path(variant), device, threads)
        self._check_signature()

    @property
    def provider(self) -> str:
        """The execution provider that really runs."""
        return str(self._session.get_providers()[0])

    def run(self, images: Pixels) -> Answers:
        """Classify N photos; an answer never depends on the others.

        Args:
            images: uint8 [N, H, W, 3] as `service.preprocess.decode` gives them.
        """
        outputs = self._session.run(list(contract.OUTPUTS), {contract.INPUT_IMAGES: images})
        return Answers(*outputs)

    def warm_up(self, batch_sizes: tuple[int, ...] = (1,)) -> None:
        """Run blank photos, so that the first real one does not pay for lazy allocation."""
        spec = self.bundle.manifest.preprocessing
        for size in batch_sizes:
            self.run(np.zeros((size, spec.height, spec.width, 3), dtype=np.uint8))

    def _check_signature(self) -> None:
        spec = self.bundle.manifest.preprocessing
        images = self._session.get_inputs()[0]
        expected = [spec.height, spec.width, 3]
        if images.name != contract.INPUT_IMAGES or images.shape[1:] != expected:
            raise BundleError(
                f"{self.bundle.id}: expected input {contract.INPUT_IMAGES} [N, "
                f"{spec.height}, {spec.width}, 3], got {images.name} {images.shape}"
            )
        names = {output.name for output in self._session.get_outputs()}
        missing = set(contract.OUTPUTS) - names
        if missing:
            raise BundleError(f"{self.bundle.id}: the graph lacks the outputs {sorted(missing)}")


def open_session(path: Path, device: str, threads: int | None = None) -> ort.InferenceSession:
    """An ONNX Runtime session that runs on the device that was asked for, or none.

    Raises:
        ProviderError: ONNX Runtime itself would fall back to the CPU with only a log line.
        BundleError: where the file is no graph that this ONNX Runtime can run.
    """
    kind, _, index = device.partition(":")
    if kind not in PROVIDERS or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise ProviderError(f"expected a device of cpu, cuda or cuda:N, got {device!r}")
    provider = PROVIDERS[kind]
    if provider not in ort.get_available_providers():
        raise ProviderError(
            f"device {device!r} needs ONNX Runtime's {provider}; this build has "
            f"{ort.get_available_providers()}. Install the gpu extra (onnxruntime-gpu) in place "
            "of cpu, or ask for the device cpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    # Not warnings: each load would warn of the bank, which is an initializer that can be overridden
    # by design, and of nothing that is not checked below.
    options.log_severity_level = 3
    if kind == "cuda":
        ort.preload_dlls()  # CUDA's libraries lie in packages where the loader does not look
    asked = (provider, {"device_id": int(index or 0)} if kind == "cuda" else {})
    try:
        session = ort.InferenceSession(str(path), options, providers=[asked])
    except Exception as error:  # the pybind exceptions share no narrower base
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if session.get_providers()[0] != provider:
        raise ProviderError(
            f"device {device!r} was asked for and ONNX Runtime chose {session.get_providers()}: "
            "is there a GPU, and do its driver and CUDA libraries fit this onnxruntime-gpu?"
        )
    return session
