"""The served graph: uint8 pixels to calibrated answers, as one ONNX file.

The bank's keys and values are graph inputs with default values, so that the file stands alone and
a corrected bank, of any size from `REFERENCES` up, needs no new graph. So are a background's keys.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from service import bundle as contract
from training.methods import BankMethod
from training.methods.matching import Matching
from training.model import SuperclassModel

REFERENCES = 5  # R: bank items named with an answer
THINGS = 3  # T: things of a guide named with an answer
OPSET = 20
LARGE = 10_000  # numbers that are worth a Cast
IR_VERSION = 10  # what onnxruntime 1.20 and later, and so current Triton, read


class ServedGraph(nn.Module):
    """What is exported; also what the exported file is compared to."""

    def __init__(self, model: SuperclassModel, temperature: float) -> None:
        super().__init__()
        self.normalise = model.normalise
        self.backbone = fold_batch_norms(model.backbone)
        self.head = model.head
        self.temperature = temperature

    @property
    def output_names(self) -> list[str]:
        """Of what `forward` gives: more for matching, and still more with a guide."""
        names = list(contract.OUTPUTS)
        if isinstance(self.head, Matching):
            names += contract.GUIDE_OUTPUTS if self.head.guide is not None else ()
            names.append(contract.OUTPUT_FAMILIARITY)
        return names

    @property
    def defaults(self) -> dict[str, Tensor]:
        """The inputs after the images, in order, and what they are where nothing else is given."""
        head = cast(BankMethod, self.head)
        found = {
            contract.INPUT_BANK_KEYS: head.bank_keys.clone(),
            contract.INPUT_BANK_VALUES: head.bank_values.clone(),
        }
        if isinstance(head, Matching) and len(head.background.keys):
            found[contract.INPUT_BACKGROUND_KEYS] = head.background.keys.clone()
        return found

    def forward(self, images: Tensor, *bank: Tensor) -> tuple[Tensor, ...]:
        """Outputs in the order of `output_names`, by inputs in the order of `defaults`."""
        features = self.backbone(self.normalise(images))
        answer = cast(BankMethod, self.head).answer_from(features, *bank)
        assert answer.bank_weights is not None  # a bank's method gives both
        assert answer.self_weight is not None
        probabilities = (answer.logits / self.temperature).softmax(dim=1)
        weights, references = answer.bank_weights.topk(REFERENCES, dim=1)
        outputs = [probabilities, answer.embedding, references, weights, answer.self_weight]
        if answer.things is not None:
            counted, things = answer.things.topk(min(THINGS, answer.things.shape[1]), dim=1)
            outputs += [things, counted]
        if answer.familiarity is not None:
            outputs.append(answer.familiarity)
        return tuple(outputs)


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """A copy in which every BatchNorm that follows a convolution is part of it.

    Relies on modules being registered in the order in which they run, as all backbones here do.
    Quantisation needs it: a BatchNorm that stays beside its convolution is rounded twice.
    """
    folded = copy.deepcopy(module).eval()
    for parent in folded.modules():
        children = list(parent.named_children())
        for (name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent.register_module(name, fuse_conv_bn_eval(conv, norm))
                parent.register_module(norm_name, nn.Identity())
    return folded


def write_graph(graph: ServedGraph, height: int, width: int, path: Path) -> None:
    """Export to `path`, with N, M and B dynamic and the bank as default-valued inputs."""
    defaults = graph.defaults
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    items, others = torch.export.Dim("M", min=REFERENCES), torch.export.Dim("B", min=2)
    own = {contract.INPUT_BACKGROUND_KEYS: others}
    shapes = [{0: own.get(name, items)} for name in defaults]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with torch.no_grad():
            exported = torch.export.export(
                graph.eval(),
                (images, *defaults.values()),
                dynamic_shapes=({0: torch.export.Dim("N")}, tuple(shapes)),
                strict=False,
            )
        program = torch.onnx.export(
            exported,
            input_names=[contract.INPUT_IMAGES, *defaults],
            output_names=graph.output_names,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # with dynamo=True there always is one
    model = program.model_proto
    add_defaults(model, defaults)
    store_small(model)
    name_dimensions(model)
    forget_traces(model)
    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def add_defaults(model: Any, defaults: dict[str, Tensor]) -> None:
    """Give graph inputs default values: an initializer of the same name, beside the input."""
    for name, tensor in defaults.items():
        array = tensor.detach().cpu().numpy()
        model.graph.initializer.append(numpy_helper.from_array(array, name))


def store_small(model: Any) -> None:
    """Store large float32 constants that are whole numbers of a byte as int8, and a Cast.

    ONNX Runtime makes them float32 again when it opens the file. Default values stay as they are.
    """
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        large = math.prod(tensor.dims) >= LARGE and tensor.name not in inputs
        if not large or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        array = numpy_helper.to_array(tensor)
        if np.abs(array).max() > np.iinfo(np.int8).max or (array % 1).any():
            continue
        whole = array.astype(np.int8)
        name, small = tensor.name, f"{tensor.name}.int8"
        tensor.CopyFrom(numpy_helper.from_array(whole, small))
        cast = helper.make_node("Cast", [small], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)


def forget_traces(model: Any) -> None:
    """Drop what the exporter notes of source files: folders of this machine, for nobody's use."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in [*model.graph.node, *model.graph.value_info, *model.graph.initializer]:
        del part.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]


def name_dimensions(model: Any) -> None:
    """Call the dynamic dimensions N (photos), M (bank items) and B (the background's pictures)."""
    called = {contract.INPUT_IMAGES: "N", contract.INPUT_BACKGROUND_KEYS: "B"}
    names = {}
    for value in model.graph.input:
        traced = value.type.tensor_type.shape.dim[0].dim_param
        names[traced] = called.get(value.name, "M")
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in names:
                dimension.dim_param = names[dimension.dim_param]
