"""The report of a model on a split: JSON, a table on the terminal, and pictures.

Figures are of bank mode, which is what is served. The batch protocol and the lone photo stand
beside them under their own names, so that nobody takes one for the other.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.bundle import MANIFEST, read_bundle
from training import checkpoint
from training.checkpoint import hardware, write_json
from training.data.photos import Photo, labels_digest
from training.device import pick_device
from training.errors import ConfigError
from training.figures import draw_report
from training.metrics import (
    balanced_accuracy,
    confidences,
    credible_interval,
    expected_calibration_error,
)
from training.outcome import BANK, CONTEXT_NAMES, Array, Outcome, measure_on, photos_for
from training.served_bank import MATCHING, in_bank, known_photos, trained_bank
from training.subclass_points import POINTS

REPORT = "report.json"
INTERVALS = (
    "intervals: from each superclass's recall, a Beta posterior under Jeffreys' prior; accuracy at "
    "these photos' mix of superclasses"
)


def evaluate_target(
    target: Path,
    data: Path,
    split: str,
    out: Path | None,
    superclass_map: Path | None,
    device: str,
) -> None:
    """Measure a run or a bundle and write `report.json` and the pictures to `out`.

    Raises:
        ConfigError: for a bundle without `out`: bundles are not written into; or where a report on
            other photos is there already.
    """
    bundle = (target / MANIFEST).is_file()
    if bundle and out is None:
        raise ConfigError("a bundle is not written into: name a folder for the report with --out")
    chosen = "cpu" if bundle else pick_device(device)
    photos = photos_for(target, data, superclass_map)
    dataset = {"name": data.resolve().name, "labels_sha256": labels_digest(photos.some_of(split))}
    folder = out or target / f"evaluation-{split}"
    _check_same(folder / REPORT, dataset)
    outcome = measure_on(target, photos, split, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        **summarise(outcome),
        "photos_in_bank": known_to(target, outcome),
        "dataset": dataset,
        "hardware": hardware(chosen),
    }
    write_json(folder / REPORT, report)
    (folder / POINTS).unlink(missing_ok=True)  # of an earlier evaluation
    if (points := draw_report(outcome, folder)) is not None:
        points.write(folder)
    print_report(report)
    print(f"report and pictures: {folder}")


def known_to(target: Path, outcome: Outcome) -> dict[str, Any] | None:
    """How many of the photos the model's bank has, and the figures without them; None: no bank."""
    photos, embedding = outcome.photos, outcome.embedding
    if (target / MANIFEST).is_file():
        known = in_bank(read_bundle(target), photos, embedding)
    elif outcome.has_bank:
        bank = trained_bank(*checkpoint.load_model(target))
        known = known_photos(bank, outcome.method, photos, embedding)
    else:
        return None
    by = "name and likeness" if outcome.method == MATCHING else "name"
    found: dict[str, Any] = {"photos": int(known.sum()), "by": by}
    if known.all() or not known.any():
        return found
    new, k = outcome.only(~known), len(outcome.superclasses)
    return found | {
        "accuracy_without": accuracy(new.predicted, new.labels),
        "balanced_accuracy_without": balanced_accuracy(new.predicted, new.labels, k),
    }


def _check_same(file: Path, dataset: dict[str, str]) -> None:
    if not file.is_file():
        return
    there = json.loads(file.read_text(encoding="utf-8")).get("dataset", dataset)
    if there["labels_sha256"] != dataset["labels_sha256"]:
        raise ConfigError(
            f"{file} has the figures of other photos, those of {there['name']!r} as they were, and "
            f"expected those of {dataset['name']!r} as they are: name another folder with --out, "
            "or move it away"
        )


def summarise(outcome: Outcome) -> dict[str, Any]:
    """All figures of an outcome, as plain values."""
    k = len(outcome.superclasses)
    predicted, labels = outcome.predicted, outcome.labels
    report: dict[str, Any] = {
        "target": outcome.target,
        "variant": outcome.variant,
        "method": outcome.method,
        "split": outcome.split,
        "photos": len(labels),
        "bad_photos": outcome.bad,
        "context": BANK if outcome.has_bank else "none: photos never see each other",
        "intervals": INTERVALS,
        "accuracy": accuracy(predicted, labels),
        "accuracy_interval": credible_interval(predicted, labels, k, "accuracy"),
        "balanced_accuracy": balanced_accuracy(predicted, labels, k),
        "balanced_accuracy_interval": credible_interval(predicted, labels, k, "balanced_accuracy"),
        "ece_before_calibration": expected_calibration_error(outcome.probabilities(1.0), labels),
        "superclasses": superclass_figures(outcome),
        "sources": _grouped(outcome, lambda photo: photo.source or "unnamed"),
        "subclasses": _grouped(
            outcome, lambda photo: f"{photo.source or '-'}/{photo.subclass or 'unnamed'}"
        ),
        "other_contexts": {
            CONTEXT_NAMES[name]: {
                "accuracy": float(np.mean([accuracy(p, labels) for p in predictions])),
                "balanced_accuracy": float(
                    np.mean([balanced_accuracy(p, labels, k) for p in predictions])
                ),
                "shuffles": len(predictions),
            }
            for name, predictions in outcome.other_contexts.items()
        },
    }
    if outcome.calibration is not None:
        report["calibration"] = outcome.calibration
        report["ece_after_calibration"] = expected_calibration_error(
            outcome.probabilities(), labels
        )
        report["decisions"] = decisions(outcome)
    return report


def accuracy(predicted: Array, labels: Array) -> float:
    """Share of photos that were answered rightly."""
    return float((predicted == labels).mean())


def superclass_figures(outcome: Outcome) -> dict[str, dict[str, float | int | None]]:
    """Recall, precision and richness per superclass; None where there is nothing to divide by.

    How rich a superclass is (the paper's supplement D): its subclasses, and the mean cosine
    distance between their centres in the embedding.
    """
    figures: dict[str, dict[str, float | int | None]] = {}
    for k, name in enumerate(outcome.superclasses):
        actual, claimed = outcome.labels == k, outcome.predicted == k
        both = int((actual & claimed).sum())
        figures[name] = {
            "recall": both / int(actual.sum()) if actual.any() else None,
            "precision": both / int(claimed.sum()) if claimed.any() else None,
            "photos": int(actual.sum()),
            **_richness(outcome, np.flatnonzero(actual)),
        }
    return figures


def _richness(outcome: Outcome, places: Array) -> dict[str, float | int | None]:
    names = [outcome.photos[place].subclass for place in places]
    found = sorted({name for name in names if name is not None})
    if len(found) < 2:
        return {"subclasses": len(found), "subclass_spread": None}
    centres = np.stack(
        [
            outcome.embedding[[p for p, n in zip(places, names, strict=True) if n == name]].mean(0)
            for name in found
        ]
    )
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    cosines = (centres @ centres.T)[np.triu_indices(len(found), 1)]
    return {"subclasses": len(found), "subclass_spread": float(1.0 - cosines.mean())}


def decisions(outcome: Outcome) -> dict[str, float | None]:
    """What the calibrated threshold does: share sorted, and errors among those."""
    assert outcome.calibration is not None  # the only caller has looked
    threshold = float(outcome.calibration["confidence_threshold"])
    confidence, correct = confidences(outcome.probabilities(), outcome.labels)
    accepted = confidence >= threshold
    errors = float(1.0 - correct[accepted].mean()) if accepted.any() else None
    return {
        "threshold": threshold,
        "sorted_share": float(accepted.mean()),
        "error_rate_of_sorted": errors,
    }


def _grouped(outcome: Outcome, key: Callable[[Photo], str]) -> dict[str, dict[str, Any]]:
    """Accuracy, and what was answered how often, of each group of photos."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, photo in enumerate(outcome.photos):
        groups[key(photo)].append(place)
    return {
        name: {
            "accuracy": accuracy(outcome.predicted[places], outcome.labels[places]),
            "photos": len(places),
            "answers": {
                outcome.superclasses[k]: int((outcome.predicted[places] == k).sum())
                for k in np.unique(outcome.predicted[places])
            },
        }
        for name, places in sorted(groups.items())
    }


def print_report(report: dict[str, Any]) -> None:
    """The report's main figures as tables."""
    console = Console()
    title = f"{report['target']} ({report['variant']}) on {report['split']}"
    main = Table(title=Text(title, style="table.title"), caption=INTERVALS)
    for heading in ("figure", "value", "95% interval"):
        main.add_column(heading)
    for name in ("accuracy", "balanced_accuracy"):
        low, high = report[f"{name}_interval"]
        main.add_row(name.replace("_", " "), _percent(report[name]), f"{low:.1%} to {high:.1%}")
    main.add_row("ECE before calibration", f"{report['ece_before_calibration']:.4f}", "")
    if "calibration" in report:
        main.add_row("ECE after calibration", f"{report['ece_after_calibration']:.4f}", "")
        chosen = report["decisions"]
        main.add_row("sorted, not manual", _percent(chosen["sorted_share"]), "")
        main.add_row("errors among the sorted", _percent(chosen["error_rate_of_sorted"]), "")
    for name, figures in report["other_contexts"].items():
        main.add_row(f"accuracy, {name}", _percent(figures["accuracy"]), "")
    console.print(main)
    per = Table(title="per superclass")
    for heading in ("superclass", "recall", "precision", "photos"):
        per.add_column(heading)
    for name, row in report["superclasses"].items():
        shares = _percent(row["recall"]), _percent(row["precision"])
        per.add_row(Text(name), *shares, str(row["photos"]))
    console.print(per)
    if known := report.get("photos_in_bank"):
        console.print(_tell_known(known, report["photos"]), soft_wrap=True)
    if report["bad_photos"]:
        console.print(f"Could not be read, see report.json: {len(report['bad_photos'])}")


def _tell_known(known: dict[str, Any], photos: int) -> str:
    told = f"The bank has {known['photos']} of the {photos} photos (by {known['by']})"
    if "accuracy_without" not in known:
        return f"{told}: no figure here is of new ones." if known["photos"] else f"{told}."
    return (
        f"{told}; without them accuracy is {_percent(known['accuracy_without'])}, "
        f"balanced accuracy {_percent(known['balanced_accuracy_without'])}."
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
