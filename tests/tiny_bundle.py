"""A tiny but real bundle: mean colour of a 4 x 4 grid, attention over a bank and itself, softmax.

It satisfies the whole contract, so that the service is tested without torch and without weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from service import bundle as contract
from service.appearance import NAMES
from service.bundle import (
    Bank,
    BankItem,
    Calibration,
    FamiliarityLimit,
    GuideThing,
    Manifest,
    QualityLimits,
    read_manifest,
    record_of,
    write_manifest,
)
from service.drift_reference import DRIFT, DriftReference, write_reference
from service.preprocess import Preprocessing
from tests.tiny_graph import CELLS, REFERENCES, SIZE, grid, model_of, provenance

SUPERCLASSES = ("recyclable", "residual", "organic", "hazardous")
SUBCLASSES = ("plastic", "trash", "food", "battery")
WIDTH = 8  # of keys, values and embeddings
ITEMS = 12


def write_bundle(
    models_dir: Path,
    name: str = "tiny",
    version: str = "1",
    *,
    threshold: float = 0.5,
    seed: int = 0,
    fit: str = "squash",
    drift: bool = False,
    superclasses: tuple[str, ...] = SUPERCLASSES,
    size: int = SIZE,
) -> Path:
    """Write `models_dir/name/version` and return it; `drift`: with a reference."""
    path = models_dir / name / version
    path.mkdir(parents=True)
    (path / contract.MODEL).write_bytes(_graph(seed, size).SerializeToString())
    (path / "CARD.md").write_text("# A tiny model for tests\n", encoding="utf-8")
    names = [contract.MODEL, "CARD.md"]
    if drift:
        write_reference(path / DRIFT, tiny_reference(statistics=NAMES))
        names.append(DRIFT)
    files = {file: record_of(path / file) for file in names}
    write_manifest(
        path,
        Manifest(
            name=name,
            version=version,
            superclasses=superclasses,
            preprocessing=Preprocessing.model_validate({"height": size, "width": size, "fit": fit}),
            calibration=Calibration(
                temperature=1.0,
                confidence_threshold=threshold,
                wanted_error_rate=0.05,
                split="none",
                photos=1,
            ),
            bank=Bank(selection="random", items=tuple(_items(superclasses))),
            default_variant="fp32",
            variants={"fp32": contract.MODEL},
            files=files,
            drift=DRIFT if drift else None,
            provenance=provenance(seed),
        ),
    )
    return path


def add_limits(path: Path, items: npt.NDArray[np.float32], *, threshold: float = -2.0) -> None:
    """Have a tiny bundle doubt photos: bank embeddings [ITEMS, WIDTH], and limits of quality."""
    np.save(path / "known.npy", items.astype(np.float16))
    manifest = read_manifest(path)
    fitted = {"accepted_share": 0.99, "split": "none", "photos": 1}
    limits = {
        "quality": QualityLimits(
            least_light=60.0, most_clipped=0.9, least_sharpness=5.0, least_contrast=10.0, **fitted
        ),
        "familiarity": FamiliarityLimit(
            file="known.npy",
            statistic="log_mean_exp_cosine",
            temperature=0.1,
            threshold=threshold,
            **fitted,
        ),
        "files": manifest.files | {"known.npy": record_of(path / "known.npy")},
    }
    write_manifest(path, manifest.model_copy(update=limits))


def break_run(path: Path) -> None:
    """Have a tiny bundle's graph load, and fail whenever it runs."""
    model = onnx.load(path / contract.MODEL)
    for node in model.graph.node:
        node.output[:] = ["found" if one == "probabilities" else one for one in node.output]
    shape = numpy_helper.from_array(np.array([7, len(SUPERCLASSES)], np.int64), "of_seven")
    model.graph.initializer.append(shape)
    model.graph.node.append(
        helper.make_node("Reshape", ["found", "of_seven"], [contract.OUTPUT_PROBABILITIES])
    )
    (path / contract.MODEL).write_bytes(model.SerializeToString())
    files = read_manifest(path).files | {contract.MODEL: record_of(path / contract.MODEL)}
    write_manifest(path, read_manifest(path).model_copy(update={"files": files}))


def add_guide(path: Path) -> None:
    """Give a tiny bundle a guide of three things: what a photo gives to itself is theirs.

    The second thing gets half of it and the third a quarter.
    """
    model = onnx.load(path / contract.MODEL)
    things = np.array([[1, 2]], np.int64)
    constants = {"guide": things, "parts": np.array([[0.5, 0.25]], np.float32)}
    constants |= {"across": np.array([1], np.int64), "two": np.array([2], np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in constants.items())
    model.graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["self_weight", "across"], ["own"]),
            helper.make_node("Mul", ["own", "parts"], [contract.OUTPUT_THING_WEIGHTS]),
            helper.make_node("Shape", ["self_weight"], ["photos"]),
            helper.make_node("Concat", ["photos", "two"], ["as_many"], axis=0),
            helper.make_node("Expand", ["guide", "as_many"], [contract.OUTPUT_THINGS]),
        ]
    )
    for name, kind in zip(
        contract.GUIDE_OUTPUTS, (TensorProto.INT64, TensorProto.FLOAT), strict=True
    ):
        model.graph.output.append(helper.make_tensor_value_info(name, kind, ["N", 2]))
    onnx.checker.check_model(model, full_check=True)
    (path / contract.MODEL).write_bytes(model.SerializeToString())
    manifest = read_manifest(path)
    named = (("milk carton", "recyclable"), ("paint can", "hazardous"), ("mirror", "residual"))
    changes = {
        "guide": tuple(GuideThing(name=name, superclass=kind) for name, kind in named),
        "files": manifest.files | {contract.MODEL: record_of(path / contract.MODEL)},
    }
    write_manifest(path, manifest.model_copy(update=changes))


def forget_appearance(path: Path) -> None:
    """Make a tiny bundle's drift reference one of before there was that part."""
    with np.load(path / DRIFT) as stored:
        kept = {
            name: stored[name]
            for name in stored.files
            if name != "statistics" and not name.startswith("appearance")
        }
    kept["thresholds"] = kept["thresholds"][:3]
    with (path / DRIFT).open("wb") as file:
        np.savez(file, **kept)
    manifest = read_manifest(path)
    files = manifest.files | {DRIFT: record_of(path / DRIFT)}
    write_manifest(path, manifest.model_copy(update={"files": files}))


def tiny_reference(
    window: int = 20,
    bins: int = 4,
    words: tuple[str, ...] = (),
    statistics: tuple[str, ...] = (),
) -> DriftReference:
    """Of a model that usually has embeddings around 0, and photos in each bin equally often.

    Where there are statistics of appearance they are usually around 0 too.
    """
    superclasses = len(SUPERCLASSES)

    def floats(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        return np.array(values, np.float32)

    return DriftReference(
        window=floats(window),
        thresholds=floats([40.0, 20.0, 20.0, 40.0] if statistics else [40.0, 20.0, 20.0]),
        means=floats(np.zeros((superclasses, WIDTH))),
        whitening=floats(np.eye(WIDTH) * WIDTH**0.5),
        edges=floats([-3.0 + np.arange(bins - 1)] * 2),
        shares=floats(np.full((2, superclasses, bins), 1.0 / bins)),
        bin_whitening=floats([np.eye(bins) * bins**0.5] * 2),  # chi-square
        confidences=floats([0.9] * superclasses),
        signatures=floats(np.eye(WIDTH)[: len(words)]),
        words=np.array(words, dtype=np.str_),
        statistics=np.array(statistics, dtype=np.str_),
        appearance_means=floats(np.zeros((superclasses, len(statistics)))),
        appearance_whitening=floats(np.eye(len(statistics))),
        appearance_scales=floats(np.ones(len(statistics))),
        photos=floats(100),
        run_photos=floats(20_000),
        false_alarms=floats(0.001),
    )


def _items(superclasses: tuple[str, ...]) -> list[BankItem]:
    kinds = len(superclasses)
    return [
        BankItem(
            id=f"item{i}",
            superclass=superclasses[i % kinds],
            subclass=SUBCLASSES[i % kinds],
            source="generated",
        )
        for i in range(ITEMS)
    ]


def _graph(seed: int, size: int = SIZE) -> onnx.ModelProto:
    random = np.random.default_rng(seed)

    def weights(*shape: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
        return random.normal(0.0, scale, shape).astype(np.float32)

    bank_keys, bank_values = weights(ITEMS, WIDTH), weights(ITEMS, WIDTH)
    first, constants = grid(weights(CELLS, WIDTH, scale=0.5), size)
    constants |= {
        contract.INPUT_BANK_KEYS: bank_keys,
        contract.INPUT_BANK_VALUES: bank_values,
        "head": weights(WIDTH, len(SUPERCLASSES), scale=4.0),
        "zero": np.array([0], np.int64),
        "minus_one": np.array([-1], np.int64),
        "one": np.array([1], np.int64),
        "bank_end": np.array([ITEMS], np.int64),
        "far": np.array([ITEMS + 1], np.int64),
        "top": np.array([REFERENCES], np.int64),
        "epsilon": np.float32(1e-12),
    }
    nodes = [
        *first,
        helper.make_node("ReduceL2", ["projected", "minus_one"], ["raw_length"], keepdims=1),
        helper.make_node("Max", ["raw_length", "epsilon"], ["safe_raw_length"]),
        helper.make_node("Div", ["projected", "safe_raw_length"], ["query"]),
        # Attention over the bank and, last, the photo itself.
        helper.make_node("Transpose", ["bank_keys"], ["keys"], perm=[1, 0]),
        helper.make_node("MatMul", ["query", "keys"], ["bank_scores"]),
        helper.make_node("Mul", ["query", "query"], ["squares"]),
        helper.make_node("ReduceSum", ["squares", "minus_one"], ["self_score"], keepdims=1),
        helper.make_node("Concat", ["bank_scores", "self_score"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=1),
        helper.make_node("Slice", ["weights", "zero", "bank_end", "one"], ["to_bank"]),
        helper.make_node("Slice", ["weights", "bank_end", "far", "one"], ["to_self"]),
        helper.make_node("Squeeze", ["to_self", "one"], ["self_weight"]),
        helper.make_node("MatMul", ["to_bank", "bank_values"], ["from_bank"]),
        helper.make_node("Mul", ["to_self", "query"], ["from_self"]),
        helper.make_node("Add", ["from_bank", "from_self"], ["mixed"]),
        helper.make_node("ReduceL2", ["mixed", "minus_one"], ["length"], keepdims=1),
        helper.make_node("Max", ["length", "epsilon"], ["safe_length"]),
        helper.make_node("Div", ["mixed", "safe_length"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("TopK", ["to_bank", "top"], ["reference_weights", "references"], axis=1),
    ]
    superclasses = len(SUPERCLASSES)
    return model_of(
        "tiny", nodes, constants, superclasses=superclasses, width=WIDTH, values=WIDTH, size=size
    )
