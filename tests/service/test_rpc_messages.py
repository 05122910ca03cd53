"""The messages of the protocol over gRPC are those of Triton's client, which were generated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as triton

from service.rpc.messages import MESSAGES, message_class
from service.rpc.weight import weigh


def fields_of(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else None,
            field.containing_oneof.name if field.containing_oneof else None,
        )
        for field in descriptor.fields
    }


@pytest.mark.parametrize("name", MESSAGES)
def test_names_numbers_and_types_are_those_of_another_implementation(name: str) -> None:
    theirs = triton.DESCRIPTOR.pool.FindMessageTypeByName(f"inference.{name}")
    assert fields_of(message_class(name).DESCRIPTOR) == fields_of(theirs)


def test_what_one_writes_the_other_reads() -> None:
    theirs = triton.ModelInferRequest(model_name="m", raw_input_contents=[b"\x00", b"\xff" * 9])
    theirs.parameters["on"].bool_param = False
    tensor = theirs.inputs.add(name="images", datatype="UINT8", shape=[-1, 2**40])
    tensor.contents.uint_contents.extend([0, 255, 2**32 - 1])
    ours = message_class("ModelInferRequest").FromString(theirs.SerializeToString())
    assert ours.parameters["on"].WhichOneof("parameter_choice") == "bool_param"
    assert triton.ModelInferRequest.FromString(ours.SerializeToString()) == theirs


def nested(field: int, inside: bytes) -> bytes:
    """A field of a message that is another message, or bytes, or packed numbers."""
    size, length = len(inside), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([field << 3 | 2]) + length + bytes([size]) + inside


MOST = 1_000_000
INPUT, CONTENTS = 5, 5


@pytest.mark.parametrize(
    "body",
    [
        nested(INPUT, b"") * 2_000,
        nested(7, b"") * 2_000,
        nested(INPUT, nested(4, b"") * 2_000),
        nested(INPUT, nested(3, b"\x01" * 200_000)),
        nested(INPUT, nested(CONTENTS, nested(8, b"") * 2_000)),
        nested(INPUT, nested(CONTENTS, nested(4, b"\x01" * 300_000))),
        b"\x78\x01" * 2_000,
        b"\x7b\x7c" + nested(INPUT, b"") * 2_000,
    ],
    ids=["inputs", "raw", "parameters", "shape", "photos", "pixels", "unknown", "group"],
)
def test_what_would_grow_is_found_before_it_does(body: bytes) -> None:
    assert weigh(body, message_class("ModelInferRequest").DESCRIPTOR, MOST) > MOST


def test_what_is_sound_weighs_little_however_large_it_is() -> None:
    described = message_class("ModelInferRequest").DESCRIPTOR
    request = triton.ModelInferRequest(model_name="m", raw_input_contents=[bytes(5 * MOST)])
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[-1, 2**40])
    tensor.contents.bytes_contents.extend([bytes(MOST)] * 32)
    tensor.contents.fp32_contents.extend([1.0] * 1000)
    assert weigh(request.SerializeToString(), described, MOST) < 0.1 * MOST


@given(st.binary(max_size=200))
def test_any_bytes_can_be_weighed(body: bytes) -> None:
    assert weigh(body, message_class("ModelInferRequest").DESCRIPTOR, MOST) <= 2 * MOST
