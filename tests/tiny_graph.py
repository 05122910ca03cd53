"""What the graphs of the tiny bundles share: a photo's 4 x 4 grid, and what goes in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from service import bundle as contract
from service.bundle import Provenance

SIZE = 32
CELLS = 48  # mean colours of the grid
REFERENCES = 5


def grid(
    projection: npt.NDArray[np.float32], size: int = SIZE
) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """From `images` to `projected`: the grid's mean colours by a matrix [CELLS, E].

    Returns:
        The nodes, and the constants that they need.
    """
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool",
            ["planes"],
            ["grid"],
            kernel_shape=[size // 4] * 2,
            strides=[size // 4] * 2,
        ),
        helper.make_node("Reshape", ["grid", "flat"], ["cells"]),
        helper.make_node("MatMul", ["cells", "projection"], ["projected"]),
    ]
    constants = {
        "mean": np.float32(127.0),
        "deviation": np.float32(64.0),
        "projection": projection,
        "flat": np.array([-1, CELLS], np.int64),
    }
    return nodes, constants


def model_of(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any],
    *,
    superclasses: int,
    width: int,
    values: int,
    size: int = SIZE,
) -> onnx.ModelProto:
    """A checked model with a bundle's inputs and outputs.

    Args:
        constants: initializers by name; those of the bank are inputs as well.
        width, values: of the bank's keys and the embeddings, and of the bank's values.
    """
    floats, integers = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", size, size, 3]),
        helper.make_tensor_value_info(contract.INPUT_BANK_KEYS, floats, ["M", width]),
        helper.make_tensor_value_info(contract.INPUT_BANK_VALUES, floats, ["M", values]),
    ]
    outputs = [
        helper.make_tensor_value_info("probabilities", floats, ["N", superclasses]),
        helper.make_tensor_value_info("embedding", floats, ["N", width]),
        helper.make_tensor_value_info("references", integers, ["N", REFERENCES]),
        helper.make_tensor_value_info("reference_weights", floats, ["N", REFERENCES]),
        helper.make_tensor_value_info("self_weight", floats, ["N"]),
    ]
    initializers = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def provenance(seed: int = 0, **config: str) -> Provenance:
    """Of a bundle that nobody trained."""
    return Provenance(
        command="tests",
        git_commit=None,
        seed=seed,
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        hardware="none",
        packages={},
        config=dict(config),
        dataset={},
    )
