"""The Open Inference Protocol v2 as JSON, with its binary data extension: tensors behind the JSON.

In JSON encoded photos are strings in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import nullcontext
from typing import Any

import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from service.bundle import Manifest
from service.memory import uncollected
from service.tensors import (
    DATATYPES,
    INPUT,
    MOST_NUMBERS,
    Inference,
    Tensor,
    TensorMalformed,
    blob_of,
    check_inputs,
    photos_of,
    wanted_of,
    wanted_tensors,
)
from service.validation import read_size

MOST_TENSORS = 64  # of a request; one is taken, and there are few outputs
# Beside pixels there is little in a sound request, and each of these takes many bytes in memory.
MOST_NAMES = 10_000
MOST_LISTS = 4_000_000  # of 32 photos of 256 pixels there are 2,105,376, each pixel by itself
MOST_VALUES = MOST_NUMBERS  # of those there are 6,291,456
LONG = 65_536  # bytes of JSON that may have enough in them for the collector to notice


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
    # What is wrong with one is told, and not of each of a million.
    inputs: list[RequestInput] = Field(max_length=MOST_TENSORS, fail_fast=True)
    outputs: list[RequestOutput] | None = Field(
        default=None, max_length=MOST_TENSORS, fail_fast=True
    )


def read_inference(body: bytes, header_length: str | None, manifest: Manifest) -> Inference:
    """Parse a request.

    Args:
        body: JSON, then binary tensors one after another.
        header_length: the header `Inference-Header-Content-Length`, bytes of the JSON.

    Raises:
        TensorMalformed: with what was expected and what came.
    """
    length = json_length(header_length, len(body))
    told = body[:length]
    _check_size(told)
    try:
        with uncollected() if length > LONG else nullcontext():
            request = InferRequest.model_validate_json(told)
    except ValidationError as error:
        where = "; ".join(
            f"{place}: {p['msg']}" if (place := ".".join(map(str, p["loc"]))) else str(p["msg"])
            for p in error.errors()[:3]
        )
        raise TensorMalformed(f"expected an inference request as JSON, got {where}") from error
    check_inputs([one.name for one in request.inputs])
    binary = request.parameters.get("binary_data_output") is True
    wanted = wanted_of(
        [(one.name, one.parameters) for one in request.outputs or ()], binary, manifest
    )
    tensor = _tensor(request.inputs[0], body[length:])
    return Inference(request.id, photos_of(tensor, manifest), wanted)


def _check_size(told: bytes) -> None:
    """Before it is parsed, which may take a hundred times as many bytes.

    Raises:
        TensorMalformed: where there is more than a sound request has.
    """
    for what, sign, most in (
        ("objects", b"{", MOST_NAMES),
        ("names", b":", MOST_NAMES),
        ("lists", b"[", MOST_LISTS),
        ("values", b",", MOST_VALUES),
    ):
        if (count := told.count(sign)) > most:
            raise TensorMalformed(
                f"expected at most {most:,} {what} in the JSON, got {count:,}; tensors may follow "
                "it as bytes"
            )


def json_length(given: str | None, total: int) -> int:
    """Bytes of a body's JSON, which are all of them where the header does not say.

    Raises:
        TensorMalformed: where the header says what cannot be.
    """
    if given is None:
        return total
    length = read_size(given)
    if length is None or length > total:
        raise TensorMalformed(
            "expected Inference-Header-Content-Length to be the JSON's bytes, at most "
            f"{total}, got {given[:40]!r}"
        )
    return length


def _tensor(given: RequestInput, blob: bytes) -> Tensor:
    raw = _binary(given, blob)
    elements = given.data or []
    if raw is None and given.datatype == "BYTES":
        elements = _from_base64(elements)
    return Tensor(given.datatype, given.shape, raw, elements)


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


def _from_base64(data: list[Any]) -> list[bytes]:
    flat = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]
    try:
        return [base64.b64decode(one, validate=True) for one in flat]
    except (TypeError, ValueError, binascii.Error) as error:
        raise TensorMalformed(f"expected photos in base64: {error}") from error


def write_answer(
    manifest: Manifest, asked: Inference, answers: dict[str, npt.NDArray[Any]]
) -> tuple[bytes, int | None]:
    """The body, and the bytes of its JSON where binary tensors follow.

    Args:
        answers: of `answers_of`.
    """
    outputs, blobs = [], []
    for one, tensor in wanted_tensors(manifest, asked, answers):
        record: dict[str, Any] = {
            "name": one.name,
            "datatype": DATATYPES[tensor.dtype.kind],
            "shape": list(tensor.shape),
        }
        if one.binary:
            blobs.append(blob_of(tensor))
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
