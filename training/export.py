"""From a run folder to a bundle that the service can load, or a refusal.

A bundle is only written when its ONNX file answers as the checkpoint does, and answers each photo
the same whatever is beside it. It is put together in a folder of its own and then renamed.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle import (
    MODEL,
    Bank,
    Bundle,
    GuideThing,
    Manifest,
    Provenance,
    read_bundle,
    record_of,
    write_manifest,
)
from service.fitted import Calibration
from service.preprocess import Pixels
from training import checkpoint
from training.bank import choose_bank
from training.bundle_metrics import FP32, INT8, agreement_with_fp32, bundle_metrics
from training.card import CARD, write_card
from training.data.folds import read_photos_as
from training.data.photos import PhotoSet, label_indices
from training.data.store import open_split
from training.device import pick_device
from training.doubt_reference import with_doubts
from training.drift_reference import with_drift_reference
from training.errors import ConfigError, DataError, RunError
from training.evaluate import summarise
from training.figures import draw_report
from training.graph import ServedGraph, write_graph
from training.item_reference import with_item_spread
from training.model import SuperclassModel
from training.outcome import Outcome, measure_bundle, measure_model, read_calibration
from training.quantise import float_beginnings, quantise
from training.self_test import own_photos, self_test_photos, with_self_test
from training.served_bank import bank_items
from training.serviceable import warnings_of
from training.verify import check_against_model, check_invariance
from training.versions import check_place, in_place

SPLITS = ("val", "test")
CHOSEN_ON = "val"  # how much of int8's graph stays in float
LEAST_AGREEMENT = 0.995  # of int8's answers with fp32's, for int8 to be the default
INVARIANCE_PHOTOS = 16
QUANTISATION_PHOTOS = 256


def export_run(
    run: Path,
    data: Path,
    out: Path,
    superclass_map: Path | None,
    card: Path | None,
    self_test: Path | None,
    device: str,
) -> None:
    """Write the bundle `out`, which is `<models>/<name>/<version>`.

    Args:
        self_test: folder of photos that the bundle takes along for its self-test; by default some
            of val, as the model sees them.

    Raises:
        RunError: for a run that is not finished or not calibrated, or has no context bank.
        ExportError: where the graph does not answer as the model does.
        ConfigError: where `out` exists already or its name cannot be a bundle's; for a card or
            photos for the self-test that cannot be used.
    """
    check_place(out)
    config = checkpoint.read_config(run)
    if self_test is not None:
        own_photos(self_test, config.data.served())
    if card is not None and not card.is_file():
        raise ConfigError(f"expected a Markdown file for the card, got {card}")
    model, state = checkpoint.load_model(run)
    calibration = read_calibration(run)
    if calibration is None:
        raise RunError(f"{run} is not calibrated: run superbin calibrate {run} --data {data}")
    photos = read_photos_as(data, config, superclass_map)
    if not model.method.has_bank:
        raise RunError(
            f"{run}: {config.method} has no context bank; SCLRE and matching are served, the "
            "others are there to compare them with"
        )
    splits = [split for split in SPLITS if photos.split(split)]
    model = model.to(pick_device(device))
    outcomes = {
        split: measure_model(run, model, state, photos, split, pick_device(device))
        for split in splits
    }
    with in_place(out) as part:
        _fill(part, out, model.cpu(), state, calibration, photos, outcomes, run, card, self_test)
    serve = f"superbin serve --models-dir {out.parent.parent} --model {out.parent.name}"
    print(f"bundle: {out}; {serve} serves it")
    threshold = calibration["confidence_threshold"]
    for told in warnings_of(outcomes["val"], calibration["temperature"], threshold):
        print(f"warning: {told}", file=sys.stderr)


def _fill(
    part: Path,
    out: Path,
    model: SuperclassModel,
    state: dict[str, Any],
    calibration: dict[str, Any],
    data: PhotoSet,
    outcomes: dict[str, Outcome],
    run: Path,
    card: Path | None,
    self_test: Path | None,
) -> None:
    """Graphs, checks, measurements, manifest, card."""
    spec = checkpoint.read_config(run).data.served()
    fp32_file = part / f"{FP32}.onnx"
    write_graph(ServedGraph(model, calibration["temperature"]), spec.height, spec.width, fp32_file)
    draft = _manifest(part, out, state, calibration, run)
    _with_variants(part, draft, {FP32: fp32_file.name}, FP32)
    measured = {
        (FP32, split): measure_bundle(part, data, split, variant=FP32) for split in outcomes
    }
    trial = _quantise_as_far_as_it_agrees(part, draft, measured, data, run)
    for split in set(outcomes) - {CHOSEN_ON}:
        measured[INT8, split] = measure_bundle(part, data, split, variant=INT8)
    sample = open_split(data, "val", spec).pixels[:INVARIANCE_PHOTOS]  # of those that decode
    for split, reference in outcomes.items():
        check_against_model(measured[FP32, split], reference)
    for variant in (FP32, INT8):
        check_invariance(Bundle(part, trial), variant, sample)
    agreement = agreement_with_fp32(measured)
    default = INT8 if min(agreement.values()) >= LEAST_AGREEMENT else FP32
    shares = ", ".join(f"{share:.2%} on {split}" for split, share in agreement.items())
    print(f"int8 agrees with fp32 on {shares}: the default is {default}")
    metrics = bundle_metrics(outcomes, measured, agreement)
    own = self_test_photos(part, self_test, data, run)
    final = draft.model_copy(update={"metrics": tuple(metrics)})
    (part / f"{default}.onnx").rename(part / MODEL)
    names = {v: MODEL if v == default else f"{v}.onnx" for v in (FP32, INT8)}
    manifest = _with_variants(part, final, names, default)
    manifest = with_self_test(part, manifest, own)
    manifest = with_doubts(part, manifest, data)
    for what, add in (("items", with_item_spread), ("drift", with_drift_reference)):
        try:
            manifest = add(part, manifest, data)
        except DataError as error:
            print(f"nothing of {what}: {error}")
    reports = {split: summarise(measured[default, split]) for split in outcomes}
    shown = SPLITS[-1] if SPLITS[-1] in outcomes else SPLITS[0]
    draw_report(measured[default, shown], part)
    write_card(part / CARD, manifest, reports, card)
    read_bundle(part)  # what the service will do


def _quantise_as_far_as_it_agrees(
    part: Path,
    draft: Manifest,
    measured: dict[tuple[str, str], Outcome],
    data: PhotoSet,
    run: Path,
) -> Manifest:
    """Write int8's graph, with more of it in float where it would not agree; and the manifest.

    Args:
        measured: of fp32, by variant and split; gets int8's outcome on the photos it is chosen by.
    """
    files = {variant: f"{variant}.onnx" for variant in (FP32, INT8)}
    photos = quantisation_photos(data, run)
    for first in float_beginnings(part / files[FP32]):
        quantise(part / files[FP32], part / files[INT8], photos, first)
        trial = _with_variants(part, draft, files, FP32)
        measured[INT8, CHOSEN_ON] = measure_bundle(part, data, CHOSEN_ON, variant=INT8)
        if agreement_with_fp32(measured)[CHOSEN_ON] >= LEAST_AGREEMENT:
            break
    return trial


def quantisation_photos(data: PhotoSet, run: Path) -> Pixels:
    """Class-balanced training photos as the service would see them: uint8 [n, H, W, 3]."""
    store = open_split(data, "train", checkpoint.read_config(run).data.served())
    labels = label_indices(store.photos, data)
    rows = choose_bank(labels[:, None].astype(np.float32), labels, QUANTISATION_PHOTOS, "random")
    return np.ascontiguousarray(store.pixels[rows])


def _manifest(
    part: Path, out: Path, state: dict[str, Any], calibration: dict[str, Any], run: Path
) -> Manifest:
    """All but files and metrics; the variant that it names is filled in by `_with_variants`."""
    record = checkpoint.read_record(run)
    config = checkpoint.read_config(run)
    fields = {
        "name": out.absolute().parent.name,
        "version": out.name,
        "superclasses": state["superclasses"],
        "preprocessing": config.data.served(),
        "calibration": Calibration(**calibration),
        "bank": Bank(selection=config.bank.selection, items=bank_items(state)),
        "guide": tuple(GuideThing(**thing) for thing in state.get("things", [])),
        "default_variant": FP32,
        "variants": {FP32: MODEL},
        "files": {MODEL: {"sha256": "0" * 64, "bytes": 0}},
        "provenance": Provenance(
            command=portable(record["command"]),
            git_commit=record["git_commit"],
            seed=record["seed"],
            trained_at=datetime.fromisoformat(record["started"]),
            hardware=record["hardware"],
            packages=record["packages"],
            config=record["config"],
            dataset=record["dataset"],
        ),
    }
    try:
        return Manifest.model_validate(fields)
    except ValueError as error:
        raise ConfigError(f"{out} cannot be a bundle: {error}") from error


def portable(command: str) -> str:
    """A command without this machine's folders: of a path from elsewhere the last part stays."""
    return shlex.join(
        Path(word).name if Path(word).is_absolute() or ".." in Path(word).parts else word
        for word in shlex.split(command)
    )


def _with_variants(
    part: Path, manifest: Manifest, variants: dict[str, str], default: str
) -> Manifest:
    """Write the manifest with the files as they are now."""
    names = dict(variants)
    if names[default] != MODEL:  # a trial, before the default is known
        shutil.copyfile(part / names[default], part / MODEL)
        names[default] = MODEL
    complete = manifest.model_copy(
        update={
            "default_variant": default,
            "variants": names,
            "files": {name: record_of(part / name) for name in names.values()},
        }
    )
    write_manifest(part, complete)
    return complete
