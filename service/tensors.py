"""The tensors of the Open Inference Protocol v2 (KServe), whichever way they travel.

The input is `images`: either UINT8 [N, H, W, 3], pixels as the model sees them, or BYTES [N],
encoded photos, which then get the same preprocessing as everywhere else.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service import bundle as contract
from service.bundle import Manifest
from service.errors import SuperbinError
from service.photos import Outcome
from service.preprocess import Pixels

INPUT = contract.INPUT_IMAGES
DOUBTS = "doubts"  # BYTES [N], reasons by commas: no output of the graph's
DATATYPES = {"f": "FP32", "i": "INT64", "u": "UINT8", "O": "BYTES"}  # by numpy's kind
LENGTH = struct.Struct("<I")  # before each element of a binary BYTES tensor
MOST_NUMBERS = 8_000_000  # of a tensor that comes element by element
PIECE = 65_536  # numbers that are made an array at once, with Python's lock
EXTENSIONS = ("binary_tensor_data", "classification")


class TensorMalformed(SuperbinError):
    """A request that is none of this protocol."""

    reason = "malformed_tensor"


@dataclass(frozen=True)
class Tensor:
    """The input as it came: as bytes (`raw`), or else element by element."""

    datatype: str
    shape: list[int]
    raw: bytes | None
    elements: Sequence[Any] | npt.NDArray[Any]


@dataclass(frozen=True)
class Wanted:
    """One output: its name, whether as bytes, and of how many classes the names."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Inference:
    """What is asked: each photo as pixels [H, W, 3] or as encoded bytes."""

    id: str
    photos: Sequence[Pixels | bytes]
    wanted: list[Wanted]


def outputs_of(manifest: Manifest) -> tuple[str, ...]:
    """The names of what a model gives: of one with a guide also what of the guide counted."""
    return (*_of_graph(manifest), DOUBTS)


def _of_graph(manifest: Manifest) -> tuple[str, ...]:
    return contract.OUTPUTS + (contract.GUIDE_OUTPUTS if manifest.guide else ())


def check_inputs(names: Sequence[str]) -> None:
    """See that there is the one input.

    Raises:
        TensorMalformed: with what was expected and what came.
    """
    if list(names) != [INPUT]:
        raise TensorMalformed(
            f"expected the one input {INPUT!r}, got {[name[:40] for name in names[:4]]}"
        )


def photos_of(tensor: Tensor, manifest: Manifest) -> Sequence[Pixels | bytes]:
    """Each photo as pixels [H, W, 3] or as encoded bytes.

    Raises:
        TensorMalformed: with what was expected and what came.
    """
    if tensor.datatype == "UINT8":
        return _pixels(tensor, manifest)
    if tensor.datatype == "BYTES":
        return _encoded(tensor)
    raise TensorMalformed(
        f"expected {INPUT} as UINT8 (pixels) or BYTES (encoded photos), got "
        f"{tensor.datatype[:40]!r}"
    )


def _pixels(tensor: Tensor, manifest: Manifest) -> list[Pixels]:
    spec = manifest.preprocessing
    pixel_shape = [spec.height, spec.width, 3]
    if len(tensor.shape) != 4 or tensor.shape[0] < 1 or tensor.shape[1:] != pixel_shape:
        raise TensorMalformed(
            f"expected the shape [N, {spec.height}, {spec.width}, 3], got {tensor.shape}"
        )
    try:
        if tensor.raw is not None:
            flat = np.frombuffer(tensor.raw, dtype=np.uint8)
        else:
            values = _flat(tensor.elements, min(math.prod(tensor.shape), MOST_NUMBERS))
            if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
                raise ValueError("values that are no integers from 0 to 255")
            flat = values.astype(np.uint8)
        return list(flat.reshape(tensor.shape))
    except ValueError as error:
        raise TensorMalformed(f"expected {tensor.shape} numbers from 0 to 255: {error}") from error


def _flat(elements: Sequence[Any] | npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """All numbers of lists, nested or not, in pieces: others have Python's lock in between.

    Args:
        size: how many there should be.

    Raises:
        ValueError: where lists beside each other are of different lengths.
    """
    if isinstance(elements, np.ndarray):
        return elements.reshape(-1)
    each = max(1, size // max(1, len(elements)))
    if each > PIECE and all(isinstance(one, list) for one in elements):
        shapes: set[object] = {len(one) for one in elements}
        pieces = [_flat(one, each) for one in elements]
    else:
        step = max(1, PIECE // each)
        parts = range(0, max(1, len(elements)), step)
        arrays = [np.asarray(elements[first : first + step]) for first in parts]
        shapes = {array.shape[1:] for array in arrays}
        pieces = [array.reshape(-1) for array in arrays]
    if len(shapes) > 1:
        raise ValueError("lists beside each other of different lengths")
    return np.concatenate(pieces)


def _encoded(tensor: Tensor) -> list[bytes]:
    photos = list(tensor.elements) if tensor.raw is None else _from_binary(tensor.raw)
    if tensor.shape not in ([len(photos)], [len(photos), 1]) or not photos:
        raise TensorMalformed(
            f"expected the shape [N], got {tensor.shape} and {len(photos)} photos"
        )
    return photos


def _from_binary(raw: bytes) -> list[bytes]:
    photos, place = [], 0
    while place < len(raw):
        end = place + LENGTH.size
        if end <= len(raw):
            (length,) = LENGTH.unpack_from(raw, place)
            end += length
        if end > len(raw):
            raise TensorMalformed("expected each photo behind its length (4 bytes), got less")
        photos.append(raw[place + LENGTH.size : end])
        place = end
    return photos


def wanted_of(
    outputs: Sequence[tuple[str, Mapping[str, Any]]], binary: bool, manifest: Manifest
) -> list[Wanted]:
    """What is asked for, by names with parameters; everything where nothing is named.

    Args:
        binary: whether as bytes where an output says nothing of it.

    Raises:
        TensorMalformed: with what was expected and what came.
    """
    known = outputs_of(manifest)
    if not outputs:
        return [Wanted(name, binary) for name in known]
    wanted: dict[str, Wanted] = {}
    for name, parameters in outputs:
        if name not in known:
            raise TensorMalformed(f"expected outputs of {', '.join(known)}, got {name[:40]!r}")
        if name in wanted:
            raise TensorMalformed(f"expected each output once, got {name} twice")
        classes = parameters.get("classification", 0)
        if not isinstance(classes, int) or classes < 0:
            raise TensorMalformed(f"expected a number of classes, got {repr(classes)[:40]}")
        if classes and name != contract.OUTPUT_PROBABILITIES:
            raise TensorMalformed(
                f"expected classification of {contract.OUTPUT_PROBABILITIES}, got {name}"
            )
        wanted[name] = Wanted(name, parameters.get("binary_data", binary) is True, classes)
    return list(wanted.values())


def answers_of(
    manifest: Manifest, found: Sequence[Outcome | SuperbinError]
) -> dict[str, npt.NDArray[Any]]:
    """Each output over all photos.

    Raises:
        SuperbinError: the first photo's that has one, with its place where there are several: the
            protocol has none for one of them.
    """
    rows, doubts = [], []
    for place, one in enumerate(found):
        if isinstance(one, SuperbinError):
            if len(found) == 1:
                raise one
            raise type(one)(f"{INPUT}[{place}]: {one}") from one
        rows.append(one.answers)
        doubts.append(",".join(doubt.reason for doubt in one.doubts).encode())
    answers = {
        name: np.concatenate([getattr(row, name) for row in rows]) for name in _of_graph(manifest)
    }
    return answers | {DOUBTS: np.array(doubts, dtype=object)}


def wanted_tensors(
    manifest: Manifest, asked: Inference, answers: Mapping[str, npt.NDArray[Any]]
) -> Iterator[tuple[Wanted, npt.NDArray[Any]]]:
    """The tensor of each output that is asked for, out of those of `answers_of`."""
    for one in asked.wanted:
        tensor = answers[one.name]
        yield one, _best(tensor, manifest.superclasses, one.classes) if one.classes else tensor


def _best(
    probabilities: npt.NDArray[Any], superclasses: tuple[str, ...], classes: int
) -> npt.NDArray[Any]:
    """`score:index:name` of the likeliest, as Triton's classification extension has it."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :classes]
    rows = [
        [f"{row[k]:f}:{k}:{superclasses[k]}".encode() for k in best]
        for row, best in zip(probabilities, order, strict=True)
    ]
    return np.array(rows, dtype=object)


def blob_of(tensor: npt.NDArray[Any]) -> bytes:
    """Its elements as bytes, those of BYTES each behind its length."""
    if tensor.dtype.kind == "O":
        return b"".join(LENGTH.pack(len(value)) + value for value in tensor.ravel())
    return np.ascontiguousarray(tensor, dtype=tensor.dtype.newbyteorder("<")).tobytes()


def metadata(manifest: Manifest) -> dict[str, Any]:
    """The model as the protocol describes one."""
    spec = manifest.preprocessing
    superclasses, unknown = len(manifest.superclasses), -1
    outputs = {
        contract.OUTPUT_PROBABILITIES: ("FP32", [-1, superclasses]),
        contract.OUTPUT_EMBEDDING: ("FP32", [-1, unknown]),
        contract.OUTPUT_REFERENCES: ("INT64", [-1, unknown]),
        contract.OUTPUT_REFERENCE_WEIGHTS: ("FP32", [-1, unknown]),
        contract.OUTPUT_SELF_WEIGHT: ("FP32", [-1]),
        contract.OUTPUT_THINGS: ("INT64", [-1, unknown]),
        contract.OUTPUT_THING_WEIGHTS: ("FP32", [-1, unknown]),
        DOUBTS: ("BYTES", [-1]),
    }
    images = {"name": INPUT, "datatype": "UINT8", "shape": [-1, spec.height, spec.width, 3]}
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": "onnxruntime_onnx",
        "inputs": [images],
        "outputs": [
            dict(zip(("name", "datatype", "shape"), (name, *outputs[name]), strict=True))
            for name in outputs_of(manifest)
        ],
    }
