"""What a message will take in memory once it is parsed, told from its bytes.

Two bytes may say that there is one more empty tensor, which then takes forty times as many: 64 MB
of them would be 2.7 GB. So it is looked how much there is beside strings and bytes, before protobuf
makes room for it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

FIELD = 1000  # bytes for each, generously: a sound message has tens of them
_ELEMENTS = {  # bytes in memory for each of a packed field's on the wire, at most
    FieldDescriptor.TYPE_BOOL: 1,
    FieldDescriptor.TYPE_INT32: 4,
    FieldDescriptor.TYPE_UINT32: 4,
    FieldDescriptor.TYPE_INT64: 8,
    FieldDescriptor.TYPE_UINT64: 8,
    FieldDescriptor.TYPE_FLOAT: 1,
    FieldDescriptor.TYPE_DOUBLE: 1,
}
_FIXED = {1: 8, 5: 4, 3: 0, 4: 0}  # bytes by the kind on the wire; of a group, what follows counts


def weigh(body: bytes | memoryview, described: Any, most: int) -> int:
    """Bytes beside strings and bytes; no further than to `most`, nor than the message is sound.

    Args:
        described: the message's protobuf descriptor.
    """
    weight = place = 0
    body = memoryview(body)
    while place < len(body) and weight <= most:
        weight += FIELD
        try:
            tag, place = _number(body, place)
            kind = tag & 7
            if kind == 2:
                length, place = _number(body, place)
                field = described.fields_by_number.get((tag & 0xFFFFFFFF) >> 3)
                inside = body[place : place + length]
                place += length
                if field and field.message_type:
                    weight += weigh(inside, field.message_type, most - weight)
                elif field:
                    weight += _ELEMENTS.get(field.type, 0) * len(inside)
            elif kind == 0:
                _, place = _number(body, place)
            else:
                place += _FIXED[kind]
        except (IndexError, KeyError):
            return weight  # protobuf will say so
    return weight


def _number(body: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where the next thing begins."""
    number = shift = 0
    while True:
        byte = body[place]
        number |= (byte & 127) << shift
        place += 1
        shift += 7
        if byte < 128:
            return number, place
        if shift > 63:
            raise KeyError("no number of protobuf's is longer")
