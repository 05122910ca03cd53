"""Results as columns: an Arrow schema that follows from the API's own description of an answer."""

from __future__ import annotations

import types
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from service.classification import FileResult
from service.schemas import Classification

PROBABILITIES = "probabilities"
PROBABILITY = "probability_"  # and the superclass: a column each
OWN = {"filename", "review"}  # the column `path` says the one; nothing is kept for the other
SCALARS: dict[Any, Any] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),  # what JSON has, digit by digit
    datetime: pa.timestamp("us", tz="UTC"),
}


def schema(superclasses: Sequence[str]) -> pa.Schema:
    """Of the results of a model with these superclasses.

    `path`; each field of `Classification` with its own name, but for the probabilities, which
    get a column each; `error` and `model`. Where a photo is bad, all but its path, error and model
    are null.
    """
    fields = [pa.field("path", pa.string(), nullable=False)]
    for name, field in Classification.model_fields.items():
        if name == PROBABILITIES:
            fields += [pa.field(PROBABILITY + one, pa.float64()) for one in superclasses]
        elif name not in OWN:
            fields.append(pa.field(name, arrow_type(field.annotation)))
    return pa.schema([*fields, pa.field("error", pa.string()), pa.field("model", pa.string())])


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field of a pydantic model.

    Raises:
        TypeError: for one that has none yet.
    """
    if annotation in SCALARS:
        return SCALARS[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return pa.struct([pa.field(name, arrow_type(one.annotation)) for name, one in fields])
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return arrow_type(type(inner[0]))
    if origin in (Union, types.UnionType):
        (only,) = (one for one in inner if one is not types.NoneType)
        return arrow_type(only)
    if origin in (list, tuple):
        return pa.list_(arrow_type(inner[0]))
    if origin is dict:
        return pa.map_(arrow_type(inner[0]), arrow_type(inner[1]))
    raise TypeError(f"expected a type that has a column, got {annotation}")


def table(results: Sequence[FileResult], model: str, to: pa.Schema) -> pa.Table:
    """Rows in the results' order."""
    return pa.Table.from_pylist([_row(result, model) for result in results], to)


def _row(result: FileResult, model: str) -> dict[str, Any]:
    row: dict[str, Any] = {"path": printable(result.photo), "error": result.error, "model": model}
    if result.answer is not None:
        row |= result.answer.model_dump(exclude=OWN)
        probabilities = row.pop(PROBABILITIES)
        row |= {PROBABILITY + superclass: value for superclass, value in probabilities.items()}
    return row


def printable(path: str) -> str:
    r"""A path as UTF-8 can have it: bytes that are none become `\xNN`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
