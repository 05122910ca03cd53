"""Which convolutions stay in float: on a real graph, by its nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.integration.server import ROOT
from training.quantise import FLOAT_LAST, float_beginnings, quantise

GRAPH = ROOT / "models" / "refuse" / "4" / "fp32.onnx"


def in_float(path: Path) -> list[bool]:
    """Of each convolution whether its weights are float, in order."""
    graph = onnx.load(path).graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return [made.get(node.input[1]) != "DequantizeLinear" for node in convolutions]


@pytest.mark.parametrize("first", float_beginnings(GRAPH))
def test_both_ends_stay_in_float(first: int, tmp_path: Path) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    quantise(GRAPH, tmp_path / "int8.onnx", photos, first)
    found = in_float(tmp_path / "int8.onnx")
    between = len(found) - first - FLOAT_LAST
    assert between > first
    assert found == [True] * first + [False] * between + [True] * FLOAT_LAST


@pytest.mark.parametrize(
    ("convolutions", "beginnings"), [(1, [0]), (16, [0]), (17, [6]), (32, [6]), (33, [6, 14])]
)
def test_a_short_graph_has_less_to_leave(
    convolutions: int, beginnings: list[int], tmp_path: Path
) -> None:
    nodes = [helper.make_node("Conv", [f"x{n}", "w"], [f"x{n + 1}"]) for n in range(convolutions)]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 1])
        for name in ("x0", "w", f"x{convolutions}")
    ]
    graph = helper.make_graph(nodes, "short", values[:2], values[2:])
    onnx.save(helper.make_model(graph), tmp_path / "short.onnx")
    assert float_beginnings(tmp_path / "short.onnx") == beginnings
