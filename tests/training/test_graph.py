"""What is done to an exported graph changes no answer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from training.graph import LARGE, store_small

SHAPE = (8, LARGE // 8)


def test_large_constants_of_whole_numbers_take_a_byte_each_and_count_as_before() -> None:
    random = np.random.default_rng(0)
    whole = random.integers(-127, 128, SHAPE).astype(np.float32)
    constants = {
        "whole": whole,
        "broken": whole + np.float32(0.5),
        "far": whole * 2,
        "small": whole[:, :1],
        "default": whole,
    }
    nodes = [
        helper.make_node("Add", ["x", "small"], ["sum0"]),
        *(
            helper.make_node("Add", [f"sum{place}", name], [f"sum{place + 1}"])
            for place, name in enumerate(("whole", "broken", "far", "default"))
        ),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in ("x", "default")]
    result = helper.make_tensor_value_info("sum4", TensorProto.FLOAT, SHAPE)
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", values, [result], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = {"x": random.normal(size=SHAPE).astype(np.float32)}
    before = run(model, x)
    store_small(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model, x), before)
    types = {one.name: one.data_type for one in model.graph.initializer}
    assert types.pop("whole.int8") == TensorProto.INT8
    # A default value stays as it is, since others may be given in its place.
    assert types == dict.fromkeys(("broken", "far", "small", "default"), TensorProto.FLOAT)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, feeds)[0]
    return found
