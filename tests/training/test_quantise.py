"""Which convolutions stay in float: on real graphs, by their nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle import read_bundle
from tests.integration.server import ROOT
from tests.training_runs import ConfigMaker, DatasetMaker, run
from training import export
from training.calibrate import calibrate_run
from training.data.photos import read_photos
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


@pytest.mark.parametrize(("wanted", "first"), [(0.0, 6), (1.1, 14)])
def test_an_export_leaves_more_in_float_where_int8_agrees_too_little(
    wanted: float,
    first: int,
    make_dataset: DatasetMaker,
    tiny_config: ConfigMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root, out = make_dataset(), tmp_path / "models" / "tiny" / "1"
    config = tiny_config(
        method="matching",
        data={"px": 16, "cache_px": 16},
        backbone={"frozen_groups": 18, "pretrained": False},
        matching={"width": 16},
        bank={"selection": "all"},
        train={"epochs": 0.1},
    )
    run(config, read_photos(root), tmp_path / "run")
    calibrate_run(tmp_path / "run", root, 0.05, None, "cpu")
    monkeypatch.setattr(export, "LEAST_AGREEMENT", wanted)
    export.export_run(tmp_path / "run", root, out, None, None, None, "cpu")
    bundle = read_bundle(out)
    assert bundle.manifest.default_variant == ("int8" if wanted == 0.0 else "fp32")
    found = in_float(bundle.model_path("int8"))
    assert found.index(False) == first


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
