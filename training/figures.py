"""Pictures of an evaluation, as PNG: what a table of figures does not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from training.embedding_figures import draw_embedding, draw_subclasses
from training.metrics import confidences, reliability
from training.outcome import Array, Outcome
from training.projection import BY_TSNE, BY_UMAP, LEAST, choose, project
from training.subclass_points import SubclassPoints, lay_out

mpl.rcParams["text.parse_math"] = False  # of all pictures: names may have dollar signs
DPI = 120
EMBEDDING, SUBCLASSES = "embedding", "subclasses"  # names of pictures
SUFFIXES = {BY_TSNE: "", BY_UMAP: "-umap"}  # of those names


def draw_report(outcome: Outcome, folder: Path) -> SubclassPoints | None:
    """Write the confusion matrix, reliability and risk curves, bars and embeddings to `folder`.

    Returns the points of the picture of subclasses, where there is one.
    """
    save_picture(draw_confusion(outcome), folder / "confusion.png")
    save_picture(draw_reliability(outcome), folder / "reliability.png")
    save_picture(draw_risk(outcome), folder / "risk-coverage.png")
    save_picture(draw_superclasses(outcome), folder / "superclasses.png")
    for name in (EMBEDDING, SUBCLASSES):  # of an earlier evaluation
        for suffix in SUFFIXES.values():
            (folder / f"{name}{suffix}.png").unlink(missing_ok=True)
    if len(outcome.labels) < LEAST:
        return None
    some = choose(np.arange(len(outcome.labels)))
    planes = project(outcome.embedding[some])
    _save_planes(
        planes, folder / EMBEDDING, lambda by: draw_embedding(outcome, some, planes[by], by)
    )
    if (points := lay_out(outcome)) is not None:
        _save_planes(points.planes, folder / SUBCLASSES, lambda by: draw_subclasses(points, by))
    return points


def _save_planes(planes: dict[str, Array], path: Path, draw: Callable[[str], Any]) -> None:
    for method in planes:
        save_picture(draw(method), path.with_name(f"{path.name}{SUFFIXES[method]}.png"))


def save_picture(figure: Any, path: Path) -> None:
    """Write a figure as PNG and let go of it."""
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)


def confusion_matrix(outcome: Outcome) -> Array:
    """int64 [K, K]: rows are what photos are, columns what they were taken for."""
    k = len(outcome.superclasses)
    return np.bincount(outcome.labels * k + outcome.predicted, minlength=k * k).reshape(k, k)


def draw_confusion(outcome: Outcome) -> Any:
    """Counts, coloured by the share of their row."""
    counts = confusion_matrix(outcome)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    k = len(outcome.superclasses)
    figure, axes = plt.subplots(figsize=(2.2 + 0.8 * k, 1.6 + 0.7 * k))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(k):
        for column in range(k):
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)
    axes.set_xticks(range(k), outcome.superclasses, rotation=30, ha="right")
    axes.set_yticks(range(k), outcome.superclasses)
    axes.set(xlabel="answered", ylabel="labelled", title=f"Confusion on {outcome.split}")
    return figure


def draw_reliability(outcome: Outcome) -> Any:
    """Accuracy against confidence, before and after calibration."""
    figure, axes = plt.subplots(figsize=(5, 5))
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    curves = [("before calibration", outcome.probabilities(1.0))]
    if outcome.calibration is not None:
        curves.append(("after calibration", outcome.probabilities()))
    for name, probabilities in curves:
        bins = reliability(probabilities, outcome.labels)
        points = [[b[key] for b in bins] for key in ("confidence", "accuracy", "photos")]
        axes.plot(points[0], points[1], marker="o", label=name)
        for x, y, photos in zip(*points, strict=True):
            axes.annotate(
                str(photos), (x, y), fontsize=7, xytext=(3, -9), textcoords="offset points"
            )
    axes.set(xlabel="confidence", ylabel="accuracy", title=f"Reliability on {outcome.split}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend()
    return figure


def draw_risk(outcome: Outcome) -> Any:
    """Errors among the sorted against the share that is sorted and not left to a person."""
    confidence, correct = confidences(outcome.probabilities(), outcome.labels)
    order = np.argsort(-confidence, kind="stable")
    sorted_photos = np.arange(1, len(order) + 1)
    risk = np.cumsum(~correct[order]) / sorted_photos
    figure, axes = plt.subplots(figsize=(6, 4))
    axes.plot(sorted_photos / len(order), risk)
    if outcome.calibration is not None:
        share = float((confidence >= outcome.calibration["confidence_threshold"]).mean())
        axes.axvline(share, color="grey", linestyle=":", label="calibrated threshold")
        axes.legend()
    axes.set(xlabel="share sorted", ylabel="error rate among the sorted", xlim=(0, 1))
    axes.set(ylim=(0, None), title=f"What manual sorting buys, on {outcome.split}")
    return figure


def draw_superclasses(outcome: Outcome) -> Any:
    """Recall and precision of every superclass as bars."""
    counts = confusion_matrix(outcome)
    hits = np.diag(counts)
    recall = hits / np.maximum(counts.sum(axis=1), 1)
    precision = hits / np.maximum(counts.sum(axis=0), 1)
    places = np.arange(len(hits))
    figure, axes = plt.subplots(figsize=(2 + 1.2 * len(hits), 4))
    for offset, name, values in ((-0.2, "recall", recall), (0.2, "precision", precision)):
        bars = axes.bar(places + offset, values, width=0.38, label=name)
        axes.bar_label(bars, [f"{value:.1%}" for value in values], fontsize=7)
    labels = [f"{n}\n({c})" for n, c in zip(outcome.superclasses, counts.sum(axis=1), strict=True)]
    axes.set_xticks(places, labels)
    axes.set(ylim=(0, 1.1), title=f"Per superclass on {outcome.split} (photos)")
    axes.legend(loc="lower right")
    return figure
