"""Requests and answers of the Open Inference Protocol v2 (KServe), with its binary data extension.

The input is `images`: either UINT8 [N, H, W, 3], pixels as the model sees them, or BYTES [N],
encoded photos, which then get the same preprocessing as everywhere else. In JSON encoded photos are
strings in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from service import bundle as contract
from service.bundle import Manifest
from service.errors import SuperbinError
from service.preprocess import Pixels
from service.validation import read_size

INPUT = contract.INPUT_IMAGES
DOUBTS = "doubts"  # BYTES [N], reasons by commas: no output of the graph's
OUTPUTS = (*contract.OUTPUTS, DOUBTS)
DATATYPES = {"f": "FP32", "i": "INT64", "u": "UINT8", "O": "BYTES"}  # by numpy's kind
LENGTH = struct.Struct("<I")  # before each element of a binary BYTES tensor


class TensorMalformed(SuperbinError):
    """A request that is none of this protocol."""

    reason = "malformed_tensor"


class RequestInput(BaseModel):
    """A tensor, in `data` or behind the JSON."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class RequestOutput(BaseModel):
    """An output that is wanted, and how."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """The JSON of a request; members that the protocol may gain are ignored."""

    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None


@dataclass(frozen=True)
class Wanted:
    """One output: its name, whether behind the JSON, and of how many classes the names."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Inference:
    """What is asked: each photo as pixels [H, W, 3] or as encoded bytes."""

    id: str
    photos: Sequence[Pixels | bytes]
    wanted: list[Wanted]


def read_inference(body: bytes, header_length: str | None, manifest: Manifest) -> Inference:
    """Parse a request.

    Args:
        body: JSON, then binary tensors one after another.
        header_length: the header `Inference-Header-Content-Length`, bytes of the JSON.

    Raises:
        TensorMalformed: with what was expected and what came.
    """
    length = _header_length(header_length, len(body))
    try:
        request = InferRequest.model_validate_json(body[:length])
    except ValidationError as error:
        told = [
            f"{place}: {p['msg']}" if (place := ".".join(map(str, p["loc"]))) else str(p["msg"])
            for p in error.errors()[:3]
        ]
        where = "; ".join(told)
        raise TensorMalformed(f"expected an inference request as JSON, got {where}") from error
    if [one.name for one in request.inputs] != [INPUT]:
        names = [one.name[:40] for one in request.inputs[:4]]
        raise TensorMalformed(f"expected the one input {INPUT!r}, got {names}")
    return Inference(
        request.id, _photos(request.inputs[0], body[length:], manifest), _wanted(request)
    )


def _header_length(given: str | None, total: int) -> int:
    if given is None:
        return total
    length = read_size(given)
    if length is None or length > total:
        raise TensorMalformed(
            "expected Inference-Header-Content-Length to be the JSON's bytes, at most "
            f"{total}, got {given[:40]!r}"
        )
    return length


def _photos(tensor: RequestInput, blob: bytes, manifest: Manifest) -> Sequence[Pixels | bytes]:
    raw = _binary(tensor, blob)
    if tensor.datatype == "UINT8":
        return _pixels(tensor, raw, manifest)
    if tensor.datatype == "BYTES":
        return _encoded(tensor, raw)
    raise TensorMalformed(
        f"expected {INPUT} as UINT8 (pixels) or BYTES (encoded photos), got "
        f"{tensor.datatype[:40]!r}"
    )


def _binary(tensor: RequestInput, blob: bytes) -> bytes | None:
    """The bytes behind the JSON where the tensor says that it is there, else None."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        if blob or tensor.data is None:
            raise TensorMalformed(
                f"expected {INPUT} in `data`, or behind the JSON with `binary_data_size`, got "
                f"{'none' if tensor.data is None else f'{len(blob)} bytes that nothing names'}"
            )
        return None
    if size != len(blob) or tensor.data is not None:
        raise TensorMalformed(
            f"expected {repr(size)[:40]} bytes behind the JSON and no `data`, got {len(blob)} bytes"
        )
    return blob


def _pixels(tensor: RequestInput, raw: bytes | None, manifest: Manifest) -> list[Pixels]:
    spec = manifest.preprocessing
    pixel_shape = [spec.height, spec.width, 3]
    if len(tensor.shape) != 4 or tensor.shape[0] < 1 or tensor.shape[1:] != pixel_shape:
        raise TensorMalformed(
            f"expected the shape [N, {spec.height}, {spec.width}, 3], got {tensor.shape}"
        )
    try:
        if raw is not None:
            flat = np.frombuffer(raw, dtype=np.uint8)
        else:
            values = np.array(tensor.data).reshape(-1)
            if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
                raise ValueError("values that are no integers from 0 to 255")
            flat = values.astype(np.uint8)
        return list(flat.reshape(tensor.shape))
    except ValueError as error:
        raise TensorMalformed(f"expected {tensor.shape} numbers from 0 to 255: {error}") from error


def _encoded(tensor: RequestInput, raw: bytes | None) -> list[bytes]:
    photos = _from_base64(tensor.data or []) if raw is None else _from_binary(raw)
    if tensor.shape not in ([len(photos)], [len(photos), 1]) or not photos:
        raise TensorMalformed(
            f"expected the shape [N], got {tensor.shape} and {len(photos)} photos"
        )
    return photos


def _from_base64(data: list[Any]) -> list[bytes]:
    flat = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]
    try:
        return [base64.b64decode(one, validate=True) for one in flat]
    except (TypeError, ValueError, binascii.Error) as error:
        raise TensorMalformed(f"expected photos in base64: {error}") from error


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


def _wanted(request: InferRequest) -> list[Wanted]:
    binary = request.parameters.get("binary_data_output") is True
    if not request.outputs:
        return [Wanted(name, binary) for name in OUTPUTS]
    wanted = []
    for output in request.outputs:
        if output.name not in OUTPUTS:
            raise TensorMalformed(
                f"expected outputs of {', '.join(OUTPUTS)}, got {output.name[:40]!r}"
            )
        classes = output.parameters.get("classification", 0)
        if not isinstance(classes, int) or classes < 0:
            raise TensorMalformed(f"expected a number of classes, got {repr(classes)[:40]}")
        if classes and output.name != contract.OUTPUT_PROBABILITIES:
            raise TensorMalformed(
                f"expected classification of {contract.OUTPUT_PROBABILITIES}, got {output.name}"
            )
        wanted.append(
            Wanted(output.name, output.parameters.get("binary_data", binary) is True, classes)
        )
    return wanted


def write_answer(
    manifest: Manifest, asked: Inference, answers: dict[str, npt.NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The body, and the bytes of its JSON where binary tensors follow.

    Args:
        answers: by output, over all photos.
    """
    outputs, blobs = [], []
    for one in asked.wanted:
        tensor = answers[one.name]
        if one.classes:
            tensor = _best(tensor, manifest.superclasses, one.classes)
        record: dict[str, Any] = {
            "name": one.name,
            "datatype": DATATYPES[tensor.dtype.kind],
            "shape": list(tensor.shape),
        }
        if one.binary:
            blobs.append(_blob(tensor))
            record["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            record["data"] = [
                v.decode() if isinstance(v, bytes) else v for v in tensor.ravel().tolist()
            ]
        outputs.append(record)
    answer = {"model_name": manifest.name, "model_version": manifest.version, "outputs": outputs}
    if asked.id:
        answer["id"] = asked.id
    head = json.dumps(answer).encode()
    return head + b"".join(blobs), len(head) if blobs else None


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


def _blob(tensor: npt.NDArray[Any]) -> bytes:
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
        DOUBTS: ("BYTES", [-1]),
    }
    images = {"name": INPUT, "datatype": "UINT8", "shape": [-1, spec.height, spec.width, 3]}
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": "onnxruntime_onnx",
        "inputs": [images],
        "outputs": [
            {"name": name, "datatype": kind, "shape": shape}
            for name, (kind, shape) in outputs.items()
        ],
    }
