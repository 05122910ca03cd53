"""Batches on their way to a GPU and back, through memory that it reads and writes by itself.

A GPU copies on its own only to and from pages that the system never moves (pinned memory); of all
others the driver first makes a copy, on the processor. So the photos of a batch are put where the
GPU fetches them, its answers come back to such a place, and what does not change, the bank, was
bound once and for all.

<https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import bundle as contract
from service.devices import CPU, PROVIDERS
from service.errors import ProviderError
from service.preprocess import Pixels

CUDA_LIBRARY = "capi/libonnxruntime_providers_cuda.so"
PERIOD = 251  # of the trial's pixels: a prime, so that neither rows nor photos are alike


class Staging:
    """Room for one batch of one size. Not thread-safe: a batch leaves before the next one comes."""

    def __init__(
        self,
        session: ort.InferenceSession,
        device: str,
        outputs: Sequence[str],
        bank: Mapping[str, ort.OrtValue],
        shape: tuple[int, int, int, int],
    ) -> None:
        """Bind everything, and try it.

        Args:
            session: of a graph with the contract's inputs.
            device: where it runs, as `service.devices.session_devices` gives it.
            outputs: names of those to ask for.
            bank: the other inputs, by name, where the session runs.
            shape: N, H, W, 3 of the batch.

        Raises:
            ProviderError: where there is no such memory for the device, or answers that come this
                way are others.
        """
        memory = host_memory(device)
        trial = np.resize(np.arange(PERIOD, dtype=np.uint8), shape)
        expected = session.run(outputs, {contract.INPUT_IMAGES: trial, **bank})
        self._session = session
        self._images = _room(shape, np.uint8, memory)
        self._pixels = self._images.numpy()
        self._answers = [_room(one.shape, one.dtype.type, memory) for one in expected]
        self._found = [one.numpy() for one in self._answers]
        self._binding = session.io_binding()
        for name, value in bank.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in zip(outputs, self._answers, strict=True):
            self._binding.bind_ortvalue_output(name, value)
        for name, mine, plain in zip(outputs, self.run(trial), expected, strict=True):
            if mine.dtype.kind == "f" and not np.allclose(mine, plain, rtol=1e-3, atol=1e-4):
                off = np.abs(mine - plain).max()
                raise ProviderError(
                    f"expected {name} as without pinned memory, got them {off:.2g} off"
                )

    def run(self, images: Pixels) -> list[npt.NDArray[Any]]:
        """What the graph gives of uint8 [n, H, W, 3], n of them at most as many as there is room.

        What is left of the batch has the photos that were there before: the answers never depend on
        others, and theirs are thrown away.
        """
        photos = len(images)
        self._pixels[:photos] = images
        # On a GPU to bind is to copy, and has to be done for each batch.
        self._binding.bind_ortvalue_input(contract.INPUT_IMAGES, self._images)
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return [one[:photos].copy() for one in self._found]


def host_memory(device: str) -> ort.OrtMemoryInfo | None:
    """The host's memory that a GPU reads and writes by itself; None for a session on the CPU.

    Raises:
        ProviderError: this ONNX Runtime knows none.
    """
    kind, _, index = device.partition(":")
    if kind == CPU:
        return None
    provider = PROVIDERS["cuda"]  # TensorRT has no memory of its own
    if not any(one.ep_name == provider for one in ort.get_ep_devices()):
        library = Path(ort.__file__).parent / CUDA_LIBRARY
        try:
            ort.register_execution_provider_library(provider, str(library))
        except Exception as error:  # the pybind exceptions share no narrower base
            raise ProviderError(f"{device}: no pinned memory: {error}") from error
    for one in ort.get_ep_devices():
        if one.ep_name == provider and one.ep_options.get("device_id") == (index or "0"):
            memory = one.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
            if memory is not None:
                return memory
    raise ProviderError(f"{device}: {provider} tells of no pinned memory for it")


def _room(
    shape: Sequence[int], kind: type[np.generic], memory: ort.OrtMemoryInfo | None
) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), kind, memory_info=memory)
