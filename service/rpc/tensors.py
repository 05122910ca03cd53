"""Tensors of the Open Inference Protocol as protobuf has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle import Manifest
from service.errors import SuperbinError
from service.photos import Outcome
from service.rpc.messages import CHOICES, message_class
from service.tensors import (
    DATATYPES,
    INPUT,
    Inference,
    Tensor,
    TensorMalformed,
    answers_of,
    blob_of,
    check_inputs,
    photos_of,
    wanted_of,
    wanted_tensors,
)

(CHOICE,) = CHOICES.values()
MOST_DIMENSIONS = 8  # as over HTTP
PIECE = 65_536  # numbers
ModelInferResponse = message_class("ModelInferResponse")


def read_inference(request: Any, manifest: Manifest) -> Inference:
    """What a ModelInferRequest asks for.

    Raises:
        TensorMalformed: with what was expected and what came.
    """
    check_inputs([one.name for one in request.inputs])
    outputs = [(one.name, _values(one.parameters)) for one in request.outputs]
    wanted = wanted_of(outputs, binary=True, manifest=manifest)
    tensor = _tensor(request.inputs[0], request.raw_input_contents)
    return Inference(request.id, photos_of(tensor, manifest), wanted)


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Each parameter's value; None where it has none."""
    chosen = {name: one.WhichOneof(CHOICE) for name, one in parameters.items()}
    return {name: getattr(parameters[name], it) if it else None for name, it in chosen.items()}


def _tensor(given: Any, raw: Sequence[bytes]) -> Tensor:
    typed = given.HasField("contents")
    if len(raw) + typed != 1:
        raise TensorMalformed(
            f"expected {INPUT} once, in contents or in raw_input_contents, got "
            f"{'contents' if typed else 'no contents'} and {len(raw)} of raw_input_contents"
        )
    if len(given.shape) > MOST_DIMENSIONS:
        raise TensorMalformed(
            f"expected a shape of at most {MOST_DIMENSIONS} numbers, got {len(given.shape)}"
        )
    shape = list(given.shape)
    if raw:
        return Tensor(given.datatype, shape, raw[0], ())
    return Tensor(given.datatype, shape, None, _elements(given.datatype, given.contents))


def _elements(datatype: str, contents: Any) -> list[bytes] | npt.NDArray[Any]:
    if datatype == "BYTES":
        return list(contents.bytes_contents)
    numbers = contents.uint_contents
    if not numbers:
        raise TensorMalformed(
            "expected pixels in uint_contents, or encoded photos as BYTES in bytes_contents, got "
            f"none and {datatype[:40]!r}"
        )
    found = np.empty(len(numbers), np.uint32)
    for first in range(0, len(numbers), PIECE):  # others have Python's lock in between
        found[first : first + PIECE] = numbers[first : first + PIECE]
    return found


def write_answer(
    manifest: Manifest, asked: Inference, found: Sequence[Outcome | SuperbinError]
) -> Any:
    """The ModelInferResponse.

    Raises:
        SuperbinError: the first photo's that has one.
    """
    answer = ModelInferResponse(
        model_name=manifest.name, model_version=manifest.version, id=asked.id
    )
    for one, tensor in wanted_tensors(manifest, asked, answers_of(manifest, found)):
        kind = DATATYPES[tensor.dtype.kind]
        answer.outputs.add(name=one.name, datatype=kind, shape=tensor.shape)
        answer.raw_output_contents.append(blob_of(tensor))
    return answer
