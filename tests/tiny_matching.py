"""A tiny but real bundle by matching, and coloured photos for it: its bank can be corrected.

The embedding is the mean colour of a 4 x 4 grid, projected; attention is sharp, as in
`training.methods.matching`, and the bank is an input that may have any number of items.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from PIL import Image

from service import bundle as contract
from service.bundle import (
    Bank,
    BankItem,
    Calibration,
    Manifest,
    SelfTest,
    record_of,
    write_manifest,
)
from service.familiarity import BACKGROUND_TEMPERATURE, BACKGROUND_WEIGHT
from service.familiarity import TEMPERATURE as FAMILIARITY_T
from service.preprocess import Pixels, Preprocessing, decode
from tests.tiny_graph import CELLS, REFERENCES, SIZE, grid, model_of, provenance

SUPERCLASSES = ("hazardous", "organic", "recyclable", "residual")
KINDS = {  # subclass: superclass, colour
    "battery": ("hazardous", (200, 40, 30)),
    "paint": ("hazardous", (150, 30, 160)),
    "peel": ("organic", (60, 160, 50)),
    "can": ("recyclable", (40, 80, 210)),
    "paper": ("recyclable", (230, 230, 220)),
    "mug": ("residual", (210, 150, 60)),
}
SPLITS = {"train": 8, "val": 3, "test": 4}
TEMPERATURE = 0.03
WIDTH = 32  # of keys and embeddings
SPEC = Preprocessing.model_validate({"height": SIZE, "width": SIZE, "fit": "squash"})


def photo_of(kind: str, number: int) -> bytes:
    """A PNG in the kind's colour, another for each number."""
    random = np.random.default_rng((list(KINDS).index(kind), number))
    colour = np.array(KINDS[kind][1]) + random.normal(0.0, 12.0, 3)
    pixels = np.clip(colour + random.normal(0.0, 28.0, (4, 4, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def foreign_photo(number: int) -> bytes:
    """A PNG of black and white squares, which is of no kind; another for each number."""
    random = np.random.default_rng((77, number))
    squares = np.where(random.random((4, 4, 1)) < 0.5, 235.0, 15.0)
    pixels = np.clip(squares + random.normal(0.0, 12.0, (4, 4, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def write_photos(
    root: Path, kinds: Iterable[str] = KINDS, splits: dict[str, int] = SPLITS, first: int = 0
) -> Path:
    """A folder of photos of these kinds with a `labels.csv`.

    Args:
        first: number of the first photo of each kind: other photos than those of another folder.
    """
    lines = ["path,source,subclass,superclass,split"]
    (root / "photos").mkdir(parents=True)
    for kind in kinds:
        number = first
        for split, count in splits.items():
            for _ in range(count):
                path = f"photos/{kind}-{number:03}.png"
                (root / path).write_bytes(photo_of(kind, number))
                lines.append(f"{path},drawn,{kind},{KINDS[kind][0]},{split}")
                number += 1
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def add_val(data: Path, numbers: Iterable[int], kinds: Iterable[str] = KINDS) -> None:
    """Photos with these numbers for a folder of `write_photos`, as `val` under other names."""
    with (data / "labels.csv").open("a", encoding="utf-8") as file:
        for kind, number in itertools.product(kinds, numbers):
            path = f"photos/again-{kind}-{number:03}.png"
            (data / path).write_bytes(photo_of(kind, number))
            file.write(f"{path},drawn,{kind},{KINDS[kind][0]},val\n")


def write_bundle(
    models_dir: Path,
    version: str = "1",
    *,
    without: Collection[str] = (),
    method: str = "matching",
    drift: bool = False,
    familiarity: bool = False,
    background: int = 0,
) -> Path:
    """Write `models_dir/bins/version`, which knows the train photos of all kinds but some.

    It has a self-test of one photo, and an int8 variant in name only.

    Args:
        drift: with a drift reference, in name only too: no service starts with that.
        familiarity: whether the graph tells it.
        background: so many foreign pictures, from the first on, that it then compares with.
    """
    path = models_dir / "bins" / version
    path.mkdir(parents=True)
    known = [(f"photos/{kind}-{n:03}.png", kind) for kind in KINDS for n in range(SPLITS["train"])]
    known = [(name, kind) for name, kind in known if kind not in without]
    pixels = np.stack([decode(photo_of(kind, int(name[-7:-4])), SPEC) for name, kind in known])
    labels = [SUPERCLASSES.index(KINDS[kind][0]) for _, kind in known]
    values = np.eye(len(SUPERCLASSES), dtype=np.float32)[labels]
    blank = np.zeros((REFERENCES, WIDTH), dtype=np.float32)
    (keys,) = _ask(_graph(blank, values[:REFERENCES]), pixels, contract.OUTPUT_EMBEDDING)
    graph = _graph(keys, values)
    if background:
        foreign = np.stack([decode(foreign_photo(n), SPEC) for n in range(background)])
        _compare(graph, *_ask(graph, foreign, contract.OUTPUT_EMBEDDING))
    elif familiarity:
        _tell_familiarity(graph, contract.OUTPUT_FAMILIARITY, "cosines", FAMILIARITY_T)
        _finish(graph)
    for name in (contract.MODEL, "fp32.onnx"):
        (path / name).write_bytes(graph.SerializeToString())
    (path / "self-test-can.png").write_bytes(photo_of("can", 99))
    if drift:
        (path / "drift.npz").write_bytes(b"of the bank's answers")
    (path / "CARD.md").write_text(
        f"# bins/{version}\n\n## Confidence\n\nFitted.\n\n## Licences\n\nNone.\n\n"
        "## Provenance\n\n    tests\n",
        encoding="utf-8",
    )
    photo = decode(photo_of("can", 99), SPEC)[np.newaxis]
    (answer,) = _ask(graph, photo, contract.OUTPUT_PROBABILITIES)
    files = [contract.MODEL, "fp32.onnx", "self-test-can.png", *(["drift.npz"] if drift else [])]
    write_manifest(
        path,
        Manifest(
            name="bins",
            version=version,
            superclasses=SUPERCLASSES,
            preprocessing=SPEC,
            calibration=Calibration(
                temperature=1.0,
                confidence_threshold=0.7,
                wanted_error_rate=0.05,
                split="val",
                photos=18,
            ),
            bank=Bank(
                selection="all",
                items=tuple(
                    BankItem(id=name, superclass=KINDS[kind][0], subclass=kind, source="drawn")
                    for name, kind in known
                ),
            ),
            default_variant="int8",
            variants={"int8": contract.MODEL, "fp32": "fp32.onnx"},
            files={name: record_of(path / name) for name in files},
            provenance=provenance(method=method),
            drift="drift.npz" if drift else None,
            self_test=(
                SelfTest(file="self-test-can.png", probabilities=tuple(map(float, answer[0]))),
            ),
        ),
    )
    return path


def _ask(model: onnx.ModelProto, pixels: Pixels, output: str) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run([output], {contract.INPUT_IMAGES: pixels})


def _compare(model: onnx.ModelProto, keys: np.ndarray) -> None:
    """With a background of these keys [B, WIDTH]."""
    graph, name = model.graph, contract.INPUT_BACKGROUND_KEYS
    shape = ["B", WIDTH]
    graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    weight = np.asarray(np.float32(BACKGROUND_WEIGHT))
    graph.initializer.append(numpy_helper.from_array(keys, name))
    graph.initializer.append(numpy_helper.from_array(weight, "part"))
    graph.node.append(helper.make_node("Transpose", [name], ["foreign"], perm=[1, 0]))
    graph.node.append(helper.make_node("MatMul", ["embedding", "foreign"], ["others"]))
    _tell_familiarity(model, "near", "cosines", BACKGROUND_TEMPERATURE)
    _tell_familiarity(model, "near_others", "others", BACKGROUND_TEMPERATURE, len(keys))
    graph.node.append(helper.make_node("Mul", ["near_others", "part"], ["less"]))
    graph.node.append(helper.make_node("Sub", ["near", "less"], [contract.OUTPUT_FAMILIARITY]))
    _finish(model)


def _tell_familiarity(
    model: onnx.ModelProto, name: str, cosines: str, temperature: float, began: int = 0
) -> None:
    """By the mean over the items, or, of a background, by their sum over the first number."""
    constants = {
        f"{name}.one": np.float32(1.0),
        f"{name}.wide": np.float32(temperature),
        f"{name}.began": np.float32(max(1, began)),
    }
    one, wide, first = constants
    graph = model.graph
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()
    )
    steps = [f"{name}.{step}" for step in ("behind", "closeness", "each", "sum", "density", "log")]
    behind, closeness, each, total, density, log = steps
    graph.node.extend(
        [
            helper.make_node("Sub", [cosines, one], [behind]),
            helper.make_node("Div", [behind, wide], [closeness]),
            helper.make_node("Exp", [closeness], [each]),
            helper.make_node(
                "ReduceSum" if began else "ReduceMean", [each, "last"], [total], keepdims=0
            ),
            helper.make_node("Div", [total, first], [density]),
            helper.make_node("Log", [density], [log]),
            helper.make_node("Mul", [log, wide], [name]),
        ]
    )


def _finish(model: onnx.ModelProto) -> None:
    told = helper.make_tensor_value_info(contract.OUTPUT_FAMILIARITY, onnx.TensorProto.FLOAT, ["N"])
    model.graph.output.append(told)
    onnx.checker.check_model(model, full_check=True)


def _graph(keys: np.ndarray, values: np.ndarray) -> onnx.ModelProto:
    random = np.random.default_rng(3)
    projection = random.normal(0.0, 0.5, (CELLS, WIDTH)).astype(np.float32)
    first, constants = grid(projection)
    constants |= {
        contract.INPUT_BANK_KEYS: keys,
        contract.INPUT_BANK_VALUES: values,
        "temperature": np.float32(TEMPERATURE),
        "nothing": np.float32(0.0),
        "last": np.array([-1], np.int64),
        "top": np.array([REFERENCES], np.int64),
    }
    nodes = [
        *first,
        helper.make_node("ReduceL2", ["projected", "last"], ["length"], keepdims=1),
        helper.make_node("Div", ["projected", "length"], ["embedding"]),
        helper.make_node("Transpose", ["bank_keys"], ["keys"], perm=[1, 0]),
        helper.make_node("MatMul", ["embedding", "keys"], ["cosines"]),
        helper.make_node("Div", ["cosines", "temperature"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=1),
        helper.make_node("MatMul", ["weights", "bank_values"], ["votes"]),
        helper.make_node("ReduceSum", ["votes", "last"], ["all_votes"], keepdims=1),
        helper.make_node("Div", ["votes", "all_votes"], ["probabilities"]),
        helper.make_node("Mul", ["embedding", "nothing"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros", "last"], ["self_weight"], keepdims=0),
        helper.make_node("TopK", ["weights", "top"], ["reference_weights", "references"], axis=1),
    ]
    superclasses = len(SUPERCLASSES)
    return model_of(
        "bins", nodes, constants, superclasses=superclasses, width=WIDTH, values=superclasses
    )
