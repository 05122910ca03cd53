"""The messages of the Open Inference Protocol v2 over gRPC, as KServe's specification has them.

Built from a table, not generated: generated code wants the protobuf that it was made by, or a newer
one, and puts these names into a pool of the whole process, where Triton's client has the same ones.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
MESSAGES = {  # a message inside another one comes after it
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1;",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1;",
    "ModelReadyRequest": "string name = 1; string version = 2;",
    "ModelReadyResponse": "bool ready = 1;",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": """
        string name = 1; string version = 2; repeated string extensions = 3;""",
    "ModelMetadataRequest": "string name = 1; string version = 2;",
    "ModelMetadataResponse": """
        string name = 1; repeated string versions = 2; string platform = 3;
        repeated ModelMetadataResponse.TensorMetadata inputs = 4;
        repeated ModelMetadataResponse.TensorMetadata outputs = 5;""",
    "ModelMetadataResponse.TensorMetadata": """
        string name = 1; string datatype = 2; repeated int64 shape = 3;""",
    "ModelInferRequest": """
        string model_name = 1; string model_version = 2; string id = 3;
        map<string, InferParameter> parameters = 4;
        repeated ModelInferRequest.InferInputTensor inputs = 5;
        repeated ModelInferRequest.InferRequestedOutputTensor outputs = 6;
        repeated bytes raw_input_contents = 7;""",
    "ModelInferRequest.InferInputTensor": """
        string name = 1; string datatype = 2; repeated int64 shape = 3;
        map<string, InferParameter> parameters = 4; InferTensorContents contents = 5;""",
    "ModelInferRequest.InferRequestedOutputTensor": """
        string name = 1; map<string, InferParameter> parameters = 2;""",
    "ModelInferResponse": """
        string model_name = 1; string model_version = 2; string id = 3;
        map<string, InferParameter> parameters = 4;
        repeated ModelInferResponse.InferOutputTensor outputs = 5;
        repeated bytes raw_output_contents = 6;""",
    "ModelInferResponse.InferOutputTensor": """
        string name = 1; string datatype = 2; repeated int64 shape = 3;
        map<string, InferParameter> parameters = 4; InferTensorContents contents = 5;""",
    "InferParameter": """
        bool bool_param = 1; int64 int64_param = 2; string string_param = 3;
        double double_param = 4; uint64 uint64_param = 5;""",
    "InferTensorContents": """
        repeated bool bool_contents = 1; repeated int32 int_contents = 2;
        repeated int64 int64_contents = 3; repeated uint32 uint_contents = 4;
        repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
        repeated double fp64_contents = 7; repeated bytes bytes_contents = 8;""",
}
CHOICES = {"InferParameter": "parameter_choice"}  # of whose fields one is set
_FIELD = re.compile(r"(repeated )?(map<string, )?([\w.]+)>? (\w+) = (\d+);")


def _describe() -> FileDescriptorProto:
    file = FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    described: dict[str, DescriptorProto] = {}
    for name, fields in MESSAGES.items():
        outer, _, own = name.rpartition(".")
        siblings = described[outer].nested_type if outer else file.message_type
        message = described[name] = siblings.add(name=own)
        if name in CHOICES:
            message.oneof_decl.add(name=CHOICES[name])
        for repeated, mapped, kind, field, number in _FIELD.findall(fields):
            if mapped:
                kind = _entry(name, message, field, kind)
            _add(message, field, int(number), kind, repeated=bool(repeated or mapped))
            if name in CHOICES:
                message.field[-1].oneof_index = 0
    return file


def _entry(name: str, message: DescriptorProto, field: str, kind: str) -> str:
    """What a map is a list of, as protobuf has it."""
    own = f"{field.title()}Entry"
    entry = message.nested_type.add(name=own)
    entry.options.map_entry = True
    _add(entry, "key", 1, "string")
    _add(entry, "value", 2, kind)
    return f"{name}.{own}"


def _add(
    message: DescriptorProto, name: str, number: int, kind: str, *, repeated: bool = False
) -> None:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind[0].isupper():
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


_POOL = DescriptorPool()
_POOL.Add(_describe())


def message_class(name: str) -> Any:
    """The class of one of `MESSAGES`."""
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
