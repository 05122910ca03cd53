"""Where sessions run: `cpu`, `cpu:N`, `cuda:0,cuda:1`, `tensorrt`; never somewhere else instead."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

# Wheels of ONNX Runtime 1.32 report usage to their maker unless told not to. A service that gets
# people's photos does not talk to anyone by itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service.errors import BundleError, ProviderError

CPU = "cpu"
SPIN_US = 50  # from one operator to the next this is long enough
PROVIDERS = {
    CPU: "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
HEAVY = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"})
ONE = r"(cpu(:[1-9]\d?)?|(cuda|tensorrt)(:\d{1,2})?)"
DEVICES = rf"{ONE}(,{ONE})*"
EXPECTED = "cpu, cpu:N for N sessions, cuda:I or tensorrt:I for the GPU I, or several by commas"


def session_devices(device: str) -> list[str]:
    """One device for each session: `cpu:2,cuda:0` is cpu, cpu and cuda:0.

    Raises:
        ProviderError: for anything else.
    """
    if not re.fullmatch(DEVICES, device):
        raise ProviderError(f"expected a device of {EXPECTED}, got {device!r}")
    devices: list[str] = []
    for one in device.split(","):
        kind, _, number = one.partition(":")
        devices += [CPU] * int(number or 1) if kind == CPU else [one]
    return devices


def on_gpu(device: str) -> bool:
    """Whether any of the sessions that a setting names runs on a GPU."""
    return any(one != CPU for one in session_devices(device))


def open_session(path: Path, device: str, threads: int) -> ort.InferenceSession:
    """An ONNX Runtime session that runs on the device that was asked for, or none.

    Args:
        path: of the graph.
        device: one that `session_devices` gives.
        threads: of the CPU, for one batch.

    Raises:
        ProviderError: ONNX Runtime itself would fall back to the CPU with only a log line, as a
            whole or with single operators.
        BundleError: where the file is no graph that this ONNX Runtime can run.
    """
    kind, _, index = device.partition(":")
    provider = PROVIDERS[kind]
    if provider not in ort.get_available_providers():
        raise ProviderError(
            f"device {device!r} needs ONNX Runtime's {provider}; this build has "
            f"{ort.get_available_providers()}. Install the gpu extra (onnxruntime-gpu) in place "
            "of cpu, or ask for the device cpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # By default threads that wait for work keep their cores busy for milliseconds, which have the
    # next photo to decode and the last answer to send.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    # Not warnings: each load would warn of the bank, which is an initializer that can be overridden
    # by design, and of nothing that is not checked below.
    options.log_severity_level = 3
    gpu = {"device_id": int(index or 0)}
    # TF32 keeps 10 bits of float32's 23, and not the same ones in batches of other sizes.
    exact = gpu | {"use_tf32": 0}
    asked = [(provider, {CPU: {}, "cuda": exact}.get(kind, gpu))]
    if kind != CPU:
        ort.preload_dlls()  # CUDA's libraries lie in packages where the loader does not look
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if kind == "tensorrt":  # for the operators that TensorRT lacks
        asked.append((PROVIDERS["cuda"], exact))
    try:
        session = ort.InferenceSession(str(path), options, providers=asked)
    except Exception as error:  # the pybind exceptions share no narrower base
        raise BundleError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if session.get_providers()[0] != provider:
        raise ProviderError(
            f"device {device!r} was asked for and ONNX Runtime chose {session.get_providers()}: "
            "is there a GPU, and do its driver and CUDA libraries fit this onnxruntime-gpu?"
        )
    if kind != CPU:
        check_placement(session, path, device, {name for name, _ in asked})
    return session


def check_placement(
    session: ort.InferenceSession, path: Path, device: str, providers: set[str]
) -> None:
    """All that takes time runs where it was asked to.

    A provider need not have every operator, and what it lacks runs on the CPU, between two copies
    over the bus, while the session still names the provider first. Operators that cost next to
    nothing, such as those that reckon with shapes, ONNX Runtime itself would rather have there.

    Args:
        session: one that was opened with `session.record_ep_graph_assignment_info`.
        providers: those where it may.

    Raises:
        ProviderError: for a convolution or a product of matrices that is somewhere else.
    """
    elsewhere = Counter(
        f"{node.op_type} on {part.ep_name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name not in providers
        for node in part.get_nodes()
        if node.op_type in HEAVY
    )
    if elsewhere:
        told = ", ".join(f"{number} {what}" for what, number in sorted(elsewhere.items()))
        raise ProviderError(
            f"{path}: expected all of it on {device}, got {told}; the fp32 variant has only "
            "operators that a GPU has"
        )


def keep_on(device: str, array: npt.NDArray[np.float32]) -> ort.OrtValue:
    """An input that stays where a session runs, so that no run has to bring it there."""
    kind, _, index = device.partition(":")
    place = CPU if kind == CPU else "cuda"
    return ort.OrtValue.ortvalue_from_numpy(array, place, int(index or 0))
